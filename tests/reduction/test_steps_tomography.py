"""Which flats count for which projection, and what dark and flat become."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.steps.tomography import build_planes, group_flats, median_flat, weigh_flats


@given(keys=st.lists(st.sampled_from([0, 1, 2, 3]), max_size=40))
def test_groups_of_flats_hold_every_flat_once_and_no_projection_lies_inside(keys: list[int]) -> None:
    kinds = np.array(keys, np.int8)
    groups = group_flats(kinds == 1, is_projection=kinds == 0)
    together = np.concatenate([*groups, np.zeros(0, np.int64)])
    np.testing.assert_array_equal(together, np.flatnonzero(kinds == 1))
    for group in groups:
        assert not (kinds[group[0] : group[-1]] == 0).any()
    for left, right in itertools.pairwise(groups):
        assert (kinds[left[-1] : right[0]] == 0).any()


@given(
    positions=st.lists(st.floats(0, 100), min_size=1, max_size=5, unique=True),
    frames=st.lists(st.integers(0, 100), min_size=1, max_size=20),
)
def test_interpolation_between_groups_is_numpys(positions: list[float], frames: list[int]) -> None:
    at, numbers = np.array(sorted(positions)), np.array(sorted(frames))
    values = np.cos(np.arange(at.size)) + 2
    weights = weigh_flats(numbers, positions=at, order="interpolate")
    after = np.where(weights.after < 0, weights.before, weights.after)
    found = (1 - weights.behind) * values[weights.before] + weights.behind * values[after]
    np.testing.assert_allclose(found, np.interp(numbers, at, values), rtol=1e-6, atol=1e-6)


def test_the_nearest_group_counts_alone_and_of_two_as_near_the_earlier_one() -> None:
    weights = weigh_flats(np.array([0, 4, 5, 6, 20]), positions=np.array([0.0, 10.0]), order="nearest")
    assert weights.before.tolist() == [0, 0, 0, 1, 1]
    assert (weights.after == -1).all()
    assert not weights.behind.any()


def test_pixels_that_nothing_can_be_divided_by_are_left_out_of_their_bins() -> None:
    flat = np.full((4, 6), 10.0)
    flat[0, 0], flat[1, 1], flat[0:2, 4:6] = 0.0, np.nan, -3.0
    masked = np.zeros((4, 6), bool)
    masked[3, 3] = True
    planes = build_planes(np.full((4, 6), 2.0), flats=(flat,), masked=masked, bin=2)
    assert planes.n_masked == 7
    np.testing.assert_array_equal(planes.flats[0], [[20, 40, np.nan], [40, 30, 40]])
    np.testing.assert_array_equal(planes.dark, [[4, 8, np.nan], [8, 6, 8]])


def test_without_bad_pixels_there_is_no_mask_and_rests_of_bins_are_cut() -> None:
    planes = build_planes(np.ones((5, 7)), flats=(np.ones((5, 7)),), masked=np.zeros((5, 7), bool), bin=2)
    assert planes.good is None
    assert planes.dark.shape == (2, 3)


def test_a_median_forgets_a_spike_that_a_mean_would_keep() -> None:
    frames = np.full((5, 2, 2), 100.0)
    frames[2, 0, 0] = 60_000
    flat = median_flat(frames * np.arange(1, 6)[:, None, None], dark=np.zeros((2, 2)), flux=np.arange(1.0, 6))
    np.testing.assert_array_equal(flat, np.full((2, 2), 100.0))
