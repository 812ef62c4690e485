"""Sums over frames and regions: the same bits on every path, stored or decoded; no bytes end the process."""

from __future__ import annotations

from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction import kernels
from beamhub_reduction.kernels.statistics import (
    Bounds,
    add_float_frames,
    add_integer_frames,
    empty_float_sums,
    empty_integer_sums,
)
from beamhub_reduction.kernels.statistics_regions import frame_moments, region_sums
from beamhub_reduction.kernels.statistics_stored import (
    StoredFrames,
    add_stored_frames,
    can_sum_stored,
    pack_regions,
)
from examples import few

Array = np.ndarray[Any, np.dtype[Any]]
TYPES = ("u1", "u2", "u4", "i1", "i2", "i4")
COMPILED = [path for path in kernels.available_paths() if path != "numpy"]


def limit_of(kind: str) -> int:
    return int(np.iinfo(kind).max) - (kind[0] == "u")


def unsigned(frames: Array) -> Array:
    return frames.view(f"u{frames.dtype.itemsize}")


def draw(kind: str, seed: int, shape: tuple[int, int]) -> Array:
    """Small counts, with a share of 'no value' and a few as large as the type allows."""
    random = np.random.default_rng(seed)
    frames = random.poisson(5, shape).astype(kind)
    frames[random.random(shape) < 0.1] = np.iinfo(kind).max if kind[0] == "u" else -1
    frames[random.random(shape) < 0.01] = limit_of(kind)
    return frames


def bits(sums: Any, *more: Array) -> list[bytes]:
    return [getattr(sums, name).tobytes() for name in type(sums).__slots__] + [a.tobytes() for a in more]


@given(
    kind=st.sampled_from(TYPES), seed=st.integers(0, 999), n_frames=st.integers(0, 20),
    n_pixels=st.sampled_from([0, 1, 7, 255, 256, 257, 700]), clipped=st.booleans(), gaps=st.booleans(),
)  # fmt: skip
@few(30)
def test_integer_sums_are_the_same_on_every_path(
    kind: str, seed: int, n_frames: int, n_pixels: int, clipped: bool, gaps: bool
) -> None:
    random = np.random.default_rng(seed)
    frames = unsigned(draw(kind, seed, (n_frames, n_pixels)))
    usable = random.random(n_pixels) < 0.9 if gaps else np.ones(n_pixels, dtype=bool)
    low = np.full(n_pixels, 2, frames.dtype)
    bounds = Bounds(low, low + 6) if clipped else None
    blank = random.random(frames.shape) < 0.1 if gaps and clipped else None
    found = []
    for path in kernels.available_paths():
        with kernels.using_path(path):
            sums = empty_integer_sums(frames.dtype, n_pixels)
            totals = add_integer_frames(
                sums, frames=frames, limit=limit_of(kind), usable=usable, blank=blank, bounds=bounds
            )
            found.append(bits(sums, totals))
    assert all(other == found[0] for other in found)


@given(seed=st.integers(0, 999), single=st.booleans(), clipped=st.booleans())
@few(15)
def test_floating_sums_are_the_same_on_every_path(seed: int, single: bool, clipped: bool) -> None:
    random = np.random.default_rng(seed)
    frames = random.normal(1e6, 3, (5, 301)).astype("f4" if single else "f8")
    frames[random.random(frames.shape) < 0.1] = random.choice([np.nan, np.inf, -np.inf])
    usable = random.random(301) < 0.9
    bounds = Bounds(np.full(301, 1e6 - 4), np.full(301, 1e6 + 4)) if clipped else None
    found = []
    for path in kernels.available_paths():
        with kernels.using_path(path):
            sums = empty_float_sums(301)
            totals = add_float_frames(sums, frames=frames, usable=usable, bounds=bounds)
            found.append(bits(sums, totals))
    assert all(other == found[0] for other in found)


