"""Writing an array that does not fit in memory: chunk by chunk from many workers, whole or not at all.

The file is made first, with room for everything in it; then each work unit writes its storage chunks with
positional writes, without HDF5, without a lock, in any order. A unit that is done twice writes the same
bytes twice. All workers must see the folder as one file system that keeps writes to different bytes apart
(a local disk or a parallel file system; NFS clients on different machines do not promise it).
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from beamhub_reduction.errors import ProductExists, ProductNotWritten, StorageFull
from beamhub_reduction.nexus.access import first_line
from beamhub_reduction.product import FULL_ERRNOS, give_name, sync_folder

_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_HEAD_BYTES = 8 * 1024**2  # what may stand before and behind the array: metadata and per-frame arrays


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """One float32 array of a file: where it stands, its shape and the shape of its storage chunks."""

    dataset: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of storage chunks along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunk_shape, strict=True))

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one storage chunk."""
        return int(np.prod(self.chunk_shape, dtype=np.int64)) * 4

    @property
    def n_chunks(self) -> int:
        """Number of storage chunks."""
        return int(np.prod(self.grid, dtype=np.int64))

    def first_chunk(self, row: int) -> int:
        """The number of the first storage chunk of a block of rows that begins at `row` (first axis).

        Raises
        ------
        ValueError
            If no storage chunk begins there: its other rows would be another unit's.
        """
        block, inside = divmod(row, self.chunk_shape[0])
        if inside or not 0 <= row < self.shape[0]:
            raise ValueError(f"no storage chunk of {self.chunk_shape} begins at row {row} of {self.shape}")
        return block * int(np.prod(self.grid[1:], dtype=np.int64))


@dataclass(frozen=True, slots=True)
class ArraySpan:
    """Where an array's chunks and the counts lie in a file that is being written; travels to workers."""

    file: str
    target: str
    layout: ArrayLayout
    offset: int
    count_offsets: tuple[tuple[str, int], ...]


@contextmanager
def array_file(
    path: Path, layout: ArrayLayout, *, head: Callable[[h5py.File], None], counts: tuple[str, ...]
) -> Iterator[ArraySpan]:
    """A new file with room for an array; it gets its name when the block ends without an error.

    Parameters
    ----------
    path:
        The file's final name; nothing of that name is ever replaced.
    head:
        Writes everything but the array into the open file, and may link to `layout.dataset`.
    counts:
        Paths of integers (int64) that are known at the end only: see `write_counts`.

    Raises
    ------
    ProductExists, StorageFull, ProductNotWritten
        Nothing is left behind.
    """
    target = path.absolute()
    if target.exists() or target.is_symlink():
        raise ProductExists(str(target))
    hidden = target.with_name(f".{target.name[:180]}.{secrets.token_hex(6)}.part")
    try:
        with _refusals(target):
            span = _begin(hidden, target, layout, head, counts)
        yield span
        with _refusals(target):
            _sync(hidden)
            give_name(hidden, target)
    finally:
        with suppress(FileNotFoundError):
            hidden.unlink()
    with _refusals(target):
        sync_folder(target.parent)


@contextmanager
def _refusals(target: Path) -> Iterator[None]:
    """Turn what the storage says into the product's errors."""
    try:
        yield
    except FileExistsError as error:
        raise ProductExists(str(target)) from error
    except RuntimeError as error:  # how HDF5 says that a file cannot be closed
        raise ProductNotWritten(str(target), first_line(error)) from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise (StorageFull if error.errno in FULL_ERRNOS else ProductNotWritten)(
            str(target), reason
        ) from error


