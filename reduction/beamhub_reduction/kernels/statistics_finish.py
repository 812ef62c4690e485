"""Exact sums of pixels, put together and finished in one pass; the same bits as with NumPy."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import function, pointer
from beamhub_reduction.kernels.statistics import IntegerSums, Values, integer_layout

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


class _Layout(ctypes.Structure):
    """bh_finished of statistics_finish.c."""

    _fields_ = [
        ("mean", ctypes.c_void_p), ("variance", ctypes.c_void_p), ("error", ctypes.c_void_p),
        ("minimum", ctypes.c_void_p), ("maximum", ctypes.c_void_p), ("n_valid", ctypes.c_void_p),
        ("wide", ctypes.c_void_p),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FinishedSums:
    """Each of shape (n_pixels,); NaN without values, `variance` and `mean_errors` also with one value."""

    mean: FloatArray
    variance: FloatArray
    mean_errors: FloatArray
    minimum: FloatArray
    maximum: FloatArray
    n_valid: Values


def finish_integer_sums(sums: IntegerSums) -> FinishedSums:
    """Mean, sample variance, uncertainty of the mean and extremes of each pixel.

    The variance is (n q - s^2) / (n (n - 1)), whole numbers up to the division: in int64 where they fit,
    which a cheap bound decides; in Python's integers where they do not.
    """
    n_pixels = sums.sum.size
    kernel = function("pixel_finish", (ctypes.c_void_p,) * 2)
    if kernel is None:
        return _with_numpy(sums)
    _check(sums)
    mean, variance, errors, least, most = (np.empty(n_pixels) for _ in range(5))
    n_valid, wide = np.empty(n_pixels, dtype=np.int64), np.empty(n_pixels, dtype=np.uint8)
    finished = FinishedSums(mean, variance, errors, least, most, n_valid)
    layout = integer_layout(sums, limit=0, usable=np.zeros(0, dtype=np.bool_))
    out = _Layout(*(pointer(array) for array in (mean, variance, errors, least, most, n_valid, wide)))
    n_wide = kernel(ctypes.addressof(layout), ctypes.addressof(out))
    if n_wide < 0:
        raise ValueError(f"sums of {sums.minimum.dtype} cannot be finished")
    if n_wide:
        _in_long_integers(sums, finished, np.flatnonzero(wide))
    return finished


def merge_integer_sums(left: IntegerSums, right: IntegerSums) -> None:
    """Add the right sums to the left ones, in place; exact, so the order of several does not matter.

    Raises
    ------
    ValueError
        If they are of another type or of other pixels.
    """
    kernel = function("pixel_merge", (ctypes.c_void_p,) * 2)
    _check(left)
    _check(right)
    if left.sum.shape != right.sum.shape or left.minimum.dtype != right.minimum.dtype:
        raise ValueError(f"sums of {right.minimum.dtype} cannot be added to {left.minimum.dtype}")
    if kernel is not None:
        nobody = np.zeros(0, dtype=np.bool_)
        layouts = [integer_layout(sums, limit=0, usable=nobody) for sums in (left, right)]
        if kernel(*(ctypes.addressof(layout) for layout in layouts)) < 0:
            raise ValueError(f"sums of {left.minimum.dtype} cannot be added")
        return
    for name in ("sum", "square_low", "square_high", "n_valid", "n_rejected"):
        np.add(getattr(left, name), getattr(right, name), out=getattr(left, name))
    np.minimum(left.minimum, right.minimum, out=left.minimum)
    np.maximum(left.maximum, right.maximum, out=left.maximum)


def _check(sums: IntegerSums) -> None:
    """Refuse what the kernel would read past."""
    types = {
        "sum": np.int64, "square_low": np.uint64, "square_high": np.uint64, "n_valid": np.uint32,
        "n_rejected": np.uint32, "minimum": sums.minimum.dtype, "maximum": sums.minimum.dtype,
    }  # fmt: skip
    for name, dtype in types.items():
        array = getattr(sums, name)
        if array.shape != sums.sum.shape or array.ndim != 1 or array.dtype != dtype:
            raise ValueError(f"{name} of a sum is {array.shape} {array.dtype}, expected {dtype}")


def _with_numpy(sums: IntegerSums) -> FinishedSums:
    n = sums.n_valid.astype(np.int64)
    filled, enough = n > 0, n > 1
    mean, variance = np.full(n.size, np.nan), np.full(n.size, np.nan)
    np.divide(sums.sum, n, out=mean, where=filled)
    squares = sums.square_high.astype(np.float64) * 2.0**32 + sums.square_low.astype(np.float64)
    small = enough & (squares * n < 2.0**62)
    q = (sums.square_high[small].astype(np.int64) << 32) + sums.square_low[small].astype(np.int64)
    above = n[small] * q - sums.sum[small] ** 2
    variance[small] = above / (n[small] * (n[small] - 1)).astype(np.float64)
    least, most = np.where(filled, sums.minimum, np.nan), np.where(filled, sums.maximum, np.nan)
    finished = FinishedSums(mean, variance, mean_errors(variance, n_valid=n), least, most, n)
    _in_long_integers(sums, finished, np.flatnonzero(enough & ~small))
    return finished


def _in_long_integers(sums: IntegerSums, finished: FinishedSums, places: Values) -> None:
    """The variance of a few pixels with very large values."""
    for i in places:
        exact = (int(sums.square_high[i]) << 32) + int(sums.square_low[i])
        count = int(sums.n_valid[i])
        finished.variance[i] = (count * exact - int(sums.sum[i]) ** 2) / (count * (count - 1))
        finished.mean_errors[i] = np.sqrt(finished.variance[i] / count)


def mean_errors(variance: FloatArray, *, n_valid: Values) -> FloatArray:
    """Standard uncertainty of the mean, from the scatter: sqrt(variance / n_valid)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        errors: FloatArray = np.divide(variance, n_valid)
    return np.sqrt(errors, out=errors)
