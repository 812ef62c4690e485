"""One sparse matrix applied to many frames at once, or frames added up pixel by pixel, from frames or chunks.

All forms give the same bits: the sum over a bin runs in float64 over its pixels in the order of the frame, and
no sum crosses frames. The SciPy form is `csr_matrix @ lanes`, whose sums run in that order too.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse

from beamhub_reduction.kernels.azimuthal_tiles import SparseTiles
from beamhub_reduction.kernels.native import function, pointer

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Array = np.ndarray[Any, Any]

LANES = 16
"""Frames of one pass: one pixel of all of them is one vector. Source: facts on reduction, fused integration."""
WRONG_BLOCK = -12
"""The status of a chunk whose blocks have another size than the others': it may be good all the same."""

_KINDS = {"u1": 0, "u2": 1, "u4": 2, "i4": 3, "f4": 4, "f8": 5}
_REASONS = {
    -1: "a block of LZ4 ends inside a sequence",
    -2: "a block of LZ4 has more literals than bytes or room",
    -3: "a match of LZ4 begins before its block",
    -4: "a match of LZ4 goes past the end of its block",
    -5: "a block of LZ4 decodes to fewer bytes than expected",
    -10: "it is shorter than the header of bitshuffle",
    -11: "its header gives another size than a frame has",
    WRONG_BLOCK: "its header gives another size of blocks",
    -13: "a block claims more bytes than there are",
    -14: "bytes are missing or left over behind the last block",
}


@dataclass(frozen=True)
class Pixels:
    """What every pass over frames shares.

    Parameters
    ----------
    tiles:
        The matrix; entries of pixels that are not good are not in it.
    good:
        uint8, shape (n_pixels,): 1 for pixels that count, 0 for masked ones.
    norm, dark:
        float64, shape (n_pixels,): the normalisation of each pixel, and the dark signal or None.
    low, high:
        Smallest and largest valid value; whatever lies outside (or is not finite) is blank.
    """

    tiles: SparseTiles
    good: Bytes
    norm: FloatArray
    dark: FloatArray | None
    low: float
    high: float

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was derived from them is made again where it is needed."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @cached_property
    def good_bits(self) -> Bytes:
        """The good pixels as bits, the first in the lowest one, with some bytes behind them."""
        return np.append(np.packbits(self.good, bitorder="little"), np.zeros(8, dtype=np.uint8))

    @cached_property
    def unlimited(self) -> Pixels:
        """The same for sums of frames: every finite value is valid, and there is no dark."""
        return replace(self, dark=None, low=-np.inf, high=np.inf)


@dataclass(frozen=True, slots=True)
class CurveSums:
    """Sums over bins of each frame, float64, shape (n_frames, n_bins); what failed frames hold means nothing.

    `variance` is that of Poisson counts, share ** 2 * max(value, floor), or None when it was not asked for.
    `lost_norm` and `lost_dark` are the shares of norm and dark that blank values take away, `n_lost` (int32)
    the number of their entries; all None when there was no blank value. `counts` (n_frames,) are the sums over
    good pixels (int64, float64 for real frames), `blanks` (n_frames,) the numbers of blank values. `failed`:
    which frames do not decode, and the status that says why.
    """

    signal: FloatArray
    variance: FloatArray | None
    lost_norm: FloatArray | None
    lost_dark: FloatArray | None
    n_lost: Array | None
    counts: Array
    blanks: IntArray
    failed: Mapping[int, int]


@dataclass(frozen=True)
class ImageSum:
    """Frames added up, pixel by pixel; every call adds to it.

    `values` (n_pixels,) int64, or float64 for real frames; `n_blank` (n_pixels,) int32 counts the blank values
    and `lost_weight` (n_pixels,) float64 adds the weights of the frames that they stand in.
    """

    values: Array
    n_blank: Array
    lost_weight: FloatArray

    @classmethod
    def empty(cls, n_pixels: int, *, real: bool) -> ImageSum:
        """Nothing yet."""
        values = np.zeros(n_pixels, dtype=np.float64 if real else np.int64)
        return cls(values, np.zeros(n_pixels, dtype=np.int32), np.zeros(n_pixels))


