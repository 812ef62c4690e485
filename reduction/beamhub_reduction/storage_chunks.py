"""Reading rows of a dataset without HDF5's lock, into buffers of the caller.

The index is read once per dataset; afterwards only positional reads touch the file, so threads do not wait
for each other. What we do not know how to read is read by HDF5 and says so. A corrupt chunk never raises
here: its rows are marked, and the caller applies its policy.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from beamhub_reduction.bitshuffle import ChunkNeedsHdf5, ChunkUndecodable
from beamhub_reduction.codecs import decode_chunk
from beamhub_reduction.errors import CorruptChunk, FilesChanged, MemoryTooSmall
from beamhub_reduction.kernels import decode as native
from beamhub_reduction.memory_budget import reading_budget_bytes
from beamhub_reduction.nexus.access import first_line, open_hdf5, reading
from beamhub_reduction.nexus.errors import FileDamaged
from beamhub_reduction.nexus.guard import check_readable
from beamhub_reduction.storage_chunks_index import (
    ChunkIndex,
    FileIdentity,
    IntArray,
    file_identity,
    identity_of,
    open_descriptor,
    read_chunk_index,
)

__all__ = [
    "ChunkIndex", "FileIdentity", "IntArray", "Rows", "file_identity", "open_descriptor", "read_chunk_index",
    "read_rows",
]  # fmt: skip

Array = np.ndarray[Any, Any]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Box = tuple[slice, ...]

READ_BYTES = 1 << 20
"""Small neighbours are read together up to this many bytes. Source: facts on I/O, reads of 1 to 4 MB."""
SLACK_BYTES = 1 << 16
"""How much longer than its decoded size a chunk may be stored; codecs add less to what they cannot pack."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows read from a dataset.

    `data` has shape (n_rows, ...); rows marked in `corrupt` or `unwritten` (no chunk was ever allocated for a
    part of them: they hold the fill value there) hold no data, whatever their values. `problems` name the
    corrupt chunks, `boxes` the place of each in `data`.
    """

    data: Array
    corrupt: BoolArray
    unwritten: BoolArray
    problems: tuple[CorruptChunk, ...]
    boxes: tuple[Box, ...] = ()

    @property
    def good(self) -> BoolArray:
        """Rows that hold data."""
        return ~(self.corrupt | self.unwritten)

    def blank(self) -> BoolArray:
        """True where a value could not be decoded, the shape of `data`."""
        blank = np.zeros(self.data.shape, dtype=np.bool_)
        for box in self.boxes:
            blank[box] = True
        return blank


class _Buffers(threading.local):
    """Each thread's buffers for stored and decoded bytes: reused, and let go when they were very large."""

    keep = 64 << 20

    def __init__(self) -> None:
        self.held: dict[str, Bytes] = {}

    def get(self, use: str, n_bytes: int) -> Bytes:
        """At least n_bytes of uint8, holding anything."""
        found = self.held.get(use)
        if found is None or found.nbytes < n_bytes:
            found = np.empty(n_bytes, dtype=np.uint8)
            if n_bytes <= self.keep:
                self.held[use] = found
        return found


_buffers = _Buffers()


def read_rows(
    index: ChunkIndex, start: int, stop: int, *, out: Array | None = None, memory_bytes: int | None = None
) -> Rows:
    """Rows start to stop (first axis) of a dataset.

    Parameters
    ----------
    out:
        Where the rows go, C-contiguous, shape (at least n_rows, ...), the dataset's dtype; the result's
        `data` is a view of it. Without it a new array is made.
    memory_bytes:
        What may be allocated at once; by default a part of what this process may have.

    Raises
    ------
    FilesChanged
        If the file is not the one that was indexed.
    MemoryTooSmall
        If the rows and one chunk, decoded and stored, do not fit; before anything is allocated.
    """
    n_rows = stop - start
    part = index.select(start, stop)
    _check_memory(part, n_rows, out, memory_bytes)
    data = _prepare(index, n_rows, out)
    if index.way == "hdf5":
        if file_identity(index.file) != index.identity:
            raise FilesChanged(index.file)
        return _read_with_hdf5(index, start, stop, data)
    reader = _Reader(part, start, stop, data)
    if n_rows > 0:
        with open_descriptor(index.file) as descriptor:
            if identity_of(os.fstat(descriptor)) != index.identity:
                raise FilesChanged(index.file)
            reader.read(descriptor)
            if identity_of(os.fstat(descriptor)) != index.identity:
                raise FilesChanged(index.file)  # what was read may be of both contents
    return reader.rows()


def _check_memory(part: ChunkIndex, n_rows: int, out: Array | None, memory_bytes: int | None) -> None:
    needed = 0 if out is not None else n_rows * part.row_bytes
    if not part.is_contiguous and part.numbers.size:
        needed += part.chunk_bytes + int(part.sizes.max())
    elif part.way == "hdf5":
        needed += 2 * part.chunk_bytes
    limit = reading_budget_bytes() if memory_bytes is None else memory_bytes
    if needed > limit:
        raise MemoryTooSmall(part.file, part.dataset, needed, limit)


