"""A home that is full: found out by writing, and what a server then keeps in memory. Standard library only.

The home stays mounted and writable, so that people can delete; but Jupyter's own files, without which
nothing opens, go elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

TRIAL_BYTES = 65_536
# Where the programs of a session write without being asked, each by its own variable.
_FOLDERS = {
    "JUPYTER_CONFIG_DIR": "jupyter-config",
    "JUPYTER_DATA_DIR": "jupyter-data",  # signatures of notebooks, too
    "JUPYTERLAB_SETTINGS_DIR": "lab-settings",
    "JUPYTERLAB_WORKSPACES_DIR": "lab-workspaces",
    "IPYTHONDIR": "ipython",  # with the history
    "MPLCONFIGDIR": "matplotlib",
    "XDG_CACHE_HOME": "cache",
    "XDG_CONFIG_HOME": "config",
    "XDG_DATA_HOME": "data",
}
_FULL = {errno.ENOSPC: "no space is left", errno.EDQUOT: "the quota is used up"}


def why_full(home: Path) -> str | None:
    """Why nothing can be written into a home, as it says itself when tried; None where something can.

    Only want of space or of files counts: a home that is missing or read-only is not full.
    """
    try:
        fd = _nameless_file(home)
        try:
            n_written = 0
            while n_written < TRIAL_BYTES:  # a nearly full file system takes a part before it says no
                n_written += os.write(fd, b"\1" * (TRIAL_BYTES - n_written))
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        reason = _FULL.get(error.errno or 0)
        if reason == _FULL[errno.ENOSPC] and _has_no_files(home):
            return "no more files can be made"
        return reason
    return None


def _nameless_file(folder: Path) -> int:
    """A file of a folder that goes when it is closed; `tempfile` costs a third of the child that asks."""
    with contextlib.suppress(AttributeError, OSError):  # neither every system nor every file system has them
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    name = folder / f".beamhub-{os.urandom(8).hex()}"
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    os.unlink(name)  # noqa: PTH108 - few imports
    return fd


def _has_no_files(home: Path) -> bool:
    with contextlib.suppress(OSError):
        room = os.statvfs(home)
        return bool(room.f_files) and not room.f_favail
    return False


def message(reason: str) -> str:
    """What the person is told of it."""
    return (
        f"Your home is full ({reason}). The session keeps its own files in memory and forgets them at its "
        "end. Delete or move what you do not need, then start it again."
    )


def memory_variables(memory: Path) -> dict[str, str]:
    """The environment variables that move a server's own files below a folder in memory. Pure."""
    return {name: str(memory / folder) for name, folder in _FOLDERS.items()}


def notebooks_folder(home: Path, name: str, memory: Path) -> Path:
    """The notebooks of the home where they are or can be made, else some in memory."""
    notebooks = home / name
    try:
        notebooks.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        notebooks = memory / name
        notebooks.mkdir(mode=0o700, parents=True, exist_ok=True)
    return notebooks
