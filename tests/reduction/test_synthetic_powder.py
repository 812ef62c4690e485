"""The synthetic powder scans are what they say: read with plain h5py, judged by arithmetic."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from beamhub_core.techniques import POWDER_DIFFRACTION
from beamhub_reduction.synthetic import (
    AlreadyThere,
    PowderOptions,
    Truth,
    write_damaged_file,
    write_dangling_link_file,
    write_powder_scan,
)

SENTINEL = 2**32 - 1
N_FRAMES = 20


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pool")


@pytest.fixture(scope="module")
def truth(pool: Path) -> Truth:
    """One scan of three detector files, the last one shorter, with an unfinished repeat."""
    options = PowderOptions(frames_per_file=8, unfinished_scan=True)
    return write_powder_scan(pool, proposal="MA-1", sample="LaB6", seed=7, n_frames=N_FRAMES, options=options)


def frames_of(truth: Truth) -> np.ndarray[Any, Any]:
    """All frames through the links of the master, shape (n_frames, ny, nx), int64."""
    with h5py.File(truth.file, "r") as file:
        detector = file["1.1/instrument/pilatus"]
        names = sorted(name for name in detector if name.startswith("data_"))
        return np.concatenate([detector[name][()] for name in names]).astype(np.int64)


def mask_of(truth: Truth) -> np.ndarray[Any, Any]:
    with h5py.File(truth.file, "r") as file:
        mask: np.ndarray[Any, Any] = file["1.1/instrument/pilatus/pixel_mask"][()]
    return mask


def q_of(truth: Truth) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """q (nm^-1) and the relative solid angle of every pixel, from the file's geometry alone."""
    with h5py.File(truth.file, "r") as file:
        detector = file["1.1/instrument/pilatus"]
        y, x = np.indices(detector["pixel_mask"].shape) + 0.5
        dx = (x - detector["beam_center_x"][()]) * detector["x_pixel_size"][()]
        dy = (y - detector["beam_center_y"][()]) * detector["y_pixel_size"][()]
        two_theta = np.arctan2(np.hypot(dx, dy), detector["distance"][()])
        wavelength_nm = file["1.1/instrument/monochromator/wavelength"][()] / 10
    return 4 * np.pi / wavelength_nm * np.sin(two_theta / 2), np.cos(two_theta) ** 3


