"""Units of a fluorescence map, and what a worker does with one: read spectra, sum them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.xrf import SpectrumSums, spectra_sums
from beamhub_reduction.nexus.virtual import Layout
from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.units import MIN_UNITS, TARGET_UNIT_BYTES, Segment
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
    index = unit.segment.index
    n_channels = index.shape[-1]
    sums = SpectrumSums.empty(n_channels, np.dtype(index.dtype))
    blocks: list[Block] = []
    problems: list[str] = []
    for at, rows in _rows(unit):
        if rows.problems and task.corrupt == "fail":
            raise rows.problems[0]
        problems += [str(problem) for problem in rows.problems]
        good = rows.good
        data = rows.data if good.all() else rows.data[good]
        counts = spectra_sums(data.reshape(-1, n_channels), ranges=task.ranges[unit.i_source], sums=sums)
        per_row = int(np.prod(rows.data.shape[1:-1]))
        whole = np.zeros((good.size, per_row, counts.shape[1]), counts.dtype)
        whole[good] = counts.reshape(-1, *whole.shape[1:])
        blocks.append(Block(unit.i_source, at, whole, good, int(np.count_nonzero(rows.corrupt))))
    return XrfPart(tuple(blocks), sums, tuple(problems))


def _rows(unit: SpectrumUnit) -> Iterator[tuple[int, Rows]]:
    """(place in the map, rows) of a unit, some at a time; whole chunks, so that none is decoded twice."""
    segment, index = unit.segment, unit.segment.index
    if unit.is_one_row:
        found = read_rows(index, 0, index.shape[0])
        corrupt, unwritten = np.array([found.corrupt.any()]), np.array([found.unwritten.any()])
        yield segment.at, Rows(found.data[np.newaxis], corrupt, unwritten, found.problems)
        return
    step = max(1, READ_BYTES // max(1, index.row_bytes))
    step = -(-step // _rows_per_chunk(index)) * _rows_per_chunk(index)
    low = segment.start
    while low < segment.stop:
        high = min(segment.stop, (low // step + 1) * step)
        yield segment.at + low - segment.start, read_rows(index, low, high)
        low = high


def _rows_per_chunk(index: ChunkIndex) -> int:
    """Rows that are decoded together; those of a contiguous dataset are not decoded at all."""
    return 1 if index.chunk_shape == index.shape and not index.filters else index.rows_per_chunk


def merge_spectra(left: XrfPart, right: XrfPart) -> XrfPart:
    """Both parts together, in order."""
    sums = SpectrumSums(left.sums.total + right.sums.total, np.maximum(left.sums.top, right.sums.top))
    return XrfPart((*left.blocks, *right.blocks), sums, (*left.problems, *right.problems)[:100])
