"""The compiled library: which of its paths this machine runs, and its functions.

The functions release the interpreter's lock (ctypes), keep no state and check every length, so any number
of threads may call them. Without the library every caller takes its NumPy or SciPy form instead.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

LIBRARY = Path(__file__).with_name("beamhub_kernels.so")
ABI = 1
NUMPY = "numpy"
"""The name of the path without compiled code."""

log = logging.getLogger(__name__)

_forced: str | None = None  # set by using_path only, for the whole process


@cache
def _library() -> ctypes.CDLL | None:
    if not LIBRARY.exists():
        log.info("no compiled kernels: NumPy and SciPy do the work", extra={"library": str(LIBRARY)})
        return None
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.bh_abi.restype = ctypes.c_int64
        if library.bh_abi() != ABI:
            raise OSError("it was built from other sources")
    except (OSError, AttributeError) as error:
        log.warning("the compiled kernels cannot be used", extra={"reason": str(error)})
        return None
    return library


@cache
def available_paths() -> tuple[str, ...]:
    """The paths that can run here, the fastest first; the last is always 'numpy'."""
    library = _library()
    if library is None:
        return (NUMPY,)
    found = [name for name in ("avx512", "avx2") if getattr(library, f"bh_has_{name}")()]
    return (*found, "plain", NUMPY)


def active_path() -> str:
    """The path that is used now: the fastest, unless `using_path` says otherwise."""
    return _forced or available_paths()[0]


def describe_kernels() -> str:
    """In words, for provenance and for people: 'compiled (avx512)' or 'NumPy and SciPy'."""
    path = active_path()
    return "NumPy and SciPy" if path == NUMPY else f"compiled ({path})"


@contextmanager
def using_path(path: str) -> Iterator[None]:
    """Use one path for the whole process meanwhile; for tests and benchmarks, not for several threads.

    Raises
    ------
    ValueError
        If this machine cannot run it.
    """
    global _forced
    if path not in available_paths():
        raise ValueError(f"the path {path!r} is not available here, only {available_paths()}")
    before, _forced = _forced, path
    try:
        yield
    finally:
        _forced = before


def function(name: str, argtypes: Sequence[Any]) -> Callable[..., int] | None:
    """The kernel of this name on the active path, or None when NumPy or SciPy have to do it.

    Arrays are passed as `pointer(array)`; the function gives an int64, below zero for unusable input.
    """
    path = active_path()
    return None if path == NUMPY else _function(name, path, tuple(argtypes))


def address(name: str) -> int | None:
    """Where the kernel of this name is, for a C library that calls it; None without compiled kernels."""
    path = active_path()
    if path == NUMPY:
        return None
    return ctypes.cast(getattr(_library(), f"bh_{name}_{path}"), ctypes.c_void_p).value


@cache
def _function(name: str, path: str, argtypes: tuple[Any, ...]) -> Callable[..., int]:
    found: Any = getattr(_library(), f"bh_{name}_{path}")
    found.argtypes, found.restype = argtypes, ctypes.c_int64
    kernel: Callable[..., int] = found
    return kernel


def pointer(array: np.ndarray[Any, Any]) -> int:
    """The address of a C-contiguous array's values; the caller keeps the array alive during the call."""
    if not array.flags.c_contiguous:
        raise ValueError("a kernel takes contiguous arrays only")
    return int(array.ctypes.data)
