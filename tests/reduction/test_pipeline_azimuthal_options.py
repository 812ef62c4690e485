"""The options of azimuthal integration on whole files: groups, maps, images, limits, policies."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import fabio
import h5py
import hdf5plugin
import numpy as np
import pytest
from distributed import Client
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from beamhub_reduction import kernels
from beamhub_reduction.errors import BadParameter, CorruptChunk, NothingLeft
from beamhub_reduction.nexus import Geometry, NoFrames
from beamhub_reduction.nexus.errors import NodeMissing
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.result import Result
from beamhub_reduction.run import open_run

pytestmark = pytest.mark.usefixtures("outside_session")

SHAPE = (48, 130)
GEOMETRY = Geometry(0.1, 21e-3, 60e-3, 1e-3, 1e-3, 1.0)
N_FRAMES = 21


def counts(n: int = N_FRAMES, dtype: str = "u4") -> Any:
    frames = np.random.default_rng(8).poisson(4, (n, *SHAPE)).astype(dtype)
    frames[:, 20:22] = np.iinfo(dtype).max  # gaps
    frames[3, 5, 5] = np.iinfo(dtype).max
    return frames


def write(path: Path, frames: Any, **storage: Any) -> Path:
    """A file of frames in an NXdetector without geometry; bitshuffle-LZ4 unless told otherwise."""
    storage = storage or {"chunks": (1, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4")}
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry/instrument/detector")
        for group, name in (
            (file["entry"], "entry"),
            (file["entry/instrument"], "instrument"),
            (detector, "detector"),
        ):
            group.attrs["NX_class"] = f"NX{name}"
        detector.create_dataset("data", data=frames, **storage)
        mask = np.zeros(frames.shape[1:], dtype=np.uint32)
        mask[20:22] = 1
        detector["pixel_mask"] = mask
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("frames") / "plain.h5", counts())


def integrate(path: Path, **options: Any) -> Result:
    options = {"bins": 40, "geometry": GEOMETRY, "progress": silent, **options}
    if "poni" in options:
        del options["geometry"]
    return open_run(path).azimuthal(**options)


def bits(result: Result) -> tuple[bytes, bytes]:
    assert result.signal.errors is not None
    return result.signal.values.tobytes(), result.signal.errors.tobytes()


CHOICES: list[dict[str, Any]] = [
    {}, {"every": 1}, {"every": 4}, {"azimuth_bins": 6}, {"every": 1, "azimuth_bins": 6}
]  # fmt: skip


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_workers_paths_and_storage_change_no_bit(
    plain: Path, tmp_path: Path, client: Client, options: dict[str, Any]
) -> None:
    expected = bits(integrate(plain, **options))
    assert bits(integrate(plain, client=client, **options)) == expected
    for path in kernels.available_paths():
        with kernels.using_path(path):
            assert bits(integrate(plain, **options)) == expected
    gzip = write(tmp_path / "gzip.h5", counts(), chunks=(3, *SHAPE), compression="gzip", shuffle=True)
    assert bits(integrate(gzip, **options)) == expected


def test_every_few_frames_are_a_curve_with_its_first_frame(plain: Path) -> None:
    single, fives = integrate(plain, every=1), integrate(plain, every=5)
    assert single.signal.values.shape == (N_FRAMES, 40)
    assert [axis.name for axis in single.signal.axes] == ["frame", "q"]
    assert fives.signal.axes[0].values.tolist() == [0, 5, 10, 15, 20]
    np.testing.assert_allclose(fives.signal.values[4], single.signal.values[20], rtol=1e-12)
    whole = integrate(plain)
    np.testing.assert_allclose(whole.signal.values, single.signal.values.mean(axis=0), rtol=1e-3)
    assert whole.statistics == single.statistics == fives.statistics
    assert whole.statistics.n_values_blank == 1


def test_frames_that_are_left_out_leave_a_gap_of_unknowns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", counts())
    break_chunk(path, 2)
    with pytest.raises(CorruptChunk) as caught:
        integrate(path, every=1)
    assert caught.value.chunk == (2, 0, 0)
    for policy in ("skip", "mask"):
        result = integrate(path, every=1, corrupt=policy)
        assert np.isnan(result.signal.values).all(axis=1).tolist() == [i == 2 for i in range(N_FRAMES)]
        assert (result.statistics.n_frames_corrupt, result.statistics.n_frames_read) == (1, N_FRAMES - 1)
        assert "(2, 0, 0)" in result.warnings[0]
    others = np.delete(counts(), 2, axis=0)
    expected = integrate(write(tmp_path / "b.h5", others)).signal
    found = integrate(path, corrupt="skip").signal
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-13)  # cut into other units


def break_chunk(path: Path, i: int) -> None:
    with h5py.File(path) as file:
        info = file["entry/instrument/detector/data"].id.get_chunk_info(i)
    with path.open("r+b") as raw:
        raw.seek(info.byte_offset + 12)
        raw.write(b"\xff\xff\xff\xff")


def test_a_chunk_with_blocks_of_its_own_size_is_read_all_the_same(plain: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", counts())
    with h5py.File(tmp_path / "other.h5", "w") as other, h5py.File(path, "a") as file:
        again = other.create_dataset(
            "data", data=counts()[4:5], chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle(nelems=256, cname="lz4")
        )
        stored = again.id.read_direct_chunk((0, 0, 0))[1]
        assert struct.unpack_from(">I", stored, 8) == (1024,)
        file["entry/instrument/detector/data"].id.write_direct_chunk((4, 0, 0), stored)
    for every in (1, None):
        assert bits(integrate(path, every=every)) == bits(integrate(plain, every=every))


def test_images_come_from_arrays_files_and_datasets(plain: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    images = {
        "mask": (random.random(SHAPE) < 0.1).astype(np.float32),
        "dark": random.random(SHAPE).astype(np.float32),
        "flat": random.uniform(0.5, 2, SHAPE).astype(np.float32),
    }
    expected = bits(integrate(plain, **images))
    for name, image in images.items():
        np.save(tmp_path / f"{name}.npy", image)
        fabio.edfimage.EdfImage(image).write(str(tmp_path / f"{name}.edf"))
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["mask"], file["dark"] = images["mask"], np.stack([images["dark"]] * 2)
        file["flat"] = images["flat"]
    for pattern in ("{}.npy", "{}.edf", "images.h5::/{}"):
        named = {name: str(tmp_path / pattern.format(name)) for name in images}
        assert bits(integrate(plain, **named)) == expected
    own = integrate(plain, mask="::/entry/instrument/detector/pixel_mask")
    assert bits(own) == bits(integrate(plain))


def test_the_files_own_flat_is_used_once_or_missed_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "flat.h5", counts())
    with pytest.raises(NodeMissing, match="detector/flatfield"):
        integrate(path, flat="file")
    factors = np.random.default_rng(2).uniform(0.5, 2, SHAPE)
    with h5py.File(path, "a") as file:
        file["entry/instrument/detector/flatfield"] = factors
    found = integrate(path, flat="file")
    assert bits(found) == bits(integrate(path, flat=1 / factors)) != bits(integrate(path))
    assert found.parameters["flat"] == "file"
    with h5py.File(path, "a") as file:
        file["entry/instrument/detector/flatfield_applied"] = True
    assert bits(integrate(path, flat="file")) == bits(integrate(path))


@pytest.mark.parametrize("name", ["mask", "dark", "flat"])
def test_images_that_cannot_be_used_are_refused_by_name(plain: Path, tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "broken.edf").write_bytes(b"{ nothing")
    (tmp_path / "script.py").write_text("1")
    (tmp_path / "long.npy").write_bytes(np.lib.format.MAGIC_PREFIX + b"\x01\x00\xff\xff")
    words = [
        "objects.npy",
        "broken.edf",
        "script.py",
        "long.npy",
        "absent.npy",
        f"{plain}::/nothing",
        "::/entry",
    ]
    for word in [*(str(tmp_path / w) if "::" not in w else w for w in words), np.array(["a"])]:
        with pytest.raises(BadParameter) as caught:
            integrate(plain, **{name: word})
        assert caught.value.name == name
    if name != "mask":
        with pytest.raises(BadParameter, match="shape"):
            integrate(plain, **{name: np.ones((3, 3))})


def test_a_poni_file_replaces_the_files_geometry(plain: Path, tmp_path: Path) -> None:
    AzimuthalIntegrator(
        0.1, 21e-3, 60e-3, detector=Detector(1e-3, 1e-3, max_shape=SHAPE), wavelength=1e-10
    ).save(str(tmp_path / "a.poni"))
    assert bits(integrate(plain, poni=tmp_path / "a.poni")) == bits(integrate(plain))
    with pytest.raises(BadParameter, match="geometry is given"):
        open_run(plain).azimuthal(poni=tmp_path / "a.poni", geometry=GEOMETRY, progress=silent)


def test_limits_of_the_detector_make_values_blank(tmp_path: Path) -> None:
    frames = np.full((2, *SHAPE), 7, dtype=np.uint32)
    frames[0, 1, :3], frames[1, 2, 4], frames[1, 3, 3] = 65535, 900, 3
    expected: list[tuple[dict[str, Any], int]] = [
        ({}, 0), ({"bit_depth_image": 16}, 3), ({"bit_depth_readout": 16}, 3),
        ({"bit_depth_image": 32, "bit_depth_readout": 12}, 0), ({"saturation_value": 800}, 4),
        ({"saturation_value": 65535, "bit_depth_readout": 12}, 0),
        ({"saturation_value": 899.5, "underload_value": 4}, 5),
    ]  # fmt: skip
    for i, (limits, n_blank) in enumerate(expected):
        path = write(tmp_path / f"{i}.h5", frames)
        with h5py.File(path, "a") as file:
            for name, value in limits.items():
                file[f"entry/instrument/detector/{name}"] = value
        for every in (None, 1):
            result = integrate(path, every=every)
            assert result.statistics.n_values_blank == n_blank, limits


def test_negative_values_of_signed_frames_are_blank(tmp_path: Path) -> None:
    frames = counts().astype(np.int32)
    frames[:, 20:22] = -1
    frames[:, 7, 7] = -2
    for dtype in (np.int16, np.int32, np.int64):
        statistics = integrate(write(tmp_path / f"{dtype.__name__}.h5", frames.astype(dtype))).statistics
        assert statistics.n_values_blank == N_FRAMES + 1  # the largest unsigned value became -1
        good = (frames >= 0) & (np.arange(SHAPE[0]) // 2 != 10)[:, np.newaxis]
        assert statistics.counts_total == int(frames[good].sum())


def test_without_an_error_model_there_are_no_errors(plain: Path) -> None:
    for every in (None, 1):
        result = integrate(plain, every=every, error_model="none")
        assert result.signal.errors is None
        np.testing.assert_array_equal(result.signal.values, integrate(plain, every=every).signal.values)


def test_a_map_is_a_product_with_two_axes(plain: Path, tmp_path: Path) -> None:
    product = integrate(plain, azimuth_bins=6, azimuth_range=(-90, 90), q_range=(2, 20)).write(
        tmp_path / "o.h5"
    )
    with h5py.File(product.path) as file:
        data = file["entry/data"]
        assert list(data.attrs["axes"]) == ["azimuth", "q"]
        assert data["intensity"].shape == (6, 40) == data["intensity_errors"].shape
        assert data["azimuth"].attrs["units"] == "deg"
        np.testing.assert_allclose(data["azimuth"][()], np.arange(-75, 90, 30), atol=1e-4)


def test_what_leaves_nothing_to_reduce_is_told(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="mask"):
        integrate(plain, mask=np.ones(SHAPE))
    none = write(
        tmp_path / "none.h5", np.zeros((0, *SHAPE), "u2"), chunks=(1, *SHAPE), maxshape=(None, *SHAPE)
    )
    with pytest.raises(NoFrames):
        integrate(none)
    with pytest.raises(NothingLeft, match="frames"):
        open_run(f"{none}::/entry/instrument/detector/data").azimuthal(geometry=GEOMETRY, progress=silent)
    with h5py.File(tmp_path / "thin.h5", "w") as file:
        file["data"] = np.zeros((3, 0, 5), dtype=np.uint16)
    with pytest.raises(NoFrames, match="0 x 5 pixels"):
        open_run(f"{tmp_path}/thin.h5::/data").azimuthal(geometry=GEOMETRY, progress=silent)
    with pytest.raises(BadParameter, match="every"):
        integrate_many(tmp_path)


def integrate_many(folder: Path) -> Result:
    """More curves than a result may hold."""
    with h5py.File(folder / "many.h5", "w") as file:
        file.create_dataset("data", (10**5, *SHAPE), "u2", chunks=(1, *SHAPE))
        file["data"][0] = 1
    return open_run(f"{folder}/many.h5::/data").azimuthal(
        every=1, bins=50_000, geometry=GEOMETRY, progress=silent
    )


def test_one_frame_of_one_pixel_is_reduced(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["data"] = np.array([[[12]]], dtype=np.uint16)
    result = open_run(f"{tmp_path}/one.h5::/data").azimuthal(
        bins=1, geometry=GEOMETRY, solid_angle=False, progress=silent
    )
    np.testing.assert_allclose(result.curve.intensity, 12)
    np.testing.assert_allclose(result.curve.errors, 12**0.5)
