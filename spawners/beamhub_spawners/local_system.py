"""What of this machine a local session may read and run: an allow-list, resolved to real paths."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_RUN = ("/bin", "/lib", "/lib32", "/lib64", "/sbin", "/usr")
# Of /etc by name: it also holds shadow, host keys and what the facility put there.
_READ_ETC = (
    "alternatives", "bash.bashrc", "ca-certificates", "fonts", "gai.conf", "group", "host.conf", "hostname",
    "hosts", "inputrc", "ipython", "jupyter", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias",
    "localtime", "machine-id", "magic", "mime.types", "nsswitch.conf", "os-release", "passwd", "pki",
    "profile", "profile.d", "protocols", "resolv.conf", "services", "ssl", "terminfo", "timezone", "xdg",
)  # fmt: skip
_READ = ("/proc", "/sys/devices/system", "/sys/fs/cgroup", "/dev/urandom", "/dev/random", "/dev/zero")
_WRITE = ("/dev/null", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/shm")  # noqa: S108 - not ours
_PACKAGES = ("beamhub_core", "beamhub_reduction", "beamhub_session", "beamhub_spawners")


def readable_folders() -> list[str]:
    """System files to read; also /proc, whose sensitive files the kernel guards by itself."""
    return _real([*_READ, *(f"/etc/{name}" for name in _READ_ETC)])


def runnable_folders(extra: Iterable[Path]) -> list[str]:
    """System, Python and package folders, and the facility's own software."""
    return _real(
        [
            *_RUN,
            sys.prefix,
            sys.base_prefix,
            sys.exec_prefix,
            *_package_folders(),
            *(str(one) for one in extra),
        ]
    )


def writable_devices() -> list[str]:
    """Devices that every program expects, and shared memory."""
    return _real(_WRITE)


def _package_folders() -> list[str]:
    """Where our packages lie when they are not installed into the prefix: the rooms of a checkout."""
    folders = []
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            folders.append(str(Path(spec.origin).parent.parent))
    return folders


def _real(paths: Iterable[str]) -> list[str]:
    """Each existing path without links, once, in order."""
    return list(dict.fromkeys(os.path.realpath(path) for path in paths if os.path.lexists(path)))
