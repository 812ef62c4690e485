"""Compiled decoders of HDF5 chunks, and reading many chunks in one call without the interpreter's lock.

There is no NumPy form of LZ4: a caller asks `has_decoders()` first, and goes on to another library without
them. What is wrong with a chunk comes back as a sentence, never as an exception of another library.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import NUMPY, active_path, function, pointer

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

NO_ROOM, FILE_END = -15, -16
_ERRNO = -1000

# What is below zero in kernels/src/lz4_block.h and containers.h.
_REASONS = {
    -1: "an LZ4 block ends inside a sequence",
    -2: "an LZ4 block holds more literals than it has bytes or room",
    -3: "a match of an LZ4 block begins before the block",
    -4: "an LZ4 block decodes to more bytes than expected",
    -5: "an LZ4 block decodes to fewer bytes than expected",
    -10: "shorter than its header",
    -11: "its header says another number of bytes",
    -12: "its header says blocks of an impossible size",
    -13: "a block claims more bytes than there are",
    -14: "it does not end behind its last block",
    NO_ROOM: "a chunk or a block is larger than it may be",
    FILE_END: "the file ends before the chunk does",
}
_p, _n = ctypes.c_void_p, ctypes.c_int64

RAW, BSLZ4, LZ4 = 0, 1, 2
N_COLUMNS = 6
"""Of `wanted`: offset and bytes in the file, place in the output, first decoded byte, how many, method."""


def has_decoders() -> bool:
    """Whether the compiled decoders can be used."""
    return active_path() != NUMPY


def reason_of(status: int) -> str | None:
    """What a status below zero means, in words; None for 0."""
    if status >= 0:
        return None
    if status <= _ERRNO:
        return f"it could not be read: {os.strerror(_ERRNO - status)}"
    return _REASONS.get(status, f"unusable ({status})")


def decode_bslz4(chunk: Bytes, *, item_bytes: int, out: Bytes, scratch: Bytes) -> str | None:
    """Decode a whole bitshuffle-LZ4 chunk into `out`; None, or what is wrong (then `out` holds anything).

    Parameters
    ----------
    chunk, out, scratch:
        uint8, C-contiguous, one-dimensional; `scratch` holds two blocks of the chunk.
    """
    kernel = _required("decode_bslz4", (_p, _n, _n, _p, _n, _p, _n))
    return reason_of(
        kernel(
            pointer(chunk), chunk.nbytes, item_bytes, pointer(out), out.nbytes, pointer(scratch),
            scratch.nbytes,
        )
    )  # fmt: skip


def decode_lz4(chunk: Bytes, *, out: Bytes) -> str | None:
    """Decode a whole chunk of HDF5's LZ4 filter into `out`; None, or what is wrong."""
    kernel = _required("decode_lz4", (_p, _n, _p, _n))
    return reason_of(kernel(pointer(chunk), chunk.nbytes, pointer(out), out.nbytes))


