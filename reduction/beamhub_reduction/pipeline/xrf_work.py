"""Units of a fluorescence map, and what a worker does with one: read spectra, sum them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.errors import CorruptChunk
from beamhub_reduction.kernels.xrf import SpectrumSums, spectra_sums
from beamhub_reduction.nexus.virtual import Layout
from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.units import MIN_UNITS, TARGET_UNIT_BYTES, Segment
from beamhub_reduction.pipeline.xrf_planes import PlaneReader, has_planes
from beamhub_reduction.steps.frames import BoolArray, IntArray
from beamhub_reduction.storage_chunks import ChunkIndex, Rows, read_chunk_index, read_rows

READ_BYTES = 16 * 1024**2
"""Decoded bytes that are read at once, unless one storage chunk has more."""


@dataclass(frozen=True, slots=True)
class SpectrumUnit:
    """Rows (first axis) of the spectra of one source; `is_one_row` when the whole dataset is one row."""

    i_source: int
    segment: Segment
    is_one_row: bool = False


@dataclass(frozen=True, slots=True)
class XrfTask:
    """What all units of a map share: the ranges of channels of each source, (n_ranges, 2), and the policy."""

    ranges: tuple[IntArray, ...]
    corrupt: CorruptPolicy


@dataclass(frozen=True, slots=True)
class Block:
    """Counts of some rows of one source, shape (n_rows, spectra of a row, n_ranges); `good` (n_rows,)."""

    i_source: int
    at: int
    counts: np.ndarray[Any, Any]
    good: BoolArray
    n_corrupt: int


@dataclass(frozen=True, slots=True)
class XrfPart:
    """The result of one unit, or of several, in order."""

    blocks: tuple[Block, ...]
    sums: SpectrumSums
    problems: tuple[str, ...]


def plan_spectra(
    layouts: tuple[Layout, ...], *, target_bytes: int = TARGET_UNIT_BYTES
) -> tuple[SpectrumUnit, ...]:
    """Cut the rows of all sources into units that end on storage chunks."""
    units: list[SpectrumUnit] = []
    for i_source, layout in enumerate(layouts):
        row_bytes = max(1, int(np.prod(layout.shape[1:])) * np.dtype(layout.dtype).itemsize)
        wanted = max(1, min(target_bytes // row_bytes, -(-layout.n_rows * len(layouts) // MIN_UNITS)))
        for piece in layout.pieces:
            if piece.missing is not None or not piece.n_rows:
                continue
            index = read_chunk_index(piece.file, piece.dataset)
            if len(index.shape) != len(layout.shape):  # a virtual dataset whose sources are single rows
                units.append(SpectrumUnit(i_source, Segment(index, 0, 1, piece.at), is_one_row=True))
                continue
            per_chunk = _rows_per_chunk(index)
            low, stop = piece.first, piece.first + piece.n_rows
            while low < stop:
                high = min(stop, -(-(low + wanted) // per_chunk) * per_chunk)
                at = piece.at + low - piece.first
                units.append(SpectrumUnit(i_source, Segment(index.select(low, high), low, high, at)))
                low = high
    return tuple(units)


def reduce_spectra(unit: SpectrumUnit, task: XrfTask) -> XrfPart:
    """Sum the spectra of one unit over the ranges.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    FilesChanged
    """
    index, ranges = unit.segment.index, task.ranges[unit.i_source]
    sums = SpectrumSums.empty(index.shape[-1], np.dtype(index.dtype))
    worker = _Worker(unit, ranges, sums)
    blocks: list[Block] = []
    problems: list[str] = []
    for low, high in _spans(unit):
        block, found = worker.reduce(low, high)
        if found and task.corrupt == "fail":
            raise found[0]
        problems += [str(problem) for problem in found]
        blocks.append(block)
    return XrfPart(tuple(blocks), sums, tuple(problems))


class _Worker:
    """Sums rows of one unit, in the fastest way that its storage allows; not for two threads."""

    def __init__(self, unit: SpectrumUnit, ranges: IntArray, sums: SpectrumSums) -> None:
        self.unit, self.ranges, self.sums = unit, ranges, sums
        self.index = unit.segment.index
        self.n_channels = self.index.shape[-1]
        self.planes = PlaneReader(self.index) if not unit.is_one_row and has_planes(self.index) else None
        self._held: np.ndarray[Any, Any] | None = None

    def reduce(self, low: int, high: int) -> tuple[Block, tuple[CorruptChunk, ...]]:
        """The block of rows low to high, and the chunks that could not be decoded."""
        unit, shape = self.unit, self.index.shape
        is_one = unit.is_one_row
        n_rows, per_row = (1, int(np.prod(shape[:-1]))) if is_one else (high - low, int(np.prod(shape[1:-1])))
        dtype = np.float64 if self.sums.total.dtype.kind == "f" else np.int64
        counts: np.ndarray[Any, Any] = np.zeros((n_rows, per_row, len(self.ranges)), dtype)
        good = np.zeros(n_rows, np.bool_)
        if self.planes is not None:
            good = self.planes.sum_rows(low, high, ranges=self.ranges, sums=self.sums, counts=counts)
        problems: list[CorruptChunk] = []
        n_corrupt = 0
        for first, last in _runs(~good):
            rows = self._read(low + first, low + last)
            problems += rows.problems
            n_corrupt += int(np.count_nonzero(rows.corrupt))
            good[first:last] = rows.good
            data = rows.data if rows.good.all() else rows.data[rows.good]
            found = spectra_sums(data.reshape(-1, self.n_channels), ranges=self.ranges, sums=self.sums)
            counts[first:last][rows.good] = found.reshape(-1, *counts.shape[1:])
        at = unit.segment.at + (0 if is_one else low - unit.segment.start)
        return Block(unit.i_source, at, counts, good, n_corrupt), tuple(problems)

    def _read(self, low: int, high: int) -> Rows:
        if self.unit.is_one_row:
            found = read_rows(self.index, 0, self.index.shape[0])
            corrupt, unwritten = np.array([found.corrupt.any()]), np.array([found.unwritten.any()])
            return Rows(found.data[np.newaxis], corrupt, unwritten, found.problems)
        if self._held is None or len(self._held) < high - low:
            found = read_rows(self.index, low, high)
            self._held = found.data  # the next rows go into the same memory
            return found
        return read_rows(self.index, low, high, out=self._held)


def _runs(mask: BoolArray) -> Iterator[tuple[int, int]]:
    """(first, last) of neighbours that are True."""
    borders = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    for first, last in borders.reshape(-1, 2):
        yield int(first), int(last)


def _spans(unit: SpectrumUnit) -> Iterator[tuple[int, int]]:
    """(low, high) of rows that are read at once; whole chunks, so that none is decoded twice."""
    segment, index = unit.segment, unit.segment.index
    if unit.is_one_row:
        yield 0, index.shape[0]
        return
    step = max(1, READ_BYTES // max(1, index.row_bytes))
    step = -(-step // _rows_per_chunk(index)) * _rows_per_chunk(index)
    low = segment.start
    while low < segment.stop:
        high = min(segment.stop, (low // step + 1) * step)
        yield low, high
        low = high


def _rows_per_chunk(index: ChunkIndex) -> int:
    """Rows that are decoded together; those of a contiguous dataset are not decoded at all."""
    return 1 if index.chunk_shape == index.shape and not index.filters else index.rows_per_chunk


def merge_spectra(left: XrfPart, right: XrfPart) -> XrfPart:
    """Both parts together, in order."""
    sums = SpectrumSums(left.sums.total + right.sums.total, np.maximum(left.sums.top, right.sums.top))
    return XrfPart((*left.blocks, *right.blocks), sums, (*left.problems, *right.problems)[:100])
