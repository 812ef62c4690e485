"""Laws of azimuthal integration, and the same numbers as pyFAI."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

from beamhub_reduction.errors import BadParameter, FrameCountError
from beamhub_reduction.nexus import Geometry
from beamhub_reduction.steps import (
    AzimuthalMatrix,
    Curve,
    add_azimuthal,
    azimuthal_curve,
    azimuthal_sums,
    build_azimuthal_matrix,
    is_sentinel,
    sum_frames,
)

SHAPE = (40, 30)
GEOMETRY = Geometry(0.1, 20 * 1e-3, 15 * 1e-3, 1e-3, 1e-3, 1.0)
MASK = np.zeros(SHAPE, dtype=np.bool_)
MASK[18:21] = True
NONE_MASKED = np.zeros(SHAPE, dtype=np.bool_)
MATRIX = build_azimuthal_matrix(GEOMETRY, masked=MASK, n_bins=25, unit="q_nm^-1")


def integrate(frames: Any, weights: Any, matrix: AzimuthalMatrix = MATRIX, masked: Any = MASK) -> Curve:
    sums = sum_frames(frames, masked=masked, weights=np.asarray(weights, dtype=np.float64))
    return azimuthal_curve(matrix, sums=azimuthal_sums(matrix, sums=sums))


stacks = hnp.arrays(
    np.uint32, st.tuples(st.integers(1, 4), st.just(40), st.just(30)), elements=st.integers(0, 999)
)


@settings(max_examples=30)
@given(frames=stacks, flux=st.floats(0.1, 10))
def test_a_stronger_beam_gives_the_same_intensity(frames: Any, flux: float) -> None:
    weights = np.arange(1.0, len(frames) + 1)
    weak = integrate(frames.astype(np.float64), weights)
    strong = integrate(frames * flux, weights * flux)
    np.testing.assert_allclose(strong.intensity, weak.intensity, rtol=1e-9)


@settings(max_examples=30)
@given(frames=stacks)
def test_masked_pixels_do_not_matter(frames: Any) -> None:
    other = frames.copy()
    other[:, MASK] = 2**32 - 1
    weights = np.ones(len(frames))
    np.testing.assert_array_equal(integrate(other, weights).intensity, integrate(frames, weights).intensity)


@settings(max_examples=30)
@given(frames=stacks)
def test_counts_are_conserved_exactly_and_over_bins(frames: Any) -> None:
    sums = sum_frames(frames, masked=MASK, weights=np.ones(len(frames)))
    assert sums.counts_total == sum(int(v) for v in frames[:, ~MASK].ravel())
    assert azimuthal_sums(MATRIX, sums=sums).signal.sum() == pytest.approx(sums.counts_total, rel=1e-6)


@settings(max_examples=30)
@given(frames=stacks, cut=st.integers(0, 4))
def test_parts_add_up_to_the_whole(frames: Any, cut: int) -> None:
    weights = np.linspace(0.9, 1.1, len(frames))
    parts = [
        azimuthal_sums(MATRIX, sums=sum_frames(frames[rows], masked=MASK, weights=weights[rows]))
        for rows in (slice(0, cut), slice(cut, None))
    ]
    whole = integrate(frames, weights)
    joined = azimuthal_curve(MATRIX, sums=add_azimuthal(*parts))
    np.testing.assert_allclose(joined.intensity, whole.intensity, rtol=1e-12)
    np.testing.assert_allclose(joined.errors, whole.errors, rtol=1e-12)


def test_a_flat_illumination_gives_a_flat_curve() -> None:
    frames = np.full((1, *SHAPE), 100.0) * MATRIX.solid_angle
    curve = integrate(frames, [1.0])
    np.testing.assert_allclose(curve.intensity, 100.0, rtol=1e-6)


def test_a_blank_value_leaves_only_its_own_frame() -> None:
    frames = np.full((2, *SHAPE), 10, dtype=np.uint32)
    frames[1, 5, 5] = np.iinfo(np.uint32).max
    sums = sum_frames(frames, masked=NONE_MASKED, weights=np.array([1.0, 3.0]))
    assert (sums.counts[5, 5], sums.exposure[5, 5], sums.n_sentinels) == (10, 1.0, 1)
    assert (sums.counts[5, 6], sums.exposure[5, 6]) == (20, 4.0)


def test_blank_values_depend_on_the_type() -> None:
    assert is_sentinel(np.array([0, 65535], np.uint16)).tolist() == [False, True]
    assert is_sentinel(np.array([-2, -1, 0], np.int32)).tolist() == [True, True, False]
    assert is_sentinel(np.array([np.nan, np.inf, 1.0])).tolist() == [True, True, False]


@pytest.mark.parametrize("unit", ["q_nm^-1", "q_A^-1", "2th_deg", "2th_rad"])
def test_pyfai_gives_the_same_curve(unit: str) -> None:
    rng = np.random.default_rng(3)
    frame = rng.poisson(50, SHAPE).astype(np.uint32) + 1
    matrix = build_azimuthal_matrix(GEOMETRY, masked=MASK, n_bins=25, unit=unit)
    ours = integrate(frame[np.newaxis], [1.25], matrix)
    detector = Detector(pixel1=1e-3, pixel2=1e-3, max_shape=SHAPE)
    pyfai = AzimuthalIntegrator(0.1, 20e-3, 15e-3, detector=detector, wavelength=1e-10).integrate1d_ng(
        frame, 25, mask=MASK.astype(np.int8), unit=unit, method=("full", "csr", "cython"),
        error_model="poisson", normalization_factor=1.25,
    )  # fmt: skip
    np.testing.assert_allclose(ours.axis, pyfai.radial, rtol=1e-7)
    np.testing.assert_allclose(ours.intensity, pyfai.intensity, rtol=2e-6)
    np.testing.assert_allclose(ours.errors, pyfai.sem, rtol=2e-6)


def test_rotations_tilt_the_detector_as_in_pyfai() -> None:
    tilted = Geometry(0.1, 20e-3, 15e-3, 1e-3, 1e-3, 1.0, rot1=0.2, rot2=-0.1)
    detector = Detector(pixel1=1e-3, pixel2=1e-3, max_shape=SHAPE)
    pyfai = AzimuthalIntegrator(0.1, 20e-3, 15e-3, 0.2, -0.1, detector=detector, wavelength=1e-10)
    frame = np.random.default_rng(1).poisson(50, SHAPE).astype(np.uint32)
    matrix = build_azimuthal_matrix(tilted, masked=NONE_MASKED, n_bins=10, unit="q_nm^-1")
    expected = pyfai.integrate1d_ng(frame, 10, unit="q_nm^-1", method=("full", "csr", "cython"))
    ours = integrate(frame[np.newaxis], [1.0], matrix, NONE_MASKED)
    np.testing.assert_allclose(ours.intensity, expected.intensity, rtol=2e-6)


def test_bins_without_pixels_are_not_zero_but_unknown() -> None:
    matrix = build_azimuthal_matrix(GEOMETRY, masked=NONE_MASKED, n_bins=10, unit="q_nm^-1")
    nothing = sum_frames(np.zeros((0, *SHAPE), np.uint32), masked=NONE_MASKED, weights=np.zeros(0))
    curve = azimuthal_curve(matrix, sums=azimuthal_sums(matrix, sums=nothing))
    assert np.isnan(curve.intensity).all() and np.isnan(curve.errors).all()


def test_parameters_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadParameter) as caught:
        build_azimuthal_matrix(GEOMETRY, masked=MASK, n_bins=10, unit="q")
    assert caught.value.name == "unit"
    for n_bins in (0, 10**9):
        with pytest.raises(BadParameter, match="bins"):
            build_azimuthal_matrix(GEOMETRY, masked=MASK, n_bins=n_bins, unit="q_nm^-1")
    with pytest.raises(BadParameter, match="mask"):
        build_azimuthal_matrix(GEOMETRY, masked=np.ones(SHAPE, np.bool_), n_bins=10, unit="q_nm^-1")
    with pytest.raises(FrameCountError) as wrong:
        sum_frames(np.zeros((3, *SHAPE)), masked=MASK, weights=np.ones(2))
    assert (wrong.value.n_readings, wrong.value.n_frames) == (2, 3)