def _begin(
    hidden: Path,
    target: Path,
    layout: ArrayLayout,
    head: Callable[[h5py.File], None],
    counts: tuple[str, ...],
) -> ArraySpan:
    array_bytes = layout.n_chunks * layout.chunk_bytes
    _reserve(hidden, array_bytes + _HEAD_BYTES, os.O_CREAT | os.O_EXCL)  # HDF5 must never meet a full disk
    os.truncate(hidden, 0)
    with h5py.File(
        hidden, "w", libver=("v110", "v110"), alignment_threshold=2**16, alignment_interval=4096
    ) as f:
        dataset = _create(f, layout)
        for name in counts:
            f.create_dataset(name, dtype="<i8", shape=(), data=0)
        head(f)
        f.flush()
        offset = _chunk_offset(dataset, layout, target)
        places = tuple((name, int(f[name].id.get_offset())) for name in counts)
    _reserve(hidden, max(offset + array_bytes, hidden.stat().st_size), 0)
    return ArraySpan(str(hidden), str(target), layout, offset, places)


def _reserve(path: Path, n_bytes: int, flags: int) -> None:
    """Give a file room on the disk; file systems that cannot promise it are taken as they are."""
    room = os.statvfs(path.parent)
    if n_bytes > room.f_blocks * room.f_frsize:  # some file systems take hours to find out
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o640)
    try:
        os.posix_fallocate(descriptor, 0, n_bytes)
    except OSError as error:
        if error.errno not in _NO_FALLOCATE:
            raise
    finally:
        os.close(descriptor)


def _create(file: h5py.File, layout: ArrayLayout) -> h5py.Dataset:
    """The array without values: all chunks have their places, in order, and nothing was written to them."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(layout.chunk_shape)
    plist.set_fill_value(np.array(np.nan, np.float32))
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    parent, _, name = layout.dataset.rpartition("/")
    group = file.require_group(parent or "/")
    space = h5py.h5s.create_simple(layout.shape)
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32LE, space, dcpl=plist))


def _chunk_offset(dataset: h5py.Dataset, layout: ArrayLayout, target: Path) -> int:
    """The byte where the first chunk begins, after a check that all others follow it in order."""
    found: list[tuple[tuple[int, ...], int]] = []

    def note(chunk: Any) -> None:
        found.append((tuple(int(n) for n in chunk.chunk_offset), int(chunk.byte_offset)))

    dataset.id.chunk_iter(note)
    found.sort()
    offsets = np.array([offset for _, offset in found], np.int64)
    expected = offsets[:1] + np.arange(len(offsets)) * layout.chunk_bytes
    if len(found) != layout.n_chunks or not np.array_equal(offsets, expected):
        raise ProductNotWritten(str(target), "HDF5 did not lay the chunks out one behind the other")
    return int(offsets[0])


def write_chunks(span: ArraySpan, first: int, values: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    """Write whole chunks, the first of which has the number `first` in row-major order of the grid.

    Parameters
    ----------
    values:
        float32, C-contiguous, shape (n_chunks, *chunk_shape); padding beyond the array's edge included.

    Raises
    ------
    StorageFull, ProductNotWritten
    ValueError
        If the values are no whole chunks of this array.
    """
    n_chunks = values.shape[0]
    if values.shape[1:] != span.layout.chunk_shape or not 0 <= first <= span.layout.n_chunks - n_chunks:
        raise ValueError(f"chunks {first} to {first + n_chunks} of {values.shape[1:]} are not of this array")
    little = np.ascontiguousarray(values, dtype="<f4")
    _write_at(span, memoryview(little.reshape(-1).view(np.uint8).data), first * span.layout.chunk_bytes)


def _write_at(span: ArraySpan, view: memoryview, at: int) -> None:
    with _refusals(Path(span.target)):
        descriptor = os.open(span.file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            at += span.offset
            while view:
                written = os.pwrite(descriptor, view, at)
                view, at = view[written:], at + written
        finally:
            os.close(descriptor)


def write_counts(span: ArraySpan, counts: Mapping[str, int]) -> None:
    """Write the integers that were not known at the beginning.

    Raises
    ------
    KeyError
        For a name that was not announced.
    StorageFull, ProductNotWritten
    """
    places = dict(span.count_offsets)
    for name, count in counts.items():
        _write_at(span, memoryview(np.array([count], "<i8").tobytes()), places[name] - span.offset)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
