"""Regions of spectra: exact sums, additivity, background, dead time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction import kernels
from beamhub_reduction.errors import BadParameter
from beamhub_reduction.kernels.xrf import SpectrumSums, shuffled_spectra_sums, spectra_sums, takes_shuffled
from beamhub_reduction.nexus.scan_errors import DeadTimeMissing
from beamhub_reduction.nexus.xrf import DeadTimeFields
from beamhub_reduction.steps.xrf import Roi, dead_time_factors, net_counts, parse_rois, with_sides

DTYPES = ("<u1", "<u2", ">u2", "<u4", ">u4", "<i4", "<u8", "<i8", "<i2")


@given(
    seed=st.integers(0, 2**32 - 1),
    n_spectra=st.integers(0, 9),
    n_channels=st.sampled_from([1, 5, 64, 1000]),
    dtype=st.sampled_from(DTYPES),
)
def test_sums_are_exact_and_the_same_on_every_path(
    seed: int, n_spectra: int, n_channels: int, dtype: str
) -> None:
    random = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    top = min(int(np.iinfo(kind).max), 2**40)
    spectra = random.integers(0, top, (n_spectra, n_channels), endpoint=True).astype(kind)
    ranges = np.sort(random.integers(0, n_channels + 1, (4, 2)), axis=1)
    exact = spectra.astype(object)
    expected = [[sum(row[low:high]) for low, high in ranges] for row in exact.tolist()]
    for path in kernels.available_paths():
        sums = SpectrumSums.empty(n_channels, kind)
        with kernels.using_path(path):
            counts = spectra_sums(spectra, ranges=ranges, sums=sums)
        assert counts.tolist() == expected
        assert sums.total.tolist() == (exact.sum(axis=0).tolist() if n_spectra else [0] * n_channels)
        if n_spectra:
            assert sums.top.tolist() == spectra.max(axis=0).tolist()
        if takes_shuffled(kind):  # HDF5's shuffle, undone in the cache: the same numbers
            planes = np.ascontiguousarray(spectra.reshape(-1, 1).view(np.uint8).T)
            again, first = SpectrumSums.empty(n_channels, kind), n_spectra // 3
            with kernels.using_path(path):
                found = [
                    shuffled_spectra_sums(planes, first=low, n_spectra=n, ranges=ranges, sums=again)
                    for low, n in ((0, first), (first, n_spectra - first))
                ]
            assert np.concatenate(found).tolist() == expected or not n_spectra
            assert (again.total.tolist(), again.top.tolist()) == (sums.total.tolist(), sums.top.tolist())


def test_planes_that_hold_too_few_spectra_are_refused() -> None:
    planes, ranges = np.zeros((4, 20), np.uint8), np.array([[0, 10]])
    sums = SpectrumSums.empty(10, np.dtype("<u4"))
    with pytest.raises(ValueError, match="are not in planes"):
        shuffled_spectra_sums(planes, first=1, n_spectra=2, ranges=ranges, sums=sums)
    with pytest.raises(ValueError, match="hold no shuffled"):
        shuffled_spectra_sums(planes[:2], first=0, n_spectra=1, ranges=ranges, sums=sums)


def test_sums_pass_the_limits_of_32_bits() -> None:
    spectra = np.full((3, 1000), 2**32 - 1, np.uint32)
    for path in kernels.available_paths():
        sums = SpectrumSums.empty(1000, spectra.dtype)
        with kernels.using_path(path):
            counts = spectra_sums(spectra, ranges=np.array([[0, 1000]]), sums=sums)
        assert counts.tolist() == [[1000 * (2**32 - 1)]] * 3
        assert (sums.total == 3 * (2**32 - 1)).all()


@given(split=st.integers(1, 63), seed=st.integers(0, 1000))
def test_regions_that_meet_add_up(split: int, seed: int) -> None:
    spectra = np.random.default_rng(seed).poisson(5, (4, 64)).astype(np.uint32)
    ranges = np.array([[0, split], [split, 64], [0, 64]])
    counts = spectra_sums(spectra, ranges=ranges, sums=SpectrumSums.empty(64, spectra.dtype))
    np.testing.assert_array_equal(counts[:, 0] + counts[:, 1], counts[:, 2])


def test_nan_counts_as_nothing_and_ranges_outside_are_refused() -> None:
    spectra = np.array([[1.0, np.nan, 2.5]], ">f4")
    sums = SpectrumSums.empty(3, spectra.dtype)
    assert spectra_sums(spectra, ranges=np.array([[0, 3]]), sums=sums).tolist() == [[3.5]]
    assert sums.total.tolist() == [1.0, 0.0, 2.5]
    for ranges in ([[0, 4]], [[-1, 2]]):
        with pytest.raises(ValueError, match="leave a spectrum"):
            spectra_sums(spectra, ranges=np.array(ranges), sums=sums)


@given(slope=st.floats(0, 5), level=st.floats(0, 100), peak=st.floats(0, 1e4), low=st.integers(0, 50))
def test_a_linear_background_is_subtracted_whole(slope: float, level: float, peak: float, low: int) -> None:
    spectrum = level + slope * np.arange(64.0)
    ranges = with_sides(np.array([[low, low + 8]]), width=5, n_channels=64)
    spectrum[low + 4] += peak
    counts = np.array([spectrum[a:b].sum() for a, b in ranges])
    net, variance = net_counts(counts, ranges=ranges)
    if 5 <= low <= 51:
        np.testing.assert_allclose(net, [peak], atol=1e-6)
    assert (variance >= counts[0] - 1e-9).all()


def test_without_sides_nothing_is_subtracted() -> None:
    net, variance = net_counts(
        np.array([7.0, 0.0, 0.0]), ranges=with_sides(np.array([[3, 5]]), width=0, n_channels=9)
    )
    assert (net.tolist(), variance.tolist()) == ([7.0], [7.0])


def fields(**values: Any) -> DeadTimeFields:
    """What an element says, by name."""
    names = ("live_time", "real_time", "input_rate", "output_rate", "fraction")
    return DeadTimeFields(*(np.array(values[n], float)[:, None] if n in values else None for n in names))


def test_dead_time_is_real_over_live_or_input_over_output() -> None:
    everything = fields(
        live_time=[0.8, 0, np.nan], real_time=[1, 1, 1], input_rate=[2e5, 1, 1], output_rate=[1e5, 1, 0]
    )
    where = {"file": "f", "path": "p", "shape": (3, 1)}
    live, _ = dead_time_factors(everything, choice="auto", **where)  # type: ignore[arg-type]  # words of one call
    rates, _ = dead_time_factors(everything, choice="rates", **where)  # type: ignore[arg-type]  # as above
    np.testing.assert_array_equal(live.ravel(), [1.25, np.nan, np.nan])
    np.testing.assert_array_equal(rates.ravel(), [2.0, 1.0, np.nan])
    fraction, way = dead_time_factors(fields(fraction=[0.5, 0, 1]), choice="auto", **where)  # type: ignore[arg-type]  # as above
    np.testing.assert_array_equal(fraction.ravel(), [2.0, 1.0, np.nan])
    assert way == "fraction"
    with pytest.raises(DeadTimeMissing) as missing:
        dead_time_factors(fields(), choice="rates", **where)  # type: ignore[arg-type]  # as above
    assert "trigger_count_rate" in missing.value.fields


def test_regions_are_read_from_words() -> None:
    assert parse_rois(("Fe=6.2:6.6", "b_1=0:1e3")) == (Roi("Fe", 6.2, 6.6), Roi("b_1", 0.0, 1000.0))
    for words in (
        ("Fe",), ("Fe=1",), ("Fe=2:1",), ("Fe=a:b",), ("1=1:2",), ("data=1:2",), ("a/b=1:2",),
        ("a=1:nan",), ("a=1:2", "a=3:4"), (),
    ):  # fmt: skip
        with pytest.raises(BadParameter, match="rois"):
            parse_rois(words)
