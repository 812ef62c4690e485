"""Correction of projections: all paths give the same bits, the logarithm is within 1 ulp, sums are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from beamhub_reduction import kernels
from beamhub_reduction.kernels.tomography import (
    BlockTarget,
    FrameFactors,
    ProjectionSums,
    References,
    as_kernel_frames,
    bin_counts,
    correct_frames,
    minus_log,
)

DTYPES = ("<u1", "<u2", ">u2", "<i2", "<u4", "<i4", "<f4", "<f8", "<u8")


def test_minus_log_is_within_one_ulp_and_the_same_on_every_path() -> None:
    random = np.random.default_rng(1)
    values = np.concatenate([np.exp(random.uniform(-60, 60, 50_000)), random.uniform(0.5, 2, 50_000), [1.0]])
    values = values.astype(np.float32)
    exact = -np.log(values.astype(np.float64))
    found = {}
    for path in kernels.available_paths():
        with kernels.using_path(path):
            result = minus_log(values)
        found[path] = result.tobytes()
        assert (np.abs(result - exact) <= np.spacing(np.abs(exact).astype(np.float32))).all()
    assert len(set(found.values())) == 1
    assert result[-1] == 0


@st.composite
def scans(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], References, FrameFactors, float | None]:
    """Some frames of any type and size, with what they are divided by."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([1, 2, 3, 5]))
    n, ny, nx = draw(st.integers(0, 3)), draw(st.integers(1, 5)), draw(st.sampled_from([1, 7, 33, 400]))
    raw = (ny * size + draw(st.integers(0, size - 1)), nx * size + draw(st.integers(0, size - 1)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    frames = random.integers(0, 256 if dtype.itemsize == 1 else 32_000, (n, *raw)).astype(dtype)
    if dtype.kind == "f" and frames.size:
        frames.flat[:: max(1, frames.size // 3)] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 1.0]))
    elif frames.size:
        frames.flat[0] = np.iinfo(dtype).max
    good = None if draw(st.booleans()) else (random.random(raw) > 0.2).astype(np.uint8)
    dark, before, after = (random.uniform(1, 9000, (ny, nx)).astype(np.float32) for _ in range(3))
    dark[0, 0] = draw(st.sampled_from([np.nan, 5.0]))
    references = References(dark, before, after if draw(st.booleans()) else None, good, size)
    factors = FrameFactors(random.random(n).astype(np.float32), random.uniform(0.5, 2, n).astype(np.float32))
    return frames, references, factors, draw(st.sampled_from([None, 1e-6, 0.5]))


@given(scan=scans(), rows=st.integers(1, 4), spare=st.integers(0, 2))
def test_every_path_gives_the_same_bits(
    scan: tuple[np.ndarray[Any, Any], References, FrameFactors, float | None], rows: int, spare: int
) -> None:
    raw, references, factors, least = scan
    frames = as_kernel_frames(raw)
    ny, nx = references.dark.shape
    found = {}
    for path in kernels.available_paths():
        out = np.full((-(-ny // rows), len(frames) + spare, rows, nx), 7, np.float32)
        sums = ProjectionSums.empty((ny, nx))
        with kernels.using_path(path):
            correct_frames(
                frames, references=references, factors=factors, least=least,
                target=BlockTarget(out, spare), sums=sums,
            )  # fmt: skip
        found[path] = (out.tobytes(), sums.total.tobytes(), sums.n_finite.tobytes(), sums.counts.tolist())
    first = found.pop("numpy")
    for path, others in found.items():
        assert others == first, path


@given(
    counts=hnp.arrays(np.uint16, st.tuples(st.integers(1, 20), st.integers(1, 20))), size=st.integers(1, 6)
)
def test_rebinning_conserves_the_counts_of_whole_bins(counts: np.ndarray[Any, Any], size: int) -> None:
    binned = bin_counts(counts, good=None, bin=size)
    ny, nx = (n // size * size for n in counts.shape)
    assert binned.astype(np.int64).sum() == counts[:ny, :nx].sum(dtype=np.int64)


def test_sums_of_full_pixels_do_not_overflow() -> None:
    for dtype in ("<u2", "<u4", "<i2"):
        frames = np.full((1, 16, 16), np.iinfo(dtype).max, dtype)
        for path in kernels.available_paths():
            with kernels.using_path(path):
                out, sums = np.zeros((1, 1, 1, 1), np.float32), ProjectionSums.empty((1, 1))
                ones = np.ones((1, 1), np.float32)
                factors = FrameFactors(np.zeros(1, np.float32), np.ones(1, np.float32))
                correct_frames(
                    frames, references=References(ones * 0, ones, None, None, 16), factors=factors,
                    least=None, target=BlockTarget(out, 0), sums=sums,
                )  # fmt: skip
            assert out.item() == np.float32(256 * int(np.iinfo(dtype).max))
            assert sums.counts.tolist() == [0, 256]


def test_shapes_that_do_not_fit_are_refused_before_the_kernel_sees_them() -> None:
    plane = np.ones((4, 4), np.float32)
    references = References(plane, plane, None, None, 2)
    factors = FrameFactors(np.zeros(1, np.float32), np.ones(1, np.float32))
    sums = ProjectionSums.empty((4, 4))
    target = BlockTarget(np.zeros((1, 1, 4, 4), np.float32), 0)
    for frames, where, reason in (
        (np.zeros((1, 7, 8), np.uint16), target, "do not fit"),
        (np.zeros((2, 8, 8), np.uint16), target, "scales"),
        (np.zeros((1, 8, 8), ">u2"), target, "no stack"),
        (np.zeros((1, 8, 8), np.uint16), BlockTarget(target.out, 1), "does not hold"),
    ):
        with pytest.raises(ValueError, match=reason):
            correct_frames(
                frames, references=references, factors=factors, least=None, target=where, sums=sums
            )
    with pytest.raises(ValueError, match="17"):
        References(plane, plane, None, None, 17)
