"""Every rung decodes the same numbers, and broken bytes are errors, never numbers or crashes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction import kernels
from beamhub_reduction.bitshuffle import BITSHUFFLE, ChunkNeedsHdf5, ChunkUndecodable
from beamhub_reduction.codecs import decode_chunk, decoders, integrity_of, is_supported, rung_of
from beamhub_reduction.hdf5_filters import Filter
from beamhub_reduction.nexus.guard import check_stored, read_filters

DTYPES = ["u1", "<u2", "<u4", "<i4", ">u4", "<f4", "<f8"]
KINDS: dict[str, dict[str, Any]] = {
    "bitshuffle-LZ4": dict(hdf5plugin.Bitshuffle(cname="lz4")),
    "bitshuffle-zstd": dict(hdf5plugin.Bitshuffle(cname="zstd")),
    "bitshuffle": dict(hdf5plugin.Bitshuffle(cname="none")),
    "gzip": {"compression": "gzip", "shuffle": True},
    "gzip, fletcher32": {"compression": "gzip", "fletcher32": True},
    "fletcher32": {"fletcher32": True},
    "lz4": dict(hdf5plugin.LZ4()),
    "lz4, small blocks": dict(hdf5plugin.LZ4(nbytes=1000)),
    "zstd": dict(hdf5plugin.Zstd()),
    "blosc": dict(hdf5plugin.Blosc(cname="zstd")),
    "blosc, bitshuffle": dict(hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.BITSHUFFLE)),
    "blosc2": dict(hdf5plugin.Blosc2()),
}


def stored_by_hdf5(values: np.ndarray, kind: str) -> tuple[bytes, tuple[Filter, ...], int]:
    """(one chunk as HDF5's own filters write it, the filters, its mask)."""
    with h5py.File("memory", "w", driver="core", backing_store=False) as f:
        data = f.create_dataset("d", data=values, chunks=values.shape, **KINDS[kind])
        f.flush()
        mask, stored = data.id.read_direct_chunk((0,) * values.ndim)
        return bytes(stored), read_filters(data), mask


def ladder(filters: tuple[Filter, ...]) -> list[tuple[str, str | None]]:
    """(path of the kernels, rung) of everything that can decode such chunks here."""
    found: list[tuple[str, str | None]] = []
    for path in kernels.available_paths():
        with kernels.using_path(path):
            rungs = [rung for f in filters if f.compresses for rung in decoders(f.codec)]
            found.extend((path, rung) for rung in rungs or [None])
    return sorted(set(found), key=str)


def outcome(stored: bytes, like: np.ndarray, filters: tuple[Filter, ...], mask: int, how: Any) -> bytes:
    """What one rung makes of a chunk; nothing when it refuses."""
    path, rung = how
    with kernels.using_path(path):
        try:
            return decode_chunk(
                stored, filters=filters, skipped=mask, item_bytes=like.itemsize, n_bytes=like.nbytes,
                rung=rung,
            ).tobytes()  # fmt: skip
        except ChunkUndecodable:
            return b""


@pytest.mark.parametrize("kind", KINDS)
@given(dtype=st.sampled_from(DTYPES), n=st.integers(1, 9000), seed=st.integers(0, 99))
def test_every_rung_decodes_what_hdf5_wrote(kind: str, dtype: str, n: int, seed: int) -> None:
    values = np.random.default_rng(seed).poisson(3, n).astype(dtype)
    stored, filters, mask = stored_by_hdf5(values, kind)
    assert is_supported(filters, values.itemsize)
    check_stored(stored, filters, mask, values.itemsize, values.nbytes)
    for how in ladder(filters):
        assert outcome(stored, values, filters, mask, how) == values.tobytes(), how


BREAKS = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 10**6), st.integers(1, 255)),
    st.tuples(st.just("flip"), st.integers(0, 40), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 10**6), st.just(0)),
    st.tuples(st.just("length"), st.integers(0, 60), st.integers(0, 2**32 - 1)),
)


@pytest.mark.parametrize("kind", KINDS)
@given(changes=st.lists(BREAKS, min_size=1, max_size=3))
def test_broken_bytes_are_an_error_or_the_same_on_every_rung(kind: str, changes: list[Any]) -> None:
    values = np.random.default_rng(0).poisson(3, 6000).astype("<u4")
    whole, filters, mask = stored_by_hdf5(values, kind)
    stored = bytearray(whole)
    for what, place, value in changes:
        at = place % max(len(stored), 1)
        if what == "cut":
            del stored[at:]
        elif what == "length":
            stored[at : at + 4] = struct.pack(">I", value)[: len(stored) - at]
        elif stored:
            stored[at] ^= value
    outcomes = {how: outcome(bytes(stored), values, filters, mask, how) for how in ladder(filters)}
    found = set(outcomes.values())
    assert {len(decoded) for decoded in found} <= {0, values.nbytes}
    own = {decoded for (_, rung), decoded in outcomes.items() if rung and rung.startswith("own")}
    assert len(own) <= 1  # the same on every path
    if own and own != {b""}:
        assert found == own  # other LZ4 decoders let a distance of 0 pass; what we decode they decode too


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s[:5], "shorter than"),
        (lambda s: s[:-1], "ends inside|claims|behind|does not end"),
        (lambda s: s + b"x", "does not end|behind"),
        (lambda s: struct.pack(">Q", 2**60) + s[8:], "header says"),
        (lambda s: s[:8] + struct.pack(">I", 24) + s[12:], "header says"),
        (lambda s: s[:12] + struct.pack(">I", 2**31) + s[16:], "claims"),
        (lambda s: s[:12] + struct.pack(">I", 0) + s[16:], "claims 0|ends inside"),
    ],
)
def test_lengths_that_lie_are_named_and_never_reach_hdf5(change: Any, reason: str) -> None:
    values = np.arange(5000, dtype="<u4")
    stored, filters, _ = stored_by_hdf5(values, "bitshuffle-LZ4")
    with pytest.raises(ChunkUndecodable):
        check_stored(change(stored), filters, 0, 4, values.nbytes)
    for path, rung in ladder(filters):
        with kernels.using_path(path), pytest.raises(ChunkUndecodable, match=reason):
            decode_chunk(
                change(stored), filters=filters, skipped=0, item_bytes=4, n_bytes=values.nbytes, rung=rung
            )


