"""Decoding of single storage chunks outside HDF5: no lock, no global state, every length checked.

Rungs for bitshuffle-LZ4, same numbers on each: dectris-compression when it is installed (one call per
chunk), else imagecodecs (one call per block). Both release the interpreter's lock. LZ4 has no checksum:
a flipped byte that leaves a decodable stream cannot be noticed here; gzip's Adler-32 is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import imagecodecs
import numpy as np

from beamhub_reduction.bitshuffle import BITSHUFFLE, BITSHUFFLE_LZ4, ChunkUndecodable, Spans, read_blocks

GZIP, SHUFFLE = 1, 2


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a dataset's pipeline. Source: HDF5 H5Zpublic.h and the registered filter list."""

    number: int
    values: tuple[int, ...] = ()


def is_supported(filters: tuple[Filter, ...]) -> bool:
    """Whether all filters of a pipeline can be undone here; otherwise HDF5 has to read."""
    return all(
        f.number in (GZIP, SHUFFLE)
        or (f.number == BITSHUFFLE and len(f.values) >= 5 and f.values[4] == BITSHUFFLE_LZ4)
        for f in filters
    )


@cache
def has_dectris() -> bool:
    """Whether the faster rung for bitshuffle-LZ4 is installed."""
    return find_spec("dectris") is not None and find_spec("dectris.compression") is not None


def decode_chunk(
    stored: bytes, *, filters: tuple[Filter, ...], skipped: int, item_bytes: int, n_bytes: int
) -> bytes | bytearray | memoryview:
    """The raw bytes of a chunk.

    Parameters
    ----------
    stored:
        The chunk as it lies in the file.
    filters:
        The dataset's pipeline in writing order; undone from the last to the first.
    skipped:
        The chunk's filter mask: bit i set = filter i was not applied. Source: HDF5 H5Dread_chunk.
    item_bytes:
        Bytes of one element.
    n_bytes:
        What the decoded chunk must have.

    Raises
    ------
    ChunkUndecodable
        If the bytes do not decode, or decode to another length.
    """
    data: Any = stored
    for i in reversed(range(len(filters))):
        if skipped >> i & 1:
            continue
        number = filters[i].number
        if number == BITSHUFFLE:
            data = decode_bitshuffle_lz4(bytes(data), item_bytes=item_bytes, n_bytes=n_bytes)
        elif number == GZIP:
            data = decode_gzip(data, n_bytes=n_bytes)
        elif number == SHUFFLE:
            data = unshuffle(data, item_bytes=item_bytes)
    if len(data) != n_bytes:
        raise ChunkUndecodable(f"{len(data)} bytes where {n_bytes} are expected")
    decoded: bytes | bytearray | memoryview = data
    return decoded


def decode_gzip(stored: bytes, *, n_bytes: int) -> bytes | bytearray:
    """Undo HDF5's gzip filter (a zlib stream); its checksum is verified."""
    try:
        return imagecodecs.deflate_decode(stored, out=n_bytes)
    except (imagecodecs.DeflateError, ValueError, RuntimeError) as error:
        raise ChunkUndecodable(f"gzip: {error}") from error


def unshuffle(data: bytes | bytearray, *, item_bytes: int) -> bytes:
    """Undo HDF5's byte shuffle: byte k of all elements stood together; a rest below one element stays."""
    n_items = len(data) // item_bytes
    planes = np.frombuffer(data, dtype=np.uint8, count=n_items * item_bytes).reshape(item_bytes, n_items)
    return planes.T.tobytes() + bytes(data[n_items * item_bytes :])


def decode_bitshuffle_lz4(
    stored: bytes, *, item_bytes: int, n_bytes: int, rung: str | None = None
) -> bytes | bytearray:
    """Undo the bitshuffle filter with LZ4.

    The lengths of all blocks are checked before any decoder sees them: the HDF5 filter trusts them.
    """
    spans, block_bytes, rest = read_blocks(stored, item_bytes, n_bytes)
    if rung is None:
        rung = "dectris" if has_dectris() else "imagecodecs"
    decode = _RUNGS[rung]
    return decode(stored, spans, block_bytes, rest, item_bytes, n_bytes)


def _decode_with_dectris(
    stored: bytes, spans: Spans, block_bytes: int, rest: int, item_bytes: int, n_bytes: int
) -> bytes:
    # Optional dependency: the imagecodecs rung gives the same numbers without it.
    from dectris.compression import decompress

    try:
        decoded: bytes = decompress(stored, "bslz4", elem_size=item_bytes)
    except (RuntimeError, ValueError) as error:
        raise ChunkUndecodable(f"bitshuffle-LZ4: {error}") from error
    return decoded


def _decode_with_imagecodecs(
    stored: bytes, spans: Spans, block_bytes: int, rest: int, item_bytes: int, n_bytes: int
) -> bytearray:
    shuffled = bytearray(n_bytes)
    view = memoryview(shuffled)
    at = 0
    for start, stop, size in spans:
        try:
            block = imagecodecs.lz4_decode(stored[start:stop], out=size)
        except (imagecodecs.Lz4Error, ValueError, RuntimeError) as error:
            raise ChunkUndecodable(f"bitshuffle-LZ4, block at byte {start}: {error}") from error
        if len(block) != size:
            raise ChunkUndecodable(f"block at byte {start} decodes to {len(block)} bytes, expected {size}")
        view[at : at + size] = imagecodecs.bitshuffle_decode(
            bytes(block), itemsize=item_bytes, blocksize=block_bytes // item_bytes
        )
        at += size
    if rest:
        view[at:] = stored[len(stored) - rest :]
    return shuffled


_RUNGS: dict[str, Callable[[bytes, Spans, int, int, int, int], bytes | bytearray]] = {
    "dectris": _decode_with_dectris,
    "imagecodecs": _decode_with_imagecodecs,
}
