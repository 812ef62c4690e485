"""Laws of azimuthal integration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from beamhub_reduction.errors import BadParameter, FrameCountError
from beamhub_reduction.nexus import Geometry
from beamhub_reduction.steps import (
    AzimuthalAccumulator,
    AzimuthalMatrix,
    AzimuthalSums,
    Binning,
    Corrections,
    add_azimuthal,
    azimuthal_curves,
    build_azimuthal_matrix,
    build_integrator,
    is_sentinel,
)
from examples import few

SHAPE = (40, 30)
GEOMETRY = Geometry(0.1, 20 * 1e-3, 15 * 1e-3, 1e-3, 1e-3, 1.0)
MASK = np.zeros(SHAPE, dtype=np.bool_)
MASK[18:21] = True
LIMITS = (0, 2.0**32 - 2)


def matrix_of(masked: Any = MASK, valid: Any = LIMITS, **corrections: Any) -> AzimuthalMatrix:
    integrator = build_integrator(GEOMETRY, shape=SHAPE)
    return build_azimuthal_matrix(
        integrator, masked=masked, binning=Binning(25), corrections=Corrections(**corrections), valid=valid
    )


MATRIX = matrix_of()
REAL = matrix_of(valid=(-np.inf, np.inf))


def sums_of(
    frames: Any, weights: Any, *, matrix: AzimuthalMatrix = MATRIX, every: int | None = 1,
    whole: tuple[int, int] | None = None, first: int = 0,
) -> AzimuthalSums:  # fmt: skip
    whole = whole or (first, first + len(frames))
    taken = AzimuthalAccumulator(matrix, every=every, whole=whole, floor=1.0)
    numbers = np.arange(first, first + len(frames))
    taken.add_frames(frames, weights=np.asarray(weights, dtype=np.float64), numbers=numbers)
    return taken.sums()


def curves(frames: Any, weights: Any, *, matrix: AzimuthalMatrix = MATRIX, every: int | None = None) -> Any:
    n_groups = 1 if every is None else -(-len(frames) // every)
    return azimuthal_curves(
        matrix, sums=sums_of(frames, weights, matrix=matrix, every=every), n_groups=n_groups
    )


stacks = hnp.arrays(
    np.uint32, st.tuples(st.integers(1, 4), st.just(40), st.just(30)), elements=st.integers(0, 999)
)
groupings = st.sampled_from([None, 1, 2, 3])


@few(20)
@given(frames=stacks, flux=st.floats(0.1, 10), every=groupings)
def test_a_stronger_beam_gives_the_same_intensity(frames: Any, flux: float, every: int | None) -> None:
    weights = np.arange(1.0, len(frames) + 1)
    weak, _ = curves(frames.astype(np.float64), weights, matrix=REAL, every=every)
    strong, _ = curves(frames * flux, weights * flux, matrix=REAL, every=every)
    np.testing.assert_allclose(strong, weak, rtol=1e-9)


@few(20)
@given(frames=stacks, every=groupings)
def test_masked_pixels_do_not_matter(frames: Any, every: int | None) -> None:
    other = frames.copy()
    other[:, MASK] = 2**32 - 1
    weights = np.ones(len(frames))
    for found, expected in zip(
        curves(other, weights, every=every), curves(frames, weights, every=every), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@few(20)
@given(frames=stacks, every=groupings)
def test_counts_are_conserved_exactly_and_over_bins(frames: Any, every: int | None) -> None:
    sums = sums_of(frames, np.ones(len(frames)), every=every)
    assert sums.counts_total == sum(int(v) for v in frames[:, ~MASK].ravel())
    signal = sum(float(part.signal.sum()) for part in sums.curves)
    assert signal == pytest.approx(sums.counts_total, rel=1e-6)


@few(20)
@given(frames=stacks, cut=st.integers(0, 4), every=groupings)
def test_parts_add_up_to_the_whole(frames: Any, cut: int, every: int | None) -> None:
    cut = min(cut, len(frames))
    frames[:, 5, 7] = 2**32 - 1  # blank in every part
    frames[0, 6, 7] = 2**32 - 1
    frames[:, 7, 7:20] = 0
    weights = np.linspace(0.9, 1.1, len(frames))
    parts = [
        sums_of(frames[rows], weights[rows], every=every, first=rows.start)
        for rows in (slice(0, cut), slice(cut, len(frames)))
    ]
    n_groups = 1 if every is None else -(-len(frames) // every)
    joined = azimuthal_curves(MATRIX, sums=add_azimuthal(*parts), n_groups=n_groups)
    for found, expected in zip(joined, curves(frames, weights, every=every), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_flat_illumination_gives_a_flat_curve() -> None:
    frames = 100.0 * REAL.pixels.norm.reshape(1, *SHAPE)
    for every in (None, 1):
        intensity, _ = curves(frames, [1.0], matrix=REAL, every=every)
        np.testing.assert_allclose(intensity, 100.0, rtol=1e-6)


def test_a_blank_value_leaves_only_its_own_frame() -> None:
    frames = np.full((2, *SHAPE), 10, dtype=np.uint32)
    weights = np.ones(2)
    expected, _ = curves(frames, weights, every=1)
    frames[1, 5, 5] = 2**32 - 1
    found, _ = curves(frames, weights, every=1)
    np.testing.assert_array_equal(found[0], expected[0])
    assert (found[1] != expected[1]).any()
    without = MASK.copy()
    without[5, 5] = True
    alone = matrix_of(without)
    np.testing.assert_allclose(found[1], curves(frames[1:], [1.0], matrix=alone, every=1)[0][0], rtol=1e-12)


def test_a_bin_of_blank_values_alone_is_unknown_and_not_zero() -> None:
    frames = np.full((2, *SHAPE), 2**32 - 1, dtype=np.uint32)
    frames[1] = 7
    for dark in (None, np.full(SHAPE, 0.25)):
        matrix = matrix_of(dark=dark)
        intensity, errors = curves(frames, np.ones(2), matrix=matrix, every=1)
        assert np.isnan(intensity[0]).all() and np.isnan(errors[0]).all()
        together, _ = curves(frames, np.ones(2), matrix=matrix)
        np.testing.assert_allclose(together[0], intensity[1], rtol=1e-12)


def test_dark_is_subtracted_below_zero_in_unsigned_counts() -> None:
    frames = np.ones((3, *SHAPE), dtype=np.uint8)
    matrix = matrix_of(dark=np.full(SHAPE, 3.0), solid_angle=False)
    for every in (None, 1, 2):
        intensity, _ = curves(frames, np.ones(3), matrix=matrix, every=every)
        np.testing.assert_allclose(intensity, -2.0, rtol=1e-12)


def test_pixels_without_a_usable_flat_are_masked() -> None:
    flat = np.ones(SHAPE)
    flat[0, :5], flat[1, 1] = 0, np.nan
    matrix = matrix_of(flat=flat)
    assert int((matrix.pixels.good == 0).sum()) == int(MASK.sum()) + 6
    frames = np.full((1, *SHAPE), 4, dtype=np.uint16)
    assert sums_of(frames, [1.0], matrix=matrix).counts_total == 4 * (frames.size - MASK.sum() - 6)


def test_blank_values_depend_on_the_type() -> None:
    assert is_sentinel(np.array([0, 65535], np.uint16)).tolist() == [False, True]
    assert is_sentinel(np.array([-2, -1, 0], np.int32)).tolist() == [True, True, False]
    assert is_sentinel(np.array([np.nan, np.inf, 1.0])).tolist() == [True, True, False]


def test_frames_that_hold_nothing_give_nothing() -> None:
    sums = sums_of(np.zeros((0, *SHAPE), np.uint32), np.zeros(0), every=None)
    intensity, errors = azimuthal_curves(MATRIX, sums=sums, n_groups=1)
    assert np.isnan(intensity).all() and errors is not None and np.isnan(errors).all()
    assert sums.counts_total == 0


def test_one_pixel_is_a_curve_of_its_own() -> None:
    shape = (1, 1)
    integrator = build_integrator(GEOMETRY, shape=shape)
    matrix = build_azimuthal_matrix(
        integrator, masked=np.zeros(shape, np.bool_), binning=Binning(1), corrections=Corrections(False)
    )
    frames = np.array([[[9]]], dtype=np.uint16)
    intensity, errors = curves(frames, [2.0], matrix=matrix)
    assert (intensity.item(), errors.item()) == pytest.approx((4.5, 1.5), rel=1e-6)


def test_parameters_that_make_no_sense_are_refused() -> None:
    wrong: dict[str, Any] = {
        "unit": "q", "split": "half", "bins": 0, "azimuth_bins": 10**6, "q_range": (2.0, 1.0),
        "azimuth_range": (0.0, np.nan),
    }  # fmt: skip
    integrator = build_integrator(GEOMETRY, shape=SHAPE)
    for name, value in wrong.items():
        with pytest.raises(BadParameter) as caught:
            build_azimuthal_matrix(
                integrator, masked=MASK, binning=Binning(**{name: value}), corrections=Corrections()
            )
        assert caught.value.name == name
    with pytest.raises(BadParameter, match="mask"):
        matrix_of(np.ones(SHAPE, np.bool_))
    with pytest.raises(BadParameter, match="polarisation"):
        matrix_of(polarisation=1.5)
    with pytest.raises(FrameCountError) as short:
        sums_of(np.zeros((3, *SHAPE)), np.ones(2))
    assert (short.value.n_readings, short.value.n_frames) == (2, 3)