@dataclass(frozen=True, slots=True)
class StoredChunks:
    """Bitshuffle-LZ4 chunks of one whole frame each in a buffer: uint8 (n_bytes,), and int64 (n,) each."""

    data: Bytes
    offsets: IntArray
    sizes: IntArray
    dtype: np.dtype[Any]
    block_items: int

    def part(self, chosen: slice | Sequence[int]) -> StoredChunks:
        """Some of the chunks."""
        offsets = np.ascontiguousarray(self.offsets[chosen])
        return StoredChunks(
            self.data, offsets, np.ascontiguousarray(self.sizes[chosen]), self.dtype, self.block_items
        )


@dataclass(frozen=True, slots=True)
class Workspace:
    """Buffers of one thread, reused from pass to pass."""

    arrays: dict[str, Array] = field(default_factory=dict)

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """A buffer of this name, all zero."""
        found = self.arrays.get(name)
        if found is None or found.shape != shape or found.dtype != dtype:
            found = self.arrays[name] = np.zeros(shape, dtype=dtype)
        else:
            found.fill(0)
        return found

    def scratch(self, n_bytes: int) -> Bytes:
        """At least so many bytes, whatever they hold."""
        found = self.arrays.get("scratch")
        if found is None or found.size < n_bytes:
            found = self.arrays["scratch"] = np.empty(n_bytes, dtype=np.uint8)
        return found


class _Call(ctypes.Structure):
    """One call; the same fields in the same order stand in src/azimuthal.c."""

    _fields_ = [  # noqa: RUF012  # ctypes asks for a list
        *((name, ctypes.c_int64) for name in "n_pixels n_bins tile n_tiles".split()),
        *((name, ctypes.c_void_p) for name in "tile_run run_bin run_stop offset weight".split()),
        *((name, ctypes.c_void_p) for name in "good good_bits norm dark".split()),
        *((name, ctypes.c_int64) for name in "n_frames with_variance is_sum sign low high".split()),
        *((name, ctypes.c_double) for name in "low_real high_real floor".split()),
        *((name, ctypes.c_void_p) for name in "signal variance lost_norm lost_dark n_lost".split()),
        *((name, ctypes.c_void_p) for name in "sum sum_real lost_weight n_blank frame_weight".split()),
        *((name, ctypes.c_void_p) for name in "counts blanks status counts_real scratch".split()),
        ("n_scratch", ctypes.c_int64),
    ]


_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64
_DENSE = (_POINTER, _POINTER, _INTEGER)
_STORED = (_POINTER, _POINTER, _INTEGER, _POINTER, _POINTER, _INTEGER, _INTEGER)


def failure_reason(status: int) -> str:
    """What was wrong with a chunk, in words."""
    return f"bitshuffle-LZ4: {_REASONS.get(status, f'status {status}')}"


def takes_stored(dtype: np.dtype[Any], block_items: int, tile: int) -> bool:
    """Whether chunks of this kind go through the fused kernel: compiled, integers, blocks that fill tiles."""
    return (
        function("azimuthal_stored", _STORED) is not None
        and sys.byteorder == "little"
        and dtype.str.lstrip("<|") in ("u1", "u2", "u4", "i4")
        and block_items >= 8
        and block_items % 8 == 0
        and tile % block_items == 0
    )


def kernel_frames(frames: Array) -> Array:
    """Frames (n, ...) as (n, n_pixels) in a type that the kernel takes: contiguous, in this machine's order.

    Narrow signed integers become int32; 64-bit integers become float64, exact up to 2^53.
    """
    kind, item_bytes = frames.dtype.kind, frames.dtype.itemsize
    if kind == "b":
        wanted: Any = np.uint8
    elif kind in "iu":
        wanted = np.float64 if item_bytes == 8 else np.int32 if kind == "i" else f"=u{item_bytes}"
    else:
        wanted = np.float32 if item_bytes <= 4 else np.float64
    n_pixels = int(np.prod(frames.shape[1:], dtype=np.int64))
    return np.ascontiguousarray(frames, dtype=wanted).reshape(len(frames), n_pixels)


