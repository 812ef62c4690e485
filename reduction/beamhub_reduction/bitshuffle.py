"""The container of HDF5's bitshuffle filter: its lengths, checked without any decoder.

HDF5's own filter trusts these lengths: a single wrong one ends the process with a segmentation fault
(tried with hdf5plugin 7.1), so they are checked before HDF5 is let near a chunk.
"""

from __future__ import annotations

import struct

BITSHUFFLE = 32008
BITSHUFFLE_PLAIN, BITSHUFFLE_LZ4, BITSHUFFLE_ZSTD = 0, 2, 3
DEFAULT_BLOCK_BYTES = 8192


class ChunkUndecodable(ValueError):
    """The bytes of a chunk are not what its filters would have written; the caller adds where it lies."""


class ChunkNeedsHdf5(ChunkUndecodable):
    """A legal chunk of a kind that only HDF5's own filter decodes."""


Spans = list[tuple[int, int, int]]  # (start in the chunk, stop in the chunk, decoded bytes) of each block


def read_blocks(stored: bytes, item_bytes: int, n_bytes: int) -> tuple[Spans, int, int]:
    """(place and decoded size of every block, bytes of a full block, bytes stored as they are at the end).

    Total bytes (u64 BE), block bytes (u32 BE), then per block its length (u32 BE) and its data; the last
    block is a multiple of 8 elements; a rest of up to 7 elements follows as it is.
    Source: bitshuffle, bshuf_h5filter.c (MIT).

    Raises
    ------
    ChunkUndecodable
        If any length disagrees with what is there, or with the chunk's decoded size.
    """
    if len(stored) < 12:
        raise ChunkUndecodable("shorter than the header of bitshuffle")
    total, block_bytes = struct.unpack_from(">QI", stored)
    block_bytes = block_bytes or DEFAULT_BLOCK_BYTES
    if total != n_bytes or block_bytes % (8 * item_bytes):
        raise ChunkUndecodable(f"header says {total} bytes in blocks of {block_bytes}, not {n_bytes} bytes")
    group = 8 * item_bytes
    last = (n_bytes % block_bytes) // group * group
    sizes = [block_bytes] * (n_bytes // block_bytes) + ([last] if last else [])
    rest = n_bytes - sum(sizes)
    spans: Spans = []
    position = 12
    for size in sizes:
        if position + 4 > len(stored):
            raise ChunkUndecodable(f"ends inside block {len(spans)} of {len(sizes)}")
        (length,) = struct.unpack_from(">I", stored, position)
        start, position = position + 4, position + 4 + length
        if length == 0 or position > len(stored):
            raise ChunkUndecodable(f"block {len(spans)} claims {length} bytes, more than there are")
        spans.append((start, position, size))
    if position + rest != len(stored):
        raise ChunkUndecodable(
            f"{len(stored) - position} bytes behind the last block where {rest} are expected"
        )
    return spans, block_bytes, rest
