"""The files of a pool that may be NeXus, found without following a single link."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from beamhub_core.config.storage import PoolConfig

SUFFIXES = frozenset({".h5", ".hdf5", ".hdf", ".nxs", ".nx5", ".nexus"})
MAX_DEPTH = 16
MAX_PATH = 1_024
PROPOSAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file below a pool's root; `path` is relative to it."""

    pool: str
    path: str
    absolute: Path
    size_bytes: int
    modified_ns: int
    inode: int

    @property
    def proposal(self) -> str:
        """The proposal that it belongs to: its first folder."""
        return self.path.split("/", 1)[0]

    @property
    def is_processed(self) -> bool:
        """Whether it lies where products go."""
        return self.path.split("/")[1:2] == ["processed"]


@dataclass(frozen=True, slots=True)
class WalkProblem:
    """Something in a pool that is not catalogued because of where or what it is."""

    pool: str
    path: str
    reason: str


def walk_pool(pool: PoolConfig, folder: str | None = None) -> Iterator[FoundFile | WalkProblem]:
    """Every file with a NeXus suffix below a folder of a pool; the whole pool when None.

    Hidden names are skipped: writers use them for what is not finished. Links are never followed; one
    with a NeXus suffix that leads out of the pool is reported.
    """
    root = pool.root.resolve()
    top = root / folder if folder else root
    if not top.is_dir() or top.resolve() != top:
        yield WalkProblem(pool.name, folder or "", "is no folder of the pool; is it mounted?")
        return
    yield from _walk(pool.name, root, top)


def found_file(pool: PoolConfig, absolute: Path) -> FoundFile | None:
    """One regular file of a pool, by its real path; None when it is none or lies elsewhere."""
    root = pool.root.resolve()
    if not absolute.is_relative_to(root) or absolute.resolve() != absolute or not absolute.is_file():
        return None
    stat = absolute.stat()
    relative = absolute.relative_to(root).as_posix()
    return FoundFile(pool.name, relative, absolute, stat.st_size, stat.st_mtime_ns, stat.st_ino)


def named_file(pools: Sequence[PoolConfig], path: Path) -> FoundFile | WalkProblem:
    """A file that somebody names by its absolute path, by the rules of a walk."""
    for pool in pools:
        root = pool.root.resolve()
        if not path.is_relative_to(root):
            continue
        try:
            found = found_file(pool, path)
        except (OSError, ValueError):  # e.g. a name that is too long for any file
            found = None
        if found is None:
            return WalkProblem(pool.name, _relative(path, root), "is no file of the pool, or a link to one")
        parts = found.path.split("/")
        plain = found.path.isprintable() and len(found.path) <= MAX_PATH
        if path.suffix.lower() not in SUFFIXES or not plain or any(part.startswith(".") for part in parts):
            return WalkProblem(pool.name, found.path, "has no name of a finished NeXus file")
        if len(parts) < 2 or not PROPOSAL_ID.fullmatch(parts[0]) or len(parts) > MAX_DEPTH + 1:
            return WalkProblem(pool.name, found.path, "lies in no proposal's folder")
        return found
    return WalkProblem("", str(path)[:MAX_PATH], "lies in no pool")


def _walk(pool: str, root: Path, top: Path) -> Iterator[FoundFile | WalkProblem]:
    pending = [(top, len(top.relative_to(root).parts))]
    while pending:
        folder, depth = pending.pop()
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield WalkProblem(pool, _relative(folder, root), f"cannot be listed: {error.strerror}")
            continue
        for entry in ordered:
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH:
                    pending.append((path, depth + 1))
                else:
                    yield WalkProblem(pool, _relative(path, root), f"lies deeper than {MAX_DEPTH} folders")
            elif path.suffix.lower() in SUFFIXES:
                found = _look_at(pool, root, entry)
                if found is not None:
                    yield found


def _look_at(pool: str, root: Path, entry: os.DirEntry[str]) -> FoundFile | WalkProblem | None:
    path = Path(entry.path)
    relative = _relative(path, root)
    if entry.is_symlink():
        inside = Path(os.path.realpath(path)).is_relative_to(root)
        return None if inside else WalkProblem(pool, relative, "is a link that leads out of the pool")
    if not entry.is_file(follow_symlinks=False):
        return None
    # As it stands on disk: a byte that is not UTF-8 is no plain text, though `relative` can be shown.
    if not path.relative_to(root).as_posix().isprintable() or len(relative) > MAX_PATH:
        return WalkProblem(pool, relative, "has a name that is not plain text, or is too long")
    if "/" not in relative:
        return WalkProblem(pool, relative, "lies in no proposal's folder")
    if not PROPOSAL_ID.fullmatch(relative.split("/", 1)[0]):
        return WalkProblem(pool, relative, "lies in a folder whose name is no proposal id")
    try:
        stat = entry.stat(follow_symlinks=False)
    except OSError as error:
        return WalkProblem(pool, relative, f"cannot be looked at: {error.strerror}")
    return FoundFile(pool, relative, path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _relative(path: Path, root: Path) -> str:
    text = path.relative_to(root).as_posix()
    return text.encode("utf-8", "backslashreplace").decode()
