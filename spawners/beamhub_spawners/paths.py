"""Open what lies below a pool's root, never what a link leads to outside it.

Checked when a session is planned and again when it starts: between the two somebody may have put a
link where a folder was. An open descriptor cannot be swapped any more; use it, not the path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from beamhub_core.errors import BeamhubError

_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08


class PathEscapes(BeamhubError):
    """A path below a pool does not lead where it says."""

    def __init__(self, root: str, path: str, reason: str) -> None:
        super().__init__(root, path, reason)
        self.root, self.path, self.reason = root, path, reason

    def __str__(self) -> str:
        return f"{self.path!r} below {self.root!r} cannot be mounted: {self.reason}."


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


@contextmanager
def opened_beneath(root: Path, path: str) -> Iterator[int]:
    """A descriptor (O_PATH) of a folder or file below a root, reached over no symbolic link.

    The root itself may be or contain links: it is configuration. Mount points on the way are crossed.

    Raises
    ------
    PathEscapes
        If a component is missing, is a symbolic link, or leads upwards.
    """
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\0" in path:
        raise PathEscapes(str(root), path, "it is not a plain relative path")
    try:
        root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PathEscapes(str(root), path, f"the root: {error.strerror}") from error
    try:
        fd = _open_beneath(root_fd, parts)
    except OSError as error:
        raise PathEscapes(str(root), path, _said(error)) from error
    finally:
        os.close(root_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def check_beneath(root: Path, path: str) -> None:
    """Raise `PathEscapes` unless a path below a root exists and no link leads away on the way."""
    with opened_beneath(root, path):
        pass


def ensure_folder_beneath(root: Path, path: str, *, mode: int, owner: tuple[int, int] | None = None) -> bool:
    """Make a folder below a root if it is missing; True when it was. The folders above must be there.

    A new folder gets the mode and, with `owner`, that uid and gid; an existing one stays as it is.

    Raises
    ------
    PathEscapes
        If the folder above is missing or reached over a link, the name is taken by something that is
        no folder, or the folder cannot be made.
    """
    pure = PurePosixPath(path)
    with opened_beneath(root, str(pure.parent)) if len(pure.parts) > 1 else _opened(root) as parent_fd:
        try:
            os.mkdir(pure.name, mode, dir_fd=parent_fd)
            os.chmod(pure.name, mode, dir_fd=parent_fd)  # the umask does not decide here
            if owner is not None:
                os.chown(pure.name, *owner, dir_fd=parent_fd, follow_symlinks=False)
        except FileExistsError:
            check_beneath(root, path)
            return False
        except OSError as error:
            raise PathEscapes(str(root), path, _said(error)) from error
    return True


@contextmanager
def _opened(root: Path) -> Iterator[int]:
    try:
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PathEscapes(str(root), ".", f"the root: {error.strerror}") from error
    try:
        yield fd
    finally:
        os.close(fd)


def _open_beneath(root_fd: int, parts: tuple[str, ...]) -> int:
    try:
        fd = _openat2(root_fd, "/".join(parts))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # EPERM: a seccomp filter older than the call
            raise
        fd = walk_beneath(root_fd, parts)
    # O_PATH with O_NOFOLLOW opens a link at the end itself instead of failing.
    if stat.S_ISLNK(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return fd


def walk_beneath(root_fd: int, parts: tuple[str, ...]) -> int:
    """What `openat2` does in one call, a component at a time, for kernels and filters without it."""
    fd = os.dup(root_fd)
    for i, part in enumerate(parts):
        folder = 0 if i == len(parts) - 1 else os.O_DIRECTORY
        try:
            inner = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | folder, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


def _openat2(root_fd: int, path: str) -> int:
    if sys.platform != "linux" or os.uname().machine == "alpha":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    how = _OpenHow(
        os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC,
        0,
        _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS,
    )
    fd: int = libc.syscall(
        ctypes.c_long(_OPENAT2),
        ctypes.c_long(root_fd),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd


def _said(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.EXDEV, errno.ENOTDIR):
        return "a component of it is a symbolic link or no folder"
    return error.strerror or type(error).__name__
