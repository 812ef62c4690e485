"""What is checked of a dataset before HDF5 may read values from it."""

from __future__ import annotations

import itertools

import h5py
import numpy as np

from beamhub_reduction.bitshuffle import (
    BITSHUFFLE,
    BITSHUFFLE_LZ4,
    BITSHUFFLE_ZSTD,
    ChunkUndecodable,
    read_blocks,
)
from beamhub_reduction.nexus.errors import FileDamaged, UnsupportedLayout


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
        If a chunk's bitshuffle lengths lie, which would end this process.
    """
    if dataset.external:
        raise UnsupportedLayout(file, path, "external raw storage")
    if dataset.is_virtual:
        raise UnsupportedLayout(file, path, "a virtual dataset where plain values are expected")
    if not dataset.chunks:
        return
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    positions = [i for i, found in enumerate(filters) if found[0] == BITSHUFFLE]
    if not positions:
        return
    values = filters[-1][2]
    if positions != [len(filters) - 1] or len(values) < 5 or values[2] != dataset.dtype.itemsize:
        raise UnsupportedLayout(file, path, "a bitshuffle filter that does not fit its data")
    if values[4] in (BITSHUFFLE_LZ4, BITSHUFFLE_ZSTD):
        _check_chunks(dataset, file, path, start, dataset.shape[0] if stop is None else stop, positions[0])


def _check_chunks(dataset: h5py.Dataset, file: str, path: str, start: int, stop: int, position: int) -> None:
    n_bytes = int(np.prod(dataset.chunks, dtype=np.int64)) * dataset.dtype.itemsize
    first = range(start - start % dataset.chunks[0], stop, dataset.chunks[0])
    others = [range(0, n, step) for n, step in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]
    for coord in itertools.product(first, *others):
        try:
            mask, stored = dataset.id.read_direct_chunk(coord)
        except (OSError, RuntimeError, ValueError):
            continue  # never written: HDF5 gives fill values; what is damaged otherwise fails when it is read
        if mask >> position & 1:
            continue
        try:
            read_blocks(bytes(stored), dataset.dtype.itemsize, n_bytes)
        except ChunkUndecodable as error:
            raise FileDamaged(file, f"{path}, storage chunk {coord}: {error}") from error
