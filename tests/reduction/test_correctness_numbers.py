"""Numbers at the edges: sums that do not fit 24 or 32 bits, dark above the counts, nothing at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_core.errors import BeamhubError
from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.nexus.errors import NoFrames
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.result import Result
from beamhub_reduction.run import open_run
from beamhub_reduction.synthetic.nxmx import NxmxOptions, write_nxmx_run
from reduction.bad_files import BITSHUFFLE_LZ4, draw_frames, write_stack

pytestmark = pytest.mark.usefixtures("outside_session")
FRAME_STEPS: dict[str, dict[str, Any]] = {
    "azimuthal": {"bins": 5},
    "frame_statistics": {},
    "saxs": {"bins": 5, "test": "none"},
    "fly_scan_map": {},
}
SHAPED = {"fly_scan_map": "scan_shape"}


def reduce(step: str, path: Path, n_frames: int, **parameters: Any) -> Result:
    grid = {"scan_shape": (1, max(1, n_frames))} if step in SHAPED else {}
    return open_run(path).reduce(step, progress=silent, **FRAME_STEPS[step], **grid, **parameters)


def signal(result: Result, name: str) -> Any:
    return next(s for s in result.signals if s.name == name)


@pytest.mark.parametrize("way", ["stored", "decoded"])
@pytest.mark.parametrize("value", [2**24 + 1, 2**31 + 1, 2**32 - 2])
def test_sums_past_2_24_and_2_32_are_exact(tmp_path: Path, value: int, way: str) -> None:
    n = 7
    frames = np.full((n, 8, 8), value, np.uint32)
    frames[:, 0, 0] = value - 1
    options = BITSHUFFLE_LZ4 if way == "stored" else {"compression": "gzip"}
    path = write_stack(tmp_path / "large.h5", frames, **options)
    total = int(frames.sum(dtype=np.uint64))
    assert total > 2**24 * 7
    statistics = reduce("frame_statistics", path, n)
    assert statistics.statistics.counts_total == total
    assert signal(statistics, "sum").values[1, 1] == n * value
    assert signal(statistics, "mean").values.tolist() == frames[0].astype(float).tolist()
    assert signal(statistics, "total_counts").values.tolist() == [total // n] * n
    azimuthal = open_run(path).azimuthal(bins=1, solid_angle=False, normalise=False, progress=silent)
    assert azimuthal.statistics.counts_total == total
    np.testing.assert_allclose(azimuthal.signal.values, total / (n * 64), rtol=1e-6)


def test_unsigned_counts_below_the_dark_become_negative_and_do_not_wrap(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "dark.h5", np.full((3, 24, 20), 2, np.uint16), **BITSHUFFLE_LZ4)
    run = open_run(path)
    for step in ("azimuthal", "saxs"):
        result = run.reduce(
            step, bins=4, dark=np.full((24, 20), 5.0), solid_angle=False, normalise=False, progress=silent
        )
        np.testing.assert_allclose(result.signal.values, -3.0, rtol=1e-6)


@pytest.mark.parametrize("step", FRAME_STEPS)
def test_a_detector_that_is_masked_as_a_whole_has_no_counts(tmp_path: Path, step: str) -> None:
    path = write_stack(tmp_path / "masked.h5", draw_frames((3, 24, 20)))
    if step in ("azimuthal", "saxs"):  # there is no bin to give
        with pytest.raises(BadParameter, match="mask of all pixels"):
            reduce(step, path, 3, mask=np.ones((24, 20)))
        return
    result = reduce(step, path, 3, mask=np.ones((24, 20)))
    assert result.statistics.counts_total == 0
    assert result.statistics.n_pixels_masked == 24 * 20
    assert not np.nan_to_num(result.signal.values).any()


@pytest.mark.parametrize("step", FRAME_STEPS)
@pytest.mark.parametrize("shape", [(0, 24, 20), (0, 1, 1), (3, 0, 20), (3, 24, 0)])
def test_no_frames_and_no_pixels_are_typed_errors(tmp_path: Path, step: str, shape: tuple[int, ...]) -> None:
    chunks = tuple(max(1, n) for n in shape)
    path = write_stack(
        tmp_path / "none.h5", None, shape=shape, dtype="u2", chunks=chunks, maxshape=(None, None, None)
    )
    with pytest.raises((NoFrames, NothingLeft)) as caught:
        reduce(step, path, shape[0])
    assert isinstance(caught.value, BeamhubError) and str(path) in str(caught.value)


@pytest.mark.parametrize("step", FRAME_STEPS)
@pytest.mark.parametrize("shape", [(1, 24, 20), (5, 1, 1), (1, 1, 1)])
def test_one_frame_and_one_pixel_are_reduced(tmp_path: Path, step: str, shape: tuple[int, int, int]) -> None:
    frames = draw_frames(shape) + 1
    result = reduce(step, write_stack(tmp_path / "one.h5", frames, **BITSHUFFLE_LZ4), shape[0])
    assert result.statistics.n_frames_read == shape[0]
    assert np.isfinite(result.signal.values).any()
    if step != "saxs":
        assert result.statistics.counts_total == frames.sum()


@pytest.mark.parametrize("step", FRAME_STEPS)
def test_the_largest_value_of_a_narrow_image_in_a_wide_file_is_no_count(tmp_path: Path, step: str) -> None:
    """Dectris: 16-bit images in files of 32 bits carry 65535 where there is no value."""
    truth = write_nxmx_run(tmp_path, options=NxmxOptions(bits=16))
    with h5py.File(truth.file, "a") as file:
        mask = file["entry/instrument/detector/pixel_mask"]
        mask[...] = 0
    result = reduce(step, Path(truth.file), len(truth.frames))
    assert (truth.frames == 65535).any()
    assert result.statistics.counts_total == truth.frames[truth.frames < 65535].sum()
