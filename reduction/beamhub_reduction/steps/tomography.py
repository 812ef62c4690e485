"""Flats, darks and what lies between them: how a projection becomes a transmission."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from beamhub_reduction.kernels.tomography import References, bin_counts
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray

Float32Array = np.ndarray[Any, np.dtype[np.float32]]
FlatOrder = Literal["interpolate", "nearest", "all"]


@dataclass(frozen=True, slots=True)
class ReferencePlanes:
    """Dark and flats of a scan at the binned size, as the kernel takes them.

    `dark` (ny, nx) and each of `flats` (binned flat minus dark, one for each group) are float32, NaN where
    no raw pixel of a bin is good. `good` (raw_ny, raw_nx) is None when all pixels are.
    """

    dark: Float32Array
    flats: tuple[Float32Array, ...]
    good: np.ndarray[Any, np.dtype[np.uint8]] | None
    bin: int
    n_masked: int

    def between(self, before: int, after: int) -> References:
        """The references of frames between two groups; after < 0 when one group counts alone."""
        behind = None if after < 0 else self.flats[after]
        return References(self.dark, self.flats[before], behind, self.good, self.bin)


@dataclass(frozen=True, slots=True)
class FlatWeights:
    """Which groups of flats count for each projection, shape (n_projections,) each.

    A projection's flat is (1 - behind) * before + behind * after; `after` is -1 where `before` counts alone.
    """

    before: IntArray
    after: IntArray
    behind: Float32Array


def group_flats(is_flat: BoolArray, *, is_projection: BoolArray) -> list[IntArray]:
    """Frame numbers of each group of flats: flats without a projection between them belong together.

    Parameters
    ----------
    is_flat, is_projection:
        Shape (n_frames,).
    """
    numbers = np.flatnonzero(is_flat)
    if not numbers.size:
        return []
    n_before = np.cumsum(is_projection)[numbers]  # projections before each flat: equal inside a group
    return np.split(numbers, np.flatnonzero(np.diff(n_before)) + 1)


def weigh_flats(projections: IntArray, *, positions: FloatArray, order: FlatOrder) -> FlatWeights:
    """Which flats count for which projection, by where they stand in the scan.

    Parameters
    ----------
    projections:
        Frame numbers, shape (n_projections,).
    positions:
        Mean frame number of each group of flats, ascending, shape (n_groups,), at least one.
    order:
        'interpolate' linearly between the group before and the group behind, 'nearest' (the earlier one of
        two at the same distance); before the first and behind the last group that group counts alone.
        'all' expects one group.
    """
    n_groups = positions.size
    right = np.searchsorted(positions, projections, side="right").astype(np.int64)
    before, after = np.clip(right - 1, 0, n_groups - 1), np.clip(right, 0, n_groups - 1)
    gap = positions[after] - positions[before]
    behind = np.divide(projections - positions[before], gap, out=np.zeros(projections.size), where=gap > 0)
    if order == "nearest":
        before = np.where(behind > 0.5, after, before)
        behind = np.zeros(projections.size)
    alone = (behind == 0) | (after == before)
    return FlatWeights(
        before.astype(np.int64),
        np.where(alone, -1, after).astype(np.int64),
        np.where(alone, 0.0, behind).astype(np.float32),
    )


def build_planes(
    dark: FloatArray, *, flats: tuple[FloatArray, ...], masked: BoolArray, bin: int
) -> ReferencePlanes:
    """Bin dark and flats over the pixels that can be used.

    A pixel is left out where it is masked, where dark or a flat is not finite, and where any group's flat
    is not above the dark: nothing can be divided by it. Rows and columns beyond whole bins are left out.

    Parameters
    ----------
    dark:
        Mean counts without beam, shape (raw_ny, raw_nx), float64.
    flats:
        Flat minus dark of each group, same shape.
    masked:
        True = never used, same shape.
    """
    good = ~masked & np.isfinite(dark)
    for flat in flats:
        good &= np.isfinite(flat) & (flat > 0)
    mask = None if good.all() else good.astype(np.uint8)
    n_good = bin_counts(good, good=None, bin=bin)
    empty = n_good == 0
    planes = [bin_counts(plane, good=mask, bin=bin) for plane in (dark, *flats)]
    for plane in planes:
        plane[empty] = np.nan
    return ReferencePlanes(planes[0], tuple(planes[1:]), mask, bin, int(np.count_nonzero(~good)))


def flat_minus_dark(total: FloatArray, *, dark: FloatArray, n_frames: int, flux: float) -> FloatArray:
    """The mean flat of unit flux, less the dark: (sum of frames - n dark) / sum of their relative flux."""
    flat: FloatArray = (total - n_frames * dark) / flux
    return flat


def median_flat(frames: FloatArray, *, dark: FloatArray, flux: FloatArray) -> FloatArray:
    """The median over frames of (frame - dark) / flux, shape (ny, nx).

    Parameters
    ----------
    frames:
        Shape (n_frames, ny, nx).
    flux:
        Relative flux of each frame, shape (n_frames,).
    """
    corrected = frames - dark
    corrected /= flux[:, np.newaxis, np.newaxis]
    median: FloatArray = np.median(corrected, axis=0, overwrite_input=True)
    return median