def integrate_frames(
    pixels: Pixels, frames: Array, *, floor: float | None = 1.0, work: Workspace | None = None
) -> CurveSums:
    """Sums over bins of each of some frames (n, n_pixels) or (n, ny, nx) of any real type.

    `floor` is the least variance of a value, -inf for none; None when no variance is asked for.
    """
    frames = kernel_frames(frames)
    work = work or Workspace()
    kernel = function("azimuthal_dense", _DENSE)
    parts = []
    for low in range(0, len(frames), LANES):
        some = frames[low : low + LANES]
        if kernel is None:
            parts.append(_integrate_with_scipy(pixels, some, floor))
            continue
        call = _Pass(pixels, work, len(some), floor=floor)
        call.check(kernel(call.address, pointer(some), _KINDS[some.dtype.str[1:]]))
        parts.append(call.curves(real=some.dtype.kind == "f"))
    return _joined(parts, pixels, floor is not None)


def integrate_stored(
    pixels: Pixels, chunks: StoredChunks, *, floor: float | None = 1.0, work: Workspace | None = None
) -> CurveSums:
    """Sums over bins of each frame of some chunks, decoded tile by tile; call only if `takes_stored`."""
    work = work or Workspace()
    parts = []
    for low in range(0, len(chunks.offsets), LANES):
        some = chunks.part(slice(low, low + LANES))
        call = _Pass(pixels, work, len(some.offsets), floor=floor)
        call.decode(some)
        parts.append(call.curves(real=False, first=low))
    return _joined(parts, pixels, floor is not None)


def add_frames(
    pixels: Pixels, frames: Array, *, total: ImageSum, weights: FloatArray, work: Workspace | None = None
) -> tuple[Array, IntArray]:
    """Add frames to a sum; (counts, blanks) of each frame, shape (n_frames,), as in CurveSums."""
    frames = kernel_frames(frames)
    work = work or Workspace()
    kernel = function("azimuthal_dense", _DENSE)
    found = []
    for low in range(0, len(frames), LANES):
        some, weight = frames[low : low + LANES], weights[low : low + LANES]
        if kernel is None:
            found.append(_add_with_numpy(pixels, some, total, weight))
            continue
        call = _Pass(pixels, work, len(some), total=total, weights=weight)
        call.check(kernel(call.address, pointer(some), _KINDS[some.dtype.str[1:]]))
        found.append(call.counted(real=some.dtype.kind == "f"))
    counts = [c for c, _ in found] or [np.zeros(0, dtype=np.int64)]
    return np.concatenate(counts), np.concatenate([b for _, b in found] or [np.zeros(0, dtype=np.int64)])


def add_stored(
    pixels: Pixels, chunks: StoredChunks, *, total: ImageSum, weights: FloatArray, work: Workspace | None = None
) -> tuple[Array, IntArray, dict[int, int]]:
    """Add the frames of some chunks to a sum: (counts, blanks, failed); failed ones leave nothing in it."""
    work = work or Workspace()
    counts, blanks = np.zeros(len(chunks.offsets), dtype=np.int64), np.zeros(len(chunks.offsets), dtype=np.int64)
    failed: dict[int, int] = {}
    for low in range(0, len(chunks.offsets), LANES):
        rows = slice(low, low + LANES)
        some, weight = chunks.part(rows), weights[rows]
        call = _Pass(pixels, work, len(some.offsets), total=total, weights=weight)
        call.decode(some)
        counts[rows], blanks[rows] = call.counted(real=False)
        for i, status in call.failed().items():
            failed[low + i] = status
            # What its good tiles added is taken away again: exactly, because the sums are integers.
            undo = _Pass(pixels, work, 1, total=total, weights=weight[i : i + 1], sign=-1)
            undo.decode(some.part([i]))
    return counts, blanks, failed


