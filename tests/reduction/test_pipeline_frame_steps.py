"""Steps over frames of whole runs: numpy's numbers, the same bits anywhere, every policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from distributed import Client

from beamhub_reduction import kernels
from beamhub_reduction.cluster import connect
from beamhub_reduction.errors import BadParameter, CorruptChunk, FrameCountError, NothingLeft
from beamhub_reduction.nexus import Geometry
from beamhub_reduction.nexus.errors import FramesDisagree, LinkMissing
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.result import Result
from beamhub_reduction.run import open_run
from beamhub_reduction.synthetic.fly_scan import FlyScanOptions, FlyScanTruth, write_fly_scan
from beamhub_reduction.synthetic.saxs import SaxsTruth, q_of_pixels, write_saxs_runs

pytestmark = pytest.mark.usefixtures("outside_session")
SHAPE = (23, 17, 19)
GEOMETRY = Geometry(1.2, 0.0, 0.0, 172e-6, 172e-6, 1.0)


def signal(result: Result, name: str) -> Any:
    return next(s for s in result.signals if s.name == name)


def bits(result: Result) -> list[bytes]:
    return [a.tobytes() for s in result.signals for a in (s.values, s.errors) if a is not None]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A file with frames of u16 in bitshuffle-LZ4, one chunk each, and what numpy reads from it."""
    random = np.random.default_rng(8)
    frames = random.poisson(20, SHAPE).astype(np.uint16)
    frames[:, 5], frames[3, 2, 2], frames[4, 2, 2] = 65535, 60_000, 65535
    path = tmp_path_factory.mktemp("stack") / "frames.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "entry/data/data", data=frames, chunks=(1, *SHAPE[1:]), **hdf5plugin.Bitshuffle(cname="lz4")
        )
    return path, frames


@pytest.fixture(scope="module")
def saxs(tmp_path_factory: pytest.TempPathFactory) -> SaxsTruth:
    return write_saxs_runs(tmp_path_factory.mktemp("saxs"), seed=3, beam_lost=4)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> FlyScanTruth:
    options = FlyScanOptions(snake=True, n_missing=3)
    return write_fly_scan(tmp_path_factory.mktemp("scan"), seed=3, shape=(6, 9), options=options)


REGIONS: dict[str, Any] = {"regions": ["spot=2:9,3:12", (0, 17, 0, 19)]}


def test_statistics_of_a_run_are_numpys(stack: tuple[Path, Any]) -> None:
    path, frames = stack
    result = open_run(path).frame_statistics(**REGIONS, progress=silent)
    values = np.where(frames == 65535, np.nan, frames.astype(float))
    known = np.isfinite(values).any(axis=0)
    np.testing.assert_allclose(result.signal.values[known], np.nanmean(values[:, known], axis=0), rtol=1e-14)
    expected = np.nanvar(values[:, known], axis=0, ddof=1)
    np.testing.assert_allclose(signal(result, "variance").values[known], expected, rtol=1e-12)
    np.testing.assert_array_equal(signal(result, "n_valid").values, np.isfinite(values).sum(axis=0))
    np.testing.assert_array_equal(signal(result, "total_counts").values, np.nansum(values, axis=(1, 2)))
    counts = signal(result, "region_counts").values
    np.testing.assert_array_equal(counts[:, 0], np.nansum(values[:, 2:9, 3:12], axis=(1, 2)))
    np.testing.assert_array_equal(counts[:, 1], signal(result, "total_counts").values)
    assert signal(result, "region_pixels").values[0].tolist() == [6 * 9, 16 * 19]
    assert result.statistics.counts_total == int(np.nansum(values))
    assert result.statistics.n_values_blank == int(np.isnan(values).sum())
    assert result.parameters["region_names"] == ["spot", "region_2"]


def test_every_layout_and_path_gives_the_same_counts(stack: tuple[Path, Any], tmp_path: Path) -> None:
    path, frames = stack
    expected = bits(open_run(path).frame_statistics(**REGIONS, progress=silent))
    with h5py.File(tmp_path / "layouts.h5", "w") as file:
        file["contiguous"] = frames
        file.create_dataset("big", data=frames.astype(">u2"), chunks=(4, 5, 19), compression="gzip")
        file.create_dataset("wide", data=np.where(frames == 65535, -1, frames.astype(np.int64)))
    for name in ("contiguous", "big", "wide"):
        run = open_run(f"{tmp_path}/layouts.h5::/{name}")
        assert bits(run.frame_statistics(**REGIONS, progress=silent)) == expected
    for way in kernels.available_paths():
        with kernels.using_path(way):
            assert bits(open_run(path).frame_statistics(**REGIONS, progress=silent)) == expected
    counts = bits(open_run(path).frame_statistics(images=False, **REGIONS, progress=silent))
    assert counts == expected[-len(counts) :]


