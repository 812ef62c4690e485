"""The azimuthal kernel: the same bits on every path, in any batch, from frames or chunks; none harms it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction import kernels
from beamhub_reduction.kernels.azimuthal import (
    CurveSums,
    ImageSum,
    Pixels,
    StoredChunks,
    add_frames,
    add_stored,
    build_tiles,
    integrate_frames,
    integrate_stored,
    takes_stored,
    tile_of,
)
from examples import few

FIELDS = ("signal", "variance", "lost_norm", "lost_dark", "n_lost", "counts", "blanks")
COMPILED = [path for path in kernels.available_paths() if path != "numpy"]
needs_compiler = pytest.mark.skipif(not COMPILED, reason="the kernels are not compiled here (no C compiler)")


def assert_same(found: CurveSums, expected: CurveSums) -> None:
    """Bit for bit."""
    for name in FIELDS:
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    assert found.failed == expected.failed


def pixels_of(n_pixels: int, *, tile: int, high: float, seed: int = 1, dark: bool = True) -> Pixels:
    """A matrix of about two bins a pixel; every tenth pixel is masked."""
    random = np.random.default_rng(seed)
    n_bins = max(1, min(40, n_pixels // 3))
    matrix = scipy.sparse.random(
        n_bins, n_pixels, density=min(1.0, 2 / n_bins), format="csr", rng=random, dtype=np.float32
    )
    good = (random.random(n_pixels) > 0.1).astype(np.uint8)
    matrix = scipy.sparse.csr_matrix(matrix.multiply(good[np.newaxis]))
    norm = random.random(n_pixels) + 0.5
    return Pixels(
        build_tiles(matrix, tile=tile), good, norm, random.random(n_pixels) if dark else None, 0.0, high
    )


def frames_of(dtype: str, n: int, shape: tuple[int, ...], *, mean: float, seed: int = 2) -> Any:
    """Poisson counts with some blank values of the type."""
    random = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    largest = np.iinfo(dtype).max if kind in "iu" else 2**31
    most = min(largest - 1, 2**62)
    frames = np.minimum(random.poisson(mean, (n, *shape)), most).astype(dtype)
    blank = random.random(frames.shape) < 0.01
    frames[blank] = largest if kind == "u" else -1 if kind == "i" else np.nan
    if kind == "f" and frames.size > 3:
        frames.flat[3] = -np.inf
    return frames


def highest(dtype: str) -> float:
    kind = np.dtype(dtype).kind
    return float(np.iinfo(dtype).max - (kind == "u")) if kind in "iu" else np.inf


def stored(frames: Any, *, block_items: int = 0) -> StoredChunks:
    """The chunks as HDF5's filter writes them."""
    with h5py.File(io.BytesIO(), "w") as file:
        data = file.create_dataset(
            "data", data=frames, chunks=(1, *frames.shape[1:]),
            **hdf5plugin.Bitshuffle(nelems=block_items, cname="lz4"),
        )  # fmt: skip
        chunks = [data.id.read_direct_chunk((i, 0, 0))[1] for i in range(len(frames))]
    return packed(chunks, frames.dtype)


