"""Summing detector frames exactly, and saying which pixels count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.errors import FrameCountError
from beamhub_reduction.nexus.preview import is_sentinel

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class FrameSums:
    """Sums over frames, each of shape (ny, nx), zero where a pixel is masked.

    `counts` is exact for integer frames: int64 (float64 for floating-point frames). `exposure` is the
    sum of the frames' weights over those frames in which the pixel had a value. `counts_total` is the
    sum of all counts; for floating-point frames rounded to the nearest integer.
    """

    counts: np.ndarray[Any, Any]
    exposure: FloatArray
    counts_total: int
    n_sentinels: int


def sum_frames(frames: np.ndarray[Any, Any], *, masked: BoolArray, weights: FloatArray) -> FrameSums:
    """Sum a stack of frames.

    Parameters
    ----------
    frames:
        Counts, shape (n_frames, ny, nx), any integer or floating type.
    masked:
        Pixels not to use in any frame, shape (ny, nx), True = masked.
    weights:
        Incident flux of each frame relative to a reference, shape (n_frames,); 1 for no normalisation.

    Returns
    -------
    Sums; a pixel that holds the detector's 'no value' in one frame is left out of that frame only.

    Raises
    ------
    FrameCountError
        If there is not one weight per frame.
    """
    if weights.shape != frames.shape[:1]:
        raise FrameCountError(weights.size, len(frames))
    kind = np.int64 if frames.dtype.kind in "iub" else np.float64
    counts = np.zeros(frames.shape[1:], dtype=kind)
    exposure = np.zeros(frames.shape[1:])
    usable = ~masked
    n_sentinels = 0
    for frame, weight in zip(frames, weights, strict=True):
        blank = is_sentinel(frame) & usable
        n_blank = int(np.count_nonzero(blank))
        good = usable & ~blank if n_blank else usable
        n_sentinels += n_blank
        np.add(counts, frame.astype(kind), out=counts, where=good)
        np.add(exposure, weight, out=exposure, where=good)
    total = int(counts.sum()) if kind is np.int64 else round(float(counts.sum()))
    return FrameSums(counts, exposure, total, n_sentinels)
