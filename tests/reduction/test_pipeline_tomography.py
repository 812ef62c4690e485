"""Whole tomography scans: the phantom comes back, whatever the layout, the workers and the batch."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from distributed import Client

from beamhub_reduction import kernels
from beamhub_reduction.errors import BadParameter, CorruptChunk, NothingLeft, ProductExists
from beamhub_reduction.nexus.errors import FramesDisagree, LinkMissing
from beamhub_reduction.nexus.scan_errors import (
    AnglesMissing,
    NoProjections,
    ReferenceMissing,
    ScanArrayWrong,
)
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import open_run
from beamhub_reduction.synthetic.tomography import (
    TomographyOptions,
    TomographyTruth,
    write_tomography_scan,
)

pytestmark = pytest.mark.usefixtures("outside_session")
DATA = "entry/instrument/detector/data"


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> TomographyTruth:
    """A scan without noise, flats and darks interleaved. Read-only."""
    return write_tomography_scan(
        tmp_path_factory.mktemp("tomo"), seed=1, options=TomographyOptions(noise=False)
    )


@pytest.fixture
def copied(truth: TomographyTruth, tmp_path: Path) -> Path:
    """A copy of the scan, to be broken."""
    return Path(shutil.copy(truth.file, tmp_path / "scan.nxs"))


def volume_of(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with h5py.File(path) as f:
        values: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = f["entry/data/data"][()]
    return values


def test_the_phantom_comes_back_from_a_drifting_beam(truth: TomographyTruth, tmp_path: Path) -> None:
    result = open_run(truth.file).tomography(volume=tmp_path / "v.nxs", progress=silent)
    volume, good = volume_of(tmp_path / "v.nxs"), ~truth.dead
    np.testing.assert_allclose(volume[:, good], truth.attenuation[:, good], atol=2e-3)  # counts are rounded
    assert np.isnan(volume[:, truth.dead]).all()
    assert result.statistics.n_pixels_masked == truth.dead.sum()
    assert result.statistics.n_frames_read == len(truth.angles_deg)
    np.testing.assert_allclose(result.signal.values[good], volume.mean(axis=0, dtype=float)[good], rtol=1e-6)
    np.testing.assert_array_equal(result.signals[1].values, volume[:, 16])
    np.testing.assert_allclose(result.signals[1].axes[0].values, truth.angles_deg)


def test_the_volume_is_an_nxtomo_file_that_is_reduced_like_any_other(
    truth: TomographyTruth, tmp_path: Path
) -> None:
    open_run(truth.file).tomography(volume=tmp_path / "v.nxs", rebin=2, progress=silent)
    with h5py.File(tmp_path / "v.nxs") as f:
        assert f["entry/definition"][()] == b"NXtomo"
        assert f[DATA].shape == (60, 16, 24)
        assert not f["entry/instrument/detector/image_key"][()].any()
        np.testing.assert_allclose(f["entry/sample/rotation_angle"][()], truth.angles_deg)
        assert f["entry/process/statistics/n_projections"][()] == 60
    again = open_run(tmp_path / "v.nxs").tomography(flats="none", darks="none", log=False, progress=silent)
    np.testing.assert_allclose(again.signal.values, volume_of(tmp_path / "v.nxs").mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("rebin", [1, 2, 5])
def test_rebinned_transmissions_are_numpys(truth: TomographyTruth, tmp_path: Path, rebin: int) -> None:
    result = open_run(truth.file).tomography(
        volume=tmp_path / "v.nxs", rebin=rebin, log=False, flat_order="all", normalise=False, progress=silent
    )
    with h5py.File(truth.file) as f:
        frames = f[DATA][()].astype(float)
    good = ~truth.dead

    def binned(
        a: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        ny, nx = a.shape[-2] // rebin, a.shape[-1] // rebin
        cut = np.where(good, a, 0)[..., : ny * rebin, : nx * rebin]
        return cut.reshape(*a.shape[:-2], ny, rebin, nx, rebin).sum(axis=(-3, -1))

    dark = frames[truth.keys == 2].mean(axis=0)
    flat = binned(frames[truth.keys == 1].mean(axis=0) - dark)
    with np.errstate(invalid="ignore"):
        expected = binned(frames[truth.keys == 0] - dark) / flat
    np.testing.assert_allclose(volume_of(tmp_path / "v.nxs"), expected, rtol=2e-6, atol=1e-6)
    assert bool(result.warnings) == (rebin == 5)


def test_workers_and_paths_give_the_same_bits(truth: TomographyTruth, tmp_path: Path, client: Client) -> None:
    found = set()
    run = open_run(truth.file)
    for name, used in (("alone", None), ("workers", client)):
        result = run.tomography(volume=tmp_path / name, rebin=2, client=used, progress=silent)
        found.add(
            hashlib.sha256(volume_of(tmp_path / name).tobytes() + result.signal.values.tobytes()).hexdigest()
        )
    with kernels.using_path("numpy"):
        result = run.tomography(volume=tmp_path / "numpy", rebin=2, progress=silent)
    found.add(
        hashlib.sha256(volume_of(tmp_path / "numpy").tobytes() + result.signal.values.tobytes()).hexdigest()
    )
    assert len(found) == 1


@pytest.mark.parametrize(
    "options",
    [
        TomographyOptions(references="at_end", compression="gzip"),
        TomographyOptions(linked=True, dtype=">u2"),
        TomographyOptions(style="esrf", dtype="<u4"),
        TomographyOptions(n_projections=1, n_flats=1, n_darks=1, shape=(3, 5), n_dead=0),
        TomographyOptions(dtype="<f4", shape=(9, 11)),
    ],
)
def test_other_layouts_give_the_phantom_too(options: TomographyOptions, tmp_path: Path) -> None:
    truth = write_tomography_scan(tmp_path, seed=2, options=options)
    for average in ("mean", "median"):
        run = open_run(truth.file)
        run.tomography(volume=tmp_path / average, average=average, progress=silent)  # type: ignore[arg-type]  # a str
        good = ~truth.dead
        off = volume_of(tmp_path / average)[:, good] - truth.attenuation[:, good]
        drift = 0.1 if options.references == "at_end" else 0  # no flats before: the drift remains
        assert np.abs(off.mean()) < 0.02 + drift


def test_flats_and_darks_may_stand_in_other_files(tmp_path: Path) -> None:
    options = TomographyOptions(references="other_files", noise=False)
    truth = write_tomography_scan(tmp_path, seed=3, options=options)
    run = open_run(truth.file)
    with pytest.raises(ReferenceMissing) as missing:
        run.tomography(progress=silent)
    assert missing.value.kind == "darks"
    result = run.tomography(
        flats=truth.flats_file, darks=f"{truth.darks_file}::/entry/detector/data", progress=silent
    )
    assert any("monitor" in warning for warning in result.warnings)
    drift = (
        (1 + 0.1 * np.flatnonzero(truth.keys == 0) / truth.keys.size) * truth.monitor[truth.keys == 0] / 1e6
    )
    expected = (truth.attenuation - np.log(drift)[:, None, None]).mean(axis=0)
    good = ~truth.dead
    np.testing.assert_allclose(result.signal.values[good], expected[good], atol=2e-3)
    other = write_tomography_scan(tmp_path, seed=3, options=TomographyOptions(shape=(8, 8)), name="small")
    with pytest.raises(FramesDisagree):
        run.tomography(flats=other.file, darks="none", progress=silent)


def test_what_a_scan_does_not_say_is_named(copied: Path, tmp_path: Path) -> None:
    run = open_run(copied)
    with h5py.File(copied, "a") as f:
        keys = f["entry/instrument/detector/image_key"][()]
        del f["entry/sample/rotation_angle"], f["entry/data/rotation_angle"]
    with pytest.raises(AnglesMissing):
        run.tomography(volume=tmp_path / "v.nxs", progress=silent)
    run.tomography(volume=tmp_path / "v.nxs", angle_range=(0, 180), progress=silent)
    with pytest.raises(ProductExists):
        run.tomography(volume=tmp_path / "v.nxs", angle_range=(0, 180), progress=silent)
    for wrong, error in (
        (keys * 0 + 3, NoProjections),
        (keys[:-1], ScanArrayWrong),
        (keys + 4, ScanArrayWrong),
    ):
        with h5py.File(copied, "a") as f:
            del f["entry/instrument/detector/image_key"]
            f["entry/instrument/detector/image_key"] = wrong
        with pytest.raises(error):
            run.tomography(progress=silent)
    with pytest.raises(BadParameter, match="rebin"):
        run.tomography(rebin=17, progress=silent)


def test_keys_may_come_from_another_file(copied: Path, truth: TomographyTruth) -> None:
    with h5py.File(copied, "a") as f:
        del f["entry/instrument/detector/image_key"], f["entry/data/image_key"]
    with pytest.raises(NoProjections, match="image_key"):
        open_run(copied).tomography(progress=silent)
    named = f"{truth.file}::/entry/instrument/detector/image_key"
    result = open_run(copied).tomography(image_key=named, progress=silent)
    assert result.statistics.n_frames_read == 60


def test_values_below_the_dark_are_raised_and_full_ones_counted(copied: Path) -> None:
    with h5py.File(copied, "a") as f:
        first = int(np.flatnonzero(f["entry/instrument/detector/image_key"][()] == 0)[0])
        f[DATA][first, :2] = 0
        f[DATA][first, 4, :3] = 65535
    kept = open_run(copied).tomography(progress=silent)
    assert 90 < kept.statistics.n_values_clamped <= 96
    assert kept.statistics.n_values_saturated == 3
    assert any("saturated" in warning for warning in kept.warnings)
    blank = open_run(copied).tomography(saturated="blank", progress=silent)
    assert blank.statistics.n_values_saturated == 3
    assert np.isfinite(blank.signal.values[4, 1])
    assert blank.signal.values[4, 1] != kept.signal.values[4, 1]


def test_what_the_detector_calls_saturated_is_full_before_the_type_is(copied: Path) -> None:
    with h5py.File(copied, "a") as f:
        first = int(np.flatnonzero(f["entry/instrument/detector/image_key"][()] == 0)[0])
        f[DATA][first, 4, :3] = [60000, 60001, 65535]
        f["entry/instrument/detector/saturation_value"] = 60000
    for saturated in ("keep", "blank"):
        found = open_run(copied).tomography(saturated=saturated, progress=silent)
        assert found.statistics.n_values_saturated == 2


def test_a_corrupt_projection_fails_by_name_or_is_nan_and_counted(tmp_path: Path) -> None:
    options = TomographyOptions(compression="gzip", n_dead=0)
    truth = write_tomography_scan(tmp_path, seed=4, options=options)
    with h5py.File(truth.file) as f:
        i_frame = int(np.flatnonzero(f["entry/instrument/detector/image_key"][()] == 0)[7])
        info = f[DATA].id.get_chunk_info_by_coord((i_frame, 0, 0))
    with Path(truth.file).open("r+b") as raw:
        raw.seek(info.byte_offset + 40)
        raw.write(b"\0" * 16)
    with pytest.raises(CorruptChunk):
        open_run(truth.file).tomography(volume=tmp_path / "v.nxs", progress=silent)
    assert not [p.name for p in tmp_path.iterdir() if "v.nxs" in p.name]
    result = open_run(truth.file).tomography(volume=tmp_path / "v.nxs", corrupt="skip", progress=silent)
    assert (result.statistics.n_frames_read, result.statistics.n_frames_corrupt) == (59, 1)
    volume = volume_of(tmp_path / "v.nxs")
    assert np.isnan(volume[7]).all()
    assert np.isfinite(np.delete(volume, 7, axis=0)).all()


def test_a_beam_that_never_rises_above_the_dark_leaves_nothing(copied: Path) -> None:
    with h5py.File(copied, "a") as f:
        for i in np.flatnonzero(f["entry/instrument/detector/image_key"][()] == 1):
            f[DATA][i] = 0
    with pytest.raises(NothingLeft, match="flat is above the dark"):
        open_run(copied).tomography(progress=silent)


@pytest.mark.facility_data
def test_a_real_scan_of_dls_is_reduced_as_numpy_does_it(facility_data: Path, tmp_path: Path) -> None:
    master = facility_data / "dls_k11_tomography.nxs"
    frames_file = facility_data / "dls_k11_tomography_imaging.h5"
    with pytest.raises(LinkMissing, match="does not exist"):
        open_run(master).tomography(progress=silent)
    keys = f"{master}::/entry/instrument/imaging/image_key"
    result = open_run(frames_file).tomography(
        image_key=keys, angle_range=(0, 180), volume=tmp_path / "v.nxs", rebin=2, flat_order="all",
        progress=silent,
    )  # fmt: skip
    assert result.statistics.n_frames_read == 3001
    with h5py.File(frames_file) as f, h5py.File(master) as m:
        frames = f["entry/detector/detector"][()].astype(float)
        key = m["entry/instrument/imaging/image_key"][()]
    binned = frames.reshape(-1, 11, 2, 13, 2).sum(axis=(2, 4))
    dark = binned[key == 2].mean(axis=0)
    expected = -np.log((binned[key == 0] - dark) / (binned[key == 1].mean(axis=0) - dark))
    np.testing.assert_allclose(volume_of(tmp_path / "v.nxs"), expected, atol=1e-6)
    (tmp_path / "k11-18014").mkdir()
    shutil.copy(frames_file, tmp_path / "k11-18014" / "k11-18014-imaging.h5")
    whole = open_run(shutil.copy(master, tmp_path)).tomography(progress=silent)
    assert whole.statistics.n_frames_read == 3001
    assert "The file gives no rotation angles." in whole.warnings