def unbitshuffle(data: Bytes, *, item_bytes: int, block_bytes: int, out: Bytes) -> Bytes:
    """The elements before bitshuffle, block by block; a rest below 8 elements stays as it is.

    Source: K. Masui et al., doi:10.1016/j.ascom.2015.07.002.
    """
    if out.nbytes != data.nbytes or item_bytes < 1 or block_bytes < 1 or block_bytes % (8 * item_bytes):
        raise ValueError(
            f"{data.nbytes} bytes of {item_bytes} in blocks of {block_bytes} do not go into {out.nbytes}"
        )
    kernel = function("unbitshuffle", (_p, _n, _n, _n, _p))
    if kernel is not None:
        kernel(pointer(data), data.nbytes, item_bytes, block_bytes, pointer(out))
        return out
    group, done = 8 * item_bytes, 0
    while data.nbytes - done >= group:
        size = min(block_bytes, (data.nbytes - done) // group * group)
        planes = data[done : done + size].reshape(group, size // group)
        bits = np.unpackbits(planes, axis=1, bitorder="little")  # (8 item_bytes, n_items)
        out[done : done + size] = np.packbits(bits.T, axis=1, bitorder="little").ravel()
        done += size
    out[done:] = data[done:]
    return out


def fletcher32(data: Bytes) -> int:
    """HDF5's checksum of a chunk. Source: J. Fletcher, doi:10.1109/TCOM.1982.1095369, as in H5checksum.c."""
    kernel = function("fletcher32", (_p, _n))
    if kernel is not None:
        return kernel(pointer(data), data.nbytes)
    padded = np.concatenate([data, np.zeros(data.nbytes % 2, np.uint8)]).view(">u2").astype(np.uint64)
    first = second = 0
    for low in range(0, padded.size, 1 << 16):
        part = padded[low : low + (1 << 16)]
        second += first * part.size + int(part @ np.arange(part.size, 0, -1, dtype=np.uint64))
        first += int(part.sum())
    return _folded(second) << 16 | _folded(first)


def _folded(value: int) -> int:
    return (value - 1) % 65535 + 1 if value else 0


def read_stored(
    descriptor: int, *, offsets: IntArray, sizes: IntArray, places: IntArray, out: Bytes
) -> IntArray:
    """Chunks as they lie in the file, chunk i to `out[places[i] : places[i] + sizes[i]]`; a status for each.

    Neighbours are read together. The places do not overlap.

    Parameters
    ----------
    offsets, sizes, places:
        int64, shape (n_chunks,).
    """
    status = np.zeros(offsets.size, dtype=np.int64)
    kernel = function("read_stored", (_n, _n, _p, _p, _p, _p, _n, _p))
    if kernel is None:
        for i, (offset, size, place) in enumerate(zip(offsets, sizes, places, strict=True)):
            status[i] = read_into(descriptor, int(offset), out[place : place + size])
        return status
    columns = [np.ascontiguousarray(column, dtype=np.int64) for column in (offsets, sizes, places)]
    code = kernel(
        descriptor, status.size, *(pointer(c) for c in columns), pointer(out), out.nbytes, pointer(status)
    )
    if code < 0:
        raise ValueError("places of chunks that do not fit the buffer")
    return status


def read_chunks(
    descriptor: int, wanted: IntArray, *, item_bytes: int, chunk_bytes: int, buffers: tuple[Bytes, Bytes],
    out: Bytes,
) -> IntArray:  # fmt: skip
    """Read and decode many chunks of one dataset; a status for each, 0 where its part of `out` is right.

    Parameters
    ----------
    wanted:
        int64, shape (n_chunks, N_COLUMNS), in the order of the file where possible.
    buffers:
        One for stored bytes, at least the largest chunk, better a megabyte; one for two blocks and, where a
        part of a chunk is wanted, the whole decoded chunk.
    """
    kernel = _required("read_chunks", (_n, _n, _p, _n, _n, _p, _n, _p, _n, _p, _n, _p))
    if wanted.shape[1:] != (N_COLUMNS,) or wanted.dtype != np.int64:
        raise ValueError(f"a table of shape {wanted.shape} where (n, {N_COLUMNS}) is expected")
    status = np.zeros(len(wanted), dtype=np.int64)
    stored, scratch = buffers
    code = kernel(
        descriptor, len(wanted), pointer(wanted), item_bytes, chunk_bytes, pointer(stored), stored.nbytes,
        pointer(scratch), scratch.nbytes, pointer(out), out.nbytes, pointer(status),
    )  # fmt: skip
    if code < 0:
        raise ValueError("a wanted part of a chunk that does not fit the chunk or the output")
    return status


def read_into(descriptor: int, offset: int, out: Bytes) -> int:
    """Fill `out` from a place in a file; 0 or a status, as the compiled readers give it."""
    view, done = memoryview(out.data).cast("B"), 0
    while done < len(view):  # one read gives at most 2 GiB
        try:
            got = os.preadv(descriptor, [view[done:]], offset + done)
        except OSError as error:
            return _ERRNO - (error.errno or 0)
        if got == 0:
            return FILE_END
        done += got
    return 0


def _required(name: str, argtypes: tuple[Any, ...]) -> Any:
    kernel = function(name, argtypes)
    if kernel is None:
        raise ValueError(f"{name} needs the compiled kernels; ask has_decoders() first")
    return kernel
