"""The frames of one work unit, in batches: read, decoded, checked against the policy."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from beamhub_reduction.errors import CorruptChunk, FilesChanged, MemoryTooSmall
from beamhub_reduction.kernels.decode import read_stored, reason_of
from beamhub_reduction.memory_budget import reading_budget_bytes
from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.tiles import read_tiles
from beamhub_reduction.pipeline.units import FrameUnit, Segment
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray
from beamhub_reduction.storage_chunks import SLACK_BYTES, ChunkIndex, Rows, open_descriptor, read_rows
from beamhub_reduction.storage_chunks_index import identity_of

BATCH_FRAMES = 16
"""Frames that a kernel takes at once: as many float32 as fit a cache line."""
READ_AHEAD_BYTES = 256 * 1024**2
"""Decoded frames are read ahead of the caller where two readings take no more than this."""
MIN_RUN_BYTES = 4 * 1024**2
"""Small frames are read in runs of several batches: a call costs as much as decoding some hundred KiB."""
KEPT_BYTES = 256 * 1024**2
"""A thread keeps its buffer of stored bytes for its next unit: fresh memory costs as much as reading."""
MAX_RUN_BYTES = 512 * 1024**2
"""Frames that are read at once take no more than this, unless they share a chunk."""

_kept = threading.local()


@dataclass(frozen=True, slots=True)
class FrameTally:
    """What became of the frames of a part."""

    n_read: int = 0
    n_unwritten: int = 0
    n_corrupt: int = 0
    n_without_flux: int = 0
    problems: tuple[str, ...] = ()

    def __add__(self, other: FrameTally) -> FrameTally:
        return FrameTally(
            self.n_read + other.n_read,
            self.n_unwritten + other.n_unwritten,
            self.n_corrupt + other.n_corrupt,
            self.n_without_flux + other.n_without_flux,
            (*self.problems, *other.problems)[:100],
        )


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Some good frames of a unit, in order, and what became of the others that were read with them.

    `data` has shape (n, ny, nx) and the dataset's dtype; it may be a buffer that the next batch reuses.
    `weights` (n,) and `numbers` (n,) are the frames' relative flux and their places in the whole stack.
    `blank` (n, ny, nx), when it is not None, is True where a value could not be decoded (policy 'mask').
    """

    data: np.ndarray[Any, Any]
    weights: FloatArray
    numbers: IntArray
    blank: BoolArray | None
    tally: FrameTally


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """Some frames of a unit as they lie in the file: one bitshuffle-LZ4 chunk each, for a fused kernel.

    Chunk i is `data[offsets[i] : offsets[i] + sizes[i]]`, with its 12-byte header; it decodes to one whole
    frame of `frame_bytes` bytes in elements of `dtype` (little endian). Nothing of a chunk is checked yet but
    that it is there: the kernel checks every length. `data` is a buffer that the next batch reuses.
    `weights` (n,) and `numbers` (n,) are as in FrameBatch. The tally counts every frame here as read; pass
    what the kernel could not decode to `settle`, which gives the tally that is true.
    """

    data: np.ndarray[Any, np.dtype[np.uint8]]
    offsets: IntArray
    sizes: IntArray
    weights: FloatArray
    numbers: IntArray
    dtype: np.dtype[Any]
    frame_bytes: int
    tally: FrameTally
    segment: Segment

    def settle(self, failed: Mapping[int, str], corrupt: CorruptPolicy) -> FrameTally:
        """The tally without the frames that did not decode (place in the batch to reason).

        Raises
        ------
        CorruptChunk
            For the first of them, if the policy is to fail.
        """
        problems = [self._problem(i, failed[i]) for i in sorted(failed)]
        if problems and corrupt == "fail":
            raise problems[0]
        texts = tuple(str(problem) for problem in problems)
        return self.tally + FrameTally(n_read=-len(failed), n_corrupt=len(failed), problems=texts)

    def _problem(self, i: int, reason: str) -> CorruptChunk:
        index = self.segment.index
        row = int(self.numbers[i]) - self.segment.at + self.segment.start
        return CorruptChunk(index.file, index.dataset, (row, *(0 for _ in index.shape[1:])), reason)


