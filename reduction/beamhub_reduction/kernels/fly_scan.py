"""Regions and moments of frames straight from stored bitshuffle-LZ4 chunks, one in the cache at a time."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.decode import NO_ROOM
from beamhub_reduction.kernels.native import function, pointer
from beamhub_reduction.kernels.statistics_regions import MAX_WIDTH

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

MAX_BLOCK_BYTES = 65_536
_P, _N = ctypes.c_void_p, ctypes.c_int64


class _Call(ctypes.Structure):
    """bh_stored_maps of fly_scan.c."""

    _fields_ = [
        ("data", _P), ("n_data", _N), ("n_frames", _N), ("offsets", _P), ("sizes", _P),
        ("item_bytes", _N), ("ny", _N), ("nx", _N), ("limit", ctypes.c_uint64),
        ("spans", _P), ("n_spans", _N), ("n_regions", _N), ("counts_not", _P),
        ("frame", _P), ("blocks", _P), ("n_frame", _N), ("n_blocks", _N),
        ("sums", _P), ("valid", _P), ("totals", _P), ("moments", _P), ("status", _P),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredMaps:
    """Of each frame: sum and number of values of each region, (n, n_regions); moments (y, x), (n, 2); status.

    The rows of a frame whose status is not 0 are zero; `decode.reason_of` says what is wrong with it.
    """

    sums: IntArray
    valid: IntArray
    moments: FloatArray
    status: IntArray


class StoredMapper:
    """Maps batches of stored frames of one type and shape; its buffers serve all of them. For one thread.

    Parameters
    ----------
    masked:
        Pixels that do not count for the moments, shape (ny, nx).
    dtype:
        Integers of 8 to 32 bits in this machine's order, taken as unsigned.
    spans, n_regions, limit:
        As for `region_sums`.
    moments:
        Whether to sum them; else they are 0.
    """

    def __init__(
        self, masked: BoolArray, *, dtype: np.dtype[Any], spans: IntArray, n_regions: int, limit: int,
        moments: bool,
    ) -> None:  # fmt: skip
        self._n_regions = n_regions
        self._spans = np.ascontiguousarray(spans, dtype=np.int64).reshape(-1, 3)
        self._off = np.where(masked, np.iinfo(f"u{dtype.itemsize}").max, 0).astype(f"u{dtype.itemsize}")
        self._frame = np.empty(masked.size * dtype.itemsize, dtype=np.uint8)
        self._blocks = np.empty(2 * MAX_BLOCK_BYTES, dtype=np.uint8)
        ny, nx = masked.shape
        self._call = _Call(
            item_bytes=dtype.itemsize, ny=ny, nx=nx, limit=limit,
            spans=pointer(self._spans), n_spans=len(self._spans), n_regions=n_regions,
            counts_not=pointer(self._off) if moments else None,
            frame=pointer(self._frame), n_frame=self._frame.size,
            blocks=pointer(self._blocks), n_blocks=self._blocks.size,
        )  # fmt: skip

    def __call__(self, data: Bytes, *, offsets: IntArray, sizes: IntArray) -> StoredMaps | None:
        """What chunks data[offsets[i] : offsets[i] + sizes[i]] give; None for blocks that are too large here.

        Raises
        ------
        ValueError
            If a chunk lies outside the data, or a span outside the frame.
        """
        kernel = function("stored_maps", (_P,))
        if kernel is None:
            return None
        n = offsets.size
        if sizes.size != n:
            raise ValueError(f"{n} places for {sizes.size} chunks")
        offsets, sizes = (np.ascontiguousarray(a, dtype=np.int64) for a in (offsets, sizes))
        sums, totals, status = (np.zeros(shape, np.int64) for shape in ((n, self._n_regions), n, n))
        valid, moments = np.zeros_like(sums), np.zeros((n, 2))
        call = self._call
        call.data, call.n_data, call.n_frames = pointer(data), data.size, n
        call.offsets, call.sizes = pointer(offsets), pointer(sizes)
        call.sums, call.valid, call.totals = pointer(sums), pointer(valid), pointer(totals)
        call.moments, call.status = pointer(moments), pointer(status)
        if kernel(ctypes.addressof(call)) < 0:
            raise ValueError(f"{n} chunks do not fit {data.size} bytes and the regions")
        return None if (status == NO_ROOM).any() else StoredMaps(sums, valid, moments, status)


def can_map_stored(dtype: np.dtype[Any], shape: tuple[int, int]) -> bool:
    """Whether the kernels are there, and take frames of this type and shape."""
    known = dtype.kind in "iu" and dtype.itemsize in (1, 2, 4) and dtype == dtype.newbyteorder("=")
    little = np.dtype("<u2") == np.dtype("u2")
    return known and little and max(shape) <= MAX_WIDTH and function("stored_maps", (_P,)) is not None
