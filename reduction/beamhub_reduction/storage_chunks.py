"""Where the storage chunks of a dataset lie, and reading them without HDF5's lock.

The index is read once per dataset with `chunk_iter`; afterwards only `os.pread` touches the file, so
threads do not wait for each other. What we do not know how to read is read by HDF5 and says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from beamhub_reduction.bitshuffle import ChunkUndecodable
from beamhub_reduction.codecs import Filter, decode_chunk, is_supported
from beamhub_reduction.errors import CorruptChunk, FilesChanged
from beamhub_reduction.nexus.access import first_line, open_hdf5, reading
from beamhub_reduction.nexus.errors import FileDamaged, NodeMissing, UnsupportedLayout
from beamhub_reduction.nexus.guard import check_readable

IntArray = np.ndarray[Any, np.dtype[np.int64]]
FileIdentity = tuple[int, int, int, int]
"""(device, inode, mtime in ns, size): another content has another identity."""


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """A dataset as runs of bytes in a file.

    `coords` (n_chunks, ndim) are the first elements of the allocated chunks, ordered by the first axis;
    `offsets`, `sizes` and `filter_masks` belong to them. A contiguous dataset is one chunk without filters.
    With way == 'hdf5' there are no chunks: HDF5 has to read, because of `reason`.
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
    coords: IntArray
    offsets: IntArray
    sizes: IntArray
    filter_masks: IntArray

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one row (one frame, one event)."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def rows_per_chunk(self) -> int:
        """Rows that share a chunk: ranges that end on multiples of it decode nothing twice."""
        return self.chunk_shape[0] if self.chunk_shape else 1

    def select(self, start: int, stop: int) -> ChunkIndex:
        """The index reduced to the chunks that hold rows start to stop: what travels with a work unit."""
        rows = self.coords[:, 0] if len(self.coords) else np.zeros(0, dtype=np.int64)
        keep = (rows < stop) & (rows + self.rows_per_chunk > start)
        return ChunkIndex(
            self.file, self.identity, self.dataset, self.shape, self.dtype, self.way, self.reason,
            self.chunk_shape, self.filters,
            self.coords[keep], self.offsets[keep], self.sizes[keep], self.filter_masks[keep],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows read from a dataset.

    `data` has shape (n_rows, ...); rows marked in `corrupt` or `unwritten` (no chunk was ever allocated
    for a part of them) hold no data, whatever their values. `problems` name the corrupt chunks.
    """

    data: np.ndarray[Any, Any]
    corrupt: np.ndarray[Any, np.dtype[np.bool_]]
    unwritten: np.ndarray[Any, np.dtype[np.bool_]]
    problems: tuple[CorruptChunk, ...]

    @property
    def good(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Rows that hold data."""
        return ~(self.corrupt | self.unwritten)


def file_identity(file: str) -> FileIdentity:
    """What tells this content of a file from another one."""
    status = Path(file).stat()
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def read_chunk_index(file: str, dataset: str) -> ChunkIndex:
    """The index of a plain dataset of a real file; kept while the file does not change.

    Raises
    ------
    NodeMissing, FileDamaged, UnsupportedLayout
    """
    return _indexed(file, dataset, file_identity(file))


@lru_cache(maxsize=256)
def _indexed(file: str, dataset: str, identity: FileIdentity) -> ChunkIndex:
    with open_hdf5(file) as handle, reading(file):
        if dataset not in handle:
            raise NodeMissing(file, dataset)
        item = handle[dataset]
        if not isinstance(item, h5py.Dataset) or not item.shape or item.dtype.kind not in "iufb":
            raise UnsupportedLayout(file, dataset, "no array of numbers")
        if item.external or item.is_virtual:
            raise UnsupportedLayout(file, dataset, "values in other files")
        return _build(file, dataset, identity, item)


def _build(file: str, dataset: str, identity: FileIdentity, item: h5py.Dataset) -> ChunkIndex:
    plist = item.id.get_create_plist()
    filters = tuple(_read_filter(plist, i) for i in range(plist.get_nfilters()))
    shape, dtype = tuple(int(n) for n in item.shape), item.dtype.str
    layout = plist.get_layout()
    if layout == h5py.h5d.CONTIGUOUS:
        offset = item.id.get_offset()
        found = [((0,) * len(shape), offset, item.nbytes, 0)] if offset is not None else []
        chunk_shape: tuple[int, ...] = shape
    elif layout == h5py.h5d.CHUNKED:
        found, chunk_shape = _iterate(item), tuple(int(n) for n in item.chunks)
    else:
        found, chunk_shape = [], shape
    reason = ""
    if layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        reason = "compact storage"
    elif not is_supported(filters):
        reason = "filters " + ", ".join(str(f.number) for f in filters)
    elif layout == h5py.h5d.CHUNKED and found and not _agrees(file, item, found[0]):
        reason = "the chunk index does not agree with HDF5"
    if reason:
        found = []
    found.sort(key=lambda chunk: chunk[0])
    table = np.array([[*coord, *rest] for coord, *rest in found], dtype=np.int64)
    table = table.reshape(len(found), len(shape) + 3)
    n = len(shape)
    return ChunkIndex(
        file, identity, dataset, shape, dtype, "hdf5" if reason else "direct", reason, chunk_shape, filters,
        table[:, :n], table[:, n], table[:, n + 1], table[:, n + 2],
    )  # fmt: skip


def _read_filter(plist: h5py.h5p.PropDCID, i: int) -> Filter:
    number, _, values, _ = plist.get_filter(i)
    return Filter(int(number), tuple(int(value) for value in values))


def _iterate(item: h5py.Dataset) -> list[tuple[tuple[int, ...], int, int, int]]:
    """(coordinates, byte offset, stored bytes, filter mask) of every allocated chunk, in one pass."""
    found: list[tuple[tuple[int, ...], int, int, int]] = []

    def note(chunk: Any) -> None:
        coord = tuple(int(n) for n in chunk.chunk_offset)
        found.append((coord, int(chunk.byte_offset), int(chunk.size), int(chunk.filter_mask)))

    item.id.chunk_iter(note)
    return found


def _agrees(file: str, item: h5py.Dataset, chunk: tuple[tuple[int, ...], int, int, int]) -> bool:
    """Whether our bytes of one chunk are HDF5's: older builds count offsets from behind a user block."""
    coord, offset, size, mask = chunk
    stored_mask, stored = item.id.read_direct_chunk(coord)
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


def read_rows(index: ChunkIndex, start: int, stop: int) -> Rows:
    """Rows start to stop (first axis) of a dataset.

    Corrupt chunks do not raise here: their rows are marked, and the caller applies its policy.

    Raises
    ------
    FilesChanged
        If the file is not the one that was indexed.
    """
    if file_identity(index.file) != index.identity:
        raise FilesChanged(index.file)
    if index.way == "hdf5":
        return _read_with_hdf5(index, start, stop)
    n_rows = stop - start
    data = np.zeros((n_rows, *index.shape[1:]), dtype=index.dtype)
    corrupt = np.zeros(n_rows, dtype=np.bool_)
    covered = np.zeros(n_rows, dtype=np.int64)
    problems: list[CorruptChunk] = []
    part = index.select(start, stop)
    contiguous = not index.filters and index.chunk_shape == index.shape
    with open_descriptor(index.file) as descriptor:
        for i in range(len(part.coords)):
            if contiguous:
                first, values = start, _read_contiguous(descriptor, part, start, stop)
            else:
                first, values = int(part.coords[i, 0]), _read_chunk(descriptor, part, i)
            low, high = max(first, start), min(first + index.rows_per_chunk, stop)
            rows = slice(low - start, high - start)
            if isinstance(values, CorruptChunk):
                problems.append(values)
                corrupt[rows] = True
            good = None if isinstance(values, CorruptChunk) else values
            covered[rows] += _place(data, good, part, i, (low, high, start, first))
    n_columns = int(np.prod(index.shape[1:], dtype=np.int64))
    return Rows(data, corrupt, covered < n_columns, tuple(problems))


def _place(
    data: np.ndarray[Any, Any],
    values: np.ndarray[Any, Any] | None,
    part: ChunkIndex,
    i: int,
    rows: tuple[int, int, int, int],
) -> int:
    """Put a chunk's values where they belong, cut at the dataset's edge; how much of a row it covers."""
    low, high, start, first = rows
    extent = [
        slice(int(c), min(int(c) + n, size))
        for c, n, size in zip(part.coords[i, 1:], part.chunk_shape[1:], part.shape[1:], strict=True)
    ]
    if values is not None:
        inside = tuple(slice(0, s.stop - s.start) for s in extent)
        data[(slice(low - start, high - start), *extent)] = values[
            (slice(low - first, high - first), *inside)
        ]
    return int(np.prod([s.stop - s.start for s in extent], dtype=np.int64))


def _read_chunk(descriptor: int, part: ChunkIndex, i: int) -> np.ndarray[Any, Any] | CorruptChunk:
    dtype = np.dtype(part.dtype)
    n_bytes = int(np.prod(part.chunk_shape, dtype=np.int64)) * dtype.itemsize
    size = int(part.sizes[i])
    stored = os.pread(descriptor, size, int(part.offsets[i]))
    try:
        if len(stored) != size:
            raise ChunkUndecodable(f"the file ends {size - len(stored)} bytes early")
        raw = decode_chunk(
            stored,
            filters=part.filters,
            skipped=int(part.filter_masks[i]),
            item_bytes=dtype.itemsize,
            n_bytes=n_bytes,
        )
    except ChunkUndecodable as error:
        return CorruptChunk(part.file, part.dataset, tuple(int(c) for c in part.coords[i]), str(error))
    return np.frombuffer(raw, dtype=dtype).reshape(part.chunk_shape)


def _read_contiguous(
    descriptor: int, part: ChunkIndex, start: int, stop: int
) -> np.ndarray[Any, Any] | CorruptChunk:
    n_bytes = (stop - start) * part.row_bytes
    buffer = bytearray(n_bytes)
    view, done = memoryview(buffer), 0
    while done < n_bytes:  # one read gives at most 2 GiB
        got = os.preadv(descriptor, [view[done:]], int(part.offsets[0]) + start * part.row_bytes + done)
        if got == 0:
            return CorruptChunk(
                part.file, part.dataset, (start,), f"the file ends {n_bytes - done} bytes early"
            )
        done += got
    return np.frombuffer(buffer, dtype=part.dtype).reshape(stop - start, *part.shape[1:])


def _read_with_hdf5(index: ChunkIndex, start: int, stop: int) -> Rows:
    """The slow way for layouts that we do not decode ourselves."""
    n_rows = stop - start
    data = np.zeros((n_rows, *index.shape[1:]), index.dtype)
    corrupt = np.zeros(n_rows, dtype=np.bool_)
    problems: list[CorruptChunk] = []
    with open_hdf5(index.file) as handle, reading(index.file):
        item = handle[index.dataset]
        # Chunk by chunk, so that one corrupt chunk does not take its neighbours with it.
        step = max(1, index.rows_per_chunk)
        for low in range(start - start % step, stop, step):
            rows = slice(max(low, start), min(low + step, stop))
            try:
                check_readable(item, index.file, index.dataset, rows.start, rows.stop)
                data[rows.start - start : rows.stop - start] = item[rows]
            except (OSError, RuntimeError, FileDamaged) as error:
                corrupt[rows.start - start : rows.stop - start] = True
                reason = error.reason if isinstance(error, FileDamaged) else first_line(error)
                problems.append(CorruptChunk(index.file, index.dataset, (rows.start,), reason))
    return Rows(data, corrupt, np.zeros(n_rows, dtype=np.bool_), tuple(problems))
