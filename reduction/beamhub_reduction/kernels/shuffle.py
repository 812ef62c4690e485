"""HDF5's byte shuffle."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import function, pointer

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

_ARGTYPES = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def unshuffle(data: Bytes, *, item_bytes: int, out: Bytes | None = None) -> Bytes:
    """The bytes before HDF5's shuffle, shape (n_bytes,): byte k of all elements stood together.

    A rest below one element stays as it is. Source: HDF5 reference manual, H5Pset_shuffle.

    Parameters
    ----------
    data, out:
        uint8, C-contiguous, shape (n_bytes,); without `out` a new array is made.
    """
    if out is None:
        out = np.empty_like(data)
    if out.shape != data.shape or item_bytes < 1:
        raise ValueError(f"{data.size} bytes of {item_bytes} do not go into {out.size}")
    kernel = function("unshuffle", _ARGTYPES)
    if kernel is not None:
        kernel(pointer(data), data.size, item_bytes, pointer(out))
        return out
    n_items = data.size // item_bytes
    whole = n_items * item_bytes
    out[:whole] = data[:whole].reshape(item_bytes, n_items).T.ravel()
    out[whole:] = data[whole:]
    return out
