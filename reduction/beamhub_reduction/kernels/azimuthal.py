"""One sparse matrix applied to many frames at once, or frames added up pixel by pixel, from frames or chunks.

All forms give the same bits: the sum over a bin runs in float64 over its pixels in the order of the frame,
and no sum crosses frames. The SciPy form is `csr_matrix @ lanes`, whose sums run in that order too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from beamhub_reduction.kernels.azimuthal_pass import (
    DENSE,
    KINDS,
    LANES,
    Adding,
    Pass,
    StoredChunks,
    Workspace,
    takes_stored,
)
from beamhub_reduction.kernels.azimuthal_scipy import add_with_numpy, integrate_with_scipy
from beamhub_reduction.kernels.azimuthal_sums import Array, CurveSums, FloatArray, ImageSum, IntArray, joined
from beamhub_reduction.kernels.azimuthal_tiles import Pixels, SparseTiles, build_tiles, tile_of
from beamhub_reduction.kernels.native import function, pointer

__all__ = [
    "LANES", "CurveSums", "ImageSum", "Pixels", "SparseTiles", "StoredChunks", "Workspace", "add_frames",
    "add_stored", "build_tiles", "integrate_frames", "integrate_stored", "kernel_frames", "takes_stored",
    "tile_of",
]  # fmt: skip

WRONG_BLOCK = -12
"""The status of a chunk whose blocks have another size than the others': it may be good all the same."""


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
    kernel = function("azimuthal_dense", DENSE)
    parts = []
    for low in range(0, len(frames), LANES):
        some = frames[low : low + LANES]
        if kernel is None:
            parts.append(integrate_with_scipy(pixels, some, floor))
            continue
        call = Pass(pixels, work, len(some), floor=floor)
        call.check(kernel(call.address, pointer(some), KINDS[some.dtype.str[1:]]))
        parts.append(call.curves(real=some.dtype.kind == "f"))
    return _joined(parts, pixels, floor)


def integrate_stored(
    pixels: Pixels, chunks: StoredChunks, *, floor: float | None = 1.0, work: Workspace | None = None
) -> CurveSums:
    """Sums over bins of each frame of some chunks, decoded tile by tile; call only if `takes_stored`."""
    work = work or Workspace()
    parts = []
    for low in range(0, len(chunks.offsets), LANES):
        some = chunks.part(slice(low, low + LANES))
        call = Pass(pixels, work, len(some.offsets), floor=floor)
        call.decode(some)
        parts.append(call.curves(real=False, first=low))
    return _joined(parts, pixels, floor)


def add_frames(
    pixels: Pixels, frames: Array, *, total: ImageSum, weights: FloatArray, work: Workspace | None = None
) -> tuple[Array, IntArray]:
    """Add frames to a sum; (counts, blanks) of each frame, shape (n_frames,), as in CurveSums."""
    frames = kernel_frames(frames)
    work = work or Workspace()
    kernel = function("azimuthal_dense", DENSE)
    found = []
    for low in range(0, len(frames), LANES):
        some, weight = frames[low : low + LANES], weights[low : low + LANES]
        if kernel is None:
            found.append(add_with_numpy(pixels, some, total, weight))
            continue
        call = Pass(pixels, work, len(some), adding=Adding(total, weight))
        call.check(kernel(call.address, pointer(some), KINDS[some.dtype.str[1:]]))
        found.append(call.counted(real=some.dtype.kind == "f"))
    counts = [c for c, _ in found] or [np.zeros(0, dtype=np.int64)]
    return np.concatenate(counts), np.concatenate([b for _, b in found] or [np.zeros(0, dtype=np.int64)])


def add_stored(
    pixels: Pixels,
    chunks: StoredChunks,
    *,
    total: ImageSum,
    weights: FloatArray,
    work: Workspace | None = None,
) -> tuple[Array, IntArray, dict[int, int]]:
    """Add the frames of some chunks to a sum: (counts, blanks, failed); failed ones leave nothing in it."""
    work = work or Workspace()
    counts, blanks = (
        np.zeros(len(chunks.offsets), dtype=np.int64),
        np.zeros(len(chunks.offsets), dtype=np.int64),
    )
    failed: dict[int, int] = {}
    for low in range(0, len(chunks.offsets), LANES):
        rows = slice(low, low + LANES)
        some, weight = chunks.part(rows), weights[rows]
        call = Pass(pixels, work, len(some.offsets), adding=Adding(total, weight))
        call.decode(some)
        counts[rows], blanks[rows] = call.counted(real=False)
        for i, status in call.failed().items():
            failed[low + i] = status
            # What its good tiles added is taken away again: exactly, because the sums are integers.
            undo = Pass(pixels, work, 1, adding=Adding(total, weight[i : i + 1], -1))
            undo.decode(some.part([i]))
    return counts, blanks, failed


def _joined(parts: list[CurveSums], pixels: Pixels, floor: float | None) -> CurveSums:
    return joined(
        parts, n_bins=pixels.tiles.n_bins, with_variance=floor is not None, has_dark=pixels.dark is not None
    )
