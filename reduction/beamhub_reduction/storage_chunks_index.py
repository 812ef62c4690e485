"""The index of a dataset's storage chunks: read once with `chunk_iter`, kept while the file is the same."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from beamhub_reduction.chunk_walk import walk_chunks
from beamhub_reduction.codecs import integrity_of, is_supported, rung_of
from beamhub_reduction.hdf5_filters import Filter, Integrity
from beamhub_reduction.nexus.access import open_hdf5, reading
from beamhub_reduction.nexus.errors import NodeMissing, UnsupportedLayout
from beamhub_reduction.nexus.guard import check_filters, read_filters

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FileIdentity = tuple[int, int, int, int]
"""(device, inode, mtime in ns, size): another content has another identity."""

CACHE_BYTES = 256 * 1024**2
"""How much memory the indexes that are kept may take together: about ten million chunks."""
MAX_ELEMENTS = 1 << 62


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """A dataset as runs of bytes in a file.

    `numbers` (n_chunks,) are the places of the allocated chunks in the grid of all chunks, counted along the
    last axis first, ascending; `offsets`, `sizes` and `filter_masks` belong to them. A contiguous dataset is
    one chunk without filters. With way == 'hdf5' the numbers only tell what was written: HDF5 has to read,
    because of `reason`.
    `fill` is the value of what was never written.
    """

    file: str
    identity: FileIdentity
    dataset: str
    shape: tuple[int, ...]
    dtype: str
    way: Literal["direct", "hdf5"]
    reason: str
    chunk_shape: tuple[int, ...]
    filters: tuple[Filter, ...]
    fill: bytes
    numbers: IntArray
    offsets: IntArray
    sizes: IntArray
    filter_masks: IntArray

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one row (one frame, one event)."""
        return prod(self.shape[1:]) * np.dtype(self.dtype).itemsize

    @property
    def chunk_bytes(self) -> int:
        """Decoded bytes of one chunk, whole also at the dataset's edge."""
        return prod(self.chunk_shape) * np.dtype(self.dtype).itemsize

    @property
    def rows_per_chunk(self) -> int:
        """Rows that share a chunk: ranges that end on multiples of it decode nothing twice."""
        return self.chunk_shape[0] if self.chunk_shape else 1

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks there are along each axis."""
        return tuple(-(-n // max(c, 1)) for n, c in zip(self.shape, self.chunk_shape, strict=True))

    @property
    def is_contiguous(self) -> bool:
        """Whether rows lie one behind the other without filters, so that any of them can be read."""
        return not self.filters and self.chunk_shape == self.shape

    @property
    def rung(self) -> str:
        """Who decodes the chunks on this machine, for the product."""
        return rung_of(self.filters) if self.way == "direct" else f"HDF5 ({self.reason})"

    @property
    def integrity(self) -> Integrity:
        """Whether a flipped byte in any chunk would be noticed."""
        skipped = int(np.bitwise_or.reduce(self.filter_masks)) if self.filter_masks.size else 0
        return integrity_of(self.filters, skipped)

    def coord(self, i: int) -> tuple[int, ...]:
        """The first element of chunk i."""
        found, number = [], int(self.numbers[i])
        for n, size in zip(reversed(self.grid), reversed(self.chunk_shape), strict=True):
            number, place = divmod(number, n)
            found.append(place * size)
        return tuple(reversed(found))

    def select(self, start: int, stop: int) -> ChunkIndex:
        """The index reduced to the chunks that hold rows start to stop: what travels with a work unit."""
        across = prod(self.grid[1:])
        low = start // self.rows_per_chunk * across if self.rows_per_chunk else 0
        high = -(-stop // self.rows_per_chunk) * across if stop > start and self.rows_per_chunk else low
        first, last = np.searchsorted(self.numbers, (low, high))
        if first == 0 and last == self.numbers.size:
            return self
        kept = slice(int(first), int(last))
        return replace(
            self,
            numbers=self.numbers[kept], offsets=self.offsets[kept], sizes=self.sizes[kept],
            filter_masks=self.filter_masks[kept],
        )  # fmt: skip

    @property
    def memory_bytes(self) -> int:
        """What it takes to keep."""
        return 2048 + 32 * int(self.numbers.size)


def file_identity(file: str) -> FileIdentity:
    """What tells this content of a file from another one."""
    return identity_of(Path(file).stat())


def identity_of(status: os.stat_result) -> FileIdentity:
    """The same from a status that is there already."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


