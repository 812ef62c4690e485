"""Stored chunks as the kernels take them: in memory, or in a file of which they read a piece at a time."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import pointer

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

IN_MEMORY = -1
"""The descriptor of chunks that lie in memory."""
WINDOW_BYTES = 32_768
"""BH_WINDOW_BYTES of windows.h: what is read of a chunk at once."""


class ChunkLayout(ctypes.Structure):
    """bh_chunks of windows.h."""

    _fields_ = [
        ("file", ctypes.c_int64), ("data", ctypes.c_void_p), ("n_data", ctypes.c_int64),
        ("offsets", ctypes.c_void_p), ("sizes", ctypes.c_void_p),
    ]  # fmt: skip


def window_bytes(block_bytes: int) -> int:
    """What the kernel keeps of one chunk of a file at a time; bh_window_bytes of windows.h."""
    least = block_bytes + block_bytes // 255 + 64
    return 2 * least if least > WINDOW_BYTES // 2 else WINDOW_BYTES


def chunk_layout(descriptor: int, *, data: Bytes, offsets: IntArray, sizes: IntArray) -> ChunkLayout:
    """Chunks for a kernel; all arrays must outlive it.

    Parameters
    ----------
    descriptor:
        An open file that `offsets` belong to; `data` are the windows then. IN_MEMORY: they belong to `data`.
    offsets, sizes:
        int64, shape (n_chunks,), contiguous.
    """
    if offsets.shape != sizes.shape or offsets.dtype != np.int64 or sizes.dtype != np.int64:
        raise ValueError(f"offsets {offsets.shape} {offsets.dtype} and sizes {sizes.shape} {sizes.dtype}")
    return ChunkLayout(descriptor, pointer(data), data.size, pointer(offsets), pointer(sizes))
