"""The sources of virtual datasets: found, opened once each, and compared with what is wanted of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import h5py

from beamhub_reduction.nexus.access import OpenFiles, Roots, reading
from beamhub_reduction.nexus.boxes import Slab
from beamhub_reduction.nexus.errors import LinkMissing, NodeMissing, UnsupportedLayout
from beamhub_reduction.nexus.selection import (
    MAX_BOXES,
    BoxPair,
    Selection,
    SelectionUnclear,
    length,
    pair_boxes,
    read_selection,
    whole_of,
)
from beamhub_reduction.nexus.tree import Target, find_linked_file, resolve

MAX_NESTING = 8
MAX_MAPPINGS = 200_000
MAX_NUMBERED = 100_000
LOOK_AHEAD = 16
"""Numbered sources ('%b') end at the first that is absent; this many behind it are tried to see a hole."""


@dataclass(frozen=True, slots=True)
class Described:
    """A dataset as slabs of plain ones; `reach` is the longest slab along the first axis."""

    shape: tuple[int, ...]
    dtype: str
    slabs: tuple[Slab, ...]
    virtual: bool
    reach: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping of a virtual dataset as it stands in the file; no selection stands for everything."""

    file: str
    dataset: str
    into: Selection
    taken: Selection | None

    @property
    def numbered(self) -> bool:
        """Whether the source's name holds a number that counts blocks."""
        return "%b" in self.file.replace("%%", "") or "%b" in self.dataset.replace("%%", "")


def read_slabs(target: Target, *, roots: Roots, files: OpenFiles) -> Described:
    """A dataset as slabs of plain datasets, through any virtual datasets on the way.

    Raises
    ------
    UnsupportedLayout
    """
    return _Sources(roots, files).describe(target, 0)


