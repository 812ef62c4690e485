"""A file as a tree of nodes with classes, whose links are resolved by us and not by HDF5.

HDF5 follows external links and virtual sources silently, out of any folder, and reads a missing
source as fill values. Here only hard links are handed to HDF5; everything else is followed step by
step, checked against the allowed roots, and reported when it leads nowhere.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from beamhub_reduction.nexus.access import (
    Opener,
    OpenFiles,
    Roots,
    is_inside,
    open_hdf5,
    reading,
    real_file,
)
from beamhub_reduction.nexus.errors import (
    FileDamaged,
    FileMissing,
    LimitExceeded,
    LinkMissing,
    NexusError,
    NodeMissing,
    OutsideRoots,
    UnitUnknown,
)
from beamhub_reduction.nexus.guard import check_readable
from beamhub_reduction.nexus.links import Link, is_hard, read_link
from beamhub_reduction.nexus.text import as_text, natural_key, unit_factor

MAX_HOPS = 32
MAX_DEPTH = 24
MAX_NODES = 100_000
MAX_CHILDREN = 20_000
MAX_REMEMBERED = 2_000
MAX_ARRAY_BYTES = 512 * 1024**2
MAX_ATTRIBUTE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Target:
    """Where a path really leads: a real file, and a path in it made of hard links only."""

    file: str
    path: str


@dataclass(slots=True)
class Node:
    """A group or dataset of an open file. Valid while its NexusFile is open; not thread-safe.

    `named` is the path in the NexusFile's own file by which it was reached, links included; '' when it
    was reached in another way.
    """

    owner: NexusFile
    target: Target
    opened: Any  # h5py.Group or h5py.Dataset: h5py has no types
    named: str = ""

    @property
    def item(self) -> Any:
        """The group or dataset of h5py; its file is opened again if it was closed for another one."""
        if not self.opened:
            self.opened = self.owner.item(self.target)
        return self.opened

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.target.path.rsplit("/", 1)[-1]

    @property
    def is_dataset(self) -> bool:
        """Whether it holds values."""
        return isinstance(self.item, h5py.Dataset)

    @property
    def nx_class(self) -> str | None:
        """The NeXus class, or None."""
        return self.attribute_text("NX_class")

    def attribute(self, name: str) -> object:
        """The value of an attribute, or None when it is absent, empty or longer than the cap."""
        with reading(self.target.file):
            attributes = self.item.attrs
            if name not in attributes:
                return None
            identifier = attributes.get_id(name)
            if identifier.get_space().get_simple_extent_npoints() == 0:
                return None  # an empty one has no storage to ask about
            if identifier.get_storage_size() > MAX_ATTRIBUTE_BYTES:
                return None
            value: object = attributes[name]
            return value

    def attribute_names(self) -> list[str]:
        """The names of all attributes, at most MAX_CHILDREN."""
        with reading(self.target.file):
            return [str(name) for name in itertools.islice(self.item.attrs, MAX_CHILDREN)]

    def attribute_text(self, name: str) -> str | None:
        """The text of an attribute of any string type, or None."""
        return as_text(self.attribute(name))

    def links(self) -> dict[str, Link | None]:
        """The members of a group by name, naturally sorted: None for a hard link.

        Raises
        ------
        LimitExceeded
            If the group has more than MAX_CHILDREN members.
        """
        if self.is_dataset:
            return {}
        with reading(self.target.file):
            names = [str(name) for name in itertools.islice(self.item, MAX_CHILDREN + 1)]
            if len(names) > MAX_CHILDREN:
                raise LimitExceeded(self.target.file, f"members in {self.target.path}", MAX_CHILDREN)
            return {name: read_link(self.item, name) for name in sorted(names, key=natural_key)}

    def get(self, name: str) -> Node | None:
        """The member of this name, links followed; None when there is none or its link is broken."""
        found = self.owner.find(f"{self.target.path}/{name}", self.target.file)
        if found is not None and self.named:
            found.named = f"{self.named.rstrip('/')}/{name}"
        return found

    def children(self) -> Iterator[Node]:
        """The members that can be reached; broken links are left out (see closure.py for them)."""
        for name in self.links():
            child = self.get(name)
            if child is not None:
                yield child

    def groups(self, *nx_classes: str) -> list[Node]:
        """The member groups of these NeXus classes, naturally sorted by name."""
        return [group for group, nx_class in self.owner.groups_of(self) if nx_class in nx_classes]

    def text(self, name: str) -> str | None:
        """The text of a member dataset, or None."""
        child = self.get(name)
        if child is None or not child.is_dataset or child.size > 1000:
            return None
        return as_text(child.values())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a dataset; () for an empty one."""
        return tuple(int(n) for n in (self.item.shape or ()))

    @property
    def size(self) -> int:
        """Number of values of a dataset."""
        return int(np.prod(self.shape, dtype=np.int64)) if self.item.shape is not None else 0

    def values(self) -> Any:
        """All values of a small dataset.

        Raises
        ------
        UnsupportedLayout
            If the values lie in other files or are longer than MAX_ARRAY_BYTES.
        """
        with reading(self.target.file):
            if self.size * self.item.dtype.itemsize > MAX_ARRAY_BYTES:
                raise LimitExceeded(self.target.file, f"bytes in {self.target.path}", MAX_ARRAY_BYTES)
            check_readable(self.item, self.target.file, self.target.path)
            return self.item[()]

    def number(self, name: str, unit: str | None = None) -> float | None:
        """The first value of a numeric member in `unit` ('m', 'rad', 's', 'keV', 'pC'), or None when absent.

        Raises
        ------
        UnitUnknown
            If the member's units cannot be converted.
        """
        array = self.numbers(name, unit)
        if array is None or array.size == 0 or not np.isfinite(array.flat[0]):
            return None
        return float(array.flat[0])

    def numbers(self, name: str, unit: str | None = None) -> np.ndarray[Any, np.dtype[np.float64]] | None:
        """All values of a numeric member as float64 in `unit`, or None when absent or not numeric."""
        child = self.get(name)
        if child is None or not child.is_dataset:
            return None
        with reading(child.target.file):
            if child.item.shape is None or child.item.dtype.kind not in "iuf":  # no values, or no numbers
                return None
        array = np.asarray(child.values(), dtype=np.float64)
        if unit is None:
            return array
        units = child.attribute_text("units")
        factor = unit_factor(units, unit)
        if factor is None:
            raise UnitUnknown(child.target.file, child.target.path, units or "", unit)
        return array * factor


