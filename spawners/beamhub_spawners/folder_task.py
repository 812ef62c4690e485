"""Folder by folder, in a process that may hang, be killed, or become the person: the child of `folder_work`.

Reads a JSON object from standard input: `first`, steps as whoever started it; `identity` (uid, gid, gids) to
become for good; `then`, steps as that one. Writes one: `answers`, or `fault` (path, reason).
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from beamhub_spawners.paths import PathEscapes, check_beneath, ensure_folder_beneath, opened_beneath
from beamhub_spawners.rescue import why_full


def ensure(
    root: str, path: str, mode: int, owner: list[int] | None = None, groups: list[int] | None = None
) -> bool:
    """Make a folder, or see that the one that is there is the owner's; True for a new one.

    With `groups`, the folder that it lies in gives it its group if that is one of them: what one member of
    a proposal makes, the others can use.
    """
    uid, gid = owner if owner is not None else (None, None)
    if groups is not None:
        inherited = _group_above(root, path)
        gid = inherited if inherited in groups or gid is None else gid
    give_to = (uid, gid) if uid is not None and gid is not None and os.geteuid() == 0 else None
    if ensure_folder_beneath(Path(root), path, mode=mode, owner=give_to):
        return True
    with opened_beneath(Path(root), path) as fd:
        found = os.fstat(fd)
        if not stat.S_ISDIR(found.st_mode):
            raise PathEscapes(root, path, "its name is taken by something that is no folder")
        if groups is None and give_to is not None and found.st_uid != uid:
            return _adopt(root, path, fd, give_to)
    return False


def _adopt(root: str, path: str, fd: int, owner: tuple[int, int]) -> bool:
    """Give an empty folder of ours to the person: a start was killed between making it and giving it."""
    number = os.fstat(fd).st_uid
    inside = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if number != os.geteuid() or next(os.scandir(inside), None) is not None:
            raise PathEscapes(root, path, f"it belongs to another numeric identity ({number})")
        os.fchown(inside, *owner)
    finally:
        os.close(inside)
    return True


def _group_above(root: str, path: str) -> int:
    above = str(PurePosixPath(path).parent)
    if above == ".":
        return Path(root).stat().st_gid
    with opened_beneath(Path(root), above) as fd:
        return os.fstat(fd).st_gid


def ensure_home(root: str, path: str, mode: int, owner: list[int] | None, notebooks: str) -> bool:
    """The home of a person, and in a new one the folder for notebooks."""
    os.makedirs(root, 0o711, exist_ok=True)  # noqa: PTH103 - few imports
    is_new = ensure(root, path, mode, owner)
    if is_new or owner is None:
        # In a home of another user the session makes it itself. Whatever the person put in its place is
        # theirs: the session follows it, not we. A home that is full gets none.
        try:
            ensure(root, f"{path}/{notebooks}", mode, owner)
        except PathEscapes:
            return is_new
    return is_new


def check(root: str, path: str) -> None:
    """See that a folder is there and no link leads to it."""
    check_beneath(Path(root), path)


def enter(root: str, path: str, pool: str) -> None:
    """See that this identity can pass through the folders above; a last one that is missing is no matter."""
    try:
        os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118 - no pathlib in between
    except OSError as error:
        if error.errno == errno.EACCES:
            raise PathEscapes(
                root,
                path,
                f"the host's root cannot pass to it, because storage pool {pool} is root-squashed; let "
                "others pass through the folders above it (mode o+x), or mount each proposal as its own pool",
            ) from error


def stand(home: str) -> bool:
    """Go into a home while this process may still pass the folders above, which the session need not."""
    try:
        os.chdir(home)
    except OSError:
        return False
    return True


def full(home: str) -> str | None:
    """Why a home is full; None also for one that cannot be entered."""
    is_there = stand(home) or os.getcwd() != "/"  # noqa: PTH109 - few imports
    return why_full(Path()) if is_there else None


def closed_groups(folders: list[list[str]], uid: int) -> list[int] | None:
    """The groups through which alone somebody reaches some folders, each once, in order.

    None where a proposal's own folder cannot be seen from here.

    A folder that everybody may pass, or that is the person's own, needs no group.
    """
    needed: dict[int, None] = {}
    for root, path in folders:
        parts = PurePosixPath(path).parts
        for i in range(1, len(parts) + 1):
            try:
                with opened_beneath(Path(root), "/".join(parts[:i])) as fd:
                    found = os.fstat(fd)
            except PathEscapes:
                if i == 1:
                    return None
                break
            wanted = 0o5 if i == len(parts) else 0o1
            if found.st_mode & wanted != wanted and found.st_uid != uid:
                needed.setdefault(found.st_gid)
    return list(needed)


def usage(root: str, path: str, max_entries: int, limit_s: float) -> list[Any]:
    """Bytes and entries below a folder, and whether all were counted; follows no link, stays on its disk."""
    until, n_bytes, n_entries = time.monotonic() + limit_s, 0, 0
    with opened_beneath(Path(root), path) as fd:
        device = os.fstat(fd).st_dev
        for found in _walked(f"/proc/self/fd/{fd}", device):
            n_bytes, n_entries = n_bytes + found.st_blocks * 512, n_entries + 1
            if n_entries >= max_entries or time.monotonic() > until:
                return [n_bytes, n_entries, False]
    return [n_bytes, n_entries, True]


def _walked(folder: str, device: int) -> Iterator[os.stat_result]:
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    yield found
                    if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                        waiting.append(entry.path)
        except OSError:
            continue  # gone meanwhile, or closed to us


STEPS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (ensure, ensure_home, check, enter, stand, full, closed_groups, usage)
}


def become(uid: int, gid: int, gids: list[int]) -> None:
    """Be a person for good."""
    os.setgroups(gids)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def main() -> int:
    """Do the steps of standard input."""
    asked = json.load(sys.stdin)
    answers: list[Any] = []
    step: dict[str, Any] = {}
    os.umask(0o077)
    try:
        for step in asked["first"]:
            answers.append(_done(step))
        if asked["identity"] is not None and os.geteuid() == 0:
            become(*asked["identity"])
        for step in asked["then"]:
            answers.append(_done(step))
    except PathEscapes as escape:
        json.dump({"fault": [escape.path, escape.reason]}, sys.stdout)
    except OSError as error:
        path = step.get("path", step.get("home", ""))
        json.dump({"fault": [str(path), error.strerror or type(error).__name__]}, sys.stdout)
    else:
        json.dump({"answers": answers}, sys.stdout)
    return 0


def _done(step: dict[str, Any]) -> Any:
    return STEPS[step["do"]](**{name: value for name, value in step.items() if name != "do"})
