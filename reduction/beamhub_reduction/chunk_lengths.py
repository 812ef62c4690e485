"""The lengths inside stored chunks, checked before any decoder sees them.

HDF5's filters trust what stands in a chunk: hdf5plugin 7.1 ends the process over one wrong length of
bitshuffle. So the same checks stand before our decoders and before HDF5's.
"""

from __future__ import annotations

import struct
import zlib

from beamhub_reduction.bitshuffle import ChunkNeedsHdf5, ChunkUndecodable

BLOSC_HEADER, BLOSC2_HEADER = 16, 32
_BLOSC2_FRAME = struct.Struct(">xx8sxIxQ6xqxq")  # magic, header bytes, frame bytes, decoded, compressed bytes


def check_lz4(stored: bytes, n_bytes: int) -> list[tuple[int, int, int]]:
    """(start, stop, decoded bytes) of every block of a chunk of HDF5's LZ4 filter.

    Source: HDF5_LZ4.pdf, The HDF Group, registered filters.

    Raises
    ------
    ChunkUndecodable
    """
    if len(stored) < 12:
        raise ChunkUndecodable("LZ4: shorter than its header")
    total, block_bytes = struct.unpack_from(">QI", stored)
    if total != n_bytes or (block_bytes == 0 and n_bytes):
        raise ChunkUndecodable(f"LZ4: header says {total} bytes in blocks of {block_bytes}, not {n_bytes}")
    spans: list[tuple[int, int, int]] = []
    position, done = 12, 0
    while done < n_bytes:
        if position + 4 > len(stored):
            raise ChunkUndecodable(f"LZ4: ends inside block {len(spans)}")
        (length,) = struct.unpack_from(">I", stored, position)
        size = min(block_bytes, n_bytes - done)
        start, position = position + 4, position + 4 + length
        if length == 0 or length > size or position > len(stored):
            raise ChunkUndecodable(f"LZ4: block {len(spans)} claims {length} bytes")
        spans.append((start, position, size))
        done += size
    if position != len(stored):
        raise ChunkUndecodable(f"LZ4: {len(stored) - position} bytes behind the last block")
    return spans


def check_blosc(stored: bytes, n_bytes: int) -> None:
    """Check the header of a Blosc (1 or 2) chunk. Source: Blosc chunk format, README_CHUNK_FORMAT.rst.

    Raises
    ------
    ChunkUndecodable
    """
    if len(stored) < BLOSC_HEADER:
        raise ChunkUndecodable("Blosc: shorter than its header")
    decoded, block_bytes, compressed = struct.unpack_from("<III", stored, 4)
    if decoded != n_bytes or compressed != len(stored) or not 0 < block_bytes <= max(n_bytes, 1):
        raise ChunkUndecodable(
            f"Blosc: header says {decoded} bytes from {compressed} in blocks of {block_bytes}, "
            f"not {n_bytes} from {len(stored)}"
        )


def find_blosc2_chunk(stored: bytes, n_bytes: int) -> tuple[int, int]:
    """(start, stop) of the only Blosc2 chunk of a contiguous frame.

    Source: Blosc2 frame format, README_CFRAME_FORMAT.rst.

    Raises
    ------
    ChunkNeedsHdf5
        For frames of another kind: blocks of several dimensions, values that are all alike.
    ChunkUndecodable
    """
    if len(stored) < _BLOSC2_FRAME.size:
        raise ChunkUndecodable("Blosc2: shorter than its header")
    magic, header, frame, decoded, compressed = _BLOSC2_FRAME.unpack_from(stored)
    if magic != b"b2frame\0" or frame != len(stored) or decoded != n_bytes:
        raise ChunkUndecodable(
            f"Blosc2: header says {decoded} bytes from {frame}, not {n_bytes} from {len(stored)}"
        )
    if not _BLOSC2_FRAME.size <= header <= len(stored) or not 0 <= compressed <= len(stored) - header:
        raise ChunkUndecodable(f"Blosc2: a header of {header} and a chunk of {compressed} bytes")
    if compressed < BLOSC2_HEADER or b"b2nd" in stored[:header]:
        raise ChunkNeedsHdf5("Blosc2: not a plain frame of one chunk")
    check_blosc(stored[header : header + compressed], n_bytes)
    return header, header + compressed


def check_zstd(stored: bytes, n_bytes: int) -> None:
    """Check the size that a Zstandard frame announces, where it does. Source: RFC 8878, section 3.1.1.

    Raises
    ------
    ChunkUndecodable
    """
    if len(stored) < 6 or stored[:4] != b"\x28\xb5\x2f\xfd":
        raise ChunkUndecodable("Zstandard: no frame")
    descriptor = stored[4]
    single, flag = descriptor >> 5 & 1, descriptor >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    width = (1 if single else 0, 2, 4, 8)[flag]
    if width == 0 or at + width > len(stored):
        raise ChunkUndecodable("Zstandard: the frame does not say its size")
    size = int.from_bytes(stored[at : at + width], "little") + (256 if flag == 1 else 0)
    if size != n_bytes:
        raise ChunkUndecodable(f"Zstandard: the frame says {size} bytes, not {n_bytes}")


def check_gzip(stored: bytes, n_bytes: int) -> None:
    """Check that a zlib stream ends after exactly n_bytes: HDF5 gives it as much memory as it asks for.

    Raises
    ------
    ChunkUndecodable
    """
    stream, done, rest = zlib.decompressobj(), 0, stored
    try:
        while not stream.eof and done <= n_bytes:
            part = stream.decompress(rest, 1 << 20)
            done, rest = done + len(part), stream.unconsumed_tail
            if not part and not rest:
                break
    except zlib.error as error:
        raise ChunkUndecodable(f"gzip: {error}") from error
    if not stream.eof or done != n_bytes:
        raise ChunkUndecodable(f"gzip: it does not end after {n_bytes} bytes")
