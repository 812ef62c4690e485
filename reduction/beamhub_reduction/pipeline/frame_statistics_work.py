"""What a worker does with the frames of one unit: sums of pixels, counts of frames and regions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from beamhub_reduction.kernels.statistics import Bounds, IntegerSums
from beamhub_reduction.kernels.statistics_regions import region_sums
from beamhub_reduction.kernels.statistics_stored import (
    MAX_FRAMES,
    Bytes,
    StoredFrames,
    add_stored_frames,
)
from beamhub_reduction.nexus.masks import ValueLimits
from beamhub_reduction.pipeline.frames import FrameTally, StoredBatch, frame_batches, stored_batches
from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.units import FrameUnit
from beamhub_reduction.steps.frame_regions import Regions
from beamhub_reduction.steps.frames import BoolArray, IntArray
from beamhub_reduction.steps.statistics import (
    NO_LIMITS,
    CountType,
    NumberArray,
    Sums,
    add_frames,
    count_type,
    merge_sums,
    prepare_frames,
)

NO_BYTES = np.zeros(0, dtype=np.uint8)
BATCH_BYTES = 256 * 1024**2
STORED_BATCH_BYTES = 1024**3
COUNTED_BATCH_FRAMES = 8
"""Without images frames do not meet: fewer at once keep what was read in the cache."""


@dataclass(frozen=True, slots=True)
class FrameStatisticsTask:
    """What all units share. Without `images` only regions are counted; the first is the whole frame then.

    `bits` are the regions from `pack_regions`; None when frames are to be decoded before they are summed.
    """

    dtype: str
    masked: BoolArray
    regions: Regions
    images: bool
    bounds: Bounds | None
    corrupt: CorruptPolicy
    valid: ValueLimits = NO_LIMITS
    bits: Bytes | None = None

    @property
    def kind(self) -> CountType:
        """How the frames are counted."""
        return count_type(np.dtype(self.dtype), self.valid)

    @property
    def is_fused(self) -> bool:
        """Whether stored chunks can be summed as they are: sums of regions know the type's limit only."""
        whole = self.kind.limit == count_type(np.dtype(self.dtype)).limit
        by_limit = self.valid.lowest <= 0 and (whole or (self.images and self.regions.n_regions == 0))
        return by_limit and self.bounds is None and self.corrupt != "mask"


@dataclass(frozen=True, slots=True)
class FrameStatisticsPart:
    """The result of one unit, or of several; the frames in order.

    `numbers` and `totals` have shape (n_frames,), the counts of regions (n_frames, n_regions).
    """

    sums: Sums | None
    numbers: IntArray
    totals: NumberArray
    region_sums: NumberArray
    region_valid: IntArray
    n_blank: int
    tally: FrameTally


def reduce_frame_statistics(unit: FrameUnit, task: FrameStatisticsTask) -> FrameStatisticsPart:
    """Sum the frames of one unit.

    Frames that are stored as one bitshuffle-LZ4 chunk each are summed as they are decoded; with bounds, with
    corrupt='mask' and in every other layout they are decoded first. The numbers are the same.

    Raises
    ------
    CorruptChunk, FilesChanged, CountsTooLarge
    """
    part = None
    if task.bits is not None and task.is_fused:
        part = _reduce_stored(unit, task, task.bits)
    return part if part is not None else _reduce_decoded(unit, task)


def _reduce_decoded(unit: FrameUnit, task: FrameStatisticsTask) -> FrameStatisticsPart:
    kind, counted, ny_nx = task.kind, task.regions, task.masked.shape
    usable = np.ascontiguousarray(~task.masked.ravel())
    collected = _Collected(task, kind.empty_sums(usable.size) if task.images else None)
    n_batch = _batch(task, BATCH_BYTES)
    for batch in frame_batches(unit, shape=(ny_nx[0], ny_nx[1]), corrupt=task.corrupt, batch=n_batch):
        frames = prepare_frames(batch.data, usable=usable)
        blank = kind.blank(frames, None if batch.blank is None else batch.blank.reshape(frames.shape))
        sums, valid = region_sums(
            frames, limit=kind.limit, spans=counted.spans, n_regions=counted.n_regions, blank=blank
        )
        totals = sums[:, 0] if not task.images else None
        if collected.sums is not None:
            totals = add_frames(
                collected.sums, frames=frames, kind=kind, usable=usable, blank=blank, bounds=task.bounds
            )
        collected.add(batch.numbers, totals, sums, valid, batch.tally)
    return collected.part()


def _reduce_stored(unit: FrameUnit, task: FrameStatisticsTask, bits: Bytes) -> FrameStatisticsPart | None:
    """Straight from stored chunks; None when these are of another kind.

    A chunk that does not decode has spoilt the sums by then: the unit is begun again without it. Every
    round finds all such frames of one batch, so there are at most as many rounds as batches.
    """
    failed: dict[int, str] = {}
    while True:
        n_known = len(failed)
        part = _try_stored(unit, task, bits, failed)
        if part is None or len(failed) == n_known:
            return part


