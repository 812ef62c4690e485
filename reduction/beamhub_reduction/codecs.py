"""Decoding of single storage chunks outside HDF5: no lock, no global state, every length checked.

For each codec there is a ladder of rungs that give the same numbers: our kernel, dectris-compression,
imagecodecs, the standard library; HDF5's own filters come last and belong to `storage_chunks`. All release
the interpreter's lock. Only gzip (Adler-32, a weak sum) and fletcher32 carry a checksum: elsewhere a flipped
byte that leaves a decodable stream cannot be noticed, and the product says so (`integrity`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from beamhub_reduction.bitshuffle import BITSHUFFLE, DEFAULT_BLOCK_BYTES, ChunkNeedsHdf5, ChunkUndecodable
from beamhub_reduction.decoders import (
    Bytes,
    Chunk,
    Decoder,
    Scratch,
    bslz4_decoders,
    decode_blosc,
    decode_blosc2,
    decode_bszstd,
    decode_zstd,
    gzip_decoders,
    lz4_decoders,
)
from beamhub_reduction.hdf5_filters import FLETCHER32, GZIP, SHUFFLE, Filter, Integrity
from beamhub_reduction.kernels.decode import fletcher32, unbitshuffle
from beamhub_reduction.kernels.shuffle import unshuffle

MAX_ITEM_BYTES = 1 << 16

_between = (Scratch(), Scratch())
"""What lies between two filters of a thread's chunk: each filter reads one and writes the other."""


def decoders(codec: str) -> dict[str, Decoder]:
    """The rungs of a codec that can be used here, the fastest first; empty where HDF5 has to do it."""
    if codec == "bitshuffle-LZ4":
        return bslz4_decoders()
    if codec == "lz4":
        return lz4_decoders()
    if codec == "gzip":
        return gzip_decoders()
    single = {
        "bitshuffle-zstd": decode_bszstd, "zstd": decode_zstd, "blosc": decode_blosc, "blosc2": decode_blosc2
    }.get(codec)  # fmt: skip
    return {"imagecodecs": single} if single else {}


def is_supported(filters: tuple[Filter, ...], item_bytes: int | None = None) -> bool:
    """Whether all filters of a pipeline can be undone here; otherwise HDF5 has to read."""
    if sum(f.compresses for f in filters) > 1:
        return False  # what lies between two of them has a size that nothing tells
    for f in filters:
        if f.compresses and not decoders(f.codec):
            return False
        if f.number == BITSHUFFLE and (
            len(f.values) < 5 or (item_bytes is not None and f.values[2] != item_bytes)
        ):
            return False
    return True


def rung_of(filters: tuple[Filter, ...]) -> str:
    """Who decodes such chunks here, for the product: 'own kernel (avx512)', 'imagecodecs', 'raw'."""
    for f in filters:
        if f.compresses:
            return next(iter(decoders(f.codec)), "HDF5")
    return "raw"


def integrity_of(filters: tuple[Filter, ...], skipped: int = 0) -> Integrity:
    """Whether a flipped byte would be noticed, for chunks whose filter masks together are `skipped`."""
    sums = [i for i, f in enumerate(filters) if f.number in (GZIP, FLETCHER32)]
    return "checksummed" if any(not skipped >> i & 1 for i in sums) else "not verifiable"