class _Pass:
    """One call of the kernel, for at most LANES frames."""

    def __init__(
        self,
        pixels: Pixels,
        work: Workspace,
        n_frames: int,
        *,
        floor: float | None = None,
        total: ImageSum | None = None,
        weights: FloatArray | None = None,
        sign: int = 1,
    ) -> None:  # fmt: skip
        self._pixels, self._work, self._n = pixels, work, n_frames
        tiles = pixels.tiles
        shape = (tiles.n_bins, LANES) if total is None else (0, LANES)
        self._held: dict[str, Array] = {
            name: work.take(name, shape, np.float64) for name in ("signal", "lost_norm")
        }
        self._held["variance"] = work.take("variance", shape if floor is not None else (0, LANES), np.float64)
        lost_dark = shape if pixels.dark is not None else (0, LANES)
        self._held["lost_dark"] = work.take("lost_dark", lost_dark, np.float64)
        self._held["n_lost"] = work.take("n_lost", shape, np.int32)
        for name in ("counts", "blanks", "status"):
            self._held[name] = np.zeros(LANES, dtype=np.int64)
        self._held["counts_real"] = np.zeros(LANES)
        self._held["frame_weight"] = np.zeros(LANES)
        if weights is not None:
            self._held["frame_weight"][:n_frames] = weights
        n_scratch = tiles.tile * (LANES * 8 + 2) + 512
        self._held["scratch"] = work.scratch(n_scratch)
        self._with_variance = floor is not None
        low, high = pixels.low, pixels.high
        self._call = _Call(
            n_pixels=tiles.n_pixels, n_bins=tiles.n_bins, tile=tiles.tile, n_tiles=tiles.n_tiles,
            good_bits=pointer(pixels.good_bits), good=pointer(pixels.good), norm=pointer(pixels.norm),
            dark=None if pixels.dark is None else pointer(pixels.dark),
            n_frames=n_frames, with_variance=floor is not None, floor=floor or 0.0, is_sum=total is not None, sign=sign,
            low=int(np.clip(low, -(2**31), 2**32 - 1)), high=int(np.clip(high, -(2**31), 2**32 - 1)),
            low_real=low, high_real=high, n_scratch=self._held["scratch"].size,
            **{name: pointer(array) for name, array in self._held.items()},
            **{
                name: pointer(getattr(tiles, name))
                for name in ("tile_run", "run_bin", "run_stop", "offset", "weight")
            },
        )  # fmt: skip
        if total is not None:
            self._call.n_blank, self._call.lost_weight = pointer(total.n_blank), pointer(total.lost_weight)
            setattr(self._call, "sum" if total.values.dtype == np.int64 else "sum_real", pointer(total.values))

    @property
    def address(self) -> int:
        """Where the kernel finds the call."""
        return ctypes.addressof(self._call)

    def check(self, code: int) -> None:
        """The kernel refuses only what this module got wrong."""
        if code:
            raise ValueError(f"the kernel refused a call ({code})")

    def decode(self, chunks: StoredChunks) -> None:
        """Let the kernel read the chunks."""
        kernel = function("azimuthal_stored", _STORED)
        if kernel is None:
            raise ValueError("chunks can be integrated by the compiled kernels only")
        kind = _KINDS[chunks.dtype.str.lstrip("<|")]
        self.check(
            kernel(
                self.address, pointer(chunks.data), chunks.data.size, pointer(chunks.offsets),
                pointer(chunks.sizes), kind, chunks.block_items,
            )
        )  # fmt: skip

    def failed(self) -> dict[int, int]:
        """Which frames did not decode, and why."""
        status = self._held["status"][: self._n]
        return {int(i): int(status[i]) for i in np.flatnonzero(status)}

    def counted(self, *, real: bool) -> tuple[Array, IntArray]:
        """The sum of each frame, and its number of blank values."""
        counts = self._held["counts_real" if real else "counts"][: self._n].copy()
        return counts, self._held["blanks"][: self._n].copy()

    def curves(self, *, real: bool, first: int = 0) -> CurveSums:
        """What the call found, out of the buffers."""
        counts, blanks = self.counted(real=real)

        def rows(name: str) -> Array:
            return self._held[name][:, : self._n].T.copy()  # never a view: the buffers are reused

        any_blank = bool(blanks.any())
        has_dark = self._pixels.dark is not None
        return CurveSums(
            signal=rows("signal"),
            variance=rows("variance") if self._with_variance else None,
            lost_norm=rows("lost_norm") if any_blank else None,
            lost_dark=rows("lost_dark") if any_blank and has_dark else None,
            n_lost=rows("n_lost") if any_blank else None,
            counts=counts,
            blanks=blanks,
            failed={first + i: status for i, status in self.failed().items()},
        )


