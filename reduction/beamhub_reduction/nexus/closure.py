"""Every file that a file needs: its soft, external and virtual links, checked one by one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import h5py

from beamhub_reduction.nexus.access import OpenFiles, Roots, open_hdf5, reading
from beamhub_reduction.nexus.errors import (
    FileDamaged,
    LimitExceeded,
    LinkMissing,
    NodeMissing,
    OutsideRoots,
    UnsupportedLayout,
)
from beamhub_reduction.nexus.tree import MAX_DEPTH, MAX_NODES, Target, resolve
from beamhub_reduction.nexus.virtual import read_layout

MAX_LINKED_FILES = 20_000


@dataclass(frozen=True, slots=True)
class MissingLink:
    """A link that leads nowhere, or where we may not go."""

    link: str
    target: str
    reason: str


@dataclass(slots=True)
class Closure:
    """What a walk over all links found; `files` are real paths, without the file itself."""

    files: set[str] = field(default_factory=set)
    missing: list[MissingLink] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    opened: OpenFiles = field(default_factory=OpenFiles)


def read_closure(real: str, *, roots: Roots) -> Closure:
    """Walk the hard links of a file once per object, and check each link and virtual source on the way.

    Linked files are opened far enough to see that the target is there; their own virtual datasets are
    followed too. Broken links are results, not errors.

    Raises
    ------
    LimitExceeded
        If the file has more than MAX_NODES members, is deeper than MAX_DEPTH, or needs too many files.
    FileDamaged
        If the file itself cannot be read.
    """
    closure = Closure()
    soft: list[str] = []
    external: list[tuple[str, str, str]] = []
    virtual: list[str] = []
    with open_hdf5(real) as handle, reading(real):
        for path, kind, detail in _walk(handle, real):
            if kind == "soft":
                soft.append(path)
            elif kind == "external":
                external.append((path, *detail))
            else:
                virtual.append(path)
    try:
        for path, file, inside in external:
            _follow(real, path, f"{file}:{inside}", closure, roots)
        for path in soft:
            _follow(real, path, "", closure, roots)
        for path in virtual:
            _sources(Target(real, path), closure, roots)
    finally:
        closure.opened.close()
    closure.files.discard(real)
    return closure


def _walk(handle: h5py.File, file: str) -> Any:
    """(path, kind, detail) of every soft and external link and every virtual dataset, each object once."""
    queue: deque[tuple[str, Any, int]] = deque([("", handle["/"], 0)])
    seen = {h5py.h5o.get_info(handle["/"].id).addr}
    n_nodes = 0
    while queue:
        path, group, depth = queue.popleft()
        if depth > MAX_DEPTH:
            raise LimitExceeded(file, "levels of groups", MAX_DEPTH)
        for name in group:
            n_nodes += 1
            if n_nodes > MAX_NODES:
                raise LimitExceeded(file, "members", MAX_NODES)
            link, where = group.get(name, getlink=True), f"{path}/{name}"
            if isinstance(link, h5py.ExternalLink):
                yield where, "external", (link.filename, link.path)
            elif isinstance(link, h5py.SoftLink):
                yield where, "soft", None
            else:
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    continue
                seen.add(address)
                if isinstance(item, h5py.Group):
                    queue.append((where, item, depth + 1))
                elif isinstance(item, h5py.Dataset) and item.is_virtual:
                    yield where, "virtual", None


def _follow(real: str, path: str, named: str, closure: Closure, roots: Roots) -> None:
    try:
        target = resolve(real, path, roots=roots, opener=closure.opened.lend)
    except (LinkMissing, NodeMissing, OutsideRoots, FileDamaged) as error:
        closure.missing.append(_missing(path, named, error))
        return
    if target.file != real:
        _add(closure, target.file, real)
        _sources(target, closure, roots)


def _sources(target: Target, closure: Closure, roots: Roots) -> None:
    """Add the files of a virtual dataset; anything else has none."""
    with closure.opened.lend(target.file) as handle, reading(target.file):
        item = handle[target.path]
        if not isinstance(item, h5py.Dataset) or not item.is_virtual:
            return
    try:
        slabs = read_layout(target, roots=roots, files=closure.opened).slabs
    except UnsupportedLayout as error:
        closure.problems.append(str(error))
        return
    except OutsideRoots as error:
        closure.missing.append(_missing(target.path, "", error))
        return
    named = set()
    for slab in slabs:
        if slab.missing is None:
            _add(closure, slab.file, target.file)
        elif slab.missing.target not in named:
            named.add(slab.missing.target)
            closure.missing.append(_missing(target.path, slab.missing.target, slab.missing))


def _add(closure: Closure, file: str, real: str) -> None:
    closure.files.add(file)
    if len(closure.files) > MAX_LINKED_FILES:
        raise LimitExceeded(real, "linked files", MAX_LINKED_FILES)


def _missing(
    path: str, named: str, error: LinkMissing | NodeMissing | OutsideRoots | FileDamaged
) -> MissingLink:
    if isinstance(error, LinkMissing):
        return MissingLink(path, named or error.target, error.reason)
    if isinstance(error, OutsideRoots):
        return MissingLink(path, named or error.target, "it lies outside the folders that may be read")
    if isinstance(error, FileDamaged):
        return MissingLink(path, named or error.path, f"that file is damaged ({error.reason})")
    return MissingLink(path, named or error.node, f"there is no {error.node}")