class NexusFile:
    """One file opened for a walk, and the files that its links lead to, all closed together."""

    def __init__(self, path: str | os.PathLike[str], roots: Roots = None) -> None:
        self.path = real_file(path, roots)
        self.roots = roots
        self.files = OpenFiles()
        self.files.get(self.path)
        self._found: dict[tuple[str, str], tuple[Target, Any]] = {}
        self._groups: dict[tuple[Target, str], list[tuple[Node, str | None]]] = {}

    def __enter__(self) -> NexusFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.files.close()

    def node(self, path: str, file: str | None = None) -> Node:
        """The node at a path of this file (or of another one that a link led to).

        Raises
        ------
        NodeMissing, LinkMissing, OutsideRoots, LimitExceeded
        """
        key = file or self.path, path
        found = self._found.get(key)
        if found is None:
            target = resolve(*key, roots=self.roots, opener=self.files.lend)
            found = target, self.item(target)
            if len(self._found) < MAX_REMEMBERED:
                self._found[key] = found
        return Node(self, *found, path if key[0] == self.path else "")

    def find(self, path: str, file: str | None = None) -> Node | None:
        """The node at a path, or None when there is none or a link on the way is broken."""
        try:
            return self.node(path, file)
        except (NodeMissing, LinkMissing, OutsideRoots, FileDamaged):
            return None

    def item(self, target: Target) -> Any:
        """The h5py object of a target; of many linked files only the last ones used stay open."""
        with self.files.lend(target.file) as handle, reading(target.file):
            return handle[target.path]

    def groups_of(self, parent: Node) -> list[tuple[Node, str | None]]:
        """The member groups of a group with their classes; remembered, for readers ask again and again."""
        key = parent.target, parent.named
        if key not in self._groups:
            groups = [child for child in parent.children() if not child.is_dataset]
            self._groups[key] = [(group, group.nx_class) for group in groups]
        return self._groups[key]

    def entries(self) -> list[Node]:
        """The NXentry groups in numeric order; without any, all groups of the root."""
        root = self.node("/")
        entries = root.groups("NXentry")
        return entries or [child for child in root.children() if not child.is_dataset]


