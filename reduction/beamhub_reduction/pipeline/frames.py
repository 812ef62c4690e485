"""The frames of one work unit, in batches: read, decoded, checked against the policy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.bitshuffle import ChunkUndecodable
from beamhub_reduction.errors import CorruptChunk, FilesChanged, MemoryTooSmall
from beamhub_reduction.kernels.decode import read_into, reason_of
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
ANNOUNCED_BYTES = 1024 * 1024
"""What the system is asked for at once: it cuts each call to what the device takes in one go."""
MAX_RUN_BYTES = 512 * 1024**2
"""Frames that are read at once take no more than this, unless they share a chunk."""


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

    Chunk i is `sizes[i]` bytes from `offsets[i]` on of the file that is open as `descriptor` until the next
    batch is asked for, with its 12-byte header; it decodes to one whole frame of `frame_bytes` bytes in
    elements of `dtype` (little endian). Nothing of a chunk is checked yet: the kernel reads it as it decodes,
    and checks every length. `weights` (n,) and `numbers` (n,) are as in FrameBatch. The tally counts every
    frame here as read; pass what the kernel could not read or decode to `settle`, which gives the tally that
    is true.
    """

    descriptor: int
    offsets: IntArray
    sizes: IntArray
    weights: FloatArray
    numbers: IntArray
    dtype: np.dtype[Any]
    frame_bytes: int
    tally: FrameTally
    segment: Segment

    def chunk(self, i: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The stored bytes of chunk i.

        Raises
        ------
        ChunkUndecodable
            If they cannot be read.
        """
        stored = np.empty(int(self.sizes[i]), dtype=np.uint8)
        reason = reason_of(read_into(self.descriptor, int(self.offsets[i]), stored))
        if reason:
            raise ChunkUndecodable(reason)
        return stored

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
            following = self.runs[i + 1]
            start = following.segment.start
            announce_frames(following.segment.index, start + following.low, start + following.high)
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


def announce_frames(index: ChunkIndex, start: int, stop: int, descriptor: int | None = None) -> None:
    """Have the system read the stored bytes of some rows into its cache meanwhile; failing is no matter.

    Source: mm/readahead.c of Linux: one call is cut to what the device takes at once, so there are many.
    """
    index = index.select(start, min(stop, index.shape[0]))
    if index.way != "direct" or index.is_contiguous or not index.numbers.size:
        return
    low, high = int(index.offsets.min()), int((index.offsets + index.sizes).max())
    if high - low > 2 * int(index.sizes.sum()) + (1 << 20):
        return  # scattered: the gaps would be read too
    with (
        suppress(OSError),
        nullcontext(descriptor) if descriptor is not None else open_descriptor(index.file) as opened,
    ):
        _announce(opened, low, high)


def _announce(descriptor: int, low: int, high: int) -> None:
    for at in range(low, high, ANNOUNCED_BYTES):
        os.posix_fadvise(descriptor, at, min(ANNOUNCED_BYTES, high - at), os.POSIX_FADV_WILLNEED)


def _announce_behind(index: ChunkIndex, start: int, stop: int, descriptor: int) -> None:
    """Have what lies behind these rows read: the next unit's frames, as detectors write them."""
    index = index.select(start, stop)
    if index.numbers.size:
        end = int((index.offsets + index.sizes).max())
        with suppress(OSError):
            _announce(descriptor, end, end + int(index.sizes.sum()))


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
    FilesChanged
        If a file is not the one that was indexed, or changes while its frames are used.
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
    first = 0
    for segment in unit.segments:
        weights = unit.weights[first : first + segment.n_rows]
        with open_descriptor(segment.index.file) as descriptor:
            if identity_of(os.fstat(descriptor)) != segment.index.identity:
                raise FilesChanged(segment.index.file)
            announce_frames(segment.index, segment.start, segment.start + batch, descriptor)
            for low in range(0, segment.n_rows, batch):
                high = min(low + batch, segment.n_rows)
                start = segment.start
                if high < segment.n_rows:
                    announce_frames(segment.index, start + high, start + high + batch, descriptor)
                else:
                    _announce_behind(segment.index, start + low, start + high, descriptor)
                yield _stored_batch(segment, (low, high), weights[low:high], descriptor)
                if identity_of(os.fstat(descriptor)) != segment.index.identity:
                    raise FilesChanged(segment.index.file)  # what was used may be of both contents
        first += segment.n_rows


def _stored_batch(
    segment: Segment, rows: tuple[int, int], weights: FloatArray, descriptor: int
) -> StoredBatch:
    part = segment.index.select(segment.start + rows[0], segment.start + rows[1])
    at = part.numbers - segment.start - rows[0]  # a chunk is a frame: its number is its row
    lit = np.isfinite(weights) & (weights > 0)
    use = lit[at]
    kept = at[use]
    tally = FrameTally(
        n_read=int(use.sum()),
        n_unwritten=rows[1] - rows[0] - part.numbers.size,
        n_without_flux=int((~use).sum()),
    )
    return StoredBatch(
        descriptor,
        np.asarray(part.offsets[use], dtype=np.int64), np.asarray(part.sizes[use], dtype=np.int64),
        weights[kept], np.asarray(segment.at + rows[0] + kept, dtype=np.int64), np.dtype(part.dtype),
        part.chunk_bytes, tally, segment,
    )  # fmt: skip
