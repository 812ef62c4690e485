"""The passes of the azimuthal kernel in SciPy and NumPy: slower, with the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from beamhub_reduction.kernels.azimuthal_sums import Array, CurveSums, FloatArray, ImageSum, IntArray
from beamhub_reduction.kernels.azimuthal_tiles import Pixels


def _valid(pixels: Pixels, frames: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which values of frames (n, n_pixels) are neither masked nor blank."""
    good = pixels.good.astype(np.bool_)
    inside = (frames >= pixels.low) & (frames <= pixels.high)
    if frames.dtype.kind == "f":
        inside &= np.isfinite(frames)
    return np.asarray(inside & good)


def integrate_with_scipy(pixels: Pixels, frames: Array, floor: float | None) -> CurveSums:
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
        total: Array = lanes.astype(np.int64).sum(axis=0)
        return total
    last: Array = np.add.accumulate(lanes, axis=0)[-1] if len(lanes) else np.zeros(lanes.shape[1])
    return last


def add_with_numpy(
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
