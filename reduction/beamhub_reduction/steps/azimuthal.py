"""Azimuthal integration: from frames to intensity over q (or two-theta), a curve for each group of frames.

A group of one frame is integrated as it is. The frames of larger groups are added up first, exactly for
integer counts, and the matrix is applied to the sum. Numbers are pyFAI's: intensity = sum of values / sum of
normalisations, variance = sum of share ** 2 * max(counts, 1) for Poisson counts.
Source: pyFAI, doi 10.1107/S1600576715004306.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from beamhub_reduction.errors import FrameCountError
from beamhub_reduction.kernels.azimuthal import (
    CurveSums,
    ImageSum,
    StoredChunks,
    Workspace,
    add_frames,
    add_stored,
    integrate_frames,
    integrate_stored,
    kernel_frames,
)
from beamhub_reduction.steps.azimuthal_matrix import AzimuthalMatrix
from beamhub_reduction.steps.frames import FloatArray, IntArray

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Curves:
    """Sums over bins of some groups: `groups` (n,) int64, the sums (n, n_rows) float64.

    `counts` (n,) are the sums of all values of each group's frames; exact for integer counts below 2^53.
    """

    groups: IntArray
    signal: FloatArray
    normalisation: FloatArray
    variance: FloatArray | None
    counts: FloatArray


@dataclass(frozen=True, slots=True)
class SharedGroup:
    """Pixels of a group whose frames lie in several parts, one bit each, shape (ceil(n_pixels / 8),).

    `zero`: no counts so far; `blank`: no value so far, or None where there is no such pixel. They decide,
    once all parts are together, which pixels have the least variance of a count.
    """

    zero: Bytes
    blank: Bytes | None


@dataclass(frozen=True, slots=True)
class AzimuthalSums:
    """What some frames add to the result. Parts are kept apart until the end: merging costs nothing."""

    curves: tuple[Curves, ...] = ()
    shared: Mapping[int, SharedGroup] = field(default_factory=dict)
    counts_total: float = 0
    n_blanks: int = 0


class AzimuthalAccumulator:
    """Takes the frames of one part, in order, and gives their sums. Not thread-safe.

    Parameters
    ----------
    every:
        Frames of a group: frame i belongs to group i // every; None for one group of all frames.
    whole:
        First and last frame (exclusive) that this part may hold: a group inside is complete in itself.
    floor:
        The least variance of a pixel's Poisson counts, 1 as in pyFAI; None when no variance is asked for.
    """

    def __init__(
        self, matrix: AzimuthalMatrix, *, every: int | None, whole: tuple[int, int], floor: float | None
    ) -> None:
        self._matrix, self._every, self._whole = matrix, every, whole
        self._floor = floor
        self._work = Workspace()
        self._curves: list[Curves] = []
        self._shared: dict[int, SharedGroup] = {}
        self._counts_total: float = 0
        self._n_blanks = 0
        self._group: _OpenGroup | None = None

    def add_frames(self, frames: Array, *, weights: FloatArray, numbers: IntArray) -> None:
        """Take frames (n, ny, nx) with their relative flux (n,) and their places in the whole (n,).

        Raises
        ------
        FrameCountError
            If there is not one weight per frame.
        """
        if weights.shape != frames.shape[:1]:
            raise FrameCountError(weights.size, len(frames))
        frames = kernel_frames(frames)
        pixels = self._matrix.pixels
        if self._every == 1:
            sums = integrate_frames(pixels, frames, floor=self._floor, work=self._work)
            self._take(sums, weights, numbers)
            return
        for group, rows in self._groups(numbers):
            total = self._open(group, real=frames.dtype.kind == "f")
            counts, blanks = add_frames(
                pixels, frames[rows], total=total.image, weights=weights[rows], work=self._work
            )
            total.add(weights[rows], counts)
            self._count(counts, blanks)

    def add_stored(self, chunks: StoredChunks, *, weights: FloatArray, numbers: IntArray) -> dict[int, int]:
        """Take frames that are still compressed; which of them did not decode, and the kernel's status."""
        pixels = self._matrix.pixels
        if self._every == 1:
            sums = integrate_stored(pixels, chunks, floor=self._floor, work=self._work)
            self._take(sums, weights, numbers)
            return dict(sums.failed)
        failed: dict[int, int] = {}
        for group, rows in self._groups(numbers):
            total = self._open(group, real=False)
            some = chunks.part(rows)
            counts, blanks, bad = add_stored(
                pixels, some, total=total.image, weights=weights[rows], work=self._work
            )
            good = _all_but(len(some.offsets), bad)
            total.add(weights[rows][good], counts[good])
            self._count(counts[good], blanks[good])
            failed.update({rows.start + i: status for i, status in bad.items()})
        return failed

    def sums(self) -> AzimuthalSums:
        """What was taken; nothing can be added afterwards."""
        self._close()
        return AzimuthalSums(tuple(self._curves), self._shared, self._counts_total, self._n_blanks)

    def _groups(self, numbers: IntArray) -> list[tuple[int, slice]]:
        """(group, its rows) for frames in order."""
        of = np.zeros_like(numbers) if self._every is None else numbers // self._every
        cuts = np.flatnonzero(np.diff(of, prepend=-1, append=-1))
        return [(int(of[low]), slice(int(low), int(high))) for low, high in pairwise(cuts)]

    def _count(self, counts: Array, blanks: IntArray) -> None:
        # One frame after the other, so that real counts add up the same in any batch.
        for value in counts.tolist():
            self._counts_total += value
        self._n_blanks += int(blanks.sum())

    def _take(self, sums: CurveSums, weights: FloatArray, numbers: IntArray) -> None:
        """Keep the curves of single frames."""
        good = _all_but(len(numbers), sums.failed)
        if not good.size:
            return
        matrix = self._matrix
        norm = np.broadcast_to(matrix.norm, sums.signal.shape)
        signal, dark = sums.signal, matrix.dark
        if sums.lost_norm is not None and sums.n_lost is not None:
            norm = np.where(sums.n_lost == matrix.n_entries, 0.0, norm - sums.lost_norm)
        if dark is not None:
            signal = signal - (dark if sums.lost_dark is None else dark - sums.lost_dark)
        variance = None if sums.variance is None else sums.variance[good]
        normalisation = norm[good] * weights[good, np.newaxis]
        counts = np.asarray(sums.counts[good], dtype=np.float64)
        self._curves.append(Curves(numbers[good], signal[good], normalisation, variance, counts))
        self._count(sums.counts[good], sums.blanks[good])

    def _open(self, group: int, *, real: bool) -> _OpenGroup:
        """The group that frames are added to; the one before it is closed."""
        if self._group is None or self._group.number != group:
            self._close()
            self._group = _OpenGroup(group, ImageSum.empty(self._matrix.pixels.good.size, real=real))
        return self._group

    def _close(self) -> None:
        """Apply the matrix to the sum of the open group."""
        group, self._group = self._group, None
        if group is None or group.n_frames == 0:
            return
        every, matrix = self._every, self._matrix
        complete = every is not None and (
            self._whole[0] <= group.number * every and (group.number + 1) * every <= self._whole[1]
        )
        # A group in several parts gets the least variance of its counts at the end, see SharedGroup.
        floor = self._floor if complete or not self._floor else -np.inf
        gone = group.image.n_blank >= group.n_frames
        any_blank = bool(group.image.n_blank.any())
        values = np.where(gone, np.nan, group.image.values) if any_blank else group.image.values
        lanes = [np.asarray(values, dtype=np.float64)]
        if any_blank:
            lanes.append(group.image.lost_weight * matrix.pixels.norm)
            if matrix.pixels.dark is not None:
                lanes.append(group.image.n_blank * matrix.pixels.dark)
        found = integrate_frames(
            matrix.pixels.unlimited,
            lanes[0][np.newaxis] if len(lanes) == 1 else np.stack(lanes),
            floor=floor,
            work=self._work,
        )
        norm, signal = matrix.norm * group.weight, found.signal[0]
        if any_blank:
            norm = norm - found.signal[1]
        if found.n_lost is not None:
            norm = np.where(found.n_lost[0] == matrix.n_entries, 0.0, norm)
        if matrix.dark is not None:
            signal = signal - (matrix.dark * group.n_frames - (found.signal[2] if any_blank else 0.0))
        variance = None if found.variance is None else found.variance[:1]
        groups = np.array([group.number], dtype=np.int64)
        counts = np.array([group.counts], dtype=np.float64)
        self._curves.append(Curves(groups, signal[np.newaxis], norm[np.newaxis], variance, counts))
        if self._floor and not complete:
            blank = np.packbits(gone) if any_blank else None
            self._shared[group.number] = SharedGroup(np.packbits(group.image.values == 0), blank)