class _Sources:
    """All datasets met on the way; each file is looked for once and each dataset opened once."""

    def __init__(self, roots: Roots, files: OpenFiles) -> None:
        self.roots, self.files = roots, files
        self.known: dict[Target, Described] = {}
        self.found: dict[tuple[str, str, str], Described | LinkMissing] = {}
        self.targets: dict[tuple[str, str, str], Target] = {}
        self.linked: dict[tuple[str, str], str | LinkMissing] = {}

    def describe(self, target: Target, nesting: int) -> Described:
        if target in self.known:
            return self.known[target]
        if nesting > MAX_NESTING:
            reason = f"virtual datasets nested over {MAX_NESTING} deep"
            raise UnsupportedLayout(target.file, target.path, reason)
        with self.files.lend(target.file) as handle, reading(target.file):
            dataset = handle[target.path]
            if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
                raise UnsupportedLayout(target.file, target.path, "not a dataset with rows")
            if dataset.external:
                raise UnsupportedLayout(target.file, target.path, "external raw storage")
            shape, dtype = tuple(int(n) for n in dataset.shape), dataset.dtype.str
            mappings = _read_mappings(dataset, target) if dataset.is_virtual else None
        if mappings is None:
            zero = (0,) * len(shape)
            whole = Slab(target.file, target.path, shape, zero, shape, zero, shape, None, dtype)
            described = Described(shape, dtype, (whole,), False, shape[0])
        else:
            slabs = [slab for mapping in mappings for slab in self.expand(mapping, target, nesting)]
            if len(slabs) > MAX_BOXES:
                raise UnsupportedLayout(target.file, target.path, f"more than {MAX_BOXES} parts")
            slabs.sort(key=lambda slab: slab.at)
            shape = _current_shape(shape, mappings, slabs)
            reach = max((slab.shape[0] for slab in slabs), default=0)
            described = Described(shape, dtype, tuple(slabs), True, reach)
        self.known[target] = described
        return described

    def expand(self, mapping: Mapping, target: Target, nesting: int) -> Iterator[Slab]:
        """The slabs of one mapping, or of all the sources that a numbered one stands for."""
        try:
            if not mapping.numbered:
                file, path = (name.replace("%%", "%") for name in (mapping.file, mapping.dataset))
                yield from self.one(mapping.into, mapping.taken, (file, path), (target, nesting))
                return
            growing = mapping.into.growing
            if growing is None or not growing.block or mapping.taken is None or mapping.taken.growing:
                raise SelectionUnclear("numbered virtual sources without blocks to count")
            for number in self.numbers(mapping, target, nesting):
                runs = ((growing.start + number * growing.stride, growing.block),)
                into = mapping.into.with_axis(growing.axis, runs)
                yield from self.one(into, mapping.taken, _name(mapping, number), (target, nesting))
        except SelectionUnclear as error:
            raise UnsupportedLayout(target.file, target.path, str(error)) from error

    def numbers(self, mapping: Mapping, target: Target, nesting: int) -> Iterator[int]:
        """Numbers of sources up to the last that is there; an absent one in between counts too."""
        waiting: list[int] = []
        for number in range(MAX_NUMBERED):
            source = self.source(*_name(mapping, number), target, nesting)
            waiting.append(number)
            if not isinstance(source, LinkMissing):
                yield from waiting
                waiting.clear()
            elif len(waiting) > LOOK_AHEAD:
                yield from waiting[:1] if number == len(waiting) - 1 else []  # none at all is one missing
                return
        raise UnsupportedLayout(target.file, target.path, f"more than {MAX_NUMBERED} numbered sources")

    def one(
        self, into: Selection, taken: Selection | None, name: tuple[str, str], place: tuple[Target, int]
    ) -> Iterator[Slab]:
        """The slabs of one source, or one that says what is missing."""
        target, nesting = place
        source = self.source(*name, target, nesting)
        if isinstance(source, LinkMissing):
            yield from _absent(into, source)
            return
        into, taken = _settle(into, taken, source.shape)
        reason = _too_small(into, taken, source.shape)
        if reason:
            yield from _absent(into, LinkMissing(target.file, target.path, ":".join(name), reason))
            return
        plain = self.targets[(target.file, *name)]
        for pair in pair_boxes(into, taken):
            if source.virtual:
                yield from _through(pair, source)
            else:
                yield Slab(
                    plain.file, plain.path, source.shape, pair.source, pair.source_shape,
                    pair.at, pair.shape, None, source.dtype,
                )  # fmt: skip

    def source(self, file: str, path: str, target: Target, nesting: int) -> Described | LinkMissing:
        """A source's own description, or why there is none."""
        key = (target.file, file, path)
        if key not in self.found:
            self.found[key] = self.look(file, path, target, nesting)
        return self.found[key]

    def look(self, file: str, path: str, target: Target, nesting: int) -> Described | LinkMissing:
        def missing(reason: str) -> LinkMissing:
            return LinkMissing(target.file, target.path, f"{file}:{path}", reason)

        try:
            real = target.file if file == "." else self.find(file, target, missing)
            found = resolve(real, path, roots=self.roots, opener=self.files.lend)
            described = self.describe(found, nesting + 1)
        except LinkMissing as error:
            return missing(error.reason)
        except NodeMissing as error:
            return missing(f"it has no {error.node}")
        self.targets[(target.file, file, path)] = found
        return described

    def find(self, file: str, target: Target, missing: Any) -> str:
        key = (target.file, file)
        if key not in self.linked:
            try:
                self.linked[key] = find_linked_file(file, target.file, self.roots, missing, self.files.lend)
            except LinkMissing as error:
                self.linked[key] = error
        found = self.linked[key]
        if isinstance(found, LinkMissing):
            raise found
        return found


def _read_mappings(dataset: h5py.Dataset, target: Target) -> list[Mapping]:
    plist = dataset.id.get_create_plist()
    n_mappings = plist.get_virtual_count()
    if n_mappings > MAX_MAPPINGS:
        raise UnsupportedLayout(target.file, target.path, f"{n_mappings} virtual mappings")
    mappings = []
    for i in range(n_mappings):
        try:
            into = read_selection(plist.get_virtual_vspace(i)) or whole_of(dataset.shape)
            taken = read_selection(plist.get_virtual_srcspace(i))
        except SelectionUnclear as error:
            raise UnsupportedLayout(target.file, target.path, str(error)) from error
        names = str(plist.get_virtual_filename(i)), str(plist.get_virtual_dsetname(i))
        mappings.append(Mapping(*names, into, taken))
    return mappings


def _name(mapping: Mapping, number: int) -> tuple[str, str]:
    """The names of a numbered source: '%b' is the number of the block, '%%' a percent sign."""
    names = []
    for name in (mapping.file, mapping.dataset):
        parts = (part.replace("%b", str(number)) for part in name.split("%%"))
        names.append("%".join(parts))
    return names[0], names[1]


