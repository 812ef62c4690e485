"""Confine this process to named folders with Landlock, as far as the kernel can.

A confined process, and every child it makes, keeps only the file rights granted here; it cannot
inspect (`ptrace`, `/proc/<pid>/environ`, `/proc/<pid>/root`) a process outside, and, from ABI 6,
cannot send it signals. A confined root also loses all capabilities: with CAP_PERFMON it could still
read other processes' memory and environment, whatever Landlock says (tried on Linux 6.18), and with
CAP_SYS_RAWIO the kernel's. Landlock does not stop `chmod`, `utime`, `stat`, nor connecting to a Unix
socket by its path.

Source: Linux kernel, Documentation/userspace-api/landlock.rst; uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from beamhub_core.errors import BeamhubError

# The numbers are the same on every architecture that Linux gained them on together.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_CAPABILITY_VERSION_3, _N_CAPABILITIES = 0x20080522, 64

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1

_FOR_READ = _READ_FILE | _READ_DIR
_FOR_EXECUTE = _FOR_READ | _EXECUTE
_FOR_WRITE = _FOR_READ | _WRITE_FILE | _REMOVE_AND_MAKE | _REFER | _TRUNCATE | _IOCTL_DEV
_FOR_ONE_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

Grantable = Path | int
"""A path, or a descriptor that the caller opened and keeps until `restrict` returns."""


class LandlockFailed(BeamhubError):
    """The process could not be confined as asked; it must not go on."""

    def __init__(self, step: str, subject: str, reason: str) -> None:
        super().__init__(step, subject, reason)
        self.step, self.subject, self.reason = step, subject, reason

    def __str__(self) -> str:
        return f"Cannot confine the process: {self.step} of {self.subject}: {self.reason}."


@dataclass(frozen=True, slots=True)
class LandlockStatus:
    """What the kernel enforces on a confined process; `abi` 0 means that it has no Landlock."""

    abi: int
    enforced: dict[str, bool]


class _RulesetAttr(ctypes.Structure):
    _fields_ = [
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # asked for beside _pack_ by newer Pythons; no padding either way
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def available_abi() -> int:
    """The Landlock ABI of this kernel, 0 where there is none (also outside Linux)."""
    if sys.platform != "linux":
        return 0
    abi = _syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    return max(abi, 0)


def promises(abi: int) -> dict[str, bool]:
    """Which promises a kernel with this ABI keeps for a confined process.

    `raw_read_only` needs ABI 3, because before it `truncate` empties a file that may only be read.
    """
    return {
        "raw_read_only": abi >= 3,
        "ungranted_unreadable": abi >= 1,
        "other_processes_unreadable": abi >= 1,
        "signals_scoped": abi >= 6,
        "abstract_sockets": abi >= 6,
        "device_ioctl": abi >= 5,
    }


def restrict(
    *,
    read: Iterable[Grantable] = (),
    write: Iterable[Grantable] = (),
    execute: Iterable[Grantable] = (),
    missing_ok: bool = False,
) -> LandlockStatus:
    """Take from this process, for good, every file right that is not granted here.

    Call it while the process has one thread: others would stay free. Sets no_new_privs and drops all
    capabilities also where the kernel has no Landlock; a root so confined opens what its own user,
    root, owns or everybody may open.

    Parameters
    ----------
    read:
        Folders (with all below) and files to read.
    write:
        Folders and files to read, write, make, rename and remove. Not to execute from.
    execute:
        Folders and files to read and execute.
    missing_ok:
        Skip paths that do not exist; when False they are an error.

    Returns
    -------
    The kernel's ABI and which promises hold. The caller decides whether too few of them is an error.

    Raises
    ------
    LandlockFailed
        If a path is missing, is a symbolic link (resolve it first), or the kernel refuses.
        The process may then be partly prepared, but is not confined.
    """
    abi = available_abi()
    _check_one_thread()
    _drop_privileges()
    if abi == 0:
        return LandlockStatus(0, promises(0))
    handled = _handled_access(abi)
    with closing(_Ruleset(handled, abi)) as ruleset:
        for paths, access in ((read, _FOR_READ), (write, _FOR_WRITE), (execute, _FOR_EXECUTE)):
            for path in paths:
                ruleset.add(path, access & handled, missing_ok=missing_ok)
        ruleset.restrict_self()
    return LandlockStatus(abi, promises(abi))


class _Ruleset:
    """A ruleset under construction; close() gives its descriptor back."""

    def __init__(self, handled: int, abi: int) -> None:
        scoped = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if abi >= 6 else 0
        attributes = _RulesetAttr(handled, 0, scoped)
        # An older kernel takes fields that it does not know only when they are not sent.
        size = 24 if abi >= 6 else 16 if abi >= 4 else 8
        self._fd = _syscall(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
        if self._fd < 0:
            raise LandlockFailed("making", "the ruleset", os.strerror(ctypes.get_errno()))

    def add(self, path: Grantable, access: int, *, missing_ok: bool) -> None:
        with _opened(path, missing_ok=missing_ok) as fd:
            if fd is None:
                return
            mode = os.fstat(fd).st_mode
            if stat.S_ISLNK(mode):
                raise LandlockFailed("granting", repr(str(path)), "it is a symbolic link; resolve it first")
            if not stat.S_ISDIR(mode):
                access &= _FOR_ONE_FILE
            rule = _PathBeneathAttr(access, fd)
            if _syscall(_ADD_RULE, self._fd, _RULE_PATH_BENEATH, ctypes.byref(rule), 0) != 0:
                raise LandlockFailed("granting", repr(str(path)), os.strerror(ctypes.get_errno()))

    def restrict_self(self) -> None:
        if _syscall(_RESTRICT_SELF, self._fd, 0) != 0:
            raise LandlockFailed("confining", "this process", os.strerror(ctypes.get_errno()))

    def close(self) -> None:
        os.close(self._fd)


def _handled_access(abi: int) -> int:
    handled = _EXECUTE | _WRITE_FILE | _FOR_READ | _REMOVE_AND_MAKE
    for since, access in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        if abi >= since:
            handled |= access
    return handled


@contextmanager
def _opened(path: Grantable, *, missing_ok: bool) -> Iterator[int | None]:
    if isinstance(path, int):
        yield path
        return
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not missing_ok:
            raise LandlockFailed("granting", repr(str(path)), error.strerror or "missing") from error
        yield None
        return
    except OSError as error:
        raise LandlockFailed("granting", repr(str(path)), error.strerror or str(error)) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _check_one_thread() -> None:
    if sys.platform != "linux":
        return
    n_threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    if n_threads > 1:
        raise LandlockFailed(
            "confining",
            "this process",
            f"it has {n_threads} threads and only the calling one would be confined; "
            "call restrict() before anything starts threads (numpy's BLAS does at import)",
        )


def _drop_privileges() -> None:
    """No capability now, and none by executing anything later."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise LandlockFailed("setting", "no_new_privs", os.strerror(ctypes.get_errno()))
    for capability in range(_N_CAPABILITIES):
        # Refused without CAP_SETPCAP and beyond the last capability. No loss: under no_new_privs an
        # execution gains nothing that the permitted set, emptied below, does not hold.
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    empty_sets = (ctypes.c_uint32 * 6)()
    if libc.capset(ctypes.byref(header), ctypes.byref(empty_sets)) != 0:
        raise LandlockFailed("dropping", "all capabilities", os.strerror(ctypes.get_errno()))


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *words)
    return result