@dataclass
class _OpenGroup:
    """The sum of the frames of one group so far."""

    number: int
    image: ImageSum
    weight: float = 0.0
    n_frames: int = 0
    counts: float = 0.0

    def add(self, weights: FloatArray, counts: Array) -> None:
        """Count frames that were added to the image."""
        for weight, count in zip(weights.tolist(), counts.tolist(), strict=True):
            self.weight += weight
            self.counts += count
        self.n_frames += len(weights)


def _all_but(n: int, failed: Mapping[int, int]) -> IntArray:
    return np.array([i for i in range(n) if i not in failed], dtype=np.int64)


def add_azimuthal(left: AzimuthalSums, right: AzimuthalSums) -> AzimuthalSums:
    """Both parts together, in the order of their frames."""
    shared = dict(left.shared)
    for group, bits in right.shared.items():
        shared[group] = _both(shared[group], bits) if group in shared else bits
    return AzimuthalSums(
        (*left.curves, *right.curves),
        shared,
        left.counts_total + right.counts_total,
        left.n_blanks + right.n_blanks,
    )


def _both(left: SharedGroup, right: SharedGroup) -> SharedGroup:
    blank = None if left.blank is None or right.blank is None else left.blank & right.blank
    return SharedGroup(left.zero & right.zero, blank)