def resolve(file: str, path: str, *, roots: Roots, opener: Opener = open_hdf5) -> Target:
    """Follow a path through hard, soft and external links to what it really names.

    Parameters
    ----------
    file:
        Real path of an existing file.
    path:
        Absolute path in it.
    opener:
        What lends the open files.

    Raises
    ------
    NodeMissing
        If the path names nothing without any link being involved.
    LinkMissing
        If a link on the way leads nowhere, or in circles.
    OutsideRoots
        If an external link leads out of the allowed roots.
    """
    trail = _Trail(file, path, roots, opener)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    while True:
        with opener(file) as handle, reading(file):
            outcome = trail.follow(handle, file, parts)
        if isinstance(outcome, Target):
            return outcome
        file, parts = outcome


class _Trail:
    """One resolution: what was asked for, and how many links were followed."""

    def __init__(self, file: str, path: str, roots: Roots, opener: Opener) -> None:
        self.file, self.path, self.roots, self.opener = file, path, roots, opener
        self.hops = 0
        self.last: Link | None = None

    def follow(self, handle: h5py.File, file: str, parts: list[str]) -> Target | tuple[str, list[str]]:
        """A target in this file, or the next file with what remains of the path."""
        rest = list(parts)
        # Hard links are looked at by their names: opening groups on the way takes ten times as long.
        n_hard = 0
        while n_hard < len(rest) and is_hard(handle, "/".join(rest[: n_hard + 1])):
            n_hard += 1
        done, rest = rest[:n_hard], rest[n_hard:]
        if not rest:
            return Target(file, "/" + "/".join(done))
        group: Any = handle["/" + "/".join(done)]
        while rest:
            part = rest.pop(0)
            if not isinstance(group, h5py.Group):
                raise self.missing("/".join(["", *done]) + " is a dataset")
            if group.get(part, getlink=True) is None:
                raise self.missing(f"there is no {part!r} in /{'/'.join(done)} of {file}")
            link = read_link(group, part)
            if link is None:
                group = group[part]
                done.append(part)
                continue
            self.hops += 1
            self.last = link
            if self.hops > MAX_HOPS:
                raise self.missing(f"more than {MAX_HOPS} links follow each other")
            steps = [step for step in link.path.split("/") if step not in ("", ".")]
            if link.file:
                return self.external(link, file), steps + rest
            rest = steps + rest
            if link.path.startswith("/"):
                group, done = handle["/"], []
        return Target(file, "/" + "/".join(done))

    def external(self, link: Link, file: str) -> str:
        """The real path of an external link's file."""
        return find_linked_file(link.file, file, self.roots, self.missing, self.opener)

    def missing(self, reason: str) -> LinkMissing | NodeMissing:
        """The error for a path that leads nowhere."""
        if self.last is None:
            return NodeMissing(self.file, self.path)
        target = f"{self.last.file}:{self.last.path}" if self.last.file else self.last.path
        return LinkMissing(self.file, self.path, target, reason)


def find_linked_file(
    name: str, file: str, roots: Roots, missing: Callable[[str], NexusError], opener: Opener = open_hdf5
) -> str:
    """The real path of the file `name` as a link or virtual dataset in `file` means it.

    Relative names count from the linking file's folder; an absolute name that does not exist here
    (another site's path) is tried beside the linking file, as HDF5 does.
    Source: HDF5 reference, H5Pset_elink_prefix.

    Raises
    ------
    Whatever `missing(reason)` makes
        If no such file exists or it cannot be opened.
    OutsideRoots
        If it exists only outside the allowed roots.
    """
    folder = Path(file).parent
    candidates = [folder / name]
    if Path(name).is_absolute():
        candidates.append(folder / Path(name).name)
    outside: str | None = None
    for candidate in candidates:
        real = os.path.realpath(candidate) if "\0" not in name else file
        if not is_inside(real, roots):
            outside = outside or real
            continue
        try:
            found = real_file(real, roots)
            with opener(found):
                return found
        except FileMissing:
            continue
        except FileDamaged as error:
            raise missing(f"that file is damaged ({error.reason})") from error
    if outside is not None:
        raise OutsideRoots(file, outside)
    raise missing("that file does not exist")