def frame_batches(
    unit: FrameUnit, *, shape: tuple[int, int], corrupt: CorruptPolicy, batch: int = BATCH_FRAMES
) -> Iterator[FrameBatch]:
    """All frames of a unit in batches of at most `batch`; frames without flux are left out and counted.

    The next rows are read while the caller works on these, where two readings fit READ_AHEAD_BYTES. A chunk
    of many frames is decoded once, whatever the batch. The sum of the batches' tallies is the unit's tally;
    a batch may be empty of frames.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    FilesChanged, MemoryTooSmall
    """
    runs = _plan_runs(unit, batch)
    buffers = _RunBuffers(runs, shape)
    if len(runs) < 2 or not buffers.double:
        for i in range(len(runs)):
            yield from _batches_of(unit, runs[i], buffers.read(i), (corrupt, batch))
        return
    # One reading ahead at most; leaving the loop early waits for it, so that no thread outlives the caller.
    with ThreadPoolExecutor(1, "beamhub-read-ahead") as reader:
        ahead = reader.submit(buffers.read, 0)
        for i, run in enumerate(runs):
            rows = ahead.result()
            if i + 1 < len(runs):
                ahead = reader.submit(buffers.read, i + 1)
            yield from _batches_of(unit, run, rows, (corrupt, batch))


@dataclass(frozen=True, slots=True)
class _Run:
    """Frames low to high of some segments (one, or all tiles of a frame) that are read at once.

    `first` is the place of low in the unit.
    """

    tiles: tuple[Segment, ...]
    low: int
    high: int
    first: int

    @property
    def segment(self) -> Segment:
        """The segment, or the first of the tiles."""
        return self.tiles[0]

    def n_bytes(self, shape: tuple[int, int]) -> int:
        """Decoded bytes of its frames."""
        return (self.high - self.low) * shape[0] * shape[1] * np.dtype(self.segment.index.dtype).itemsize


