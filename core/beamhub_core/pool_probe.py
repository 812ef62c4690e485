"""One look at one folder, in a process of its own that may hang or be killed; standard library only.

`python -I -S pool_probe.py ROOT [must_be_mount] [write] [read_only_below]` writes one line: a word of
`FAULTS` or `ok`, and details after a tab. It leaves no file: the write test makes one without a name, or,
where the file system has no such thing, one fixed name that the next look would remove.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator

FAULTS = (
    "missing",
    "no_folder",
    "not_mounted",
    "unreadable",
    "writable_below",
    "read_only",
    "full",
    "no_inodes",
)
PROBE_NAME = ".beamhub-probe"
_ESCAPED = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}


def mounts_at_or_below(root: str) -> Iterator[tuple[str, str, str]]:
    """Mount point, options and type of each mount at a folder or below it; asks the kernel, no server."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:  # noqa: PTH123 - few imports
        for line in lines:
            head, _, tail = line.partition(" - ")
            fields = head.split(" ")
            point = fields[4]
            for code, letter in _ESCAPED.items():
                point = point.replace(code, letter)
            if point == root or point.startswith(root.rstrip("/") + "/"):
                yield point, fields[5], tail.split(" ")[0]


def look(root: str, demands: frozenset[str]) -> tuple[str, str]:
    """The fault of a folder and its detail, `ok` without one."""
    try:
        with os.scandir(root) as entries:
            next(entries, None)
    except FileNotFoundError:
        return "missing", ""
    except NotADirectoryError:
        return "no_folder", ""
    except OSError as error:
        return "unreadable", error.strerror or ""
    real = os.path.realpath(root)
    if "must_be_mount" in demands and not _is_mount(real):
        return "not_mounted", ""
    if "read_only_below" in demands:
        for point, options, kind in mounts_at_or_below(real):
            if kind != "autofs" and "ro" not in options.split(","):
                return "writable_below", os.path.relpath(point, real)
    return _write_fault(real) if "write" in demands else ("ok", "")


def _is_mount(real: str) -> bool:
    try:
        return any(point == real for point, _, _ in mounts_at_or_below(real))
    except OSError:  # no /proc, as on macOS
        return os.path.ismount(real)


def _write_fault(root: str) -> tuple[str, str]:
    room = os.statvfs(root)
    if room.f_flag & os.ST_RDONLY:
        return "read_only", ""
    if room.f_blocks and not room.f_bavail:
        return "full", ""
    if room.f_files and not room.f_favail:
        return "no_inodes", ""
    try:
        _write_nothing(root)
    except OSError as error:
        if error.errno == errno.EROFS:
            return "read_only", ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "full", ""
        # Not this identity's to write: sessions write as their person, below the proposals' folders.
    return "ok", ""


def _write_nothing(root: str) -> None:
    try:
        os.close(os.open(root, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
        name = os.path.join(root, PROBE_NAME)  # noqa: PTH118 - few imports
        file = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.close(file)
        finally:
            os.unlink(name)  # noqa: PTH108 - few imports


def main(arguments: list[str]) -> int:
    """Look once and say it."""
    fault, detail = look(arguments[1], frozenset(arguments[2:]))
    sys.stdout.write(f"{fault}\t{detail!a}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