class _IndexCache:
    """The indexes last used, bounded by the memory they take; its lock protects the table only."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self.held_bytes = limit_bytes, 0
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[FileIdentity, str, str], ChunkIndex] = OrderedDict()

    def get(self, key: tuple[FileIdentity, str, str]) -> ChunkIndex | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: tuple[FileIdentity, str, str], index: ChunkIndex) -> None:
        with self._lock:
            before = self._held.pop(key, None)
            self.held_bytes += index.memory_bytes - (before.memory_bytes if before else 0)
            self._held[key] = index
            while self.held_bytes > self.limit_bytes and len(self._held) > 1:
                _, dropped = self._held.popitem(last=False)
                self.held_bytes -= dropped.memory_bytes


_cache = _IndexCache(CACHE_BYTES)


def read_chunk_index(file: str, dataset: str) -> ChunkIndex:
    """The index of a plain dataset of a real file; kept while the file does not change.

    Raises
    ------
    NodeMissing, FileDamaged, UnsupportedLayout
    """
    identity = file_identity(file)
    key = (identity, file, dataset)
    found = _cache.get(key)
    if found is None:
        found = _read_index(file, dataset, identity)
        _cache.put(key, found)
    return found


def _read_index(file: str, dataset: str, identity: FileIdentity) -> ChunkIndex:
    with open_hdf5(file) as handle, reading(file):
        try:
            item = handle[dataset]
        except KeyError as error:
            raise NodeMissing(file, dataset) from error
        if not isinstance(item, h5py.Dataset) or not item.shape or item.dtype.kind not in "iufb":
            raise UnsupportedLayout(file, dataset, "no array of numbers")
        if item.external or item.is_virtual:
            raise UnsupportedLayout(file, dataset, "values in other files")
        if prod(item.shape) * item.dtype.itemsize > MAX_ELEMENTS:
            raise UnsupportedLayout(file, dataset, f"a shape that no file can hold, {item.shape}")
        filters = read_filters(item)
        check_filters(filters, item.dtype.itemsize, file, dataset)
        return _build(file, dataset, identity, item, filters)


def _build(
    file: str, dataset: str, identity: FileIdentity, item: h5py.Dataset, filters: tuple[Filter, ...]
) -> ChunkIndex:
    shape = tuple(int(n) for n in item.shape)
    layout = item.id.get_create_plist().get_layout()
    table = np.zeros((4, 0), dtype=np.int64)
    chunk_shape, reason = shape, ""
    if layout == h5py.h5d.CONTIGUOUS:
        offset = item.id.get_offset()
        if offset is not None and item.nbytes:
            table = np.array([[0], [offset], [item.nbytes], [0]], dtype=np.int64)
    elif layout == h5py.h5d.CHUNKED:
        chunk_shape = tuple(int(n) for n in item.chunks)
        table, reason = _chunk_table(file, item, shape, chunk_shape)
        if not is_supported(filters, item.dtype.itemsize):
            reason = "filters " + ", ".join(f.codec for f in filters)
    else:
        table, reason = np.zeros((4, 1), dtype=np.int64), "compact storage"
    numbers, offsets, sizes, masks = (np.ascontiguousarray(row) for row in table)
    return ChunkIndex(
        file, identity, dataset, shape, item.dtype.str, "hdf5" if reason else "direct", reason, chunk_shape,
        filters, np.asarray(item.fillvalue, item.dtype).tobytes(), numbers, offsets, sizes, masks,
    )  # fmt: skip


def _chunk_table(
    file: str, item: h5py.Dataset, shape: tuple[int, ...], chunk_shape: tuple[int, ...]
) -> tuple[IntArray, str]:
    """(numbers, offsets, sizes, masks as rows, reason why HDF5 has to read after all)."""
    grid = [-(-n // c) for n, c in zip(shape, chunk_shape, strict=True)]
    try:
        rows = walk_chunks(item, prod(grid))
    except OverflowError:
        return np.zeros((4, 0), dtype=np.int64), "chunks at impossible places"
    coords, others = rows[:, : len(shape)], rows[:, len(shape) :]
    # Chunks outside the present shape are no part of the dataset, whatever they hold.
    inside = ((coords < shape) & (coords % chunk_shape == 0)).all(axis=1)
    if not inside.all():
        coords, others = coords[inside], others[inside]
    numbers = np.zeros(len(coords), dtype=np.int64)
    for axis, (n, size) in enumerate(zip(grid, chunk_shape, strict=True)):
        numbers = numbers * n + coords[:, axis] // size
    order = np.argsort(numbers, kind="stable")
    table = np.concatenate([numbers[np.newaxis, order], others[order].T])
    empty = table[:, :0]
    if (np.diff(table[0]) == 0).any():
        return empty, "a chunk that is listed twice"
    if table.shape[1] and not _agrees(file, item, coords, others):
        return empty, "the chunk index does not agree with HDF5"
    return table, ""


def _agrees(file: str, item: h5py.Dataset, coords: IntArray, others: IntArray) -> bool:
    """Whether our bytes of the smallest chunk are HDF5's: older builds count from behind a user block."""
    i = int(np.argmin(others[:, 1]))
    offset, size, mask = (int(value) for value in others[i])
    stored_mask, stored = item.id.read_direct_chunk(tuple(int(n) for n in coords[i]))
    with open_descriptor(file) as descriptor:
        return bool(os.pread(descriptor, size, offset) == bytes(stored) and stored_mask == mask)


@contextmanager
def open_descriptor(file: str) -> Iterator[int]:
    """A file descriptor for positional reads."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