def decode_chunk(  # noqa: PLR0913  # one chunk is all of these
    stored: Any, *, filters: tuple[Filter, ...], skipped: int, item_bytes: int, n_bytes: int,
    out: Bytes | None = None, rung: str | None = None,
) -> Bytes:  # fmt: skip
    """The raw bytes of a chunk, uint8, shape (n_bytes,).

    Parameters
    ----------
    stored:
        The chunk as it lies in the file: bytes, or uint8 of shape (n,).
    filters:
        The dataset's pipeline in writing order; undone from the last to the first.
    skipped:
        The chunk's filter mask: bit i set = filter i was not applied. Source: HDF5 H5Dread_chunk.
    item_bytes:
        Bytes of one element.
    n_bytes:
        What the decoded chunk must have.
    out:
        Where to put the bytes, shape (n_bytes,), not overlapping `stored`; what it holds after an error is
        undefined. The last filter writes there at once; what lies between filters is a buffer of the thread.
    rung:
        Which decoder of the compressing filter to use, for tests and benchmarks.

    Raises
    ------
    ChunkUndecodable
        If the bytes do not decode, or decode to another length.
    ChunkNeedsHdf5
        If only HDF5's own filter knows this kind of chunk.
    """
    data: Bytes = stored if isinstance(stored, np.ndarray) else np.frombuffer(stored, dtype=np.uint8)
    used = [i for i in range(len(filters)) if not skipped >> i & 1]
    n_undone = 0
    for i in reversed(used):
        if filters[i].number == FLETCHER32:
            data = _checked(data)
            continue
        # Only a checksum that was written before this filter adds to what the filter was given.
        size = n_bytes + 4 * sum(filters[j].number == FLETCHER32 for j in used if j < i)
        if i != used[0]:
            to = _between[n_undone % 2].get(size)[:size]
        else:
            to = out if out is not None else np.empty(size, dtype=np.uint8)
        data = _undo(data, filters[i], item_bytes, to, rung)
        n_undone += 1
    if data.nbytes != n_bytes:
        raise ChunkUndecodable(f"{data.nbytes} bytes where {n_bytes} are expected")
    if out is None:
        # What a checksum stood before lies in a buffer that the thread's next chunk will use.
        return data.copy() if n_undone and filters[used[0]].number == FLETCHER32 else data
    if data is not out:
        out[:] = data
    return out


def _undo(data: Bytes, f: Filter, item_bytes: int, out: Bytes, rung: str | None) -> Bytes:
    n_bytes = out.nbytes
    if f.compresses:
        known = decoders(f.codec)
        if not known:
            raise ChunkNeedsHdf5(f"{f.codec} is left to HDF5")
        decode = known[rung] if rung is not None else next(iter(known.values()))
        decode(Chunk(data, item_bytes, n_bytes), out)
        return out
    if data.nbytes != n_bytes:
        raise ChunkUndecodable(f"{f.codec}: {data.nbytes} bytes where {n_bytes} are expected")
    if f.number == SHUFFLE:
        item = f.values[0] if f.values and 0 < f.values[0] <= MAX_ITEM_BYTES else item_bytes
        return unshuffle(data, item_bytes=item, out=out)
    item = f.values[2] if len(f.values) > 2 and 0 < f.values[2] <= MAX_ITEM_BYTES else item_bytes
    block = f.values[3] if len(f.values) > 3 and f.values[3] else _default_block(item)
    if block % 8:
        raise ChunkUndecodable(f"bitshuffle: blocks of {block} elements")
    return unbitshuffle(data, item_bytes=item, block_bytes=block * item, out=out)


def _default_block(item_bytes: int) -> int:
    """Elements of a block when none is said: 8 KiB, at least 128. Source: bitshuffle, bitshuffle_core.c."""
    return max(DEFAULT_BLOCK_BYTES // item_bytes // 8 * 8, 128)


def _checked(data: Bytes) -> Bytes:
    """The bytes before fletcher32 was added, if the sum is theirs.

    Source: HDF5 H5Zfletcher32.c; versions before 1.6.3 wrote the bytes of each half exchanged.
    """
    if data.nbytes < 4:
        raise ChunkUndecodable("fletcher32: shorter than its checksum")
    body = data[:-4]
    stated, found = int.from_bytes(data[-4:].tobytes(), "little"), fletcher32(body)
    exchanged = (found & 0x00FF00FF) << 8 | (found >> 8 & 0x00FF00FF)
    if stated not in (found, exchanged):
        raise ChunkUndecodable(f"fletcher32: the checksum is {found:#010x}, the file says {stated:#010x}")
    return body
