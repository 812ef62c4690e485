"""The events of one work unit in blocks that fit the cache: read, decoded, checked against the policy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beamhub_reduction.errors import CorruptChunk, FilesChanged
from beamhub_reduction.kernels.event_plan import EventPlan
from beamhub_reduction.kernels.events import count_events
from beamhub_reduction.kernels.events_stored import StoredColumn, can_count_stored, count_stored_events
from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.units import Segment
from beamhub_reduction.storage_chunks import ChunkIndex, file_identity, open_descriptor, read_rows

AnyArray = np.ndarray[Any, np.dtype[Any]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

_NOTHING = np.zeros(0, dtype=np.int64)
BLOCK_EVENTS = 1 << 18
"""Events read at once: with ids two MiB, which stay in the cache. Source: benchmarks/bench_events.py"""


@dataclass(frozen=True, slots=True)
class EventPiece:
    """Events of one work unit: the same rows of ids and offsets of one bank.

    Only the events of `runs`, shape (n_runs, 2), count: first row and the row behind the last, in the bank.
    """

    number: int
    i_bank: int
    ids: tuple[Segment, ...]
    offsets: tuple[Segment, ...]
    runs: IntArray


@dataclass(frozen=True, slots=True)
class EventBlock:
    """Some good events in order: ids (n,), or None when nobody asked for them, and offsets (n,) as stored.

    The arrays may be buffers that the next block reuses.
    """

    ids: AnyArray | None
    offsets: AnyArray
    n_corrupt: int
    problems: tuple[CorruptChunk, ...]


@dataclass
class _Column:
    """One dataset's rows, read into one buffer where they lie as plain bytes. One thread's own."""

    segments: tuple[Segment, ...]
    open_files: ExitStack
    descriptors: dict[str, int] = field(default_factory=dict)
    buffer: bytearray = field(default_factory=bytearray)

    def read(self, start: int, stop: int) -> tuple[AnyArray, BoolArray | None, tuple[CorruptChunk, ...]]:
        """(values, which are good or None for all, problems) of rows start to stop of the whole."""
        parts: list[tuple[AnyArray, BoolArray | None]] = []
        problems: list[CorruptChunk] = []
        for segment in self.segments:
            low, high = max(start, segment.at), min(stop, segment.at + segment.n_rows)
            if low >= high:
                continue
            first, last = segment.start + low - segment.at, segment.start + high - segment.at
            if is_plain(segment.index) and (low, high) == (start, stop):
                values = self._read_plain(segment.index, first, last)
                if values is not None:
                    return values, None, ()
            rows = read_rows(segment.index, first, last)
            good = rows.good
            parts.append((rows.data, None if good.all() else good))
            problems.extend(rows.problems)
        if len(parts) == 1:
            return *parts[0], tuple(problems)
        values = np.concatenate([v for v, _ in parts])
        flags = np.concatenate([np.ones(len(v), dtype=np.bool_) if g is None else g for v, g in parts])
        return values, flags, tuple(problems)

    def descriptor(self, index: ChunkIndex) -> int:
        """The open file, which is still the one that was indexed."""
        if index.file not in self.descriptors:
            if file_identity(index.file) != index.identity:
                raise FilesChanged(index.file)
            self.descriptors[index.file] = self.open_files.enter_context(open_descriptor(index.file))
        return self.descriptors[index.file]

    def stored(self, start: int, stop: int) -> StoredColumn | None:
        """Where all rows from start to stop lie as plain bytes, if they do."""
        for segment in self.segments:
            if segment.at <= start and stop <= segment.at + segment.n_rows and is_plain(segment.index):
                index = segment.index
                at = int(index.offsets[0]) + (segment.start + start - segment.at) * index.row_bytes
                return StoredColumn(self.descriptor(index), at, np.dtype(index.dtype))
        return None

    def _read_plain(self, index: ChunkIndex, start: int, stop: int) -> AnyArray | None:
        """The rows as they lie in the file, or None when the file ends early."""
        descriptor = self.descriptor(index)
        n_bytes = (stop - start) * index.row_bytes
        if len(self.buffer) < n_bytes:
            self.buffer = bytearray(n_bytes)
        view, done = memoryview(self.buffer)[:n_bytes], 0
        at = int(index.offsets[0]) + start * index.row_bytes
        while done < n_bytes:
            got = os.preadv(descriptor, [view[done:]], at + done)
            if got == 0:
                return None
            done += got
        return np.frombuffer(self.buffer, dtype=index.dtype, count=stop - start)


def is_plain(index: ChunkIndex) -> bool:
    """Whether rows lie one after the other in the file as they are."""
    return (
        index.way == "direct"
        and not index.filters
        and index.chunk_shape == index.shape
        and index.numbers.size == 1
        and len(index.shape) == 1
    )


def count_piece(
    piece: EventPiece, *, plan: EventPlan, counts: IntArray, corrupt: CorruptPolicy
) -> EventBlock:
    """Add the events of a unit's runs to `counts`; gives no events, but what was corrupt.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    FilesChanged
    """
    n_corrupt = 0
    problems: list[CorruptChunk] = []
    with ExitStack() as files:
        columns = _columns(piece, files, with_ids=plan.state is not None)
        for run in piece.runs.tolist():
            low, high = _count_plain(columns, *run, plan=plan, counts=counts), run[1]
            for block in _blocks(columns, low, high, corrupt):
                count_events(block.ids, block.offsets, plan=plan, counts=counts)
                n_corrupt += block.n_corrupt
                problems += block.problems
    return EventBlock(None, _NOTHING, n_corrupt, tuple(problems))


@dataclass(frozen=True, slots=True)
class _Columns:
    ids: _Column | None
    offsets: _Column
    step: int


def _columns(piece: EventPiece, files: ExitStack, *, with_ids: bool) -> _Columns:
    ids = _Column(piece.ids, files) if with_ids else None
    return _Columns(ids, _Column(piece.offsets, files), _block_rows(piece, with_ids=with_ids))


def _count_plain(columns: _Columns, low: int, high: int, *, plan: EventPlan, counts: IntArray) -> int:
    """Count what lies as plain bytes; gives the first row that remains."""
    offsets = columns.offsets.stored(low, high)
    ids = columns.ids.stored(low, high) if columns.ids is not None else offsets
    if offsets is None or ids is None or not can_count_stored(plan, ids=ids.dtype, offsets=offsets.dtype):
        return low
    of_ids = ids if columns.ids is not None else None
    return low + count_stored_events(high - low, ids=of_ids, offsets=offsets, plan=plan, counts=counts)


def event_blocks(piece: EventPiece, *, with_ids: bool, corrupt: CorruptPolicy) -> Iterator[EventBlock]:
    """The events of a unit's runs, a block at a time; memory is a few blocks, whatever the unit's size.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    FilesChanged
    """
    with ExitStack() as files:
        columns = _columns(piece, files, with_ids=with_ids)
        for low, high in piece.runs.tolist():
            yield from _blocks(columns, low, high, corrupt)


def _blocks(columns: _Columns, low: int, high: int, corrupt: CorruptPolicy) -> Iterator[EventBlock]:
    while low < high:
        end = min((low // columns.step + 1) * columns.step, high)
        yield _block(columns.ids, columns.offsets, low, end, corrupt)
        low = end


def _block(ids: _Column | None, offsets: _Column, begin: int, end: int, corrupt: CorruptPolicy) -> EventBlock:
    values, good, problems = offsets.read(begin, end)
    numbers: AnyArray | None = None
    if ids is not None:
        numbers, good_ids, id_problems = ids.read(begin, end)
        problems = (*id_problems, *problems)
        if good_ids is not None:
            good = good_ids if good is None else good & good_ids
    if problems and corrupt == "fail":
        raise problems[0]
    if good is None:
        return EventBlock(numbers, values, 0, problems)
    n_corrupt = int(good.size - np.count_nonzero(good))
    return EventBlock(None if numbers is None else numbers[good], values[good], n_corrupt, problems)


def _block_rows(piece: EventPiece, *, with_ids: bool) -> int:
    """Rows of a block: whole chunks, so that none is decoded twice where ids and offsets are cut alike."""
    segments = (*piece.offsets, *(piece.ids if with_ids else ()))
    per_chunk = max((s.index.rows_per_chunk for s in segments if not is_plain(s.index)), default=1)
    return per_chunk * max(1, BLOCK_EVENTS // per_chunk)