def _settle(into: Selection, taken: Selection | None, shape: tuple[int, ...]) -> tuple[Selection, Selection]:
    """Both selections without an endless axis: as far as the source reaches now."""
    taken = taken or whole_of(shape)
    if taken.growing is not None:
        axis = taken.growing
        if axis.axis >= len(shape):
            raise SelectionUnclear(f"virtual mappings of axis {axis.axis} of a source of shape {shape}")
        taken = taken.with_axis(axis.axis, axis.take(axis.count_below(shape[axis.axis])))
    if into.growing is not None:
        others = prod(length(runs) for i, runs in enumerate(into.axes) if i != into.growing.axis)
        n = prod(length(runs) for runs in taken.axes)
        into = into.with_axis(into.growing.axis, into.growing.take(n // others if others else 0))
    return into, taken


def _too_small(into: Selection, taken: Selection, shape: tuple[int, ...]) -> str:
    """Why a source cannot give what a mapping takes of it, or ''."""
    values = prod(length(runs) for runs in taken.axes)
    if len(taken.axes) != len(shape) and values:
        return f"its shape {shape} has not {len(taken.axes)} axes"
    for runs, n in zip(taken.axes, shape, strict=False):
        if runs and runs[-1][0] + runs[-1][1] > n:
            return f"its shape {shape} does not hold rows {runs[0][0]} to {runs[-1][0] + runs[-1][1]}"
    wanted = prod(length(runs) for runs in into.axes)
    return "" if wanted == values else f"its shape {shape} gives {values} values where {wanted} belong"


def _absent(into: Selection, error: LinkMissing) -> Iterator[Slab]:
    """Where the values of an absent source would be; of an endless mapping nobody knows how many."""
    if into.growing is not None:
        into = into.with_axis(into.growing.axis, ((into.growing.start, 0),))
        yield Slab("", "", (), (), (), _starts(into), tuple(length(runs) for runs in into.axes), error)
        return
    for pair in pair_boxes(into, into):
        yield Slab("", "", (), (), (), pair.at, pair.shape, error)


def _starts(selection: Selection) -> tuple[int, ...]:
    return tuple(runs[0][0] if runs else 0 for runs in selection.axes)


def _through(pair: BoxPair, source: Described) -> Iterator[Slab]:
    """The part of a virtual source that a mapping takes, moved to where the mapping puts it."""
    low, high = pair.source[0], pair.source[0] + pair.source_shape[0]
    i = bisect_left(source.slabs, low - source.reach, key=lambda slab: slab.at[0])
    while i < len(source.slabs) and source.slabs[i].at[0] < high:
        cut: Slab | None = source.slabs[i]
        i += 1
        for axis, (start, n) in enumerate(zip(pair.source, pair.source_shape, strict=True)):
            if cut is None:
                break
            first = max(start - cut.at[axis], 0)
            last = min(start + n - cut.at[axis], cut.shape[axis])
            cut = cut.cut(axis, first, last) if first < last else None
        if cut is not None:
            yield _moved(cut, pair)


def _moved(slab: Slab, pair: BoxPair) -> Slab:
    """A slab of the source, seen as one of the whole."""
    at, shape = list(pair.at), list(pair.shape)
    axes = [i for i, n in enumerate(pair.shape) if n != 1]
    for i, j in zip(axes, (j for j, n in enumerate(pair.source_shape) if n != 1), strict=True):
        at[i] = pair.at[i] + slab.at[j] - pair.source[j]
        shape[i] = slab.shape[j]
    return Slab(
        slab.file, slab.dataset, slab.dataset_shape, slab.source, slab.source_shape,
        tuple(at), tuple(shape), slab.missing, slab.dtype,
    )  # fmt: skip


def _current_shape(shape: tuple[int, ...], mappings: list[Mapping], slabs: list[Slab]) -> tuple[int, ...]:
    """The shape, where an endless axis ends with its last value. Source: HDF5, H5D_VDS_LAST_AVAILABLE."""
    current = list(shape)
    for axis in {m.into.growing.axis for m in mappings if m.into.growing is not None}:
        current[axis] = max((slab.at[axis] + slab.shape[axis] for slab in slabs), default=0)
    return tuple(current)
