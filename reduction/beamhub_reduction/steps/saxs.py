"""Solution scattering: curves of frames compared with the first ones, averaged, the background taken away.

Radiation damage and beam losses show as frames whose curve differs from the first frames' by more than
counting statistics allow. Source: Franke, Jeffries & Svergun, doi 10.1038/nmeth.3358.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import gammaincc

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.steps.azimuthal import AzimuthalSums
from beamhub_reduction.steps.curve import Curve
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray

Test = Literal["chi_square", "cormap", "none"]


@dataclass(frozen=True, slots=True)
class FrameCurves:
    """Sums over the bins of each frame, (n_frames, n_bins), and the sum of its counts, (n_frames,); float64.

    `numbers` (n_frames,) are the frames' places in the whole, ascending.
    """

    signal: FloatArray
    normalisation: FloatArray
    variance: FloatArray
    totals: FloatArray
    numbers: IntArray

    @classmethod
    def of(cls, sums: AzimuthalSums, n_bins: int) -> FrameCurves:
        """The curves of sums in which every frame is a group of its own, with variances."""
        parts = sums.curves
        none = np.zeros((0, n_bins))
        numbers = np.concatenate([np.zeros(0, dtype=np.int64), *(part.groups for part in parts)])
        order = np.argsort(numbers, kind="stable")
        return cls(
            np.concatenate([none, *(part.signal for part in parts)])[order],
            np.concatenate([none, *(part.normalisation for part in parts)])[order],
            np.concatenate([none, *(p.variance for p in parts if p.variance is not None)])[order],
            np.concatenate([np.zeros(0), *(part.counts for part in parts)])[order],
            numbers[order],
        )

    def mean(self, use: BoolArray, centres: FloatArray) -> Curve:
        """The frames of `use` together: the ratio of sums, with the uncertainty of counting; NaN for none."""
        signal, norm, variance = (
            a[use].sum(axis=0) for a in (self.signal, self.normalisation, self.variance)
        )
        intensity, errors = np.full(centres.shape, np.nan), np.full(centres.shape, np.nan)
        filled = norm > 0
        np.divide(signal, norm, out=intensity, where=filled)
        np.divide(np.sqrt(np.maximum(variance, 0)), norm, out=errors, where=filled)
        return Curve(centres, intensity, errors)


def compare_frames(curves: FrameCurves, *, test: Test, n_reference: int) -> FloatArray:
    """The probability of each frame's difference from the mean of the first frames by chance, (n_frames,).

    The first `n_reference` frames are the reference and have probability 1. 'chi_square' compares the
    sum of squared differences over their variances with its distribution; 'cormap' compares the longest run
    of differences of one sign with that of coin tosses, and needs no uncertainties.
    Source: doi 10.1038/nmeth.3358.
    """
    n_frames = len(curves.signal)
    if not 1 <= n_reference <= max(n_frames, 1):
        raise BadParameter("n_reference", n_reference, f"from 1 to the {n_frames} frames that there are")
    probability = np.ones(n_frames)
    if test == "none" or n_frames == 0:
        return probability
    first = np.arange(n_frames) < n_reference
    axis = np.arange(float(curves.signal.shape[1]))
    reference = curves.mean(first, axis)
    for i in range(n_reference, n_frames):
        own = curves.mean(np.arange(n_frames) == i, axis)
        difference = own.intensity - reference.intensity
        variance = own.errors**2 + reference.errors**2
        known = np.isfinite(difference) & (variance > 0)
        if test == "chi_square":
            probability[i] = chi_square_probability(difference[known], variance=variance[known])
        else:
            probability[i] = cormap_probability(difference[np.isfinite(difference)])
    return probability


def chi_square_probability(difference: FloatArray, *, variance: FloatArray) -> float:
    """Probability that normal noise alone gives such differences or larger ones; 1 for none at all."""
    if difference.size == 0:
        return 1.0
    return float(gammaincc(difference.size / 2, float((difference**2 / variance).sum()) / 2))


def cormap_probability(difference: FloatArray) -> float:
    """Probability that as many coin tosses have a run of one side as long as the longest run of one sign.

    A difference of 0 belongs to neither sign and ends a run.
    Source: doi 10.1038/nmeth.3358; runs: Schilling, doi 10.1080/07468342.1990.11973306.
    """
    return run_probability(difference.size, longest_run(difference))


def longest_run(difference: FloatArray) -> int:
    """Length of the longest run of one sign."""
    sign = np.sign(difference)
    if not sign.any():
        return 0
    starts = np.concatenate([[0], np.flatnonzero(np.diff(sign)) + 1, [sign.size]])
    lengths, of = np.diff(starts), sign[starts[:-1]]
    return int(lengths[of != 0].max())


def run_probability(n: int, length: int) -> float:
    """Probability that n coin tosses have a run of `length` equal sides or more.

    n tosses have such a run exactly when the n - 1 comparisons of neighbours have length - 1 'equal' in
    a row; the chance of a first such run ending at a place gives the recursion.
    """
    run = length - 1
    if length <= 1:
        return 1.0 if n >= length else 0.0
    if length > n:
        return 0.0
    found = np.zeros(n)  # found[m]: among the first m comparisons there is such a run
    found[run] = 0.5**run
    step = 0.5 ** (run + 1)
    for m in range(run + 1, n):
        found[m] = found[m - 1] + step * (1.0 - found[m - run - 1])
    return float(min(found[n - 1], 1.0))


def keep_frames(probability: FloatArray, *, significance: float, stop_at_first: bool) -> BoolArray:
    """Which frames are used, (n_frames,): those whose probability is not below significance / n_frames.

    The division keeps the chance of any false rejection below `significance` (Bonferroni's). With
    `stop_at_first` all frames behind the first rejected one are rejected too: radiation damage does not heal.
    """
    keep: BoolArray = probability >= significance / max(probability.size, 1)
    if stop_at_first and not keep.all():
        keep = np.arange(keep.size) < int(np.argmin(keep))
    return keep


def subtract_background(sample: Curve, *, background: Curve | None, scale: float, factor: float) -> Curve:
    """factor * (sample - scale * background), uncertainties added in squares; NaN where one has none.

    Raises
    ------
    ValueError
        If the axes differ.
    """
    if background is None:
        return Curve(sample.axis, factor * sample.intensity, abs(factor) * sample.errors)
    if not np.array_equal(sample.axis, background.axis):
        raise ValueError("sample and background have different axes")
    intensity = factor * (sample.intensity - scale * background.intensity)
    errors = abs(factor) * np.hypot(sample.errors, scale * background.errors)
    return Curve(sample.axis, intensity, errors)
