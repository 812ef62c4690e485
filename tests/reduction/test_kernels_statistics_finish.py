"""Sums of pixels put together and finished: the same bits on every path, and those of whole numbers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.kernels.native import available_paths, using_path
from beamhub_reduction.kernels.statistics import IntegerSums, add_integer_frames, empty_integer_sums
from beamhub_reduction.kernels.statistics_finish import finish_integer_sums, merge_integer_sums

Array = np.ndarray[Any, Any]


def sums_of(frames: Array) -> IntegerSums:
    sums = empty_integer_sums(frames.dtype, frames.shape[1])
    limit = int(np.iinfo(frames.dtype).max) - 1
    add_integer_frames(sums, frames=frames, limit=limit, usable=np.ones(frames.shape[1], dtype=np.bool_))
    return sums


def bits_of(found: Any) -> list[bytes]:
    return [getattr(found, item.name).tobytes() for item in fields(found)]


def stack(kind: str, n_frames: int, n_pixels: int, seed: int) -> Array:
    """Small counts, counts over the whole type, and pixels with no value, one, or the largest ones only."""
    random, largest = np.random.default_rng(seed), int(np.iinfo(kind).max)
    frames = random.poisson(3, (n_frames, n_pixels)).astype(kind)
    frames[:, ::5] = random.integers(0, largest, frames[:, ::5].shape, endpoint=True, dtype=kind)
    frames[:, 1::7] = largest
    frames[: n_frames // 2, 1::14] = 2
    frames[:, 2::9] = largest - 1
    return frames


@given(
    kind=st.sampled_from(["u1", "u2", "u4"]), n_frames=st.integers(0, 20), n_pixels=st.integers(1, 600),
    seed=st.integers(0, 99), cut=st.integers(0, 20),
)  # fmt: skip
def test_every_path_finishes_alike_wherever_the_frames_are_cut(
    kind: str, n_frames: int, n_pixels: int, seed: int, cut: int
) -> None:
    frames = stack(kind, n_frames, n_pixels, seed)
    found = []
    for path in available_paths():
        with using_path(path):
            whole, merged = sums_of(frames), sums_of(frames[:cut])
            merge_integer_sums(merged, sums_of(frames[cut:]))
            assert bits_of(merged) == bits_of(whole)
            found.append(bits_of(finish_integer_sums(merged)))
    assert all(one == found[0] for one in found)


def test_the_variance_is_that_of_whole_numbers() -> None:
    frames = stack("u4", 9, 40, 1)
    for path in available_paths():
        with using_path(path):
            found = finish_integer_sums(sums_of(frames))
        for i, column in enumerate(frames.T):
            values = [int(v) for v in column if v != 2**32 - 1]
            n, total, square = len(values), sum(values), sum(v * v for v in values)
            assert int(found.n_valid[i]) == n
            assert np.isnan(found.mean[i]) if n == 0 else found.mean[i] == total / n
            assert np.isnan(found.variance[i]) == (n < 2)
            if n > 1:
                expected = (n * square - total**2) / (n * (n - 1))
                np.testing.assert_allclose(found.variance[i], expected, rtol=1e-15)
                np.testing.assert_allclose(found.mean_errors[i], np.sqrt(expected / n), rtol=1e-15)


def test_sums_of_another_kind_are_refused() -> None:
    few, many = sums_of(stack("u2", 3, 8, 0)), sums_of(stack("u2", 3, 9, 0))
    other = sums_of(stack("u4", 3, 8, 0))
    for path in available_paths():
        with using_path(path):
            for wrong in (many, other, replace(few, square_low=few.square_low[:4])):
                with pytest.raises((ValueError, TypeError)):
                    merge_integer_sums(few, wrong)