def pattern_of(truth: Truth, n_bins: int = 1200) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Bin centres and mean corrected counts of unmasked pixels."""
    good = (mask_of(truth) & 0xFFFF) == 0
    q, solid_angle = q_of(truth)
    total = frames_of(truth).sum(axis=0)
    edges = np.linspace(5.0, 60.0, n_bins + 1)
    counts = np.histogram(q[good], edges, weights=(total / solid_angle)[good])[0]
    pixels = np.histogram(q[good], edges)[0]
    return (edges[1:] + edges[:-1]) / 2, counts / np.maximum(pixels, 1)


def fitted_position(
    axis: np.ndarray[Any, Any], signal: np.ndarray[Any, Any], near: float, reach: float
) -> float:
    """Centroid above the local background within `reach` of a position."""
    inside = np.abs(axis - near) < reach
    height = signal[inside] - np.percentile(signal[np.abs(axis - near) < 1.6 * reach], 10)
    return float(np.average(axis[inside], weights=np.clip(height, 0, None)))


def test_peaks_stand_where_they_were_planted(truth: Truth) -> None:
    q, intensity = pattern_of(truth)
    assert len(truth.peaks) >= 8
    for position in truth.peaks:
        assert fitted_position(q, intensity, position, 0.5) == pytest.approx(position, abs=0.02)


def test_peaks_follow_the_lattice(truth: Truth) -> None:
    squared = [(q * truth.lattice_angstrom / (20 * math.pi)) ** 2 for q in truth.peaks]
    assert truth.lattice_angstrom == 4.156826
    np.testing.assert_allclose(squared, np.round(squared), atol=1e-9)


def test_counts_are_poisson(truth: Truth) -> None:
    """The variance between two frames of nearly the same beam is the sum of their means."""
    frames = frames_of(truth)
    good = (mask_of(truth) & 0xFFFF) == 0
    first, second = frames[10][good], frames[11][good]
    second = second * first.sum() / second.sum()
    ratio = ((first - second) ** 2).sum() / (first + second).sum()
    assert ratio == pytest.approx(1.0, abs=0.02)
    assert not np.array_equal(frames[10], frames[11])


def test_the_monitor_follows_the_beam(truth: Truth) -> None:
    good = (mask_of(truth) & 0xFFFF) == 0
    totals = frames_of(truth)[:, good].sum(axis=1)
    with h5py.File(truth.file, "r") as file:
        monitor = file["1.1/monitor/data"][()]
    assert monitor.shape == (N_FRAMES,)
    ratio = totals / monitor
    assert monitor.max() / monitor.min() > 1.03
    np.testing.assert_allclose(ratio / ratio.mean(), 1.0, atol=0.01)


def test_the_mask_and_the_sentinel_agree(truth: Truth) -> None:
    frames, mask = frames_of(truth), mask_of(truth)
    dark = (mask & 0b11) != 0  # gap or dead
    assert (frames[:, dark] == SENTINEL).all()
    assert frames[:, ~dark].max() < SENTINEL
    assert set(np.unique(mask).tolist()) == {0, 1, 2, 16, 256}
    gap_rows = np.flatnonzero((mask & 1).all(axis=1))
    assert gap_rows.tolist() == [*range(195, 212), *range(407, 424)]
    assert frames[:, (mask & 16) != 0].mean() > 50 * frames[:, mask == 0].mean()
    assert frames[:, (mask & 256) != 0].mean() < 0.2 * frames[:, mask == 0].mean()


def test_the_truth_counts_what_is_there(truth: Truth) -> None:
    frames, mask = frames_of(truth), mask_of(truth)
    good = (mask & 0xFFFF) == 0
    assert truth.n_frames == len(frames) == N_FRAMES
    assert truth.n_pixels_masked == np.count_nonzero(~good)
    assert truth.counts_total == frames[:, good].sum()
    assert truth.technique == POWDER_DIFFRACTION
    assert truth.problem is None


def test_frames_are_stored_as_the_detector_stores_them(truth: Truth, pool: Path) -> None:
    folder = pool / "MA-1" / "bl09" / "detector_LaB6_0001"
    sizes = []
    for name in sorted(path.name for path in folder.iterdir()):
        with h5py.File(folder / name, "r") as file:
            data = file["entry_0000/BL09/pilatus/data"]
            assert (data.dtype, data.chunks) == (np.uint32, (1, 619, 487))
            code, _flags, values, _name = data.id.get_create_plist().get_filter(0)
            assert (code, values[-1]) == (hdf5plugin.Bitshuffle.filter_id, 2)  # 2 = LZ4
            assert file["entry_0000/measurement/data"] == data
            sizes.append(len(data))
    assert sizes == [8, 8, 4]


def test_the_master_is_honest_nexus(truth: Truth) -> None:
    with h5py.File(truth.file, "r") as file:
        node: Any = file
        while "default" in node.attrs:
            node = node[node.attrs["default"]]
        assert node.attrs["NX_class"] == "NXdata"
        assert node[node.attrs["signal"]].ndim == 3
        entry = file["1.1"]
        assert entry["experiment_identifier"].asstr()[()] == "MA-1"
        assert entry["end_time"].asstr()[()] > entry["start_time"].asstr()[()]
        assert entry["technique/pid"].asstr()[()] == POWDER_DIFFRACTION
        links = [
            entry["instrument/pilatus"].get(name, getlink=True)
            for name in entry["instrument/pilatus"]
            if name.startswith("data_")
        ]
        assert [link.filename for link in links] == [
            f"../detector_LaB6_0001/pilatus_{i:04d}.h5" for i in range(3)
        ]
        unfinished = file["2.1"]
        assert "end_time" not in unfinished
        assert not [name for name in unfinished["instrument/pilatus"] if name.startswith("data")]
        classes: list[str] = []
        file.visititems(
            lambda _name, item: (
                classes.append(item.attrs["NX_class"]) if isinstance(item, h5py.Group) else None
            )
        )
        assert {"NXentry", "NXinstrument", "NXdetector", "NXmonitor", "NXsample", "NXuser"} <= set(classes)


def test_a_moved_dataset_keeps_its_links(tmp_path: Path) -> None:
    truth = write_powder_scan(tmp_path / "a", proposal="P-1", sample="Ni", seed=1, n_frames=2)
    (tmp_path / "a").rename(tmp_path / "b")
    with h5py.File(truth.file.replace(str(tmp_path / "a"), str(tmp_path / "b")), "r") as file:
        assert file["1.1/instrument/pilatus/data_0000"].shape == (2, 619, 487)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    digests = []
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_powder_scan(tmp_path / folder, proposal="P-1", sample="CeO2", seed=seed, n_frames=3)
        digests.append(
            {
                str(path.relative_to(tmp_path / folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted((tmp_path / folder).rglob("*.h5"))
            }
        )
    assert digests[0] == digests[1]
    assert all(digests[0][name] != digests[2][name] for name in digests[0])


def test_an_unknown_sample_has_a_lattice_nobody_knows(tmp_path: Path) -> None:
    truths = [
        write_powder_scan(tmp_path / str(seed), proposal="P-1", sample="mystery", seed=seed, n_frames=1)
        for seed in (1, 2)
    ]
    edges = [truth.lattice_angstrom for truth in truths]
    assert edges[0] != edges[1]
    assert all(3.7 <= edge <= 4.3 for edge in edges)
    assert all(len(truth.peaks) >= 6 for truth in truths)


def test_given_rings_are_planted_instead(tmp_path: Path) -> None:
    options = PowderOptions(peaks=(30.0, 12.5, 44.0))
    truth = write_powder_scan(tmp_path, proposal="P-1", sample="rings", seed=1, n_frames=10, options=options)
    assert truth.peaks == (12.5, 30.0, 44.0)
    q, intensity = pattern_of(truth)
    for position in truth.peaks:
        assert fitted_position(q, intensity, position, 0.5) == pytest.approx(position, abs=0.03)


def test_existing_data_are_never_overwritten(truth: Truth, pool: Path) -> None:
    before = Path(truth.file).read_bytes()
    with pytest.raises(AlreadyThere) as caught:
        write_powder_scan(pool, proposal="MA-1", sample="LaB6", seed=8, n_frames=1)
    assert caught.value.path.endswith("detector_LaB6_0001")
    assert Path(truth.file).read_bytes() == before


def test_an_interrupted_run_leaves_no_half_dataset(tmp_path: Path) -> None:
    def interrupt(_done: int) -> None:
        raise KeyboardInterrupt

    options = PowderOptions(tick=interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_powder_scan(tmp_path, proposal="P-1", sample="Ni", seed=1, n_frames=2, options=options)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert write_powder_scan(tmp_path, proposal="P-1", sample="Ni", seed=1, n_frames=2).n_frames == 2


@pytest.mark.parametrize(
    ("n_frames", "options", "reason"),
    [(0, PowderOptions(), "at least one frame"), (1, PowderOptions(peaks=(1.0,)), "between 2 and 60")],
)
def test_an_impossible_scan_is_refused(
    tmp_path: Path, n_frames: int, options: PowderOptions, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        write_powder_scan(tmp_path, proposal="P", sample="Ni", seed=1, n_frames=n_frames, options=options)


def test_a_damaged_file_cannot_be_opened(tmp_path: Path) -> None:
    truth = write_damaged_file(tmp_path, proposal="P-1", sample="Si", seed=3)
    assert truth.problem == "damaged"
    with pytest.raises(OSError, match="truncated"):
        h5py.File(truth.file, "r")


def test_a_dangling_link_leaves_the_other_frames(tmp_path: Path) -> None:
    truth = write_dangling_link_file(tmp_path, proposal="P-1", sample="Ni", seed=3)
    assert (truth.problem, truth.n_frames, truth.n_frames_missing) == ("dangling_link", 16, 8)
    with h5py.File(truth.file, "r") as file:
        detector = file["1.1/instrument/pilatus"]
        good = (detector["pixel_mask"][()] & 0xFFFF) == 0
        assert detector["data_0000"][()][:, good].sum(dtype=np.int64) == truth.counts_total
        assert detector["acq_parameters/acq_nb_frames"][()] == 24
        with pytest.raises(KeyError, match="can't open file"):
            detector["data_0001"]
