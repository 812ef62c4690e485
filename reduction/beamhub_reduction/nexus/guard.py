"""What is checked of a dataset before HDF5 may read values from it."""

from __future__ import annotations

import itertools

import h5py
import numpy as np

from beamhub_reduction.bitshuffle import ChunkNeedsHdf5, ChunkUndecodable, read_blocks
from beamhub_reduction.chunk_lengths import check_blosc, check_gzip, check_lz4, check_zstd, find_blosc2_chunk
from beamhub_reduction.hdf5_filters import FLETCHER32, Filter
from beamhub_reduction.nexus.errors import FileDamaged, UnsupportedLayout

_TRUSTING = ("bitshuffle-LZ4", "bitshuffle-zstd", "lz4", "blosc", "blosc2", "zstd", "gzip")
"""Codecs whose HDF5 filters believe the lengths in a chunk: they crash, or take any amount of memory."""


def read_filters(dataset: h5py.Dataset) -> tuple[Filter, ...]:
    """The filters of a dataset, in writing order."""
    plist = dataset.id.get_create_plist()
    found = (plist.get_filter(i) for i in range(plist.get_nfilters()))
    return tuple(Filter(int(number), tuple(int(v) for v in values)) for number, _, values, _ in found)


def check_readable(
    dataset: h5py.Dataset, file: str, path: str, start: int = 0, stop: int | None = None
) -> None:
    """Check rows start to stop (first axis) of a dataset, all of it without `stop`.

    Raises
    ------
    UnsupportedLayout
        If HDF5 would take values from other files: external storage (raw bytes of any file), or a virtual
        dataset, whose missing sources read as fill values; or for a filter pipeline that cannot be checked.
    FileDamaged
        If the lengths in a chunk lie, which would end this process or fill its memory.
    """
    if dataset.external:
        raise UnsupportedLayout(file, path, "external raw storage")
    if dataset.is_virtual:
        raise UnsupportedLayout(file, path, "a virtual dataset where plain values are expected")
    if not dataset.chunks:
        return
    filters = read_filters(dataset)
    check_filters(filters, dataset.dtype.itemsize, file, path)
    if any(f.codec in _TRUSTING for f in filters):
        _check_chunks(dataset, filters, file, path, (start, dataset.shape[0] if stop is None else stop))


def check_filters(filters: tuple[Filter, ...], item_bytes: int, file: str, path: str) -> None:
    """Check that HDF5 can undo the filters, and that they fit the data.

    Raises
    ------
    UnsupportedLayout
    """
    for i, f in enumerate(filters):
        if not h5py.h5z.filter_avail(f.number):
            raise UnsupportedLayout(file, path, f"filter {f.number}, which is not installed here")
        if not f.codec.startswith("bitshuffle"):
            continue
        behind = filters[i + 1 :]
        if (
            len(f.values) < 5
            or f.values[2] != item_bytes
            or f.codec not in ("bitshuffle", "bitshuffle-LZ4", "bitshuffle-zstd")
            or any(other.number != FLETCHER32 for other in behind)
        ):
            raise UnsupportedLayout(file, path, "a bitshuffle filter that does not fit its data")


def check_stored(
    stored: bytes, filters: tuple[Filter, ...], mask: int, item_bytes: int, n_bytes: int
) -> None:
    """Check the lengths in one chunk, as far as its last compressing filter shows them.

    Raises
    ------
    ChunkUndecodable
    """
    used = [f for i, f in enumerate(filters) if not mask >> i & 1]
    while used and used[-1].number == FLETCHER32:
        stored, used = stored[:-4], used[:-1]
    if not used or used[-1].codec not in _TRUSTING:
        return
    if any(f.compresses for f in used[:-1]):
        return  # what it decodes to is not known here
    n_bytes += 4 * sum(f.number == FLETCHER32 for f in used)
    codec = used[-1].codec
    if codec.startswith("bitshuffle"):
        read_blocks(stored, item_bytes, n_bytes)
    elif codec == "blosc2":
        try:
            find_blosc2_chunk(stored, n_bytes)
        except ChunkNeedsHdf5:
            return
    else:
        {"lz4": check_lz4, "blosc": check_blosc, "zstd": check_zstd, "gzip": check_gzip}[codec](
            stored, n_bytes
        )


def _check_chunks(
    dataset: h5py.Dataset, filters: tuple[Filter, ...], file: str, path: str, rows: tuple[int, int]
) -> None:
    n_bytes = int(np.prod(dataset.chunks, dtype=np.int64)) * dataset.dtype.itemsize
    start, stop = rows
    first = range(start - start % dataset.chunks[0], stop, dataset.chunks[0])
    others = [range(0, n, step) for n, step in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]
    for coord in itertools.product(first, *others):
        try:
            mask, stored = dataset.id.read_direct_chunk(coord)
        except (OSError, RuntimeError, ValueError):
            continue  # never written: HDF5 gives fill values; what is damaged otherwise fails when it is read
        try:
            check_stored(bytes(stored), filters, mask, dataset.dtype.itemsize, n_bytes)
        except ChunkUndecodable as error:
            raise FileDamaged(file, f"{path}, storage chunk {coord}: {error}") from error