def test_any_number_of_workers_gives_the_same_bits(
    stack: tuple[Path, Any], saxs: SaxsTruth, scan: FlyScanTruth
) -> None:
    def all_bits(client: Client | None) -> list[list[bytes]]:
        common: dict[str, Any] = {"client": client, "progress": silent}
        return [
            bits(open_run(stack[0]).frame_statistics(sigma_clip=4, defects=6, **REGIONS, **common)),
            bits(open_run(saxs.sample).saxs(bins=50, background=str(saxs.background), **common)),
            bits(open_run(scan.file).fly_scan_map(snake=True, **common)),
        ]

    alone = all_bits(None)
    for workers in (1, 3):
        with connect(workers) as client:
            assert all_bits(client) == alone


def test_outliers_are_clipped_in_passes_until_nothing_changes(stack: tuple[Path, Any]) -> None:
    result = open_run(stack[0]).frame_statistics(sigma_clip=4.2, clip_passes=9, progress=silent)
    assert signal(result, "n_rejected").values[2, 2] == 1
    assert signal(result, "maximum").values[2, 2] < 100
    assert 1 < result.parameters["clip_passes_done"] < 9
    assert result.statistics.n_frames_read == SHAPE[0]


@pytest.mark.parametrize("images", [True, False])
def test_a_corrupt_chunk_fails_by_name_or_leaves_its_frame_out(
    stack: tuple[Path, Any], tmp_path: Path, images: bool
) -> None:
    path, frames = stack
    broken = tmp_path / "broken.h5"
    broken.write_bytes(path.read_bytes())
    with h5py.File(broken) as file:
        offset = file["entry/data/data"].id.get_chunk_info_by_coord((6, 0, 0)).byte_offset
    with broken.open("r+b") as raw:
        raw.seek(offset + 12)
        raw.write(b"\xff\xff\xff\xff")
    run = open_run(broken)
    with pytest.raises(CorruptChunk) as caught:
        run.frame_statistics(images=images, progress=silent)
    assert caught.value.chunk == (6, 0, 0)
    result = run.frame_statistics(images=images, corrupt="skip", progress=silent)
    good = np.delete(np.where(frames == 65535, 0, frames), 6, axis=0)
    assert (result.statistics.n_frames_read, result.statistics.n_frames_corrupt) == (22, 1)
    assert result.statistics.counts_total == int(good.sum())
    assert 6 not in signal(result, "total_counts").axes[0].values
    if images:
        np.testing.assert_array_equal(signal(result, "sum").values, good.sum(axis=0))


def test_few_frames_and_none_and_an_all_masked_detector(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "few.h5", "w") as file:
        file["one"] = np.full((1, 1, 1), 7, np.uint8)
        file["image"] = np.full((3, 4), 7, np.int32)
        file.create_dataset("none", (0, 3, 4), np.uint16, chunks=(1, 3, 4), maxshape=(None, 3, 4))
        file["nan"] = np.full((2, 3, 4), np.nan, np.float32)
    one = open_run(f"{tmp_path}/few.h5::/one").frame_statistics(progress=silent)
    assert (one.signal.values[0, 0], signal(one, "total_counts").values.tolist()) == (7.0, [7])
    masked = open_run(f"{tmp_path}/few.h5::/image").frame_statistics(mask=np.ones((3, 4)), progress=silent)
    assert np.isnan(masked.signal.values).all()
    assert masked.statistics.counts_total == 0
    with pytest.raises(NothingLeft, match="frames"):
        open_run(f"{tmp_path}/few.h5::/none").frame_statistics(progress=silent)
    nothing = open_run(f"{tmp_path}/few.h5::/nan").frame_statistics(progress=silent)
    assert nothing.statistics.n_values_blank == 24


def test_a_sample_is_averaged_without_its_damaged_frames_and_its_buffer(saxs: SaxsTruth) -> None:
    run = open_run(saxs.sample)
    result = run.saxs(
        bins=40, n_reference=3, test="chi_square", transmission="/entry/sample/transmission",
        background=str(saxs.background), progress=silent,
    )  # fmt: skip
    kept = signal(result, "frame_used")
    assert result.statistics.n_frames_without_flux == 1
    assert saxs.beam_lost not in kept.axes[0].values
    assert kept.axes[0].values[kept.values == 0].tolist() == [9, 10, 11]
    assert "3 of 11 frames" in result.warnings[-1]
    q, found = result.curve.axis, result.curve.intensity
    planted = saxs.level * np.exp(-((q * saxs.radius_nm) ** 2) / 3)
    inside = (q > 0.1) & (q < q_of_pixels().max() * 0.9) & np.isfinite(found)
    pull = (found - planted)[inside] / result.curve.errors[inside]
    assert np.abs(pull).max() < 5
    assert np.mean(pull**2) == pytest.approx(1.0, abs=0.8)
    absolute = run.saxs(bins=40, absolute_scale=2.0, transmission="0.8", test="none", progress=silent)
    assert absolute.signal.units == "cm^-1"
    np.testing.assert_allclose(
        absolute.signal.values, 2 * signal(absolute, "sample").values, rtol=1e-14, equal_nan=True
    )


