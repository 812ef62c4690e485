"""Statistics over frames: numpy's numbers, exact where integers are, whatever the order and the parts."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.errors import BadParameter, CountsTooLarge
from beamhub_reduction.steps.frame_regions import build_regions, rectangle_text
from beamhub_reduction.steps.statistics import (
    PixelStatistics,
    Sums,
    add_frames,
    clip_bounds,
    count_type,
    find_defects,
    finish_statistics,
    merge_sums,
    prepare_frames,
)
from examples import few

Array = np.ndarray[Any, np.dtype[Any]]
SHAPE = (3, 7)
TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "u8", "i8", ">u2", ">i4", "f4", "f8", ">f4")


def draw(kind: str, seed: int, n_frames: int) -> Array:
    random = np.random.default_rng(seed)
    frames = random.poisson(30, (n_frames, *SHAPE)).astype(kind)
    dtype = frames.dtype
    none = np.nan if dtype.kind == "f" else -1 if dtype.kind == "i" else np.iinfo(dtype).max
    frames[random.random(frames.shape) < 0.15] = none
    return frames


def sums_of(frames: Array, masked: Array, bounds: Any = None) -> Sums:
    kind = count_type(frames.dtype)
    sums = kind.empty_sums(masked.size)
    usable = ~masked.ravel()
    add_frames(sums, frames=prepare_frames(frames), kind=kind, usable=usable, bounds=bounds)
    return sums


def statistics_of(frames: Array, masked: Array) -> PixelStatistics:
    return finish_statistics(sums_of(frames, masked), shape=SHAPE)


def values_of(frames: Array, masked: Array) -> Array:
    """NaN where there is no value, as numpy counts."""
    values = frames.astype(np.float64)
    if frames.dtype.kind == "u":
        values[frames == np.iinfo(frames.dtype).max] = np.nan
    if frames.dtype.kind == "i":
        values[frames < 0] = np.nan
    values[~np.isfinite(values)] = np.nan
    values[:, masked] = np.nan
    return values


@given(kind=st.sampled_from(TYPES), seed=st.integers(0, 999), n_frames=st.integers(0, 9))
@few(40)
def test_the_numbers_are_those_of_numpy(kind: str, seed: int, n_frames: int) -> None:
    frames = draw(kind, seed, n_frames)
    masked = np.random.default_rng(seed).random(SHAPE) < 0.2
    found, values = statistics_of(frames, masked), values_of(frames, masked)
    n = np.isfinite(values).sum(axis=0)
    np.testing.assert_array_equal(found.n_valid, n)
    np.testing.assert_array_equal(found.sum, np.nansum(values, axis=0))
    if n_frames == 0:
        assert np.isnan([found.mean, found.minimum, found.maximum, found.variance]).all()
        return
    for name, of, least in (("mean", np.nanmean, 1), ("minimum", np.nanmin, 1), ("maximum", np.nanmax, 1)):
        result = getattr(found, name)
        assert np.isnan(result[n < least]).all()
        np.testing.assert_allclose(result[n >= least], of(values[:, n >= least], axis=0), rtol=1e-14)
    assert np.isnan(found.variance[n < 2]).all()
    expected = np.nanvar(values[:, n > 1], axis=0, ddof=1)
    np.testing.assert_allclose(found.variance[n > 1], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.mean_errors[n > 1], np.sqrt(expected / n[n > 1]), rtol=1e-12, atol=1e-9)


@given(kind=st.sampled_from(["u2", "u4", "i4"]), seed=st.integers(0, 999), data=st.data())
@few(20)
def test_the_order_of_frames_and_how_they_are_cut_change_no_bit(
    kind: str, seed: int, data: st.DataObject
) -> None:
    frames, masked = draw(kind, seed, 9), np.zeros(SHAPE, dtype=bool)
    order = data.draw(st.permutations(range(9)))
    cut = data.draw(st.integers(0, 9))
    whole = sums_of(frames, masked)
    parts = merge_sums(sums_of(frames[order][:cut], masked), sums_of(frames[order][cut:], masked))
    for name in type(whole).__slots__:
        assert getattr(parts, name).tobytes() == getattr(whole, name).tobytes()


@given(kind=st.sampled_from(["f4", "f8"]), seed=st.integers(0, 999), cut=st.integers(0, 9))
@few(20)
def test_floating_sums_hold_their_digits_when_they_are_cut(kind: str, seed: int, cut: int) -> None:
    random = np.random.default_rng(seed)
    frames = (1e7 + random.normal(0, 1, (9, *SHAPE))).astype(kind)
    masked = np.zeros(SHAPE, dtype=bool)
    parts = merge_sums(sums_of(frames[:cut], masked), sums_of(frames[cut:], masked))
    found = finish_statistics(parts, shape=SHAPE)
    exact = [[Fraction(float(v)) for v in frames[:, y, x]] for y in range(3) for x in range(7)]
    means = [sum(v) / 9 for v in exact]
    variances = [float(sum((a - m) ** 2 for a in v) / 8) for v, m in zip(exact, means, strict=True)]
    np.testing.assert_allclose(found.mean.ravel(), [float(m) for m in means], rtol=1e-15)
    np.testing.assert_allclose(found.variance.ravel(), variances, rtol=1e-10)


def test_sums_past_two_to_the_32_and_squares_past_two_to_the_64_are_exact() -> None:
    large = 2**32 - 2
    frames = np.full((40, *SHAPE), large, dtype=np.uint32)
    frames[::2] -= 1
    found = statistics_of(frames, np.zeros(SHAPE, dtype=bool))
    assert (found.sum == 40 * large - 20).all()
    values = [Fraction(large - (i % 2 == 0)) for i in range(40)]
    mean = sum(values) / 40
    assert (found.variance == float(sum((v - mean) ** 2 for v in values) / 39)).all()
    assert (found.mean == float(mean)).all()


def test_a_count_past_two_to_the_24_is_not_rounded() -> None:
    frames = np.full((3, *SHAPE), 2**24 + 1, dtype=np.uint32)
    assert (statistics_of(frames, np.zeros(SHAPE, dtype=bool)).sum == 3 * (2**24 + 1)).all()


def test_counts_of_64_bits_are_summed_or_refused_never_cut() -> None:
    frames = np.full((2, *SHAPE), 2**31 + 5, dtype=np.int64)
    frames[0, 0, 0] = -1
    found = statistics_of(frames, np.zeros(SHAPE, dtype=bool))
    assert (found.n_valid[0, 0], found.sum[0, 1]) == (1, 2**32 + 10)
    frames[1, 2, 2] = 2**40
    with pytest.raises(CountsTooLarge) as caught:
        prepare_frames(frames)
    assert caught.value.largest == 2**40
    usable = np.ones(21, dtype=bool)
    usable[2 * 7 + 2] = False
    assert prepare_frames(frames, usable=usable).dtype == np.uint32


def test_an_all_masked_detector_and_one_pixel_have_their_say() -> None:
    frames = draw("u2", 1, 4)
    found = statistics_of(frames, np.ones(SHAPE, dtype=bool))
    assert np.isnan(found.mean).all()
    assert (found.sum == 0).all()
    one = count_type(np.dtype("u2")).empty_sums(1)
    add_frames(
        one, frames=np.array([[3], [5]], np.uint16), kind=count_type(np.dtype("u2")), usable=np.array([True])
    )
    assert finish_statistics(one, shape=(1, 1)).variance[0, 0] == 2.0


@pytest.mark.parametrize("kind", ["u2", "i4", "f4"])
def test_outliers_are_rejected_and_stay_rejected(kind: str) -> None:
    random = np.random.default_rng(4)
    frames = random.poisson(100, (200, *SHAPE)).astype(kind)
    frames[7, 1, 2], frames[8, 0, 0] = 9000, 400
    masked = np.zeros(SHAPE, dtype=bool)
    found, bounds = statistics_of(frames, masked), None
    for _ in range(3):
        bounds = clip_bounds(found, n_sigma=5.0, kind=count_type(frames.dtype), before=bounds)
        found = finish_statistics(sums_of(frames, masked, bounds), shape=SHAPE)
    expected = np.zeros(SHAPE, dtype=np.int64)
    expected[1, 2] = expected[0, 0] = 1
    np.testing.assert_array_equal(found.n_rejected, expected)
    np.testing.assert_array_equal(found.n_valid + found.n_rejected, 200)
    assert found.maximum[1, 2] < 200


def test_hot_and_dead_pixels_are_found_and_good_ones_are_not() -> None:
    random = np.random.default_rng(5)
    mean = random.normal(100.0, 1.0, (70, 40))
    mean[3, 3], mean[69, 39], mean[20, 20] = 500.0, 0.0, np.nan
    found = find_defects(mean, errors=np.ones(mean.shape), n_sigma=8.0, rows=16)
    assert (found[3, 3], found[69, 39], int(np.count_nonzero(found))) == (1, 2, 2)
    np.testing.assert_array_equal(found, find_defects(mean, errors=np.ones(mean.shape), n_sigma=8.0))
    assert not find_defects(np.zeros((1, 1)), errors=np.zeros((1, 1)), n_sigma=1.0).any()


def test_regions_are_rectangles_and_labels_without_masked_pixels() -> None:
    masked = np.zeros(SHAPE, dtype=bool)
    masked[1, 2] = True
    labels = np.zeros(SHAPE, dtype=np.int32)
    labels[0, 5:], labels[2, 0] = 7, 3
    regions = build_regions(["spot=0:2,1:4", rectangle_text((0, 1, 0, 1))], labels=labels, masked=masked)
    assert regions.names == ("spot", "region_2", "label_3", "label_7")
    pixels = {
        name: sorted(
            int(p) for first, end, of in regions.spans if regions.names[of] == name for p in range(first, end)
        )
        for name in regions.names
    }
    assert pixels == {"spot": [1, 2, 3, 8, 10], "region_2": [0], "label_3": [14], "label_7": [5, 6]}
    assert regions.and_all(masked).names[0] == "all"
    for wrong in ("0:9,0:1", "2:2,0:1", "a:b", "=0:1,0:1", "0:1,0:1,0:1"):
        with pytest.raises(BadParameter, match="ends excluded"):
            build_regions([wrong], labels=None, masked=masked)
    with pytest.raises(BadParameter, match="shape"):
        build_regions([], labels=np.zeros((2, 2), dtype=int), masked=masked)