def packed(chunks: list[bytes], dtype: Any) -> StoredChunks:
    sizes = np.array([len(chunk) for chunk in chunks], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    items = int.from_bytes(chunks[0][8:12], "big") // dtype.itemsize
    return StoredChunks(np.frombuffer(b"".join(chunks), dtype=np.uint8), offsets, sizes, dtype, items)


def on_compiled_paths() -> Iterator[str]:
    for path in COMPILED:
        with kernels.using_path(path):
            yield path


@needs_compiler
@few(40)
@given(
    dtype=st.sampled_from(["u1", "u2", "u4", "i2", "i4", "f4", "f8", ">u2", "u8"]),
    n_pixels=st.sampled_from([1, 7, 50, 1003]),
    tile=st.sampled_from([8, 64, 2048]),
    n=st.sampled_from([0, 1, 15, 16, 17]),
    mean=st.sampled_from([0.1, 50.0, 70_000.0]),
)
def test_every_path_gives_scipys_bits(dtype: str, n_pixels: int, tile: int, n: int, mean: float) -> None:
    frames = frames_of(dtype, n, (n_pixels,), mean=mean)
    pixels = pixels_of(n_pixels, tile=tile, high=min(highest(dtype), 2.0**62))
    weights = np.linspace(0.5, 1.5, n)
    with kernels.using_path("numpy"):
        expected = integrate_frames(pixels, frames)
        total = ImageSum.empty(n_pixels, real=expected.counts.dtype.kind == "f")
        counted = add_frames(pixels, frames, total=total, weights=weights)
    for _ in on_compiled_paths():
        assert_same(integrate_frames(pixels, frames), expected)
        ours = ImageSum.empty(n_pixels, real=total.values.dtype.kind == "f")
        found = add_frames(pixels, frames, total=ours, weights=weights)
        for left, right in (
            (ours.values, total.values),
            (ours.n_blank, total.n_blank),
            *zip(found, counted, strict=True),
        ):
            np.testing.assert_array_equal(left, right)
        np.testing.assert_array_equal(ours.lost_weight, total.lost_weight)


@needs_compiler
@few(40)
@given(
    dtype=st.sampled_from(["u1", "u2", "u4", "i4"]),
    shape=st.sampled_from([(1, 1), (1, 7), (1, 8), (3, 5), (37, 41), (64, 130)]),
    block_items=st.sampled_from([0, 8, 1000, 2048]),
    mean=st.sampled_from([0.1, 60.0, 900.0, 2e6]),
    low=st.sampled_from([0.0, 2.0]),
)
def test_chunks_give_the_bits_of_their_frames(
    dtype: str, shape: tuple[int, int], block_items: int, mean: float, low: float
) -> None:
    frames = frames_of(dtype, 17, shape, mean=mean)
    chunks = stored(frames, block_items=block_items)
    n_pixels, weights = shape[0] * shape[1], np.arange(17) + 0.5
    whole = pixels_of(n_pixels, tile=tile_of(chunks.block_items), high=highest(dtype))
    pixels = Pixels(whole.tiles, whole.good, whole.norm, whole.dark, low, whole.high)
    good = pixels.good.astype(bool)
    with kernels.using_path("numpy"):
        expected = integrate_frames(pixels, frames)
        total = ImageSum.empty(n_pixels, real=False)
        add_frames(pixels, frames, total=total, weights=weights)
    for _ in on_compiled_paths():
        assert takes_stored(chunks.dtype, chunks.block_items, pixels.tiles.tile)
        assert_same(integrate_stored(pixels, chunks), expected)
        ours = ImageSum.empty(n_pixels, real=False)
        counts, blanks, failed = add_stored(pixels, chunks, total=ours, weights=weights)
        assert not failed
        np.testing.assert_array_equal(ours.values[good], total.values[good])
        np.testing.assert_array_equal(ours.n_blank, total.n_blank)
        np.testing.assert_array_equal(counts, expected.counts)
        np.testing.assert_array_equal(blanks, expected.blanks)


@pytest.fixture(scope="module")
def good_chunks() -> tuple[Any, list[bytes], Pixels]:
    """Four frames, their chunks, and pixels without mask or dark."""
    frames = np.random.default_rng(3).poisson(50, (4, 60, 71)).astype(np.uint32)
    chunks = stored(frames)
    cut = [bytes(chunks.data[o : o + s]) for o, s in zip(chunks.offsets, chunks.sizes, strict=True)]
    pixels = pixels_of(60 * 71, tile=2048, high=2.0**32 - 2, dark=False)
    return frames, cut, Pixels(pixels.tiles, np.ones(60 * 71, np.uint8), pixels.norm, None, 0.0, pixels.high)


@needs_compiler
@few(60)
@given(
    position=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0, 1), how=st.sampled_from("fcaz"),
    where=st.integers(0, 40),
)  # fmt: skip
def test_a_broken_chunk_harms_neither_the_process_nor_the_other_frames(
    good_chunks: tuple[Any, list[bytes], Pixels],
    position: float,
    value: int,
    cut: float,
    how: str,
    where: int,
) -> None:
    frames, chunks, pixels = good_chunks
    broken = bytearray(chunks[1])
    if how == "f":  # a byte is another one; in the first ones more often, because they are lengths
        broken[where if where < 20 else int(position * (len(broken) - 1))] = value
    elif how == "c":
        broken = broken[: int(cut * len(broken))]
    elif how == "a":
        broken += bytes(1 + value % 9)
    else:
        random = np.random.default_rng(where)
        broken[12:] = random.integers(0, 256, len(broken) - 12, dtype=np.uint8).tobytes()
    batch = packed([chunks[0], bytes(broken), chunks[2], chunks[3]], np.dtype(np.uint32))
    expected = integrate_frames(pixels, frames)
    for _ in on_compiled_paths():
        found = integrate_stored(pixels, batch)
        assert set(found.failed) <= {1}
        np.testing.assert_array_equal(found.signal[[0, 2, 3]], expected.signal[[0, 2, 3]])
        total = ImageSum.empty(pixels.good.size, real=False)
        _, _, failed = add_stored(pixels, batch, total=total, weights=np.ones(4))
        assert failed == found.failed
        if failed:
            kept = frames[[0, 2, 3]].astype(np.int64).sum(axis=0).ravel()
            np.testing.assert_array_equal(total.values, kept)