def _prepare(index: ChunkIndex, n_rows: int, out: Array | None) -> Array:
    shape = (n_rows, *index.shape[1:])
    if out is None:
        return np.empty(shape, dtype=index.dtype)
    if out.dtype != np.dtype(index.dtype) or out.shape[1:] != shape[1:] or len(out) < n_rows:
        raise ValueError(f"rows of {index.dtype} {shape} do not go into {out.dtype} {out.shape}")
    if not out.flags.c_contiguous:
        raise ValueError("rows are read into contiguous arrays only")
    return out[:n_rows]


def _unwritten_rows(part: ChunkIndex, start: int, stop: int) -> BoolArray:
    """Rows for a part of which no chunk was ever allocated."""
    if stop <= start or not prod(part.shape[1:]):
        return np.zeros(max(stop - start, 0), dtype=np.bool_)
    across, per_chunk = prod(part.grid[1:]), part.rows_per_chunk
    first, last = start // per_chunk, -(-stop // per_chunk)
    borders = np.searchsorted(part.numbers, np.arange(first, last + 1, dtype=np.int64) * across)
    missing = np.diff(borders) < across
    return np.asarray(missing[np.arange(start, stop) // per_chunk - first])


class _Reader:
    """One reading of rows: where each chunk goes, and what became of it. Used by one thread."""

    def __init__(self, part: ChunkIndex, start: int, stop: int, data: Array) -> None:
        self.part, self.start, self.stop, self.data = part, start, stop, data
        self.flat: Bytes = data.reshape(-1).view(np.uint8)
        self.corrupt = np.zeros(len(data), dtype=np.bool_)
        self.problems: list[CorruptChunk] = []
        self.boxes: list[Box] = []
        self.unwritten = _unwritten_rows(part, start, stop)
        if self.unwritten.any():
            data[self.unwritten] = np.frombuffer(part.fill, dtype=part.dtype)[0]

    def rows(self) -> Rows:
        """What was read."""
        return Rows(self.data, self.corrupt, self.unwritten, tuple(self.problems), tuple(self.boxes))

    def read(self, descriptor: int) -> None:
        """Read all chunks of the part."""
        part = self.part
        if not part.numbers.size or not self.data.size:
            return
        if part.is_contiguous:
            offset = int(part.offsets[0]) + self.start * part.row_bytes
            reason = native.reason_of(native.read_into(descriptor, offset, self.flat))
            if reason:
                self._failed((self.start, *(0 for _ in part.shape[1:])), (slice(None),), reason)
            return
        left = np.arange(part.numbers.size)
        if part.chunk_shape[1:] == part.shape[1:] and native.has_decoders():
            left = self._read_together(descriptor)
        for i in left:
            self._read_one(descriptor, int(i))

    def _read_together(self, descriptor: int) -> IntArray:
        """Read chunks of whole rows in one compiled call; those that it left to us."""
        part = self.part
        methods = _methods(part)
        low = part.numbers * part.rows_per_chunk
        first, last = np.maximum(low, self.start), np.minimum(low + part.rows_per_chunk, self.stop)
        last = np.minimum(last, part.shape[0])
        wanted = np.stack(
            [
                part.offsets, part.sizes, (first - self.start) * part.row_bytes,
                (first - low) * part.row_bytes, (last - first) * part.row_bytes, methods,
            ],
            axis=1,
        ).astype(np.int64)  # fmt: skip
        known = np.flatnonzero((methods >= 0) & (part.sizes <= part.chunk_bytes + SLACK_BYTES))
        if not known.size:
            return np.arange(part.numbers.size)
        order = known[np.argsort(part.offsets[known], kind="stable")]
        partial = bool((wanted[known, 4] != part.chunk_bytes).any() and (methods[known] > 0).any())
        stored = _buffers.get("stored", max(READ_BYTES, int(part.sizes[known].max())))
        scratch = _buffers.get("blocks", READ_BYTES + (part.chunk_bytes if partial else 0))
        status = native.read_chunks(
            descriptor, np.ascontiguousarray(wanted[order]), item_bytes=np.dtype(part.dtype).itemsize,
            chunk_bytes=part.chunk_bytes, buffers=(stored, scratch), out=self.flat,
        )  # fmt: skip
        again = set(np.flatnonzero((methods < 0) | (part.sizes > part.chunk_bytes + SLACK_BYTES)).tolist())
        for i, code in sorted((int(order[k]), int(status[k])) for k in np.flatnonzero(status)):
            if code == native.NO_ROOM:
                again.add(i)  # blocks of an unusual size
                continue
            self._failed(part.coord(i), self._box(i)[0], native.reason_of(code) or "")
        return np.array(sorted(again), dtype=np.int64)

    def _read_one(self, descriptor: int, i: int) -> None:
        part = self.part
        box, inside = self._box(i)
        out = self._place(box)
        direct = out is not None and out.nbytes == part.chunk_bytes
        if out is None or not direct:
            out = _buffers.get("decoded", part.chunk_bytes)[: part.chunk_bytes]
        try:
            self._decode(descriptor, i, out)
        except ChunkNeedsHdf5:
            self._read_box_with_hdf5(i, box)
            return
        except ChunkUndecodable as error:
            self._failed(part.coord(i), box, str(error))
            return
        if not direct:
            self.data[box] = out.view(part.dtype).reshape(part.chunk_shape)[inside]

    def _place(self, box: Box) -> Bytes | None:
        """The bytes of a box of `data`; None where they do not stand together."""
        across = self.part.shape[1:]
        if any(b.stop - b.start != n for b, n in zip(box[1:], across, strict=True)):
            return None
        row_bytes = self.part.row_bytes
        return self.flat[box[0].start * row_bytes : box[0].stop * row_bytes]

    def _decode(self, descriptor: int, i: int, out: Bytes) -> None:
        """Decode chunk i into `out`: as many bytes as a chunk has."""
        part = self.part
        size, n_bytes = int(part.sizes[i]), part.chunk_bytes
        if size > n_bytes + max(SLACK_BYTES, n_bytes // 8):
            raise ChunkUndecodable(f"{size} stored bytes for {n_bytes} decoded ones")
        stored = _buffers.get("stored", max(READ_BYTES, size))[:size]
        reason = native.reason_of(native.read_into(descriptor, int(part.offsets[i]), stored))
        if reason:
            raise ChunkUndecodable(reason)
        decode_chunk(
            stored, filters=part.filters, skipped=int(part.filter_masks[i]),
            item_bytes=np.dtype(part.dtype).itemsize, n_bytes=n_bytes, out=out,
        )  # fmt: skip

    def _box(self, i: int) -> tuple[Box, Box]:
        """(the chunk's place in `data`, the same values in the decoded chunk), cut at the edges."""
        part, coord = self.part, self.part.coord(i)
        low = max(coord[0], self.start)
        high = min(coord[0] + part.rows_per_chunk, self.stop, part.shape[0])
        place, inside = [slice(low - self.start, high - self.start)], [slice(low - coord[0], high - coord[0])]
        for at, n, size in zip(coord[1:], part.chunk_shape[1:], part.shape[1:], strict=True):
            place.append(slice(at, min(at + n, size)))
            inside.append(slice(0, min(n, size - at)))
        return tuple(place), tuple(inside)

    def _read_box_with_hdf5(self, i: int, box: Box) -> None:
        part, coord = self.part, self.part.coord(i)
        rows = slice(box[0].start + self.start, box[0].stop + self.start)
        try:
            with open_hdf5(part.file) as handle, reading(part.file):
                item = handle[part.dataset]
                if item.shape != part.shape:  # many axes, read as frames
                    self._failed(coord, box, "only HDF5 can decode it, and its axes were taken together")
                    return
                check_readable(item, part.file, part.dataset, rows.start, rows.stop)
                self.data[box] = item[(rows, *box[1:])]
        except FileDamaged as error:
            self._failed(coord, box, error.reason)

    def _failed(self, coord: tuple[int, ...], box: Box, reason: str) -> None:
        self.problems.append(CorruptChunk(self.part.file, self.part.dataset, coord, reason))
        self.boxes.append(box)
        self.corrupt[box[0]] = True
        self.data[box] = 0  # not half of what did decode


def _methods(part: ChunkIndex) -> IntArray:
    """How the compiled reader decodes each chunk, -1 where it does not know its filters."""
    codecs = [f.codec for f in part.filters]
    if not codecs:
        return np.full(part.numbers.size, native.RAW, dtype=np.int64)
    known = {"bitshuffle-LZ4": native.BSLZ4, "lz4": native.LZ4}.get("+".join(codecs), -1)
    if not part.filter_masks.any():
        return np.full(part.numbers.size, known, dtype=np.int64)
    none = (1 << len(codecs)) - 1
    methods = np.where(part.filter_masks & none == 0, known, -1)
    return np.where(part.filter_masks & none == none, native.RAW, methods)


def _read_with_hdf5(index: ChunkIndex, start: int, stop: int, data: Array) -> Rows:
    """The slow way for layouts that we do not decode ourselves."""
    corrupt = np.zeros(len(data), dtype=np.bool_)
    unwritten = _unwritten_rows(index.select(start, stop), start, stop)
    problems: list[CorruptChunk] = []
    boxes: list[Box] = []
    with open_hdf5(index.file) as handle, reading(index.file):
        item = handle[index.dataset]
        # Chunk by chunk, so that one corrupt chunk does not take its neighbours with it.
        step = max(1, index.rows_per_chunk)
        for low in range(start - start % step, stop, step):
            rows = slice(max(low, start), min(low + step, stop))
            place = slice(rows.start - start, rows.stop - start)
            try:
                check_readable(item, index.file, index.dataset, rows.start, rows.stop)
                data[place] = item[rows]
            except (OSError, RuntimeError, FileDamaged) as error:
                corrupt[place], data[place] = True, 0
                reason = error.reason if isinstance(error, FileDamaged) else first_line(error)
                coord = (rows.start, *(0 for _ in index.shape[1:]))
                problems.append(CorruptChunk(index.file, index.dataset, coord, reason))
                boxes.append((place,))
    return Rows(data, corrupt, unwritten, tuple(problems), tuple(boxes))