def test_bins_finer_than_pixels_are_told_where_curves_are_compared(saxs: SaxsTruth) -> None:
    run = open_run(saxs.sample)
    [told] = [w for w in run.saxs(bins=2000, progress=silent).warnings if "finer than pixels" in w]
    most = int(told.partition("at most ")[2].split()[0])
    for bins, test in ((most, "cormap"), (2000, "none")):
        warnings = run.saxs(bins=bins, test=test, progress=silent).warnings
        assert not [w for w in warnings if "finer than pixels" in w]


def test_a_background_that_does_not_fit_is_refused(saxs: SaxsTruth, stack: tuple[Path, Any]) -> None:
    run = open_run(saxs.sample)
    with pytest.raises(FramesDisagree):
        run.saxs(background=str(stack[0]), geometry=GEOMETRY, normalise=False, progress=silent)
    for wrong in ("2", "0", "/entry/title"):
        with pytest.raises(BadParameter, match="transmission"):
            run.saxs(transmission=wrong, progress=silent)
    with pytest.raises(FrameCountError):
        run.saxs(transmission="/entry/instrument/detector/pixel_mask", progress=silent)
    itself = run.saxs(bins=30, background="::/entry/instrument/detector/data", progress=silent)
    assert np.nanmax(np.abs(itself.signal.values)) == 0.0


def test_a_fly_scan_becomes_a_map_with_its_positions(scan: FlyScanTruth) -> None:
    result = open_run(scan.file).fly_scan_map(snake=True, regions=["left=0:32,0:16"], progress=silent)
    assert [(a.name, a.units) for a in result.signal.axes] == [("samy", "um"), ("samx", "um")]
    expected = np.where(scan.totals < 0, np.nan, scan.totals)
    np.testing.assert_array_equal(result.signal.values, expected)
    assert int(np.isnan(result.signal.values).sum()) == 3
    for i, axis in enumerate("yx"):
        found = signal(result, f"centre_{axis}").values
        np.testing.assert_allclose(found, scan.centres[..., i], atol=0.5)
    left = signal(result, "counts_left").values
    assert (left[np.isfinite(left)] <= expected[np.isfinite(left)]).all()
    assert result.statistics.n_frames_read == scan.n_frames


@pytest.mark.parametrize(("joined", "positions"), [("virtual", "frames"), ("links", "none")])
def test_virtual_datasets_and_positions_of_frames_give_the_same_map(
    scan: FlyScanTruth, tmp_path: Path, joined: Any, positions: Any
) -> None:
    options = FlyScanOptions(snake=True, n_missing=3, joined=joined, positions=positions)
    other = write_fly_scan(tmp_path, seed=3, shape=scan.shape, options=options)
    found = open_run(other.file).fly_scan_map(scan_shape=scan.shape, snake=True, progress=silent)
    np.testing.assert_array_equal(found.signal.values, np.where(scan.totals < 0, np.nan, scan.totals))
    if positions == "none":
        assert [axis.name for axis in found.signal.axes] == ["line", "point"]
        with pytest.raises(BadParameter, match="scan_shape"):
            open_run(other.file).fly_scan_map(progress=silent)
    else:
        np.testing.assert_array_equal(found.signal.axes[1].values, 10.0 + 0.25 * np.arange(9))
    with pytest.raises(BadParameter, match="large enough"):
        open_run(other.file).fly_scan_map(scan_shape=(2, 2), progress=silent)


def test_a_line_whose_file_is_missing_fails_by_name(scan: FlyScanTruth, tmp_path: Path) -> None:
    options = FlyScanOptions(joined="virtual")
    truth = write_fly_scan(tmp_path, seed=3, shape=(3, 4), options=options)
    (tmp_path / "line_00001.h5").unlink()
    run = open_run(truth.file)
    with pytest.raises(LinkMissing, match=r"line_00001\.h5"):
        run.fly_scan_map(progress=silent)
    found = run.fly_scan_map(missing="skip", progress=silent)
    assert np.isnan(found.signal.values[1]).all()
    assert np.isfinite(found.signal.values[[0, 2]]).all()
    assert found.statistics.n_frames_missing == 4
