"""All storage chunks of a dataset in one walk over HDF5's index.

h5py calls a Python function for every chunk, which takes longer than the walk itself: where its HDF5 can be
reached, HDF5 calls a compiled one, twenty times faster. Source: benchmarks/bench_chunk_index.py.
"""

from __future__ import annotations

import ctypes
from array import array
from functools import cache
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil  # the lock of all calls of HDF5: the library knows no threads

from beamhub_reduction.kernels.native import address, pointer

IntArray = np.ndarray[Any, np.dtype[np.int64]]

FIRST_VERSION = (1, 14, 0)
"""Of HDF5, in which H5Dchunk_iter has the arguments that it has now."""
MAX_GUESSED = 1 << 20
"""Up to so many possible chunks the table has room for all; above, HDF5 is asked how many there are."""


class _Table(ctypes.Structure):
    """bh_chunk_table of chunk_walk.c."""

    _fields_ = [
        ("rank", ctypes.c_int64), ("room", ctypes.c_int64), ("n", ctypes.c_int64), ("cut", ctypes.c_int64),
        ("table", ctypes.c_void_p),
    ]  # fmt: skip


def walk_chunks(item: h5py.Dataset, n_possible: int) -> IntArray:
    """A row for each chunk that was written, shape (n_chunks, rank + 3), in the order of HDF5's index.

    First element of the chunk along each axis, place in the file, stored bytes, filter mask.

    Parameters
    ----------
    item:
        A chunked dataset.
    n_possible:
        How many chunks its shape has room for.

    Raises
    ------
    OverflowError
        If the index holds numbers that int64 does not.
    RuntimeError, OSError
        If the index cannot be read.
    """
    rows = _walk_compiled(item, n_possible)
    if rows is not None:
        return rows
    rank = len(item.shape)
    places, rest = array("q"), array("q")
    note_place, note_rest = places.extend, rest.extend

    def note(chunk: Any) -> None:
        note_place(chunk.chunk_offset)
        note_rest((chunk.byte_offset, chunk.size, chunk.filter_mask))

    item.id.chunk_iter(note)
    firsts = np.frombuffer(places, dtype=np.int64).reshape(-1, rank)
    return np.concatenate([firsts, np.frombuffer(rest, dtype=np.int64).reshape(-1, 3)], axis=1)


def _walk_compiled(item: h5py.Dataset, n_possible: int) -> IntArray | None:
    """The same by the compiled function; None where there is none, or where h5py has to say what is wrong."""
    chunk_iter, note = _chunk_iter(), address("note_chunk")
    if chunk_iter is None or note is None:
        return None
    room = n_possible if n_possible <= MAX_GUESSED else item.id.get_num_chunks()
    if room > max(MAX_GUESSED, item.file.id.get_filesize()):
        return None  # a number that a damaged file tells: h5py takes memory as it goes
    rank = len(item.shape)
    rows = np.empty((room, rank + 3), dtype=np.int64)
    table = _Table(rank, room, 0, 0, pointer(rows))
    with phil:
        ended = chunk_iter(item.id.id, 0, note, ctypes.addressof(table))
    return rows[: table.n] if ended >= 0 and not table.cut else None


@cache
def _chunk_iter() -> Any:
    """H5Dchunk_iter of the HDF5 that h5py uses, or None."""
    if h5py.version.hdf5_version_tuple < FIRST_VERSION:
        return None
    try:
        found = ctypes.CDLL(h5py.h5d.__file__).H5Dchunk_iter
    except (OSError, AttributeError):
        return None  # linked in another way
    found.argtypes = (ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    found.restype = ctypes.c_int
    return found
