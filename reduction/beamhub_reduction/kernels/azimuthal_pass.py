"""One call of the compiled azimuthal kernel: its arguments, its buffers, and what comes back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from beamhub_reduction.kernels.azimuthal_sums import Array, CurveSums, FloatArray, ImageSum, IntArray
from beamhub_reduction.kernels.azimuthal_tiles import Bytes, Pixels
from beamhub_reduction.kernels.native import function, pointer
from beamhub_reduction.kernels.stored import IN_MEMORY, chunk_layout, window_bytes

LANES = 16
"""Frames of one pass: one pixel of all of them is one vector. Source: measured in bench_azimuthal.py."""
KINDS = {"u1": 0, "u2": 1, "u4": 2, "i4": 3, "f4": 4, "f8": 5}


@dataclass(frozen=True, slots=True)
class StoredChunks:
    """Bitshuffle-LZ4 chunks of one whole frame each: in a buffer, uint8 (n_bytes,), or in an open file.

    `offsets` and `sizes` are int64 (n,), places in `data`, or in the file of `descriptor`, which is open
    as long as the chunks are used; `data` has no meaning then.
    """

    data: Bytes
    offsets: IntArray
    sizes: IntArray
    dtype: np.dtype[Any]
    block_items: int
    descriptor: int = IN_MEMORY

    def part(self, chosen: slice | Sequence[int]) -> StoredChunks:
        """Some of the chunks."""
        offsets = np.ascontiguousarray(self.offsets[chosen])
        return replace(self, offsets=offsets, sizes=np.ascontiguousarray(self.sizes[chosen]))


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

    def scratch(self, n_bytes: int, name: str = "scratch") -> Bytes:
        """At least so many bytes, whatever they hold."""
        found = self.arrays.get(name)
        if found is None or found.size < n_bytes:
            found = self.arrays[name] = np.empty(n_bytes, dtype=np.uint8)
        return found


class _Call(ctypes.Structure):
    """One call; the same fields in the same order stand in src/azimuthal.c."""

    _fields_ = [  # ctypes asks for a list
        *((name, ctypes.c_int64) for name in ["n_pixels", "n_bins", "tile", "n_tiles"]),
        *((name, ctypes.c_void_p) for name in ["tile_run", "run_bin", "run_stop", "offset", "weight"]),
        *((name, ctypes.c_void_p) for name in ["good", "good_bits", "norm", "dark"]),
        *((name, ctypes.c_int64) for name in ["n_frames", "with_variance", "is_sum", "sign", "low", "high"]),
        *((name, ctypes.c_double) for name in ["low_real", "high_real", "floor"]),
        *((name, ctypes.c_void_p) for name in ["signal", "variance", "lost_norm", "lost_dark", "n_lost"]),
        *((name, ctypes.c_void_p) for name in ["sum", "sum_real", "lost_weight", "n_blank", "frame_weight"]),
        *((name, ctypes.c_void_p) for name in ["counts", "blanks", "status", "counts_real", "scratch"]),
        ("n_scratch", ctypes.c_int64),
    ]


_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64
DENSE = (_POINTER, _POINTER, _INTEGER)
STORED = (_POINTER, _POINTER, _INTEGER, _INTEGER)


def takes_stored(dtype: np.dtype[Any], block_items: int, tile: int) -> bool:
    """Whether chunks of this kind go through the fused kernel: compiled, integers, blocks that fill tiles."""
    return (
        function("azimuthal_stored", STORED) is not None
        and sys.byteorder == "little"
        and dtype.str.lstrip("<|") in ("u1", "u2", "u4", "i4")
        and block_items >= 8
        and block_items % 8 == 0
        and tile % block_items == 0
    )


@dataclass(frozen=True, slots=True)
class Adding:
    """Frames are added to a sum (or taken away from it, sign -1), with the weight of each, shape (n,)."""

    total: ImageSum
    weights: FloatArray
    sign: int = 1


class Pass:
    """One call of the kernel, for at most LANES frames."""

    def __init__(
        self,
        pixels: Pixels,
        work: Workspace,
        n_frames: int,
        *,
        floor: float | None = None,
        adding: Adding | None = None,
    ) -> None:  # fmt: skip
        self._pixels, self._work, self._n = pixels, work, n_frames
        tiles = pixels.tiles
        shape = (tiles.n_bins, LANES) if adding is None else (0, LANES)
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
        if adding is not None:
            self._held["frame_weight"][:n_frames] = adding.weights
        n_scratch = tiles.tile * (LANES * 8 + 2) + 512
        self._held["scratch"] = work.scratch(n_scratch)
        self._with_variance = floor is not None
        low, high = pixels.low, pixels.high
        self._call = _Call(
            n_pixels=tiles.n_pixels, n_bins=tiles.n_bins, tile=tiles.tile, n_tiles=tiles.n_tiles,
            good_bits=pointer(pixels.good_bits), good=pointer(pixels.good), norm=pointer(pixels.norm),
            dark=None if pixels.dark is None else pointer(pixels.dark),
            n_frames=n_frames, with_variance=floor is not None, floor=floor or 0.0,
            is_sum=adding is not None, sign=adding.sign if adding else 1,
            low=int(np.clip(low, -(2**31), 2**32 - 1)), high=int(np.clip(high, -(2**31), 2**32 - 1)),
            low_real=low, high_real=high, n_scratch=self._held["scratch"].size,
            **{name: pointer(array) for name, array in self._held.items()},
            **{
                name: pointer(getattr(tiles, name))
                for name in ("tile_run", "run_bin", "run_stop", "offset", "weight")
            },
        )  # fmt: skip
        if adding is not None:
            total = adding.total
            self._call.n_blank, self._call.lost_weight = pointer(total.n_blank), pointer(total.lost_weight)
            setattr(
                self._call, "sum" if total.values.dtype == np.int64 else "sum_real", pointer(total.values)
            )

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
        kernel = function("azimuthal_stored", STORED)
        if kernel is None:
            raise ValueError("chunks can be integrated by the compiled kernels only")
        kind = KINDS[chunks.dtype.str.lstrip("<|")]
        data = chunks.data
        if chunks.descriptor != IN_MEMORY:
            n_window = window_bytes(chunks.block_items * chunks.dtype.itemsize)
            data = self._work.scratch(n_window * max(1, chunks.offsets.size), "windows")
        layout = chunk_layout(chunks.descriptor, data=data, offsets=chunks.offsets, sizes=chunks.sizes)
        self.check(kernel(self.address, ctypes.addressof(layout), kind, chunks.block_items))

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
