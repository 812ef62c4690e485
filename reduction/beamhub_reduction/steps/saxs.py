"""Solution scattering: curves of frames compared with the first ones, averaged, the background taken away.

Radiation damage and beam losses show as frames whose curve differs from the first frames' by more than
counting statistics allow. Source: Franke, Jeffries & Svergun, doi 10.1038/nmeth.3358.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import gammaincc

from beamhub_reduction.errors import BadParameter, FrameCountError
from beamhub_reduction.nexus.preview import is_sentinel
from beamhub_reduction.steps.azimuthal import AzimuthalMatrix
from beamhub_reduction.steps.curve import Curve
from beamhub_reduction.steps.frames import BoolArray, FloatArray

Test = Literal["chi_square", "cormap", "none"]


@dataclass(frozen=True, slots=True)
class FrameCurves:
    """Sums over the bins of each frame, float64 (n_frames, n_bins), and (n_frames,) exact counts."""

    signal: FloatArray
    normalisation: FloatArray
    variance: FloatArray
    totals: Any
    n_blank: int

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


def frame_curves(
    matrix: AzimuthalMatrix,
    *,
    frames: np.ndarray[Any, Any],
    masked: BoolArray,
    weights: FloatArray,
    blank: BoolArray | None = None,
) -> FrameCurves:
    """Sums over the bins for each frame by itself; Poisson variance.

    Parameters
    ----------
    frames:
        Counts, shape (n_frames, ny, nx).
    weights:
        Incident flux times transmission of each frame relative to a reference, shape (n_frames,).
    blank:
        Single values that do not count besides the detector's 'no value', shape of the frames.
    """
    if weights.shape != frames.shape[:1]:
        raise FrameCountError(weights.size, len(frames))
    shape = (len(frames), matrix.centres.size)
    signal, norm, variance = (np.zeros(shape) for _ in range(3))
    whole = matrix.apply(np.where(masked, 0.0, matrix.solid_angle))
    kind = np.int64 if frames.dtype.kind in "iub" else np.float64
    totals = np.zeros(len(frames), dtype=kind)
    n_blank = 0
    for i, frame in enumerate(frames):
        none = is_sentinel(frame) if blank is None else is_sentinel(frame) | blank[i]
        none &= ~masked
        n_none = int(np.count_nonzero(none))
        counts = np.where(masked | none, 0, frame).astype(kind)
        lit = whole if not n_none else matrix.apply(np.where(masked | none, 0.0, matrix.solid_angle))
        signal[i], variance[i] = matrix.apply(counts), matrix.apply(counts, power=2)
        norm[i] = lit * weights[i]
        totals[i] = counts.sum()
        n_blank += n_none
    return FrameCurves(signal, norm, variance, totals, n_blank)


def add_curves(left: FrameCurves, right: FrameCurves) -> FrameCurves:
    """The frames of both, in order."""
    return FrameCurves(
        np.concatenate([left.signal, right.signal]),
        np.concatenate([left.normalisation, right.normalisation]),
        np.concatenate([left.variance, right.variance]),
        np.concatenate([left.totals, right.totals]),
        left.n_blank + right.n_blank,
    )


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
