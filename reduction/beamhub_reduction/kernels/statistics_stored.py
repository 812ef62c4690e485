"""Sums over frames and counts of regions straight from stored bitshuffle-LZ4 chunks."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.decode import reason_of
from beamhub_reduction.kernels.native import function, pointer
from beamhub_reduction.kernels.statistics import BoolArray, IntegerSums, Values, integer_layout
from beamhub_reduction.kernels.stored import IN_MEMORY, ChunkLayout, chunk_layout, window_bytes

IntArray = np.ndarray[Any, np.dtype[np.int64]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

MAX_FRAMES = 64
"""Frames of one call: as many blocks of 8 KiB stay in the second cache. BH_MAX_FRAMES of statistics.h."""
MAX_REGIONS = 4096
MAX_BLOCK_BYTES = 65_536
MAX_BITS_BYTES = 256 * 1024**2

REASONS = {
    1: "bitshuffle-LZ4: the header does not fit the frame",
    2: "bitshuffle-LZ4: a block's length goes past the end of the chunk",
    3: "bitshuffle-LZ4: a block does not decode",
    4: "bitshuffle-LZ4: bytes are left over or missing behind the last block",
}


class _Layout(ctypes.Structure):
    """bh_stored of statistics_stored.c."""

    _fields_ = [
        ("chunks", ChunkLayout), ("n_frames", ctypes.c_int64),
        ("item_bytes", ctypes.c_int64), ("n_pixels", ctypes.c_int64), ("is_signed", ctypes.c_int64),
        ("bits", ctypes.c_void_p), ("bits_bytes", ctypes.c_int64), ("n_regions", ctypes.c_int64),
        ("region_sums", ctypes.c_void_p), ("region_valid", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p), ("n_scratch", ctypes.c_int64), ("failed", ctypes.c_void_p),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """Chunk i of a batch is data[offsets[i] : offsets[i] + sizes[i]]: one frame of `n_pixels` of `dtype`.

    With a `descriptor` the chunks are bytes of that open file, and `data` has no meaning.
    """

    data: Bytes
    offsets: IntArray
    sizes: IntArray
    dtype: np.dtype[Any]
    n_pixels: int
    descriptor: int = IN_MEMORY


@dataclass(frozen=True, slots=True)
class StoredCounts:
    """What one batch gave: (n_frames,) and (n_frames, n_regions); place of a frame that failed to reason."""

    totals: IntArray
    region_sums: IntArray
    region_valid: IntArray
    failed: Mapping[int, str]


def pack_regions(spans: IntArray, *, n_regions: int, n_pixels: int) -> Bytes | None:
    """Regions as bits, uint8 (n_regions, n_pixels / 8 rounded up); None when they would be too many.

    `spans` are as for `region_sums`.
    """
    n_bytes = -(-n_pixels // 8)
    if n_regions > MAX_REGIONS or n_regions * n_bytes > MAX_BITS_BYTES:
        return None
    packed = np.zeros((n_regions, n_bytes), dtype=np.uint8)
    for region in range(n_regions):
        inside = np.zeros(n_pixels, dtype=np.bool_)
        for first, end, _ in spans[spans[:, 2] == region]:
            inside[first:end] = True
        packed[region] = np.packbits(inside, bitorder="little")
    return packed


def can_sum_stored(dtype: np.dtype[Any]) -> bool:
    """Whether the kernels are there, and know chunks of this type."""
    known = dtype.kind in "iu" and dtype.itemsize in (1, 2, 4)
    little = dtype.itemsize == 1 or dtype.newbyteorder("=").str == dtype.str
    return known and little and function("stored_regions", (ctypes.c_void_p,)) is not None


def add_stored_frames(
    frames: StoredFrames,
    *,
    bits: Bytes,
    sums: IntegerSums | None = None,
    limit: int = 0,
    usable: BoolArray | None = None,
) -> StoredCounts | None:
    """Count the regions of stored frames and, with `sums`, add the frames to them.

    None when the chunks' blocks are larger than MAX_BLOCK_BYTES or not all alike: decode them then. When a
    frame failed, `sums` hold parts of it: start again without it. Blocks without any region are not decoded
    when there are no sums, so damage in them is not noticed.

    Parameters
    ----------
    bits:
        From `pack_regions`.
    sums, limit, usable:
        As for `add_integer_frames`; all three or none.
    """
    n_frames = frames.offsets.size
    if n_frames > MAX_FRAMES or frames.sizes.size != n_frames or not can_sum_stored(frames.dtype):
        raise ValueError(f"{n_frames} chunks of {frames.dtype} are no batch")
    item, n_regions = frames.dtype.itemsize, len(bits)
    offsets, sizes = (np.ascontiguousarray(a, dtype=np.int64) for a in (frames.offsets, frames.sizes))
    totals, failed = np.zeros(n_frames, dtype=np.int64), np.zeros(n_frames, dtype=np.int64)
    region_sums = np.zeros((n_frames, n_regions), dtype=np.int64)
    valid = np.zeros_like(region_sums)
    scratch = np.empty((n_frames + 1) * MAX_BLOCK_BYTES, dtype=np.uint8)
    data = frames.data
    if frames.descriptor != IN_MEMORY:
        data = np.empty(n_frames * window_bytes(MAX_BLOCK_BYTES), dtype=np.uint8)
    chunks = chunk_layout(frames.descriptor, data=data, offsets=offsets, sizes=sizes)
    layout = _Layout(
        chunks, n_frames, item, frames.n_pixels, frames.dtype.kind == "i",
        pointer(bits), bits.shape[1], n_regions, pointer(region_sums), pointer(valid),
        pointer(scratch), scratch.size, pointer(failed),
    )  # fmt: skip
    done = _call(layout, sums, limit, usable, totals)
    if done == -2:
        return None
    if done < 0:
        raise ValueError(f"{n_frames} chunks of {frames.dtype} cannot be summed")
    reasons = {int(i): _reason(int(failed[i])) for i in np.flatnonzero(failed)}
    return StoredCounts(totals, region_sums, valid, reasons)


def _reason(code: int) -> str:
    """Codes above zero are this kernel's own, those below those of all decoders."""
    return REASONS[code] if code > 0 else reason_of(code) or ""


def _call(
    layout: _Layout, sums: IntegerSums | None, limit: int, usable: BoolArray | None, totals: Values
) -> int:
    if sums is None:
        kernel = function("stored_regions", (ctypes.c_void_p,))
        return -1 if kernel is None else kernel(ctypes.addressof(layout))
    kernel = function("stored_pixel_sums", (ctypes.c_void_p,) * 3)
    n_pixels, item = sums.sum.size, sums.minimum.itemsize
    if (
        usable is None
        or usable.shape != (n_pixels,)
        or (n_pixels, item) != (layout.n_pixels, layout.item_bytes)
    ):
        raise ValueError(f"sums of {n_pixels} pixels for frames of {layout.n_pixels}")
    inner = integer_layout(sums, limit=limit, usable=usable)
    return (
        -1 if kernel is None else kernel(ctypes.addressof(layout), ctypes.addressof(inner), pointer(totals))
    )
