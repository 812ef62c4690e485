"""What a worker does with one unit of projections: read, correct, write its storage chunks, add up."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from beamhub_reduction.array_product import ArraySpan, write_chunks
from beamhub_reduction.kernels.tomography import (
    BlockTarget,
    FrameFactors,
    ProjectionSums,
    as_kernel_frames,
    correct_frames,
)
from beamhub_reduction.pipeline.frames import FrameBatch, FrameTally, frame_batches
from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.tomography_plan import ProjectionUnit
from beamhub_reduction.steps.frames import IntArray
from beamhub_reduction.steps.tomography import FlatWeights, Float32Array, ReferencePlanes

BATCH_BYTES = 4 * 1024**2
"""Frames read at once, at least one: few enough to stay in the last cache until the kernel has taken them."""
MAX_BATCH_FRAMES = 16
MAX_KEPT_BYTES = 256 * 1024**2
"""A buffer that a thread keeps for its next unit is no larger."""

_kept = threading.local()  # the block that each thread filled last: the next unit pays no page faults for it


@dataclass(frozen=True, slots=True)
class TomographyTask:
    """What all units of a scan share.

    `frames` (n_projections,) are the frame numbers, ascending; `flats` and `scales` belong to them. `least`
    is None without a logarithm. `block` is (projections, rows) of one storage chunk of the output, which
    goes to `span` when it is not None. `sinogram_row` is the row that comes back in the parts.
    """

    planes: ReferencePlanes
    frames: IntArray
    flats: FlatWeights
    scales: Float32Array
    least: float | None
    raw_shape: tuple[int, int]
    block: tuple[int, int]
    sinogram_row: int
    saturated: Literal["keep", "blank"]
    corrupt: CorruptPolicy
    span: ArraySpan | None


@dataclass(frozen=True, slots=True)
class TomographyPart:
    """The result of one unit, or of several: sums, and the rows of one sinogram in order."""

    sums: ProjectionSums
    sinogram: tuple[Float32Array, ...]
    tally: FrameTally


def reduce_projections(unit: ProjectionUnit, task: TomographyTask) -> TomographyPart:
    """Correct the projections of one unit.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    StorageFull, ProductNotWritten
        If the output cannot be written.
    """
    blocks = _Blocks(unit, task)
    tally = FrameTally()
    n = _batch_frames(unit, task)
    for batch in frame_batches(unit.frames, shape=task.raw_shape, corrupt=task.corrupt, batch=n):
        blocks.take(batch)
        tally += batch.tally
    blocks.finish()
    return TomographyPart(blocks.sums, (blocks.sinogram,), tally)


def _batch_frames(unit: ProjectionUnit, task: TomographyTask) -> int:
    item_bytes = max((np.dtype(s.index.dtype).itemsize for s in unit.frames.segments), default=1)
    frame_bytes = task.raw_shape[0] * task.raw_shape[1] * item_bytes
    return max(1, min(MAX_BATCH_FRAMES, BATCH_BYTES // max(1, frame_bytes)))


def merge_projections(left: TomographyPart, right: TomographyPart) -> TomographyPart:
    """Both parts together, in order."""
    sums = ProjectionSums(
        left.sums.total + right.sums.total,
        left.sums.n_finite + right.sums.n_finite,
        left.sums.counts + right.sums.counts,
    )
    return TomographyPart(sums, (*left.sinogram, *right.sinogram), left.tally + right.tally)


class _Blocks:
    """Gathers projections in one reused buffer, laid out as the storage chunks are; not for two threads."""

    def __init__(self, unit: ProjectionUnit, task: TomographyTask) -> None:
        per_block, rows = task.block
        if task.span is None:  # nobody needs whole chunks: stay in the cache
            per_block = min(per_block, _batch_frames(unit, task))
        ny, nx = task.planes.dark.shape
        self.unit, self.task, self.per_block = unit, task, per_block
        self.buffer = _block_buffer((-(-ny // rows), per_block, rows, nx), ny)
        self.sinogram = np.full((unit.stop - unit.first, nx), np.nan, np.float32)
        self.sums = ProjectionSums.empty((ny, nx))
        self.first = unit.first
        self.done = np.zeros(per_block, np.bool_)

    def take(self, batch: FrameBatch) -> None:
        """Correct the frames of a batch: a run at a time of those that share flats and a block."""
        at = np.searchsorted(self.task.frames, batch.numbers)
        if not at.size:
            return
        flats = self.task.flats
        block = (at - self.unit.first) // self.per_block
        same = (np.diff(at) == 1) & (np.diff(block) == 0)
        same &= (np.diff(flats.before[at]) == 0) & (np.diff(flats.after[at]) == 0)
        data = as_kernel_frames(self._blanked(batch))
        borders = [0, *(np.flatnonzero(~same) + 1), at.size]
        for low, high in itertools.pairwise(borders):
            self._correct(data[low:high], int(at[low]), int(at[high - 1]) + 1)

    def _blanked(self, batch: FrameBatch) -> np.ndarray[Any, Any]:
        """The frames, as floats with NaN where a value is not to be used; untouched when all are."""
        data, blank = batch.data, batch.blank
        if self.task.saturated == "blank" and data.dtype.kind in "iu":
            full = data == np.iinfo(data.dtype).max
            self.sums.counts[1] += int(np.count_nonzero(full))
            blank = full if blank is None else blank | full
        if blank is None or not blank.any():
            return data
        values = data.astype(np.float32)
        values[blank] = np.nan
        return values

    def _correct(self, data: np.ndarray[Any, Any], first: int, stop: int) -> None:
        while first >= self.first + self.per_block:
            self._flush()
        task, low = self.task, first - self.first
        counted = self.sums.counts[1]
        correct_frames(
            data,
            references=task.planes.between(int(task.flats.before[first]), int(task.flats.after[first])),
            factors=FrameFactors(task.flats.behind[first:stop], task.scales[first:stop]),
            least=task.least,
            target=BlockTarget(self.buffer, low),
            sums=self.sums,
        )
        if task.saturated == "blank":
            self.sums.counts[1] = counted  # they were counted before they became NaN
        self.done[low : low + stop - first] = True

    def _flush(self) -> None:
        """Write the block and begin the next one; projections that never came are NaN."""
        task, per_block, rows = self.task, self.per_block, self.task.block[1]
        n = min(per_block, self.unit.stop - self.first)
        self.buffer[:, ~self.done] = np.nan
        row = task.sinogram_row
        low = self.first - self.unit.first
        self.sinogram[low : low + n] = self.buffer[row // rows, :n, row % rows]
        if task.span is not None:
            n_row_blocks = self.buffer.shape[0]
            chunks = self.buffer.reshape(n_row_blocks, *task.span.layout.chunk_shape)
            write_chunks(task.span, task.span.layout.first_chunk(self.first), chunks)
        self.first += per_block
        self.done[:] = False

    def finish(self) -> None:
        """Write what is left."""
        while self.first < self.unit.stop:
            self._flush()
        if self.buffer.nbytes <= MAX_KEPT_BYTES:
            _kept.block = (self.task.planes.dark.shape[0], self.buffer)


def _block_buffer(shape: tuple[int, ...], ny: int) -> Float32Array:
    """A block whose rows from ny on are NaN; what its projections hold is no matter."""
    kept: tuple[int, Float32Array] | None = _kept.__dict__.pop("block", None)
    if kept is not None and kept[0] == ny and kept[1].shape == shape:
        return kept[1]
    return np.full(shape, np.nan, np.float32)
