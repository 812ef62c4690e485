"""What a worker does with one unit of an azimuthal integration: read, decode, integrate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.bitshuffle import DEFAULT_BLOCK_BYTES, ChunkUndecodable
from beamhub_reduction.codecs import decode_chunk
from beamhub_reduction.kernels.azimuthal import WRONG_BLOCK, StoredChunks, takes_stored
from beamhub_reduction.kernels.decode import reason_of
from beamhub_reduction.pipeline.frames import (
    FrameBatch,
    FrameTally,
    StoredBatch,
    frame_batches,
    stored_batches,
)
from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.units import FrameUnit
from beamhub_reduction.steps.azimuthal import AzimuthalAccumulator, AzimuthalSums, add_azimuthal
from beamhub_reduction.steps.azimuthal_matrix import AzimuthalMatrix


@dataclass(frozen=True, slots=True)
class AzimuthalTask:
    """What all units of an azimuthal integration share; `every` frames make a curve, None: all.

    `floor` is the least variance of a pixel's counts, None without variances.
    """

    matrix: AzimuthalMatrix
    shape: tuple[int, int]
    every: int | None
    floor: float | None
    corrupt: CorruptPolicy


@dataclass(frozen=True, slots=True)
class AzimuthalPart:
    """The result of one unit, or of several."""

    sums: AzimuthalSums
    tally: FrameTally


def integrate_unit(unit: FrameUnit, task: AzimuthalTask) -> AzimuthalPart:
    """Integrate the frames of one unit.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    FilesChanged
    """
    first, last = unit.segments[0], unit.segments[-1]
    taken = AzimuthalAccumulator(
        task.matrix,
        every=task.every,
        whole=(first.at, last.at + last.n_rows),
        floor=task.floor,
    )
    tally = FrameTally()
    for batch in _batches(unit, task):
        tally += (
            _take_stored(taken, batch, task) if isinstance(batch, StoredBatch) else _take(taken, batch, task)
        )
    return AzimuthalPart(taken.sums(), tally)


def merge_azimuthal(left: AzimuthalPart, right: AzimuthalPart) -> AzimuthalPart:
    """Both parts together; call in the order of the units."""
    return AzimuthalPart(add_azimuthal(left.sums, right.sums), left.tally + right.tally)


def _batches(unit: FrameUnit, task: AzimuthalTask) -> Iterator[StoredBatch | FrameBatch]:
    """Compressed batches where the fused kernel can take them, else decoded ones."""
    index = unit.segments[0].index
    tile = task.matrix.pixels.tiles.tile
    block_items = DEFAULT_BLOCK_BYTES // np.dtype(index.dtype).itemsize
    if takes_stored(np.dtype(index.dtype), min(block_items, tile), tile):
        found = stored_batches(unit, shape=task.shape, corrupt=task.corrupt)
        if found is not None:
            yield from found
            return
    yield from frame_batches(unit, shape=task.shape, corrupt=task.corrupt)


def _take(taken: AzimuthalAccumulator, batch: FrameBatch, task: AzimuthalTask) -> FrameTally:
    data = batch.data
    if batch.blank is not None and batch.blank.any():
        data = _blanked(data, batch.blank, task.matrix.pixels.low, task.matrix.pixels.high)
    taken.add_frames(data, weights=batch.weights, numbers=batch.numbers)
    return batch.tally


def _blanked(data: Any, blank: Any, low: float, high: float) -> Any:
    """Frames with values that are no valid ones where nothing could be decoded."""
    if data.dtype.kind == "f":
        return np.where(blank, np.asarray(np.nan, dtype=data.dtype), data)
    limits = np.iinfo(data.dtype)
    for value in (limits.max, limits.min):
        if not low <= value <= high:
            return np.where(blank, np.asarray(value, dtype=data.dtype), data)
    return np.where(blank, np.nan, data.astype(np.float64))


def _take_stored(taken: AzimuthalAccumulator, batch: StoredBatch, task: AzimuthalTask) -> FrameTally:
    """Frames that do not decode are left out; those with other blocks than the rest are decoded apart."""
    if not len(batch.offsets):
        return batch.settle({}, task.corrupt)
    nowhere = np.zeros(0, dtype=np.uint8)
    chunks = StoredChunks(
        nowhere, batch.offsets, batch.sizes, batch.dtype, _block_items(batch, task), batch.descriptor
    )
    failed = taken.add_stored(chunks, weights=batch.weights, numbers=batch.numbers)
    reasons = {i: reason_of(status) or "unusable" for i, status in failed.items() if status != WRONG_BLOCK}
    for i in sorted(i for i, status in failed.items() if status == WRONG_BLOCK):
        try:
            frame = _decode(batch, i)
        except ChunkUndecodable as error:
            reasons[i] = str(error)
            continue
        one = slice(i, i + 1)
        taken.add_frames(
            frame.reshape(1, *task.shape), weights=batch.weights[one], numbers=batch.numbers[one]
        )
    return batch.settle(reasons, task.corrupt)


def _block_items(batch: StoredBatch, task: AzimuthalTask) -> int:
    """The blocks of the batch's first chunk, if its header is there and they fill tiles; else a tile."""
    there = batch.sizes[0] >= 12
    header = os.pread(batch.descriptor, 4, int(batch.offsets[0]) + 8) if there else b""
    found = int.from_bytes(header, "big") or DEFAULT_BLOCK_BYTES
    items, rest = divmod(found, batch.dtype.itemsize)
    tile = task.matrix.pixels.tiles.tile
    return items if not rest and takes_stored(batch.dtype, items, tile) else tile


def _decode(batch: StoredBatch, i: int) -> np.ndarray[Any, Any]:
    raw = decode_chunk(
        batch.chunk(i), filters=batch.segment.index.filters, skipped=0, item_bytes=batch.dtype.itemsize,
        n_bytes=batch.frame_bytes,
    )  # fmt: skip
    return raw.view(batch.dtype)