def azimuthal_curves(
    matrix: AzimuthalMatrix, *, sums: AzimuthalSums, n_groups: int
) -> tuple[FloatArray, FloatArray | None]:
    """(intensity, its standard uncertainty), shape (n_groups, n_bins); a map has azimuths before bins.

    Counts per pixel at normal incidence and per frame of reference flux: the ratio of sums, not the mean of
    ratios, so frames with more flux weigh more. The uncertainty is that of the mean (pyFAI's `sem`):
    sqrt(variance) / normalisation. NaN where nothing was measured. No uncertainties without variances.
    """
    n_rows = matrix.n_rows
    signal, normalisation, variance = (np.zeros((n_groups, n_rows)) for _ in range(3))
    has_variance = all(part.variance is not None for part in sums.curves)
    for part in sums.curves:
        # No group stands twice in one part, so the order of additions is that of the parts.
        signal[part.groups] += part.signal
        normalisation[part.groups] += part.normalisation
        if part.variance is not None:
            variance[part.groups] += part.variance
    for group, bits in sums.shared.items():
        variance[group] += _variance_of_nothing(matrix, bits)
    filled = normalisation > 0
    intensity: FloatArray = np.full(signal.shape, np.nan)
    errors: FloatArray = np.full(signal.shape, np.nan)
    np.divide(signal, normalisation, out=intensity, where=filled)
    np.divide(np.sqrt(np.maximum(variance, 0)), normalisation, out=errors, where=filled)
    if matrix.azimuths is not None:
        shape = (n_groups, matrix.centres.size, matrix.azimuths.size)
        intensity = intensity.reshape(shape).transpose(0, 2, 1).copy()
        errors = errors.reshape(shape).transpose(0, 2, 1).copy()
    return intensity, errors if has_variance else None


def _variance_of_nothing(matrix: AzimuthalMatrix, bits: SharedGroup) -> FloatArray:
    """What pixels without any count add to the variance, shape (n_rows,): each counts as one."""
    n = matrix.pixels.good.size
    at = np.unpackbits(bits.zero, count=n).astype(np.bool_)
    if bits.blank is not None:
        at &= ~np.unpackbits(bits.blank, count=n).astype(np.bool_)
    lane = np.where(at, 0.0, np.nan).reshape(1, n)
    variance = integrate_frames(matrix.pixels.unlimited, lane, floor=1.0).variance
    return np.zeros(matrix.n_rows) if variance is None else np.asarray(variance[0])