@given(kind=st.sampled_from(TYPES), seed=st.integers(0, 999), blanks=st.booleans())
@few(25)
def test_regions_and_moments_are_the_same_on_every_path_and_in_numpy(
    kind: str, seed: int, blanks: bool
) -> None:
    random = np.random.default_rng(seed)
    shape = (3, int(random.integers(1, 9)), int(random.integers(1, 70)))
    frames = draw(kind, seed, (3, shape[1] * shape[2]))
    masked = random.random(shape[1:]) < 0.2
    blank = random.random(shape) < 0.1 if blanks else None
    firsts = random.integers(0, frames.shape[1], 6)
    spans = np.stack([firsts, np.minimum(firsts + 40, frames.shape[1]), random.integers(0, 4, 6)], axis=1)
    none = (frames > limit_of(kind)) | (frames < 0)
    if blank is not None:
        none |= blank.reshape(frames.shape)
    clean = np.where(none, 0, frames).astype(np.int64)
    expected = np.zeros((3, 4), dtype=np.int64)
    for first, end, region in spans:
        expected[:, region] += clean[:, first:end].sum(axis=1)
    images = np.where(masked, 0, clean.reshape(shape))
    y, x = np.indices(shape[1:])
    for path in kernels.available_paths():
        with kernels.using_path(path):
            sums, valid = region_sums(
                unsigned(frames), limit=limit_of(kind), spans=spans, n_regions=4,
                blank=None if blank is None else blank.reshape(frames.shape),
            )  # fmt: skip
            totals, moments = frame_moments(
                unsigned(frames).reshape(shape), limit=limit_of(kind), masked=masked, blank=blank
            )
        np.testing.assert_array_equal(sums, expected)
        assert valid.sum() == sum((~none[:, first:end]).sum() for first, end, _ in spans)
        np.testing.assert_array_equal(totals, images.sum(axis=(1, 2)))
        np.testing.assert_array_equal(moments[:, 0], (images * y).sum(axis=(1, 2)))
        np.testing.assert_array_equal(moments[:, 1], (images * x).sum(axis=(1, 2)))


def stored(frames: Array, *, block: int = 0) -> StoredFrames:
    """Frames as HDF5's bitshuffle-LZ4 filter stores them, one chunk each."""
    with h5py.File("stored", "w", driver="core", backing_store=False) as file:
        data = file.create_dataset(
            "data", data=frames, chunks=(1, *frames.shape[1:]), **hdf5plugin.Bitshuffle(block, cname="lz4")
        )
        chunks = [bytes(data.id.read_direct_chunk((i, 0))[1]) for i in range(len(frames))]
    sizes = np.array([len(chunk) for chunk in chunks], dtype=np.int64)
    offsets = np.cumsum(sizes) - sizes
    packed = np.frombuffer(b"".join(chunks), dtype=np.uint8)
    return StoredFrames(packed, offsets, sizes, frames.dtype, frames.shape[1])