def _try_stored(
    unit: FrameUnit, task: FrameStatisticsTask, bits: Bytes, failed: dict[int, str]
) -> FrameStatisticsPart | None:
    """One round without the frames in `failed`; those that fail now are put there, and end the round."""
    kind, ny_nx = task.kind, task.masked.shape
    usable = np.ascontiguousarray(~task.masked.ravel())
    n_batch = _batch(task, STORED_BATCH_BYTES)
    if not task.images:
        n_batch = min(n_batch, COUNTED_BATCH_FRAMES)
    batches = stored_batches(unit, shape=(ny_nx[0], ny_nx[1]), corrupt=task.corrupt, batch=n_batch)
    if batches is None:
        return None
    sums = kind.empty_sums(usable.size) if task.images else None
    collected = _Collected(task, sums)
    for batch in batches:
        keep = np.array([int(number) not in failed for number in batch.numbers], dtype=np.bool_)
        frames = StoredFrames(
            NO_BYTES, batch.offsets[keep], batch.sizes[keep], batch.dtype, usable.size, batch.descriptor
        )
        counts = add_stored_frames(
            frames, bits=bits, sums=sums if isinstance(sums, IntegerSums) else None,
            limit=kind.limit if task.images else 0, usable=usable if task.images else None,
        )  # fmt: skip
        if counts is None:
            return None
        if counts.failed:
            numbers = batch.numbers[keep]
            failed.update({int(numbers[i]): reason for i, reason in counts.failed.items()})
            _settle(batch, failed, task.corrupt)
            return collected.part()
        totals = counts.totals if task.images else counts.region_sums[:, 0]
        tally = _settle(batch, failed, task.corrupt)
        collected.add(batch.numbers[keep], totals, counts.region_sums, counts.region_valid, tally)
    return collected.part()


def _settle(batch: StoredBatch, failed: dict[int, str], corrupt: CorruptPolicy) -> FrameTally:
    places = {i: failed[int(n)] for i, n in enumerate(batch.numbers) if int(n) in failed}
    return batch.settle(places, corrupt)


def _batch(task: FrameStatisticsTask, n_bytes: int) -> int:
    frame_bytes = max(1, task.masked.size * np.dtype(task.dtype).itemsize)
    return max(1, min(MAX_FRAMES, n_bytes // frame_bytes))


class _Collected:
    """What the batches of a unit gave, put together at the end."""

    def __init__(self, task: FrameStatisticsTask, sums: Sums | None) -> None:
        self.task, self.sums = task, sums
        kind = np.float64 if task.kind.kind is None else np.int64
        n_regions = task.regions.n_regions
        self.numbers = [np.zeros(0, dtype=np.int64)]
        self.totals = [np.zeros(0, dtype=kind)]
        self.region_sums = [np.zeros((0, n_regions), dtype=kind)]
        self.region_valid = [np.zeros((0, n_regions), dtype=np.int64)]
        self.tally = FrameTally()

    def add(
        self,
        numbers: IntArray,
        totals: NumberArray | None,
        sums: NumberArray,
        valid: IntArray,
        tally: FrameTally,
    ) -> None:
        """Take what one batch gave."""
        self.tally += tally
        self.numbers.append(numbers)
        self.totals.append(self.totals[0][:0] if totals is None else totals)
        self.region_sums.append(sums)
        self.region_valid.append(valid)

    def part(self) -> FrameStatisticsPart:
        """All together."""
        numbers, valid = np.concatenate(self.numbers), np.concatenate(self.region_valid)
        sums = np.concatenate(self.region_sums)
        n_usable = int(np.count_nonzero(~self.task.masked))
        if self.sums is not None:
            n_used = int(self.sums.n_valid.sum(dtype=np.int64))
            if self.task.bounds is not None:  # else nobody has written them, and reading takes time
                n_used += int(self.sums.n_rejected.sum(dtype=np.int64))
        else:
            n_used = int(valid[:, 0].sum())
            sums, valid = sums[:, 1:], valid[:, 1:]  # the whole frame stands in `totals`
        n_blank = numbers.size * n_usable - n_used
        totals = np.concatenate(self.totals)
        return FrameStatisticsPart(self.sums, numbers, totals, sums, valid, n_blank, self.tally)


def merge_frame_statistics(left: FrameStatisticsPart, right: FrameStatisticsPart) -> FrameStatisticsPart:
    """Both parts together, in place of the left one where it can be written; in the order of the units."""
    sums = None
    if left.sums is not None and right.sums is not None:
        sums = merge_sums(_writable(left.sums), right.sums)
    return FrameStatisticsPart(
        sums,
        np.concatenate([left.numbers, right.numbers]),
        np.concatenate([left.totals, right.totals]),
        np.concatenate([left.region_sums, right.region_sums]),
        np.concatenate([left.region_valid, right.region_valid]),
        left.n_blank + right.n_blank,
        left.tally + right.tally,
    )


def _writable(sums: Sums) -> Sums:
    """Arrays that came from another process may be read-only."""
    arrays = {name: getattr(sums, name) for name in type(sums).__slots__}
    return replace(sums, **{name: a if a.flags.writeable else a.copy() for name, a in arrays.items()})
