"""Comparing, averaging and subtracting curves; placing frames on a grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.nexus import Geometry
from beamhub_reduction.steps.azimuthal import AzimuthalAccumulator, AzimuthalSums, add_azimuthal
from beamhub_reduction.steps.azimuthal_matrix import (
    Binning,
    Corrections,
    build_azimuthal_matrix,
    build_integrator,
)
from beamhub_reduction.steps.curve import Curve
from beamhub_reduction.steps.fly_scan import centre_of_mass, grid_places, line_positions, scan_map
from beamhub_reduction.steps.saxs import (
    FrameCurves,
    chi_square_probability,
    compare_frames,
    cormap_probability,
    keep_frames,
    longest_run,
    run_probability,
    subtract_background,
)

N_BINS = 200


def curves(random: np.random.Generator, n_frames: int) -> FrameCurves:
    """Frames of the same curve with Poisson noise."""
    counts = random.poisson(1000.0, (n_frames, N_BINS)).astype(float)
    return FrameCurves(counts, np.ones_like(counts), counts.copy(), counts.sum(axis=1), np.arange(n_frames))


@given(n=st.integers(1, 12), length=st.integers(0, 13))
def test_the_probability_of_a_run_is_that_of_all_tosses_counted(n: int, length: int) -> None:
    hits = 0
    for tosses in itertools.product((0, 1), repeat=n):
        hits += max(len(list(group)) for _, group in itertools.groupby(tosses)) >= length
    assert run_probability(n, length) == pytest.approx(hits / 2**n, abs=1e-15)


def test_the_probability_of_a_long_run_keeps_its_digits() -> None:
    assert run_probability(1000, 60) == pytest.approx(2 * 0.5**60 * (1 + 940 / 2), rel=1e-12)
    assert run_probability(100_000, 5) == pytest.approx(1.0)
    assert longest_run(np.array([1.0, 2.0, 0.0, -1.0, -2.0, -3.0, 4.0])) == 3
    assert longest_run(np.zeros(4)) == 0
    assert cormap_probability(np.zeros(0)) == 1.0


def test_chi_square_is_scipys() -> None:
    random = np.random.default_rng(1)
    difference, variance = random.normal(0, 2, 50), np.full(50, 4.0)
    expected = stats.chi2.sf((difference**2 / 4).sum(), 50)
    assert chi_square_probability(difference, variance=variance) == pytest.approx(expected, rel=1e-10)
    assert chi_square_probability(np.zeros(0), variance=np.zeros(0)) == 1.0


@pytest.mark.parametrize("test", ["chi_square", "cormap"])
def test_good_frames_are_kept_and_damaged_ones_are_not(test: str) -> None:
    random = np.random.default_rng(2)
    series = curves(random, 40)
    damage = 1.0 + 0.25 * np.exp(-np.arange(N_BINS) / 60)
    series.signal[30:] *= damage
    probability = compare_frames(series, test=test, n_reference=4)  # type: ignore[arg-type]  # both are tests
    keep = keep_frames(probability, significance=0.01, stop_at_first=False)
    assert keep[:30].all()
    assert not keep[30:].any()
    series.signal[20] *= 2
    early = compare_frames(series, test=test, n_reference=4)  # type: ignore[arg-type]  # both are tests
    stopped = keep_frames(early, significance=0.01, stop_at_first=True)
    np.testing.assert_array_equal(stopped, np.arange(40) < 20)
    with pytest.raises(BadParameter, match="n_reference"):
        compare_frames(series, test="cormap", n_reference=41)


def test_without_a_test_every_frame_is_used() -> None:
    probability = compare_frames(curves(np.random.default_rng(0), 3), test="none", n_reference=1)
    assert keep_frames(probability, significance=0.01, stop_at_first=True).all()


def test_uncertainties_add_in_squares() -> None:
    axis = np.arange(3.0)
    sample = Curve(axis, np.array([5.0, 6.0, np.nan]), np.array([3.0, 1.0, np.nan]))
    empty = Curve(axis, np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.0, 1.0]))
    found = subtract_background(sample, background=empty, scale=2.0, factor=10.0)
    np.testing.assert_allclose(found.intensity, [30.0, 20.0, np.nan])
    np.testing.assert_allclose(found.errors, [50.0, 10.0, np.nan])
    alone = subtract_background(sample, background=None, scale=2.0, factor=10.0)
    np.testing.assert_allclose(alone.errors, [30.0, 10.0, np.nan])
    with pytest.raises(ValueError, match="axes"):
        subtract_background(sample, background=Curve(axis + 1, *[axis] * 2), scale=1.0, factor=1.0)


def test_frames_one_by_one_and_together_have_the_same_curves() -> None:
    random = np.random.default_rng(3)
    geometry = Geometry(0.5, 0.8e-3, 0.8e-3, 1e-4, 1e-4, 1.0)
    masked = random.random((16, 16)) < 0.1
    integrator = build_integrator(geometry, shape=(16, 16))
    matrix = build_azimuthal_matrix(integrator, masked=masked, binning=Binning(20), corrections=Corrections())
    frames = random.poisson(50, (5, 16, 16)).astype(np.uint16)
    weights = np.array([1.0, 2.0, 0.5, 1.0, 1.0])

    def taken(*cuts: slice) -> FrameCurves:
        sums = AzimuthalSums()
        for cut in cuts:
            part = AzimuthalAccumulator(matrix, every=1, whole=(0, 5), floor=0.0)
            part.add_frames(frames[cut], weights=weights[cut], numbers=np.arange(5)[cut])
            sums = add_azimuthal(sums, part.sums())
        return FrameCurves.of(sums, matrix.n_rows)

    whole, parts = taken(slice(0, 5)), taken(slice(0, 2), slice(2, 5))
    for name in ("signal", "normalisation", "variance", "totals", "numbers"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    np.testing.assert_array_equal(whole.totals, np.where(masked, 0, frames).sum(axis=(1, 2)))
    assert FrameCurves.of(AzimuthalSums(), matrix.n_rows).signal.shape == (0, 20)


@given(lines=st.integers(1, 6), points=st.integers(1, 6), n_missing=st.integers(0, 5), snake=st.booleans())
def test_every_frame_has_its_own_place_and_the_rest_of_the_last_line_is_nan(
    lines: int, points: int, n_missing: int, snake: bool
) -> None:
    numbers = np.arange(max(lines * points - n_missing, 0))
    places = grid_places(numbers, shape=(lines, points), snake=snake)
    assert len(set(places.tolist())) == numbers.size
    drawn = scan_map(numbers, places=places, shape=(lines, points))
    assert int(np.isnan(drawn).sum()) == lines * points - numbers.size
    for i, line in enumerate(drawn):
        forward = line[::-1] if snake and i % 2 else line
        there = forward[np.isfinite(forward)]
        np.testing.assert_array_equal(there, i * points + np.arange(there.size))


def test_a_grid_that_is_too_small_or_none_is_refused() -> None:
    for shape in ((2, 2), (0, 9), (2**20, 2**20)):
        with pytest.raises(BadParameter, match="scan_shape"):
            grid_places(np.arange(5), shape=shape, snake=False)


def test_positions_of_lines_are_medians_and_centres_are_moments_over_totals() -> None:
    places = grid_places(np.arange(8), shape=(3, 3), snake=True)
    slow = np.array([0.0, 0.0, 0.1, 1.0, 1.0, 1.0, 2.0, 2.0])
    np.testing.assert_array_equal(line_positions(slow, places=places, shape=(3, 3), axis=0), [0, 1, 2])
    fast = np.array([0.0, 1.0, 2.0, 2.0, 1.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(line_positions(fast, places=places, shape=(3, 3), axis=1), [0, 1, 2])
    centre = centre_of_mass(np.array([2, 0]), moments=np.array([[4.0, 6.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(centre, [[2.0, 3.0], [np.nan, np.nan]])