def _valid(pixels: Pixels, frames: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which values of frames (n, n_pixels) are neither masked nor blank."""
    good = pixels.good.astype(np.bool_)
    inside = (frames >= pixels.low) & (frames <= pixels.high)
    if frames.dtype.kind == "f":
        inside &= np.isfinite(frames)
    return np.asarray(inside & good)


def _integrate_with_scipy(pixels: Pixels, frames: Array, floor: float | None) -> CurveSums:
    """The SciPy form of one pass."""
    valid = _valid(pixels, frames)
    lanes = np.where(valid, frames, 0).astype(np.float64).T.copy()
    blank = (~valid & pixels.good.astype(np.bool_)).T.astype(np.float64)
    rows = pixels.tiles.rows
    variance = None
    if floor is not None:
        square = (rows.data**2).astype(np.float32).astype(np.float64)
        squares = scipy.sparse.csr_matrix((square, rows.indices, rows.indptr), shape=rows.shape)
        variance = (squares @ np.where(valid.T, np.maximum(lanes, floor), 0.0)).T.copy()
    blanks = blank.sum(axis=0).astype(np.int64)

    def lost(image: FloatArray) -> FloatArray:
        shares = scipy.sparse.csr_matrix(
            (rows.data * image[rows.indices], rows.indices, rows.indptr), shape=rows.shape
        )
        gone: FloatArray = (shares @ blank).T.copy()
        return gone

    ones = scipy.sparse.csr_matrix((np.ones(rows.nnz), rows.indices, rows.indptr), shape=rows.shape)
    return CurveSums(
        signal=(rows @ lanes).T.copy(),
        variance=variance,
        lost_norm=lost(pixels.norm) if blanks.any() else None,
        lost_dark=lost(pixels.dark) if blanks.any() and pixels.dark is not None else None,
        n_lost=(ones @ blank).T.astype(np.int32) if blanks.any() else None,
        counts=_counts(frames, lanes),
        blanks=blanks,
        failed={},
    )


def _counts(frames: Array, lanes: FloatArray) -> Array:
    """The sum of every frame's lane, in the order of the pixels for real numbers."""
    if frames.dtype.kind != "f":
        return lanes.astype(np.int64).sum(axis=0)
    return np.add.accumulate(lanes, axis=0)[-1] if len(lanes) else np.zeros(lanes.shape[1])


def _add_with_numpy(
    pixels: Pixels, frames: Array, total: ImageSum, weights: FloatArray
) -> tuple[Array, IntArray]:
    """The NumPy form of one pass of adding."""
    valid = _valid(pixels, frames)
    blank = ~valid & pixels.good.astype(np.bool_)
    values = np.where(valid, frames, 0).astype(total.values.dtype)
    for one, gone, weight in zip(values, blank, weights, strict=True):
        np.add(total.values, one, out=total.values)
        np.add(total.lost_weight, weight, out=total.lost_weight, where=gone)
        np.add(total.n_blank, 1, out=total.n_blank, where=gone)
    counts = _counts(frames, values.T.astype(np.float64)) if len(values) else np.zeros(0, dtype=np.int64)
    return counts, np.count_nonzero(blank, axis=1).astype(np.int64)


def _joined(parts: list[CurveSums], pixels: Pixels, with_variance: bool) -> CurveSums:
    """Passes one behind the other."""
    if len(parts) == 1:
        return parts[0]
    n_bins = pixels.tiles.n_bins
    any_blank = any(part.n_lost is not None for part in parts)

    def stacked(name: str, wanted: bool) -> Any:
        if not wanted:
            return None
        arrays = [getattr(part, name) for part in parts]
        filled = [
            np.zeros(part.signal.shape) if array is None else array
            for part, array in zip(parts, arrays, strict=True)
        ]
        return np.concatenate(filled) if filled else np.zeros((0, n_bins))

    return CurveSums(
        signal=stacked("signal", True),
        variance=stacked("variance", with_variance),
        lost_norm=stacked("lost_norm", any_blank),
        lost_dark=stacked("lost_dark", any_blank and pixels.dark is not None),
        n_lost=stacked("n_lost", any_blank),
        counts=np.concatenate([p.counts for p in parts]) if parts else np.zeros(0, dtype=np.int64),
        blanks=np.concatenate([p.blanks for p in parts]) if parts else np.zeros(0, dtype=np.int64),
        failed={i: status for part in parts for i, status in part.failed.items()},
    )
