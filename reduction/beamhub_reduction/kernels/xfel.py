"""Weighted sums of single frames: what a per-cell correction needs of every frame."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import function, pointer

LANES = 16

_U16 = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_F32 = (*_U16, ctypes.c_void_p)


def add_weighted_frame(
    frame: np.ndarray[Any, Any], *, weight: np.ndarray[Any, np.dtype[np.float32]],
    image: np.ndarray[Any, np.dtype[np.float64]], blank: np.ndarray[Any, np.dtype[np.int64]],
) -> float:  # fmt: skip
    """Add frame * weight to `image`, and give its sum, in float64 and in one order of additions.

    Parameters
    ----------
    frame:
        uint16 or float32, shape (n_pixels,); other numbers take the NumPy form.
    weight:
        float32, shape (n_pixels,); zero where a pixel is bad.
    image:
        float64, shape (n_pixels,), is added to.
    blank:
        int64, shape (n_pixels,): one more where a value is not finite and the weight not zero.
    """
    if not frame.shape == weight.shape == image.shape == blank.shape or frame.ndim != 1:
        raise ValueError("frame, weight, image and blank have one length")
    if weight.dtype != np.float32 or image.dtype != np.float64 or blank.dtype != np.int64:
        raise ValueError("weight is float32, image float64, blank int64")
    native = frame.dtype in (np.dtype(np.uint16), np.dtype(np.float32))
    kernel = None
    if native:
        frame = np.ascontiguousarray(frame)
        name, types = (
            ("weighted_frame_u16", _U16) if frame.dtype == np.uint16 else ("weighted_frame_f32", _F32)
        )
        kernel = function(name, types)
    if kernel is not None:
        total = np.zeros(1)
        counted = (pointer(blank),) if frame.dtype == np.float32 else ()
        outcome = kernel(
            pointer(frame), frame.size, pointer(weight), pointer(image), *counted, pointer(total)
        )
        if outcome < 0:
            raise ValueError("the kernel refused its input")
        return float(total[0])
    values = frame.astype(np.float64)
    good = np.isfinite(values)
    product = np.where(good, values, 0.0) * weight.astype(np.float64)
    image += product
    blank += ~good & (weight != 0)
    padded = np.zeros(-(-product.size // LANES) * LANES)
    padded[: product.size] = product
    lanes = np.zeros(LANES)
    for row in padded.reshape(-1, LANES):
        lanes += row
    total_sum = 0.0
    for lane in lanes.tolist():
        total_sum += lane
    return total_sum
