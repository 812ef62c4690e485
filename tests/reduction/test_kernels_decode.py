"""The compiled decoders give the same bytes on every path, and no input goes past a buffer."""

from __future__ import annotations

import os
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beamhub_reduction import kernels
from beamhub_reduction.kernels import decode

GUARD = 64
ITEMS = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}
compiled = pytest.mark.skipif(
    kernels.available_paths() == ("numpy",), reason="no C compiler built the kernels"
)


def paths() -> list[str]:
    """The compiled paths of this machine."""
    return [path for path in kernels.available_paths() if path != "numpy"]


@given(
    n=st.integers(0, 3000), item=st.sampled_from([1, 2, 3, 4, 8]), seed=st.integers(0, 99),
    gap=st.sampled_from([0.0, 0.01, 0.5]), top=st.sampled_from([1, 200, 60_000, 2**32 - 1]),
    block=st.sampled_from([1, 16, 64, 128]),
)  # fmt: skip
def test_planes_become_the_same_elements_on_every_path(
    n: int, item: int, seed: int, gap: float, top: int, block: int
) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, min(top, 256 ** min(item, 4) - 1), n, endpoint=True)
    values[random.random(n) < gap] = 256 ** min(item, 7) - 1
    raw = values.astype("<i8").view(np.uint8).reshape(n, 8)[:, :item].tobytes()
    whole = n // 8 * 8 * item
    planes = b"".join(
        imagecodecs.bitshuffle_encode(raw[at : min(at + 8 * block * item, whole)], itemsize=item)
        for at in range(0, whole, 8 * block * item)
    ) + raw[whole:]  # fmt: skip
    for path in kernels.available_paths():
        out = np.full(n * item + GUARD, 99, np.uint8)
        with kernels.using_path(path):
            decode.unbitshuffle(
                np.frombuffer(planes, np.uint8), item_bytes=item, block_bytes=8 * block * item,
                out=out[: n * item],
            )  # fmt: skip
        assert out[: n * item].tobytes() == raw, path
        assert (out[n * item :] == 99).all()


def lz4_chunk(data: bytes, block: int) -> bytes:
    """A chunk of HDF5's LZ4 filter, which stores a block as it is where packing does not make it shorter.

    A packed block as long as its bytes cannot be told from them. Source: registered filter 32004.
    """
    parts = [len(data).to_bytes(8, "big"), block.to_bytes(4, "big")]
    for at in range(0, len(data), block):
        plain = data[at : at + block]
        packed = min(plain, imagecodecs.lz4_encode(plain, header=False), key=len)
        parts += [len(packed).to_bytes(4, "big"), packed]
    return b"".join(parts)


@compiled
@given(
    pieces=st.lists(
        st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 60)), min_size=1, max_size=12
    ),
    block=st.integers(40, 2000),
)
@example(pieces=[(b"\0", 120), (b"\0\0\0\0\0\1", 1), (b"\0", 7)], block=40)  # 13 bytes, packed also 13
def test_lz4_repeats_of_every_distance_decode_within_their_buffer(
    pieces: list[tuple[bytes, int]], block: int
) -> None:
    data = b"".join(piece * times for piece, times in pieces)
    chunk = np.frombuffer(lz4_chunk(data, block), np.uint8)
    for path in paths():
        out = np.full(len(data) + GUARD, 99, np.uint8)
        with kernels.using_path(path):
            reason = decode.decode_lz4(chunk, out=out[: len(data)])
        assert reason is None, path
        assert out[: len(data)].tobytes() == data, path
        assert (out[len(data) :] == 99).all()


@compiled
@given(body=st.binary(max_size=400), n_out=st.integers(0, 300))
def test_any_bytes_are_decoded_or_refused_within_the_buffer(body: bytes, n_out: int) -> None:
    head = n_out.to_bytes(8, "big") + max(n_out, 1).to_bytes(4, "big") + len(body).to_bytes(4, "big")
    chunk = np.frombuffer(head + body, np.uint8)
    found = set()
    for path in paths():
        out = np.full(n_out + GUARD, 99, np.uint8)
        with kernels.using_path(path):
            reason = decode.decode_lz4(chunk, out=out[:n_out])
        assert (out[n_out:] == 99).all()
        found.add((reason, out[:n_out].tobytes() if reason is None else b""))
    assert len(found) == 1


@given(data=st.binary(max_size=700))
def test_fletcher32_is_hdf5s_on_every_path(data: bytes) -> None:
    expected = imagecodecs.h5checksum_fletcher32(data) if data else 0
    array = np.frombuffer(data, np.uint8)
    for path in kernels.available_paths():
        with kernels.using_path(path):
            assert decode.fletcher32(array) == expected


def test_fletcher32_of_long_and_extreme_data_is_the_same_on_every_path() -> None:
    for data in (np.full(400_001, 255, np.uint8), np.zeros(400_000, np.uint8)):
        found = set()
        for path in kernels.available_paths():
            with kernels.using_path(path):
                found.add(decode.fletcher32(data))
        assert found == {imagecodecs.h5checksum_fletcher32(data.tobytes())}


def test_stored_chunks_are_read_alike_and_the_end_of_the_file_is_a_status(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)
    path = tmp_path / "bytes"
    path.write_bytes(content.tobytes())
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for way in kernels.available_paths():
            out = np.zeros(600, np.uint8)
            with kernels.using_path(way):
                status = decode.read_stored(
                    descriptor, offsets=np.array([10, 110, 4000, 4950]), sizes=np.array([100, 50, 100, 100]),
                    places=np.array([0, 100, 300, 400]), out=out,
                )  # fmt: skip
            assert status.tolist() == [0, 0, 0, decode.FILE_END]
            np.testing.assert_array_equal(out[:150], content[10:160])
            np.testing.assert_array_equal(out[300:400], content[4000:4100])
    finally:
        os.close(descriptor)
    assert "file ends" in str(decode.reason_of(decode.FILE_END)) and decode.reason_of(0) is None


@compiled
def test_places_outside_the_output_are_refused() -> None:
    out, buffers = np.zeros(10, np.uint8), (np.zeros(64, np.uint8), np.zeros(64, np.uint8))
    for row in ([0, 10, 5, 0, 10, 0], [0, 10, -1, 0, 5, 0], [0, 10, 0, 8, 5, 0], [0, 10, 0, 0, 5, 7], [2**62, 10, 0, 0, 5, 0]):  # fmt: skip  # noqa: E501
        with pytest.raises(ValueError, match="does not fit"):
            decode.read_chunks(
                0, np.array([row], np.int64), item_bytes=1, chunk_bytes=10, buffers=buffers, out=out
            )
