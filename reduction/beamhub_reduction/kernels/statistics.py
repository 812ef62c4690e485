"""Sums over frames for each pixel, exact for integers: the arrays, and adding frames to them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import function, pointer

Values = np.ndarray[Any, np.dtype[Any]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

LOW_BITS = np.uint64(0xFFFFFFFF)
SPLIT = 134217729.0
"""2^27 + 1 splits a float64 into two halves. Source: Dekker, doi 10.1007/BF01397083."""


class _Layout(ctypes.Structure):
    """bh_pixel_sums of statistics.h."""

    _fields_ = [
        ("item_bytes", ctypes.c_int64), ("n_pixels", ctypes.c_int64), ("limit", ctypes.c_uint64),
        ("usable", ctypes.c_void_p), ("low", ctypes.c_void_p), ("high", ctypes.c_void_p),
        ("sum", ctypes.c_void_p), ("square_low", ctypes.c_void_p), ("square_high", ctypes.c_void_p),
        ("minimum", ctypes.c_void_p), ("maximum", ctypes.c_void_p),
        ("n_valid", ctypes.c_void_p), ("n_rejected", ctypes.c_void_p),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class IntegerSums:
    """Exact sums of integer frames, each of shape (n_pixels,), changed in place.

    The sum of squares is square_high * 2**32 + square_low. `minimum` and `maximum` have the unsigned type
    of the frames' values; where `n_valid` is 0 they are its largest value and 0.
    """

    sum: Values
    square_low: Values
    square_high: Values
    minimum: Values
    maximum: Values
    n_valid: Values
    n_rejected: Values


@dataclass(frozen=True, slots=True)
class FloatSums:
    """Sums of floating-point frames and the errors of their additions, each float64 (n_pixels,), in place."""

    sum: Values
    sum_error: Values
    square: Values
    square_error: Values
    minimum: Values
    maximum: Values
    n_valid: Values
    n_rejected: Values


@dataclass(frozen=True, slots=True)
class Bounds:
    """Values outside low <= value <= high are rejected, pixel by pixel; the type of the sums' minimum."""

    low: Values
    high: Values


def empty_integer_sums(dtype: np.dtype[Any], n_pixels: int) -> IntegerSums:
    """Sums of no frames of unsigned values of this type (8, 16 or 32 bits)."""
    return IntegerSums(
        np.zeros(n_pixels, np.int64), np.zeros(n_pixels, np.uint64), np.zeros(n_pixels, np.uint64),
        np.full(n_pixels, np.iinfo(dtype).max, dtype), np.zeros(n_pixels, dtype),
        np.zeros(n_pixels, np.uint32), np.zeros(n_pixels, np.uint32),
    )  # fmt: skip


def empty_float_sums(n_pixels: int) -> FloatSums:
    """Sums of no frames of float64."""
    s, s_error, q, q_error = (np.zeros(n_pixels) for _ in range(4))
    return FloatSums(
        s, s_error, q, q_error, np.full(n_pixels, np.inf), np.full(n_pixels, -np.inf),
        np.zeros(n_pixels, np.uint32), np.zeros(n_pixels, np.uint32),
    )  # fmt: skip


