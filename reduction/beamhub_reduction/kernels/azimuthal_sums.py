"""What a pass of the azimuthal kernel gives: sums over bins for each frame, or frames added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class CurveSums:
    """Sums over bins of each frame, float64, shape (n_frames, n_bins); what failed frames hold means nothing.

    `variance` is that of Poisson counts, share ** 2 * max(value, floor), or None when it was not asked for.
    `lost_norm` and `lost_dark` are the shares of norm and dark that blank values take away, `n_lost` (int32)
    the number of their entries; all None when there was no blank value. `counts` (n_frames,) are the sums
    over good pixels (int64, float64 for real frames), `blanks` (n_frames,) the numbers of blank values.
    `failed`: which frames do not decode, and the status that says why.
    """

    signal: FloatArray
    variance: FloatArray | None
    lost_norm: FloatArray | None
    lost_dark: FloatArray | None
    n_lost: Array | None
    counts: Array
    blanks: IntArray
    failed: Mapping[int, int]


@dataclass(frozen=True)
class ImageSum:
    """Frames added up, pixel by pixel; every call adds to it.

    `values` (n_pixels,) int64, or float64 for real frames; `n_blank` (n_pixels,) int32 counts the blank
    values and `lost_weight` (n_pixels,) float64 adds the weights of the frames that they stand in.
    """

    values: Array
    n_blank: Array
    lost_weight: FloatArray

    @classmethod
    def empty(cls, n_pixels: int, *, real: bool) -> ImageSum:
        """Nothing yet."""
        values = np.zeros(n_pixels, dtype=np.float64 if real else np.int64)
        return cls(values, np.zeros(n_pixels, dtype=np.int32), np.zeros(n_pixels))


def joined(parts: list[CurveSums], *, n_bins: int, with_variance: bool, has_dark: bool) -> CurveSums:
    """Passes one behind the other."""
    if len(parts) == 1:
        return parts[0]
    any_blank = any(part.n_lost is not None for part in parts)

    def stacked(name: str, wanted: bool) -> Any:
        if not wanted:
            return None
        arrays = [getattr(part, name) for part in parts]
        filled = [
            np.zeros(part.signal.shape) if array is None else array
            for part, array in zip(parts, arrays, strict=True)
        ]
        return np.concatenate(filled) if filled else np.zeros((0, n_bins))

    return CurveSums(
        signal=stacked("signal", True),
        variance=stacked("variance", with_variance),
        lost_norm=stacked("lost_norm", any_blank),
        lost_dark=stacked("lost_dark", any_blank and has_dark),
        n_lost=stacked("n_lost", any_blank),
        counts=np.concatenate([p.counts for p in parts]) if parts else np.zeros(0, dtype=np.int64),
        blanks=np.concatenate([p.blanks for p in parts]) if parts else np.zeros(0, dtype=np.int64),
        failed={i: status for part in parts for i, status in part.failed.items()},
    )