@needs_compiler
def test_a_batch_changes_no_bit_of_its_frames() -> None:
    frames = frames_of("u4", 17, (50, 43), mean=30.0)
    pixels = pixels_of(50 * 43, tile=512, high=2.0**32 - 2)
    for _ in on_compiled_paths():
        whole = integrate_frames(pixels, frames)
        for n in (1, 15, 16):
            part = integrate_frames(pixels, frames[:n])
            np.testing.assert_array_equal(part.signal, whole.signal[:n])
            np.testing.assert_array_equal(part.variance, whole.variance[:n])


@needs_compiler
@pytest.mark.parametrize("tile", [8, 64, 4096])
def test_the_tile_changes_no_bit(tile: int) -> None:
    frames = frames_of("u2", 5, (50, 43), mean=30.0)
    expected = integrate_frames(pixels_of(50 * 43, tile=1024, high=65534.0), frames)
    assert_same(integrate_frames(pixels_of(50 * 43, tile=tile, high=65534.0), frames), expected)


@pytest.mark.parametrize("path", kernels.available_paths())
def test_counts_past_2_to_24_and_sums_past_2_to_32_are_exact(path: str) -> None:
    n_pixels = 4096
    matrix = scipy.sparse.csr_matrix(np.ones((1, n_pixels), dtype=np.float32))
    pixels = Pixels(
        build_tiles(matrix), np.ones(n_pixels, np.uint8), np.ones(n_pixels), None, 0.0, 2.0**32 - 2
    )
    frames = np.full((3, n_pixels), 2**24 + 1, dtype=np.uint32)
    frames[1] = 2**31 + 1
    frames[2] = 2**32 - 2
    with kernels.using_path(path):
        found = integrate_frames(pixels, frames)
        total = ImageSum.empty(n_pixels, real=False)
        add_frames(pixels, frames, total=total, weights=np.ones(3))
    expected = [n_pixels * int(frame[0]) for frame in frames]
    assert found.signal[:, 0].tolist() == expected
    assert found.counts.tolist() == expected
    assert set(total.values.tolist()) == {2**24 + 1 + 2**31 + 1 + 2**32 - 2}


def test_a_tile_that_the_kernel_cannot_hold_is_refused() -> None:
    matrix = scipy.sparse.csr_matrix(np.ones((1, 9), dtype=np.float32))
    for tile in (0, 9, 2**17):
        with pytest.raises(ValueError, match="a tile of"):
            build_tiles(matrix, tile=tile)
    assert [tile_of(n) for n in (2048, 8, 1000, 7, 2**17)] == [2048, 2048, 2000, 2048, 2048]
