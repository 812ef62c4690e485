"""The frames of one work unit, in batches: read, decoded, checked against the policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.tiles import read_tiles
from beamhub_reduction.pipeline.units import FrameUnit, Segment
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray
from beamhub_reduction.storage_chunks import Rows, read_rows

BATCH_FRAMES = 16
"""Frames that a kernel takes at once: as many float32 as fit a cache line."""


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


def frame_batches(
    unit: FrameUnit, *, shape: tuple[int, int], corrupt: CorruptPolicy, batch: int = BATCH_FRAMES
) -> Iterator[FrameBatch]:
    """All frames of a unit in batches of at most `batch`; frames without flux are left out and counted.

    The sum of the batches' tallies is the unit's tally; a batch may be empty of frames.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    FilesChanged
    """
    first = 0
    for run in unit.runs:
        segment = run[0]
        for low in range(0, segment.n_rows, batch):
            high = min(low + batch, segment.n_rows)
            whole = segment.box is None
            rows = _read_frames(segment, low, high, shape) if whole else read_tiles(run, low, high, shape)
            if rows.problems and corrupt == "fail":
                raise rows.problems[0]
            weights = unit.weights[first + low : first + high]
            lit = np.isfinite(weights) & (weights > 0)
            use = rows.good & lit
            tally = FrameTally(
                n_read=int(use.sum()),
                n_unwritten=int((rows.unwritten & ~rows.corrupt).sum()),
                n_corrupt=int(rows.corrupt.sum()),
                n_without_flux=int((rows.good & ~lit).sum()),
                problems=tuple(str(problem) for problem in rows.problems),
            )
            numbers = np.arange(segment.at + low, segment.at + high, dtype=np.int64)
            data = rows.data if use.all() else rows.data[use]
            yield FrameBatch(data, weights[use], numbers[use], None, tally)
        first += segment.n_rows


def _read_frames(segment: Segment, low: int, high: int, shape: tuple[int, int]) -> Rows:
    """Frames of a segment, shape (n, ny, nx); a two-dimensional dataset is one frame."""
    if len(segment.index.shape) == 3:
        return read_rows(segment.index, segment.start + low, segment.start + high)
    rows = read_rows(segment.index, 0, segment.index.shape[0])
    corrupt, unwritten = np.array([rows.corrupt.any()]), np.array([rows.unwritten.any()])
    return Rows(rows.data.reshape(1, *shape), corrupt, unwritten, rows.problems)
