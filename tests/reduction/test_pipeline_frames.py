"""Frames of a unit come in batches that do not change what is in them, whatever the layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from beamhub_reduction.errors import CorruptChunk
from beamhub_reduction.kernels import decode
from beamhub_reduction.pipeline.frames import FrameTally, frame_batches, stored_batches
from beamhub_reduction.pipeline.units import FrameUnit, Segment
from beamhub_reduction.storage_chunks import read_chunk_index

SHAPE = (12, 17)
N = 37
VALUES = np.random.default_rng(1).poisson(4, (N, *SHAPE)).astype("<u2")
LAYOUTS: dict[str, dict[str, Any]] = {
    "frames": {"chunks": (1, *SHAPE), **hdf5plugin.Bitshuffle()},
    "many frames a chunk": {"chunks": (20, *SHAPE), "compression": "gzip"},
    "few frames a chunk": {"chunks": (3, *SHAPE), **hdf5plugin.Bitshuffle()},
    "tiles": {"chunks": (2, 5, 9), **hdf5plugin.Bitshuffle()},
    "contiguous": {},
    "hdf5": {"chunks": (4, *SHAPE), "compression": "lzf"},
}


def write(path: Path, layout: str) -> None:
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=VALUES, **LAYOUTS[layout])


def unit_of(path: Path, start: int, stop: int, weights: np.ndarray | None = None) -> FrameUnit:
    index = read_chunk_index(str(path), "/d").select(start, stop)
    return FrameUnit(
        0, (Segment(index, start, stop, start),), np.ones(stop - start) if weights is None else weights
    )


def break_chunk(path: Path, coord: tuple[int, ...]) -> None:
    with h5py.File(path, "r") as f:
        offset = f["d"].id.get_chunk_info_by_coord(coord).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("batch", "run_bytes"), [(1, 0), (7, 0), (16, 1 << 22), (50, 3000)])
def test_batches_hold_all_frames_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, batch: int, run_bytes: int
) -> None:
    monkeypatch.setattr("beamhub_reduction.pipeline.frames.MIN_RUN_BYTES", run_bytes)
    write(tmp_path / "a.h5", layout)
    weights = np.ones(30)
    weights[[3, 20]] = 0, np.nan
    found, tally = [], FrameTally()
    for b in frame_batches(
        unit_of(tmp_path / "a.h5", 5, 35, weights), shape=SHAPE, corrupt="fail", batch=batch
    ):
        assert len(b.data) == len(b.weights) == len(b.numbers) <= batch and b.blank is None
        np.testing.assert_array_equal(b.data, VALUES[b.numbers])
        found.extend(b.numbers.tolist())
        tally += b.tally
    assert found == [i for i in range(5, 35) if i not in (8, 25)]
    assert (tally.n_read, tally.n_without_flux, tally.n_corrupt) == (28, 2, 0)


def test_a_chunk_of_many_frames_is_decoded_once(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path, "many frames a chunk")
    break_chunk(path, (20, 0, 0))
    tally = FrameTally()
    for b in frame_batches(unit_of(path, 2, N), shape=SHAPE, corrupt="skip", batch=4):
        tally += b.tally
    assert (tally.n_read, tally.n_corrupt) == (18, N - 20)
    assert len(tally.problems) == 1  # each try to decode it would name it again


def test_reading_ahead_or_not_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.h5", "frames")
    for limit in (0, 1 << 30):
        monkeypatch.setattr("beamhub_reduction.pipeline.frames.READ_AHEAD_BYTES", limit)
        monkeypatch.setattr("beamhub_reduction.pipeline.frames.MIN_RUN_BYTES", 0)
        batches = frame_batches(unit_of(tmp_path / "a.h5", 0, N), shape=SHAPE, corrupt="fail")
        assert sum(int(b.data.sum()) for b in batches) == int(VALUES.sum())


def test_a_caller_who_leaves_early_leaves_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beamhub_reduction.pipeline.frames.MIN_RUN_BYTES", 0)
    write(tmp_path / "a.h5", "frames")
    batches = frame_batches(unit_of(tmp_path / "a.h5", 0, N), shape=SHAPE, corrupt="fail", batch=2)
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # a generator; the fixture of all tests counts threads


def test_the_policy_decides_what_a_corrupt_tile_costs(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path, "tiles")
    break_chunk(path, (4, 5, 0))
    unit = unit_of(path, 0, N)
    with pytest.raises(CorruptChunk):
        list(frame_batches(unit, shape=SHAPE, corrupt="fail"))
    skipped, masked = FrameTally(), FrameTally()
    for b in frame_batches(unit, shape=SHAPE, corrupt="skip"):
        assert b.blank is None and not {4, 5} & set(b.numbers.tolist())
        skipped += b.tally
    n_blank = 0
    for b in frame_batches(unit, shape=SHAPE, corrupt="mask"):
        blank = np.zeros(b.data.shape, bool) if b.blank is None else b.blank
        n_blank += int(blank.sum())
        np.testing.assert_array_equal(b.data[~blank], VALUES[b.numbers][~blank])
        masked += b.tally
    assert (skipped.n_read, skipped.n_corrupt) == (N - 2, 2)
    assert (masked.n_read, masked.n_corrupt, n_blank) == (N, 0, 2 * 5 * 9)
    assert len(masked.problems) == len(skipped.problems) == 1


def test_a_single_frame_of_two_dimensions_is_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=VALUES[0], chunks=(5, 9), **hdf5plugin.Bitshuffle())
    unit = FrameUnit(0, (Segment(read_chunk_index(str(path), "/d"), 0, 1, 6),), np.ones(1))
    (b,) = frame_batches(unit, shape=SHAPE, corrupt="fail")
    np.testing.assert_array_equal(b.data, VALUES[:1])
    assert b.numbers.tolist() == [6] and stored_batches(unit, shape=SHAPE, corrupt="fail") is None


def test_stored_batches_hold_the_chunks_as_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path, "frames")
    break_chunk(path, (9, 0, 0))
    weights = np.ones(30)
    weights[2] = 0
    batches = stored_batches(unit_of(path, 3, 33, weights), shape=SHAPE, corrupt="skip", batch=8)
    assert batches is not None
    tally, numbers = FrameTally(), []
    for b in batches:
        failed = {}
        for i, number in enumerate(b.numbers.tolist()):
            out, scratch = np.zeros(b.frame_bytes, np.uint8), np.zeros(1 << 15, np.uint8)
            chunk = b.chunk(i)
            if not decode.has_decoders():
                continue
            reason = decode.decode_bslz4(chunk, item_bytes=b.dtype.itemsize, out=out, scratch=scratch)
            if reason:
                failed[i] = reason
            else:
                np.testing.assert_array_equal(out.view(b.dtype).reshape(SHAPE), VALUES[number])
        if failed:
            with pytest.raises(CorruptChunk, match=r"storage chunk \(9, 0, 0\)"):
                b.settle(failed, "fail")
        tally += b.settle(failed, "skip")
        numbers.extend(b.numbers.tolist())
    assert numbers == [i for i in range(3, 33) if i != 5]
    if decode.has_decoders():
        assert (tally.n_read, tally.n_corrupt, tally.n_without_flux) == (28, 1, 1)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "frames"])
def test_other_layouts_have_no_stored_batches(tmp_path: Path, layout: str) -> None:
    write(tmp_path / "a.h5", layout)
    assert stored_batches(unit_of(tmp_path / "a.h5", 0, N), shape=SHAPE, corrupt="fail") is None
