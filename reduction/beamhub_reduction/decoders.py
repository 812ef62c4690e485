"""The rungs of every codec: functions that decode one chunk into a buffer of its decoded size, or raise."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import imagecodecs
import numpy as np

from beamhub_reduction import kernels
from beamhub_reduction.bitshuffle import ChunkUndecodable, read_blocks
from beamhub_reduction.chunk_lengths import check_blosc, check_lz4, find_blosc2_chunk
from beamhub_reduction.kernels import decode as native

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

MAX_BLOCK_BYTES = 1 << 28
"""A block of bitshuffle that is larger goes to the next rung; the usual ones are 8 KiB."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Stored bytes (uint8, contiguous), bytes of an element, and the bytes that must come out."""

    stored: Bytes
    item_bytes: int
    n_bytes: int


Decoder = Callable[[Chunk, Bytes], None]


class Scratch(threading.local):
    """A buffer of each thread that grows with its largest use, up to a bound, and is kept."""

    keep = 64 << 20

    def __init__(self) -> None:
        self.buffer: Bytes = np.empty(0, dtype=np.uint8)

    def get(self, n_bytes: int) -> Bytes:
        """At least n_bytes, holding anything."""
        if self.buffer.nbytes >= n_bytes:
            return self.buffer
        found = np.empty(n_bytes, dtype=np.uint8)
        if n_bytes <= self.keep:
            self.buffer = found
        return found


_blocks = Scratch()
_planes = Scratch()


@cache
def has_dectris() -> bool:
    """Whether dectris-compression is installed."""
    return find_spec("dectris") is not None and find_spec("dectris.compression") is not None


def bslz4_decoders() -> dict[str, Decoder]:
    """The rungs of bitshuffle-LZ4."""
    found: dict[str, Decoder] = {}
    if native.has_decoders():
        found[f"own kernel ({kernels.active_path()})"] = _bslz4_kernel
    if has_dectris():
        found["dectris-compression"] = _bslz4_dectris
    found["imagecodecs"] = _bslz4_imagecodecs
    return found


def lz4_decoders() -> dict[str, Decoder]:
    """The rungs of HDF5's LZ4 filter."""
    own: dict[str, Decoder] = (
        {f"own kernel ({kernels.active_path()})": _lz4_kernel} if native.has_decoders() else {}
    )
    return {**own, "imagecodecs": _lz4_imagecodecs}


def gzip_decoders() -> dict[str, Decoder]:
    """The rungs of gzip; all verify its Adler-32."""
    return {"imagecodecs": _gzip_imagecodecs, "zlib": _gzip_zlib}


def _bslz4_kernel(chunk: Chunk, out: Bytes) -> None:
    if chunk.stored.nbytes < 12:
        raise ChunkUndecodable("bitshuffle-LZ4: shorter than the header of bitshuffle")
    said = int.from_bytes(chunk.stored[8:12].tobytes(), "big") or 8192
    block = min(said, chunk.n_bytes)
    if block > MAX_BLOCK_BYTES:
        _bslz4_imagecodecs(chunk, out)
        return
    reason = native.decode_bslz4(
        chunk.stored, item_bytes=chunk.item_bytes, out=out, scratch=_blocks.get(2 * block + 64)
    )
    if reason:
        raise ChunkUndecodable(f"bitshuffle-LZ4: {reason}")


def _bslz4_dectris(chunk: Chunk, out: Bytes) -> None:
    # Optional dependency: the other rungs give the same numbers without it.
    from dectris.compression import decompress

    stored = chunk.stored.tobytes()
    _, block_bytes, _ = read_blocks(stored, chunk.item_bytes, chunk.n_bytes)
    # It does not know that 0 stands for the usual size.
    stored = stored[:8] + block_bytes.to_bytes(4, "big") + stored[12:]
    try:
        decoded = decompress(stored, "bslz4", elem_size=chunk.item_bytes)
    except (RuntimeError, ValueError) as error:
        raise ChunkUndecodable(f"bitshuffle-LZ4: {error}") from error
    _put(decoded, out)


def _bslz4_imagecodecs(chunk: Chunk, out: Bytes) -> None:
    stored = chunk.stored.tobytes()
    spans, block_bytes, rest = read_blocks(stored, chunk.item_bytes, chunk.n_bytes)
    at = 0
    for start, stop, size in spans:
        block = _lz4_block(stored[start:stop], size)
        _unbitshuffle(block, chunk.item_bytes, block_bytes, out[at : at + size])
        at += size
    _put(stored[len(stored) - rest :], out[at:])


