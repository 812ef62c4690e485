"""Opening files: which ones may be opened, and what HDF5's complaints mean."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  # registers the decompression filters of HDF5

from beamhub_reduction.nexus.errors import FileDamaged, FileMissing, OutsideRoots

Roots = Sequence[str | os.PathLike[str]] | None
"""Folders whose files may be read; None means that the operating system alone decides."""

MAX_OPEN_FILES = 64

_HDF5_COMPLAINTS = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, IndexError,
)  # fmt: skip


def is_inside(path: str, roots: Roots) -> bool:
    """Whether a real path lies in one of the roots, compared by components."""
    if roots is None:
        return True
    return any(Path(path).is_relative_to(os.path.realpath(root)) for root in roots)


def real_file(path: str | os.PathLike[str], roots: Roots) -> str:
    """The real path of a regular file inside the roots.

    Raises
    ------
    FileMissing
        If there is none; a device or pipe counts as none, because opening it may block.
    OutsideRoots
        If symbolic links lead out of the roots.
    """
    named = os.fspath(path)
    if "\0" in named:
        raise FileMissing(named.replace("\0", "?"), "the name holds a NUL")
    real = os.path.realpath(named)
    if not is_inside(real, roots):
        raise OutsideRoots(named, real)
    try:
        mode = Path(real).stat().st_mode
    except OSError as error:
        raise FileMissing(named, error.strerror or type(error).__name__) from error
    if not stat.S_ISREG(mode):
        raise FileMissing(named, "it is not a regular file")
    return real


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn whatever h5py raises inside the block into FileDamaged."""
    try:
        yield
    except PermissionError as error:
        raise FileMissing(path, error.strerror or "no permission") from error
    except _HDF5_COMPLAINTS as error:
        raise FileDamaged(path, first_line(error)) from error


def first_line(error: BaseException) -> str:
    """One short line of an error's text."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


@contextmanager
def open_hdf5(real: str) -> Iterator[h5py.File]:
    """A file opened for reading without a lock, so that a running scan is not disturbed.

    Source: BLISS writers hold an exclusive lock; readers use locking=False.
    """
    handle = open_handle(real)
    try:
        yield handle
    finally:
        handle.close()


def open_handle(real: str) -> h5py.File:
    """Like `open_hdf5`, for a caller that closes the handle itself."""
    with reading(real):
        try:
            return h5py.File(real, "r", locking=False)
        except OSError as error:
            if "locking flag" in str(error):  # this process has it open already, with the other flag
                return h5py.File(real, "r")
            if "already open for" in str(error):  # by a writer that lets readers watch (SWMR)
                return h5py.File(real, "r", locking=False, swmr=True, libver="latest")
            raise


Opener = Callable[[str], AbstractContextManager[h5py.File]]
"""Something that lends an open file for a while: `open_hdf5`, or `OpenFiles.lend`."""


class OpenFiles:
    """Files kept open for reading, at most `limit`: the one used longest ago is closed for the next.

    Closing a file ends all objects that came from it. Not thread-safe.
    """

    def __init__(self, limit: int = MAX_OPEN_FILES) -> None:
        self.limit = limit
        self._closed = False
        self._open: OrderedDict[str, h5py.File] = OrderedDict()

    def get(self, real: str) -> h5py.File:
        """The open file.

        Raises
        ------
        FileDamaged, FileMissing
        """
        if self._closed:
            raise ValueError("the files of this walk are closed")
        handle = self._open.get(real)
        if handle is None:
            while len(self._open) >= self.limit:
                self._open.popitem(last=False)[1].close()
            handle = self._open[real] = open_handle(real)
        self._open.move_to_end(real)
        return handle

    @contextmanager
    def lend(self, real: str) -> Iterator[h5py.File]:
        """The open file for a while; it stays open afterwards."""
        yield self.get(real)

    def close(self) -> None:
        """Close all, for good."""
        self._closed = True
        for handle in self._open.values():
            handle.close()
        self._open.clear()