def some_regions(n_pixels: int, usable: Array) -> Array:
    inside = np.flatnonzero(usable)
    runs = [(i, i + 1, 0) for i in inside] + [(n_pixels // 3, n_pixels // 2, 1), (n_pixels - 1, n_pixels, 2)]
    return np.array(runs, dtype=np.int64)


@pytest.mark.skipif(not COMPILED, reason="no compiled kernels: no C compiler")
@given(
    kind=st.sampled_from(TYPES), seed=st.integers(0, 999), block=st.sampled_from([0, 64, 1024]),
    n_pixels=st.sampled_from([9, 64, 1003, 9001]),
)  # fmt: skip
@few(25)
def test_stored_frames_give_what_decoded_ones_give(kind: str, seed: int, block: int, n_pixels: int) -> None:
    frames = draw(kind, seed, (5, n_pixels))
    usable = np.random.default_rng(seed).random(n_pixels) < 0.95
    spans = some_regions(n_pixels, usable)
    packed = pack_regions(spans, n_regions=3, n_pixels=n_pixels)
    assert packed is not None
    with kernels.using_path("numpy"):
        expected = empty_integer_sums(unsigned(frames).dtype, n_pixels)
        totals = add_integer_frames(expected, frames=unsigned(frames), limit=limit_of(kind), usable=usable)
        counts, valid = region_sums(unsigned(frames), limit=limit_of(kind), spans=spans, n_regions=3)
    chunks = stored(frames, block=block)
    for path in COMPILED:
        with kernels.using_path(path):
            sums = empty_integer_sums(unsigned(frames).dtype, n_pixels)
            both = add_stored_frames(chunks, bits=packed, sums=sums, limit=limit_of(kind), usable=usable)
            alone = add_stored_frames(chunks, bits=packed)
        assert both is not None
        assert alone is not None
        assert not both.failed
        assert not alone.failed
        assert bits(sums, both.totals) == bits(expected, totals)
        for found in (both, alone):
            np.testing.assert_array_equal(found.region_sums, counts)
            np.testing.assert_array_equal(found.region_valid, valid)


@pytest.mark.skipif(not COMPILED, reason="no compiled kernels: no C compiler")
@given(data=st.data())
@few(40)
def test_no_damage_in_a_chunk_reaches_past_it_or_ends_the_process(data: st.DataObject) -> None:
    frames = draw("u4", 3, (4, 5003))
    chunks = stored(frames)
    damaged = chunks.data.copy()
    for at in data.draw(
        st.lists(st.integers(int(chunks.offsets[1]), int(chunks.offsets[2]) - 1), max_size=6)
    ):
        damaged[at] = data.draw(st.integers(0, 255))
    sizes = chunks.sizes.copy()
    sizes[2] = data.draw(st.integers(0, int(sizes[2]) + 5))
    usable = np.ones(5003, dtype=bool)
    spans = np.array([[0, 5003, 0]])
    packed = pack_regions(spans, n_regions=1, n_pixels=5003)
    assert packed is not None
    broken = StoredFrames(damaged, chunks.offsets, sizes, frames.dtype, 5003)
    for path in COMPILED:
        with kernels.using_path(path):
            sums = empty_integer_sums(np.dtype("u4"), 5003)
            found = add_stored_frames(broken, bits=packed, sums=sums, limit=limit_of("u4"), usable=usable)
        if found is None:
            continue  # a block size that differs: nothing was added
        assert set(found.failed) <= {1, 2}
        assert (2 in found.failed) == (sizes[2] != chunks.sizes[2])
        assert (
            found.region_sums[0, 0]
            == found.totals[0]
            == int(frames[0][frames[0] != 2**32 - 1].sum(dtype="i8"))
        )


def test_what_does_not_fit_is_refused_before_a_kernel_sees_it() -> None:
    frames, usable = np.zeros((2, 5), np.uint16), np.ones(5, dtype=bool)
    sums = empty_integer_sums(frames.dtype, 5)
    with pytest.raises(ValueError, match="4 pixels"):
        add_integer_frames(empty_integer_sums(frames.dtype, 4), frames=frames, limit=9, usable=usable)
    with pytest.raises(ValueError, match="no largest value"):
        add_integer_frames(sums, frames=frames, limit=65535, usable=usable)
    with pytest.raises(ValueError, match="uint32"):
        add_integer_frames(sums, frames=frames.astype(np.uint32), limit=9, usable=usable)
    for span in ([0, 6, 0], [3, 2, 0], [-1, 2, 0], [0, 5, 1]):
        with pytest.raises(ValueError, match="span"):
            region_sums(frames, limit=9, spans=np.array([span]), n_regions=1)
    with pytest.raises(ValueError, match="mask"):
        frame_moments(frames.reshape(2, 1, 5), limit=9, masked=np.zeros((5, 1), dtype=bool))
    assert pack_regions(np.zeros((0, 3), np.int64), n_regions=5000, n_pixels=5) is None
    assert not can_sum_stored(np.dtype(">u4"))
    assert not can_sum_stored(np.dtype("f4"))