@pytest.mark.parametrize("kind", ["lz4", "zstd", "blosc", "blosc2", "gzip"])
def test_the_guard_of_hdf5_refuses_another_size(kind: str) -> None:
    values = np.arange(5000, dtype="<u4")
    stored, filters, mask = stored_by_hdf5(values, kind)
    for n_bytes in (values.nbytes - 4, values.nbytes + 4, 1 << 40):
        with pytest.raises(ChunkUndecodable):
            check_stored(stored, filters, mask, 4, n_bytes)


def test_gzip_that_is_broken_or_of_another_length_is_refused() -> None:
    stored = zlib.compress(b"a" * 1000)
    wrong_sum = stored[:-1] + bytes([stored[-1] ^ 1])
    for rung in decoders("gzip"):
        for broken, n_bytes in [
            (stored[:-6], 1000), (wrong_sum, 1000), (b"", 1000), (b"garbage", 1000), (stored, 999),
            (stored, 1001),
        ]:  # fmt: skip
            with pytest.raises(ChunkUndecodable):
                decode_chunk(
                    broken, filters=(Filter(1),), skipped=0, item_bytes=1, n_bytes=n_bytes, rung=rung
                )


def test_a_flipped_byte_is_noticed_where_a_checksum_exists() -> None:
    values = np.random.default_rng(0).poisson(3, 500).astype("<u2")
    for kind in ("fletcher32", "gzip, fletcher32"):
        whole, filters, mask = stored_by_hdf5(values, kind)
        assert integrity_of(filters, mask) == "checksummed"
        for at in range(2, len(whole), 7):
            broken = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
            assert outcome(broken, values, filters, mask, ("numpy", None)) == b""
    assert integrity_of((Filter(1), Filter(2)), skipped=1) == "not verifiable"
    assert integrity_of((Filter(BITSHUFFLE, (0, 4, 2, 0, 2)),)) == "not verifiable"


def test_a_broken_gzip_chunk_is_what_zlib_makes_of_it() -> None:
    # Adler-32 is weak: one of these flips changes three bytes and leaves the sum as it was, for zlib too.
    values = np.random.default_rng(0).poisson(3, 500).astype("<u2")
    whole, filters, mask = stored_by_hdf5(values, "gzip")
    n_unnoticed = 0
    for at in range(2, len(whole)):
        broken = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
        found = {outcome(broken, values, filters, mask, ("numpy", rung)) for rung in decoders("gzip")}
        assert len(found) == 1
        n_unnoticed += found.isdisjoint({b"", values.tobytes()})
    assert n_unnoticed <= 2


def test_only_pipelines_that_we_can_undo_are_supported() -> None:
    lz4, zstd, plain, odd = (Filter(BITSHUFFLE, (0, 2, 4, 0, kind)) for kind in (2, 3, 0, 9))
    assert all(is_supported((f,), 4) for f in (lz4, zstd, plain))
    assert is_supported((Filter(2, (4,)), Filter(1, (5,)), Filter(3))) and is_supported(())
    assert not is_supported((odd,)) and not is_supported((lz4, Filter(1))) and not is_supported((lz4,), 8)
    assert not any(is_supported((Filter(number),)) for number in (4, 5, 6, 32000, 40000))
    assert rung_of(()) == "raw" and rung_of((Filter(5),)) == "HDF5"
    assert rung_of((Filter(2), Filter(1))) == "imagecodecs"


def test_a_blosc2_frame_of_another_kind_is_left_to_hdf5() -> None:
    zeros = np.zeros(5000, "<u4")
    stored, filters, _ = stored_by_hdf5(zeros, "blosc2")
    with pytest.raises(ChunkNeedsHdf5):
        decode_chunk(stored, filters=filters, skipped=0, item_bytes=4, n_bytes=zeros.nbytes)


@pytest.mark.facility_data
def test_a_real_eiger_frame_decodes_as_hdf5_does(facility_data: Path) -> None:
    with h5py.File(facility_data / "eiger4m_frame_bitshuffle.h5", "r", locking=False) as f:
        data = f["entry/data/data"]
        expected = data[0]
        filters = read_filters(data)
        stored = bytes(data.id.read_direct_chunk((0, 0, 0))[1])
    for how in ladder(filters):
        assert outcome(stored, expected, filters, 0, how) == expected.tobytes(), how