def _plan_runs(unit: FrameUnit, batch: int) -> list[_Run]:
    """Whole chunks, about `batch` frames or MIN_RUN_BYTES; of a chunk with more than that all at once."""
    runs, first = [], 0
    for tiles in unit.runs:
        segment = tiles[0]
        index = segment.index
        per_chunk = 1 if index.is_contiguous or len(index.shape) != 3 else index.rows_per_chunk
        wanted = max(batch, MIN_RUN_BYTES // max(index.row_bytes, 1))
        step = max(per_chunk, wanted // per_chunk * per_chunk)
        if per_chunk == 1 and index.row_bytes:
            step = max(1, min(step, MAX_RUN_BYTES // index.row_bytes))
        low = 0
        while low < segment.n_rows:
            end = (segment.start + low) // per_chunk * per_chunk + step  # on a border of chunks
            high = min(max(end - segment.start, low + 1), segment.n_rows)
            runs.append(_Run(tiles, low, high, first + low))
            low = high
        first += segment.n_rows
    return runs


class _RunBuffers:
    """Two buffers in turn for the rows of runs, or one where two would be too large."""

    def __init__(self, runs: list[_Run], shape: tuple[int, int]) -> None:
        self.runs, self.shape = runs, shape
        self.largest = max((run.n_bytes(shape) for run in runs), default=0)
        self.double = 2 * self.largest <= READ_AHEAD_BYTES
        self._held: list[np.ndarray[Any, np.dtype[np.uint8]] | None] = [None, None]

    def read(self, i: int) -> Rows:
        """The frames of run i, shape (n, ny, nx); valid until the run after the next is read."""
        run, shape = self.runs[i], self.shape
        if run.segment.box is not None:
            return read_tiles(run.tiles, run.low, run.high, shape)
        index = run.segment.index
        if i + 1 < len(self.runs):
            _announce(self.runs[i + 1])
        out = self._buffer(i, run).view(index.dtype)
        if len(index.shape) == 3:
            start = run.segment.start
            return read_rows(
                index, start + run.low, start + run.high, out=out.reshape(run.high - run.low, *shape)
            )
        # A two-dimensional dataset is one frame.
        rows = read_rows(index, 0, index.shape[0], out=out.reshape(index.shape))
        boxes = tuple((slice(0, 1), *box) for box in rows.boxes)
        corrupt, unwritten = np.array([rows.corrupt.any()]), np.array([rows.unwritten.any()])
        return Rows(rows.data.reshape(1, *shape), corrupt, unwritten, rows.problems, boxes)

    def _buffer(self, i: int, run: _Run) -> np.ndarray[Any, np.dtype[np.uint8]]:
        place = i % 2 if self.double else 0
        held = self._held[place]
        if held is None:
            needed, limit = self.largest, reading_budget_bytes()
            if needed > limit:
                raise MemoryTooSmall(run.segment.index.file, run.segment.index.dataset, needed, limit)
            held = self._held[place] = aligned_buffer(needed)
        return held[: run.n_bytes(self.shape)]


def aligned_buffer(n_bytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Bytes that begin on a cache line, so that decoders can write around the caches."""
    whole = np.empty(n_bytes + 64, dtype=np.uint8)
    first = -int(whole.ctypes.data) % 64
    return whole[first : first + n_bytes]


def _announce(run: _Run) -> None:
    """Have the system read the stored bytes of a run into its cache meanwhile; failing is no matter."""
    index = run.segment.index.select(run.segment.start + run.low, run.segment.start + run.high)
    if index.way != "direct" or index.is_contiguous or not index.numbers.size:
        return
    low, high = int(index.offsets.min()), int((index.offsets + index.sizes).max())
    if high - low > 2 * int(index.sizes.sum()) + (1 << 20):
        return  # scattered: the gaps would be read too
    with suppress(OSError), open_descriptor(index.file) as descriptor:
        os.posix_fadvise(descriptor, low, high - low, os.POSIX_FADV_WILLNEED)


def _batches_of(
    unit: FrameUnit, run: _Run, rows: Rows, how: tuple[CorruptPolicy, int]
) -> Iterator[FrameBatch]:
    corrupt, batch = how
    if rows.problems and corrupt == "fail":
        raise rows.problems[0]
    blank = rows.blank() if rows.problems and corrupt == "mask" else None
    # A frame of which nothing decoded is corrupt under every policy.
    lost = rows.corrupt if blank is None else rows.corrupt & blank.all(axis=(1, 2))
    good = ~(lost | rows.unwritten)
    weights = unit.weights[run.first : run.first + len(good)]
    lit = np.isfinite(weights) & (weights > 0)
    use = good & lit
    problems = tuple(str(problem) for problem in rows.problems)
    numbers = np.arange(run.segment.at + run.low, run.segment.at + run.high, dtype=np.int64)
    for low in range(0, len(good), batch):
        part = slice(low, low + batch)
        chosen = use[part]
        tally = FrameTally(
            n_read=int(chosen.sum()),
            n_unwritten=int((rows.unwritten & ~lost)[part].sum()),
            n_corrupt=int(lost[part].sum()),
            n_without_flux=int((good & ~lit)[part].sum()),
            problems=problems if low == 0 else (),
        )
        whole = bool(chosen.all())
        data = rows.data[part] if whole else rows.data[part][chosen]
        hidden = None if blank is None else blank[part][chosen]
        if hidden is not None and not hidden.any():
            hidden = None
        yield FrameBatch(data, weights[part][chosen], numbers[part][chosen], hidden, tally)


def stored_batches(
    unit: FrameUnit, *, shape: tuple[int, int], corrupt: CorruptPolicy, batch: int = BATCH_FRAMES
) -> Iterator[StoredBatch] | None:
    """Like `frame_batches`, still compressed; None unless every frame is one bitshuffle-LZ4 chunk by itself.

    Raises
    ------
    CorruptChunk
        If a chunk is cut off by the end of the file and the policy is to fail.
    FilesChanged
    """
    if not all(s.box is None and _is_stored_by_frame(s.index, shape) for s in unit.segments):
        return None
    return _stored_batches(unit, corrupt, batch)


def _is_stored_by_frame(index: ChunkIndex, shape: tuple[int, int]) -> bool:
    dtype = np.dtype(index.dtype)
    return (
        index.way == "direct"
        and len(index.shape) == 3
        and index.chunk_shape == (1, *shape)
        and [f.codec for f in index.filters] == ["bitshuffle-LZ4"]
        and not index.filter_masks.any()
        and dtype.kind in "iu"
        and dtype.itemsize <= 4
        and dtype.byteorder in "|<="
        and bool((index.sizes <= index.chunk_bytes + SLACK_BYTES).all())
    )


def _stored_batches(unit: FrameUnit, corrupt: CorruptPolicy, batch: int) -> Iterator[StoredBatch]:
    # Taken out while it is used: two readings in one thread never share it.
    buffer: np.ndarray[Any, np.dtype[np.uint8]] = _kept.__dict__.pop("buffer", np.empty(0, dtype=np.uint8))
    first = 0
    for segment in unit.segments:
        index = segment.index
        for low in range(0, segment.n_rows, batch):
            high = min(low + batch, segment.n_rows)
            if high < segment.n_rows:
                _announce(_Run((segment,), high, min(high + batch, segment.n_rows), 0))
            part = index.select(segment.start + low, segment.start + high)
            n_bytes = int(part.sizes.sum())
            if buffer.nbytes < n_bytes:
                buffer = np.empty(n_bytes + n_bytes // 4, dtype=np.uint8)
            weights = unit.weights[first + low : first + high]
            yield _stored_batch(segment, (low, high), part, (buffer, weights, corrupt))
        first += segment.n_rows
    if buffer.nbytes <= KEPT_BYTES:
        _kept.buffer = buffer


def _stored_batch(
    segment: Segment, rows: tuple[int, int], part: ChunkIndex, how: tuple[Any, FloatArray, CorruptPolicy]
) -> StoredBatch:
    buffer, weights, corrupt = how
    places = np.concatenate([[0], np.cumsum(part.sizes)[:-1]]).astype(np.int64)[: part.sizes.size]
    order = np.argsort(part.offsets, kind="stable")
    status = np.zeros(part.sizes.size, dtype=np.int64)
    with open_descriptor(part.file) as descriptor:
        before = identity_of(os.fstat(descriptor))
        places_in_order = np.concatenate([[0], np.cumsum(part.sizes[order])[:-1]])[: order.size]
        places[order] = places_in_order
        status[order] = read_stored(
            descriptor, offsets=part.offsets[order], sizes=part.sizes[order], places=places[order], out=buffer
        )
        if not before == identity_of(os.fstat(descriptor)) == part.identity:
            raise FilesChanged(part.file)
    at = part.numbers - segment.start - rows[0]  # a chunk is a frame: its number is its row
    lit = np.isfinite(weights) & (weights > 0)
    use = (status == 0) & lit[at]
    kept = at[use]
    tally = FrameTally(
        n_read=int(use.sum()),
        n_unwritten=rows[1] - rows[0] - part.numbers.size,
        n_without_flux=int(((status == 0) & ~lit[at]).sum()),
    )
    stored = StoredBatch(
        buffer, places[use], part.sizes[use], weights[kept],
        np.asarray(segment.at + rows[0] + kept, dtype=np.int64), np.dtype(part.dtype), part.chunk_bytes,
        tally, segment,
    )  # fmt: skip
    bad = np.flatnonzero(status)
    if not bad.size:
        return stored
    problems = [
        CorruptChunk(part.file, part.dataset, part.coord(int(i)), reason_of(int(status[i])) or "")
        for i in bad
    ]
    if corrupt == "fail":
        raise problems[0]
    lost = FrameTally(n_corrupt=bad.size, problems=tuple(str(problem) for problem in problems))
    return replace(stored, tally=tally + lost)
