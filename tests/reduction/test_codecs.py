"""Every rung decodes the same numbers, and broken bytes are errors, never numbers or crashes."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamhub_reduction.bitshuffle import BITSHUFFLE, ChunkUndecodable
from beamhub_reduction.codecs import (
    Filter,
    decode_bitshuffle_lz4,
    decode_chunk,
    decode_gzip,
    has_dectris,
    is_supported,
    unshuffle,
)

RUNGS = ["imagecodecs", *(["dectris"] if has_dectris() else [])]
DTYPES = ["u1", "<u2", "<u4", "<i4", ">u4", "<f4", "<f8"]


def bitshuffled(values: np.ndarray) -> bytes:
    """One chunk as HDF5's own bitshuffle filter writes it."""
    with h5py.File("memory", "w", driver="core", backing_store=False) as f:
        data = f.create_dataset("d", data=values, chunks=values.shape, **hdf5plugin.Bitshuffle(cname="lz4"))
        f.flush()
        return bytes(data.id.read_direct_chunk((0,))[1])


@pytest.mark.parametrize("rung", RUNGS)
@settings(max_examples=50)
@given(dtype=st.sampled_from(DTYPES), n=st.integers(1, 9000), seed=st.integers(0, 99))
def test_bitshuffle_decodes_what_hdf5_wrote(rung: str, dtype: str, n: int, seed: int) -> None:
    values = np.random.default_rng(seed).poisson(3, n).astype(dtype)
    decoded = decode_bitshuffle_lz4(
        bitshuffled(values), item_bytes=values.itemsize, n_bytes=values.nbytes, rung=rung
    )
    assert bytes(decoded) == values.tobytes()


@settings(max_examples=50)
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=3))
def test_all_rungs_agree_on_broken_bytes(flips: list[tuple[int, int]]) -> None:
    values = np.random.default_rng(0).poisson(3, 6000).astype("<u4")
    stored = bytearray(bitshuffled(values))
    for place, change in flips:
        stored[place % len(stored)] ^= change
    outcomes = set()
    for rung in RUNGS:
        try:
            decoded = decode_bitshuffle_lz4(bytes(stored), item_bytes=4, n_bytes=values.nbytes, rung=rung)
            assert len(decoded) == values.nbytes
            outcomes.add(bytes(decoded))
        except ChunkUndecodable:
            outcomes.add(b"")
    assert len(outcomes) == 1


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s[:5], "shorter than the header"),
        (lambda s: s[:-1], "claims|behind the last block|ends inside"),
        (lambda s: s + b"x", "behind the last block"),
        (lambda s: struct.pack(">Q", 2**60) + s[8:], "header says"),
        (lambda s: s[:8] + struct.pack(">I", 24) + s[12:], "header says"),
        (lambda s: s[:12] + struct.pack(">I", 2**31) + s[16:], "claims"),
        (lambda s: s[:12] + struct.pack(">I", 0) + s[16:], "claims 0"),
    ],
)
def test_lengths_that_lie_are_caught_before_a_decoder_sees_them(rung, change, reason) -> None:  # type: ignore[no-untyped-def]  # lambdas
    values = np.arange(5000, dtype="<u4")
    with pytest.raises(ChunkUndecodable, match=reason):
        decode_bitshuffle_lz4(change(bitshuffled(values)), item_bytes=4, n_bytes=values.nbytes, rung=rung)


@settings(max_examples=50)
@given(data=st.binary(max_size=300), item=st.sampled_from([1, 2, 4, 8]))
def test_unshuffle_undoes_the_byte_shuffle(data: bytes, item: int) -> None:
    n = len(data) // item
    shuffled = b"".join(data[k : n * item : item] for k in range(item)) + data[n * item :]
    assert unshuffle(shuffled, item_bytes=item) == data


def test_gzip_that_is_broken_or_of_another_length_is_refused() -> None:
    import zlib

    stored = zlib.compress(b"a" * 1000)
    assert decode_gzip(stored, n_bytes=1000) == b"a" * 1000
    wrong_sum = stored[:-1] + bytes([stored[-1] ^ 1])
    for broken in (stored[:-6], wrong_sum, b"", b"garbage"):
        with pytest.raises(ChunkUndecodable):
            decode_gzip(broken, n_bytes=1000)
    for n_bytes in (999, 1001):
        with pytest.raises(ChunkUndecodable):
            decode_chunk(stored, filters=(Filter(1),), skipped=0, item_bytes=1, n_bytes=n_bytes)


def test_only_pipelines_that_we_can_undo_are_supported() -> None:
    lz4, zstd, plain = (Filter(BITSHUFFLE, (0, 2, 4, 0, kind)) for kind in (2, 3, 0))
    assert is_supported((lz4,)) and is_supported((Filter(2, (4,)), Filter(1, (5,)))) and is_supported(())
    assert not is_supported((zstd,)) and not is_supported((plain,)) and not is_supported((Filter(3),))


@pytest.mark.facility_data
@pytest.mark.parametrize("rung", RUNGS)
def test_a_real_eiger_frame_decodes_as_hdf5_does(facility_data: Path, rung: str) -> None:
    with h5py.File(facility_data / "eiger4m_frame_bitshuffle.h5", "r", locking=False) as f:
        data = f["entry/data/data"]
        expected = data[0]
        stored = bytes(data.id.read_direct_chunk((0, 0, 0))[1])
    decoded = decode_bitshuffle_lz4(stored, item_bytes=4, n_bytes=expected.nbytes, rung=rung)
    assert bytes(decoded) == expected.tobytes()