def add_integer_frames(
    sums: IntegerSums,
    *,
    frames: Values,
    limit: int,
    usable: BoolArray,
    blank: BoolArray | None = None,
    bounds: Bounds | None = None,
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Add frames to the sums; gives the total of each frame, shape (n_frames,), rejected values included.

    Parameters
    ----------
    frames:
        C-contiguous, shape (n_frames, n_pixels), the type of `sums.minimum`.
    limit:
        The largest value that is one; below the largest of the type.
    usable:
        Pixels that count, shape (n_pixels,).
    blank:
        Single values that do not count, shape (n_frames, n_pixels).
    """
    _check(sums.minimum, frames, usable, blank)
    if not 0 <= limit < np.iinfo(frames.dtype).max:
        raise ValueError(f"{limit} is no largest value of {frames.dtype}")
    totals = np.zeros(len(frames), dtype=np.int64)
    kernel = function(
        "pixel_sums", (ctypes.c_void_p, *([ctypes.c_void_p, ctypes.c_int64]), *([ctypes.c_void_p] * 2))
    )
    if kernel is None:
        for i, frame in enumerate(frames):
            totals[i] = _add_integers(
                sums, frame, limit, usable if blank is None else usable & ~blank[i], bounds
            )
        return totals
    layout = integer_layout(sums, limit=limit, usable=usable, bounds=bounds)
    not_there = 0 if blank is None else pointer(blank)
    if kernel(ctypes.addressof(layout), pointer(frames), len(frames), not_there, pointer(totals)) < 0:
        raise ValueError(f"frames {frames.shape} of {frames.dtype} cannot be summed")
    return totals


def integer_layout(
    sums: IntegerSums, *, limit: int, usable: BoolArray, bounds: Bounds | None = None
) -> _Layout:
    """The sums as the kernels take them; the arrays must outlive it."""
    return _Layout(
        sums.minimum.itemsize, sums.sum.size, limit, pointer(usable),
        None if bounds is None else pointer(bounds.low), None if bounds is None else pointer(bounds.high),
        pointer(sums.sum), pointer(sums.square_low), pointer(sums.square_high),
        pointer(sums.minimum), pointer(sums.maximum), pointer(sums.n_valid), pointer(sums.n_rejected),
    )  # fmt: skip


def add_float_frames(
    sums: FloatSums,
    *,
    frames: Values,
    usable: BoolArray,
    blank: BoolArray | None = None,
    bounds: Bounds | None = None,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Add frames of float32 or float64 to the sums, in their order; as `add_integer_frames`.

    NaN and infinities do not count. The totals are sums in eight interleaved lanes (`lane_sums`).
    """
    _check(sums.minimum, frames, usable, blank)
    pointers = ctypes.c_void_p
    kernel = function("float_sums", (pointers, ctypes.c_int64, *([pointers] * 5)))
    parts = (sums.sum, sums.sum_error, sums.square, sums.square_error, sums.minimum, sums.maximum)
    addresses = (pointers * 6)(*(pointer(part) for part in parts))
    counts = (pointers * 2)(pointer(sums.n_valid), pointer(sums.n_rejected))
    low, high = (0, 0) if bounds is None else (pointer(bounds.low), pointer(bounds.high))
    totals = np.zeros(len(frames))
    for i, frame in enumerate(frames):
        values = frame.astype(np.float64)
        counted = usable if blank is None else usable & ~blank[i]
        finite = np.isfinite(values) & counted
        totals[i] = lane_sums(np.where(finite, values, 0.0))
        if kernel is None:
            _add_floats(sums, values, finite, bounds)
        else:
            kernel(
                pointer(values), values.size, pointer(counted), low, high,
                ctypes.addressof(addresses), ctypes.addressof(counts),
            )  # fmt: skip
    return totals


def lane_sums(values: Values) -> float:
    """The sum of float64 values: every eighth one after the other, then the eight sums in pairs."""
    padded = np.zeros(-(-values.size // 8) * 8)
    padded[: values.size] = values
    lanes = np.zeros(8) if values.size == 0 else np.add.reduce(padded.reshape(-1, 8), axis=0)
    pairs = lanes[0::2] + lanes[1::2]
    return float((pairs[0] + pairs[1]) + (pairs[2] + pairs[3]))


def _check(of: Values, frames: Values, usable: BoolArray, blank: BoolArray | None) -> None:
    """Refuse what a kernel would read past."""
    n_pixels = of.size
    if frames.ndim != 2 or frames.shape[1] != n_pixels or usable.shape != (n_pixels,):
        raise ValueError(f"frames {frames.shape} and mask {usable.shape} for {n_pixels} pixels")
    if usable.dtype != np.bool_ or (
        blank is not None and (blank.shape != frames.shape or blank.dtype != np.bool_)
    ):
        raise ValueError("masks are boolean arrays of the shape of what they mask")
    if frames.dtype.kind != "f" and frames.dtype != of.dtype:
        raise ValueError(f"frames of {frames.dtype} for sums of {of.dtype}")


def _add_integers(
    sums: IntegerSums, frame: Values, limit: int, usable: BoolArray, bounds: Bounds | None
) -> int:
    """One frame with NumPy."""
    ok = usable & (frame <= limit)
    total = int(frame[ok].sum(dtype=np.int64))
    if bounds is not None:
        inside = (frame >= bounds.low) & (frame <= bounds.high)
        np.add(sums.n_rejected, ok & ~inside, out=sums.n_rejected)
        ok &= inside
    values = np.where(ok, frame, 0).astype(np.uint64)
    squares = values * values
    np.add(sums.sum, values.astype(np.int64), out=sums.sum)
    np.add(sums.square_low, squares & LOW_BITS, out=sums.square_low)
    np.add(sums.square_high, squares >> np.uint64(32), out=sums.square_high)
    np.minimum(sums.minimum, frame, out=sums.minimum, where=ok)
    np.maximum(sums.maximum, frame, out=sums.maximum, where=ok)
    np.add(sums.n_valid, ok, out=sums.n_valid)
    return total


def _add_floats(sums: FloatSums, values: Values, finite: BoolArray, bounds: Bounds | None) -> None:
    """One frame with NumPy, the same operations in the same order as the kernel."""
    ok = finite
    if bounds is not None:
        with np.errstate(invalid="ignore"):
            ok = finite & (values >= bounds.low) & (values <= bounds.high)
        np.add(sums.n_rejected, finite & ~ok, out=sums.n_rejected)
    v = np.where(ok, values, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        head = SPLIT * v - (SPLIT * v - v)
        tail = v - head
        p = v * v
        p_error = ((head * head - p) + 2.0 * head * tail) + tail * tail
        p_error[~np.isfinite(p_error)] = 0.0
        _two_sum(sums.sum, sums.sum_error, v, 0.0)
        _two_sum(sums.square, sums.square_error, p, p_error)
    np.minimum(sums.minimum, values, out=sums.minimum, where=ok)
    np.maximum(sums.maximum, values, out=sums.maximum, where=ok)
    np.add(sums.n_valid, ok, out=sums.n_valid)


def _two_sum(total: Values, error: Values, value: Values, value_error: Values | float) -> None:
    """Add in place and keep the error of the addition. Source: Knuth, TAOCP 2, 4.2.2, theorem B."""
    added = total + value
    part = added - total
    error += ((total - (added - part)) + (value - part)) + value_error
    total[...] = added