def _lz4_block(stored: bytes, size: int) -> bytes:
    try:
        block = imagecodecs.lz4_decode(stored, out=size)
    except (imagecodecs.Lz4Error, ValueError, RuntimeError) as error:
        raise ChunkUndecodable(f"LZ4: {error}") from error
    if len(block) != size:
        raise ChunkUndecodable(f"LZ4: a block decodes to {len(block)} bytes, expected {size}")
    return bytes(block)


def _unbitshuffle(data: bytes, item_bytes: int, block_bytes: int, out: Bytes) -> None:
    items = imagecodecs.bitshuffle_decode(data, itemsize=item_bytes, blocksize=block_bytes // item_bytes)
    _put(items, out)


def decode_bszstd(chunk: Chunk, out: Bytes) -> None:
    """Undo bitshuffle with Zstandard: the frames of all blocks are decoded as one stream, then the planes."""
    stored = chunk.stored.tobytes()
    spans, block_bytes, rest = read_blocks(stored, chunk.item_bytes, chunk.n_bytes)
    n_planes = chunk.n_bytes - rest
    frames = b"".join(stored[start:stop] for start, stop, _ in spans)
    planes = _planes.get(n_planes)[:n_planes]
    _decoded("bitshuffle-zstd", imagecodecs.zstd_decode, frames, planes)
    native.unbitshuffle(planes, item_bytes=chunk.item_bytes, block_bytes=block_bytes, out=out[:n_planes])
    _put(stored[len(stored) - rest :], out[n_planes:])


def _lz4_kernel(chunk: Chunk, out: Bytes) -> None:
    reason = native.decode_lz4(chunk.stored, out=out)
    if reason:
        raise ChunkUndecodable(f"LZ4: {reason}")


def _lz4_imagecodecs(chunk: Chunk, out: Bytes) -> None:
    stored, at = chunk.stored.tobytes(), 0
    for start, stop, size in check_lz4(stored, chunk.n_bytes):
        block = stored[start:stop]
        _put(block if len(block) == size else _lz4_block(block, size), out[at : at + size])
        at += size


def decode_zstd(chunk: Chunk, out: Bytes) -> None:
    """Undo HDF5's Zstandard filter."""
    _decoded("Zstandard", imagecodecs.zstd_decode, chunk.stored, out)


def decode_blosc(chunk: Chunk, out: Bytes) -> None:
    """Undo HDF5's Blosc filter."""
    check_blosc(chunk.stored.tobytes(), chunk.n_bytes)
    _decoded("Blosc", imagecodecs.blosc_decode, chunk.stored, out, numthreads=1)


def decode_blosc2(chunk: Chunk, out: Bytes) -> None:
    """Undo HDF5's Blosc2 filter where its frame holds one chunk of one dimension."""
    start, stop = find_blosc2_chunk(chunk.stored.tobytes(), chunk.n_bytes)
    _decoded("Blosc2", imagecodecs.blosc2_decode, chunk.stored[start:stop], out, numthreads=1)


def _gzip_imagecodecs(chunk: Chunk, out: Bytes) -> None:
    _decoded("gzip", imagecodecs.deflate_decode, chunk.stored, out)


def _gzip_zlib(chunk: Chunk, out: Bytes) -> None:
    stream = zlib.decompressobj()
    try:
        decoded = stream.decompress(chunk.stored.tobytes(), chunk.n_bytes + 1)
    except zlib.error as error:
        raise ChunkUndecodable(f"gzip: {error}") from error
    if not stream.eof:
        raise ChunkUndecodable("gzip: the stream does not end where it should")
    _put(decoded, out)


def _decoded(name: str, decode: Callable[..., Any], stored: Any, out: Bytes, **options: int) -> None:
    if not out.nbytes:
        return
    try:
        found = decode(stored, out=out, **options)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise ChunkUndecodable(f"{name}: {error}") from error
    if len(found) != out.nbytes:
        raise ChunkUndecodable(f"{name}: {len(found)} bytes where {out.nbytes} are expected")


def _put(decoded: Any, out: Bytes) -> None:
    if len(decoded) != out.nbytes:
        raise ChunkUndecodable(f"{len(decoded)} bytes where {out.nbytes} are expected")
    out[:] = np.frombuffer(decoded, dtype=np.uint8)
