"""Laws of the time-of-flight step: no event is lost, and d-spacing is Bragg's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipp.constants
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.kernels.event_plan import Fate
from beamhub_reduction.kernels.events import count_events, event_range, new_counts
from beamhub_reduction.steps import bin_edges, build_pixel_table, d_spacing, histogram_curve
from beamhub_reduction.steps.time_of_flight import H_OVER_MN_ANGSTROM_M_PER_S, event_plan

NUMBERS = np.array([100, 101, 103, 104])
MASKED = np.array([False, True, False, False])
TABLE = build_pixel_table(
    NUMBERS,
    factor=d_spacing(
        np.ones(1), two_theta_rad=np.array([1.5, 1.5, 2.0, np.nan]), flight_path_m=np.full(4, 21.0)
    ),
    masked=MASKED,
)

ids = hnp.arrays(np.int32, 30, elements=st.integers(98, 106))
times = hnp.arrays(np.float64, 30, elements=st.floats(-1e-3, 0.1))


def test_the_constant_is_planck_over_neutron_mass() -> None:
    h, mass = scipp.constants.h.value, scipp.constants.m_n.value
    assert pytest.approx(h / mass * 1e10, rel=1e-9) == H_OVER_MN_ANGSTROM_M_PER_S


@given(time=st.floats(1e-4, 0.1), path=st.floats(1, 100), angle=st.floats(0.1, 3.1))
def test_wavelength_and_bragg_give_the_same_spacing(time: float, path: float, angle: float) -> None:
    wavelength = H_OVER_MN_ANGSTROM_M_PER_S * time / path
    spacing = d_spacing(np.array([time]), flight_path_m=path, two_theta_rad=angle)[0]
    assert 2 * spacing * np.sin(angle / 2) == pytest.approx(wavelength, rel=1e-12)


def test_a_detector_in_the_beam_has_no_spacing() -> None:
    assert np.isinf(d_spacing(np.ones(1), flight_path_m=1.0, two_theta_rad=0.0)).all()


def counted(event_id: Any, time_s: Any, edges: Any, *, into: Any = None) -> Any:
    """(bins, fates), added to what was counted before."""
    plan = event_plan(TABLE, edges=edges, unit=1.0)
    counts = new_counts(plan) if into is None else np.concatenate(into)
    count_events(event_id, time_s, plan=plan, counts=counts)
    return counts[: plan.n_bins], counts[plan.n_bins :]


@given(event_id=ids, time_s=times)
def test_every_event_is_counted_once(event_id: Any, time_s: Any) -> None:
    bins, fates = counted(event_id, time_s, bin_edges(0.5, 3.0, n_bins=7))
    assert fates[Fate.MASKED] == np.isin(event_id, [101, 104]).sum()
    assert fates[Fate.UNKNOWN] == (~np.isin(event_id, NUMBERS)).sum()
    assert bins.sum() + fates.sum() == event_id.size


@given(event_id=ids, time_s=times, cut=st.integers(0, 30))
def test_parts_add_up_to_the_whole(event_id: Any, time_s: Any, cut: int) -> None:
    edges = bin_edges(0.1, 9.0, n_bins=11)
    whole = counted(event_id, time_s, edges)
    joined = counted(event_id[cut:], time_s[cut:], edges, into=counted(event_id[:cut], time_s[:cut], edges))
    np.testing.assert_array_equal(np.concatenate(joined), np.concatenate(whole))


@given(event_id=ids, time_s=times)
def test_the_range_of_the_events_holds_them_all(event_id: Any, time_s: Any) -> None:
    low, high = event_range(
        event_id, time_s, plan=event_plan(TABLE, edges=np.array([0.0, 1.0]), unit=1.0), above=0.0
    )
    if low > high:
        return
    bins, _ = counted(event_id, time_s, bin_edges(low, high, n_bins=5))
    assert bins.sum() == (np.isin(event_id, [100, 103]) & (time_s > 0)).sum()


def test_times_that_are_no_numbers_are_told_from_those_outside() -> None:
    bins, fates = counted(
        np.array([100, 100, 100]), np.array([np.nan, np.inf, -1.0]), bin_edges(0.1, 9.0, n_bins=3)
    )
    assert (bins.sum(), fates[Fate.OUTSIDE], fates[Fate.NOT_FINITE]) == (0, 1, 2)


def test_intensity_is_counts_per_charge_with_poisson_uncertainty() -> None:
    curve = histogram_curve(np.array([1.0, 2.0, 4.0]), counts=np.array([4, 9]), divisor=2.0)
    assert curve.axis.tolist() == [1.5, 3.0]
    assert curve.intensity.tolist() == [2.0, 4.5]
    assert curve.errors.tolist() == [1.0, 1.5]


def test_tables_and_ranges_that_make_no_sense_are_refused() -> None:
    two = np.ones(2)
    for numbers in (np.array([5, 5]), np.array([0, 10**12])):
        with pytest.raises(BadParameter, match="detector_number"):
            build_pixel_table(numbers, factor=two, masked=two > 1)
    for low, high in ((2.0, 1.0), (np.nan, 1.0), (0.0, np.inf), (0.0, 0.0)):
        with pytest.raises(BadParameter, match="axis_range"):
            bin_edges(low, high, n_bins=3)
