"""Counts of regions of every frame, and every frame's centre of mass; exact for integers."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import function, pointer
from beamhub_reduction.kernels.statistics import BoolArray, Values, lane_sums

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]

MAX_WIDTH = 65_536
_P = ctypes.c_void_p


def region_sums(
    frames: Values, *, limit: int, spans: IntArray, n_regions: int, blank: BoolArray | None = None
) -> tuple[Values, IntArray]:
    """(sum, number of values) of each region of each frame, shape (n_frames, n_regions) each.

    Parameters
    ----------
    frames:
        Shape (n_frames, n_pixels), C-contiguous; unsigned of 8 to 32 bits (sums are int64), or floating
        (sums are float64 in the order of `lane_sums`, values that are not finite are left out).
    limit:
        The largest integer value that is one.
    spans:
        Runs of pixels, int64 (n_spans, 3): first pixel, end pixel, number of the region.
    blank:
        Single values that do not count, shape of the frames.

    Raises
    ------
    ValueError
        If a span lies outside the frame or names no region.
    """
    if frames.ndim != 2 or (blank is not None and blank.shape != frames.shape):
        raise ValueError(f"frames {frames.shape} do not fit what is to be left out")
    spans = np.ascontiguousarray(spans, dtype=np.int64).reshape(-1, 3)
    inside = (spans[:, 0] >= 0) & (spans[:, 0] <= spans[:, 1]) & (spans[:, 1] <= frames.shape[1])
    if not (inside & (spans[:, 2] >= 0) & (spans[:, 2] < n_regions)).all():
        raise ValueError("a span lies outside the frame or belongs to no region")
    valid = np.zeros((len(frames), n_regions), dtype=np.int64)
    if frames.dtype.kind == "f":
        return _float_regions(frames, spans, blank, valid), valid
    sums = np.zeros_like(valid)
    kernel = function("region_sums", (_P, _P, ctypes.c_uint64, _P, _P, _P, _P))
    if kernel is None:
        for first, end, region in spans:
            part = frames[:, first:end]
            ok = part <= limit
            if blank is not None:
                ok &= ~blank[:, first:end]
            sums[:, region] += np.where(ok, part, 0).sum(axis=1, dtype=np.int64)
            valid[:, region] += ok.sum(axis=1)
        return sums, valid
    shape = np.array([frames.itemsize, *frames.shape, len(spans), n_regions], dtype=np.int64)
    not_there = 0 if blank is None else pointer(blank)
    done = kernel(
        pointer(frames), pointer(shape), limit, not_there, pointer(spans), pointer(sums), pointer(valid)
    )
    if done < 0:
        raise ValueError(f"frames {frames.shape} of {frames.dtype} cannot be summed")
    return sums, valid


def _float_regions(frames: Values, spans: IntArray, blank: BoolArray | None, valid: IntArray) -> FloatArray:
    sums = np.zeros(valid.shape)
    for region in range(valid.shape[1]):
        runs = [np.arange(first, end) for first, end, of in spans if of == region]
        pixels = np.concatenate(runs) if runs else np.zeros(0, dtype=np.int64)
        for i, frame in enumerate(frames):
            values = frame[pixels].astype(np.float64)
            ok = np.isfinite(values)
            if blank is not None:
                ok &= ~blank[i][pixels]
            sums[i, region] = lane_sums(np.where(ok, values, 0.0))
            valid[i, region] = np.count_nonzero(ok)
    return sums


def frame_moments(
    frames: Values, *, limit: int, masked: BoolArray, blank: BoolArray | None = None
) -> tuple[Values, FloatArray]:
    """(sum of each frame (n_frames,), its first moments (n_frames, 2): sums of value * y and of value * x).

    Parameters
    ----------
    frames:
        Shape (n_frames, ny, nx), C-contiguous; types as for `region_sums`. Moments of integers are exact
        while they stay below 2^53.
    masked:
        Pixels that do not count, shape (ny, nx).
    blank:
        Single values that do not count, shape of the frames.
    """
    n, ny, nx = frames.shape
    if (
        masked.shape != (ny, nx)
        or max(ny, nx) > MAX_WIDTH
        or (blank is not None and blank.shape != frames.shape)
    ):
        raise ValueError(f"frames {frames.shape} do not fit the mask {masked.shape}")
    counts_not = masked if blank is None else np.ascontiguousarray(blank | masked)
    kernel = function("frame_moments", (_P, _P, ctypes.c_uint64, _P, _P, _P))
    moments = np.zeros((n, 2))
    if frames.dtype.kind != "f" and kernel is not None:
        shape = np.array([frames.itemsize, n, ny, nx, blank is not None], dtype=np.int64)
        sums = np.zeros(n, dtype=np.int64)
        off = np.where(counts_not, np.iinfo(frames.dtype).max, 0).astype(frames.dtype)
        kernel(pointer(frames), pointer(shape), limit, pointer(off), pointer(sums), pointer(moments))
        return sums, moments
    return _numpy_moments(frames, limit, counts_not, moments)


def _numpy_moments(
    frames: Values, limit: int, counts_not: BoolArray, moments: FloatArray
) -> tuple[Values, FloatArray]:
    ok = np.isfinite(frames) if frames.dtype.kind == "f" else frames <= limit
    kind = np.float64 if frames.dtype.kind == "f" else np.uint64
    values = np.where(ok & ~counts_not, frames, 0).astype(kind)
    _, ny, nx = frames.shape
    rows = values.sum(axis=2, dtype=kind)
    columns = values.sum(axis=1, dtype=kind)
    for y in range(ny):  # rows, then columns, in order, as the kernel adds them
        moments[:, 0] += rows[:, y].astype(np.float64) * y
    for x in range(nx):
        moments[:, 1] += columns[:, x].astype(np.float64) * x
    total = rows.sum(axis=1, dtype=kind)
    return (total if kind is np.float64 else total.astype(np.int64)), moments
