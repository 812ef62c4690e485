"""The plot that a file proposes: NXdata of versions 1 to 3, found as NeXus says.

Source: NeXus manual, "Find the plottable data"; NXdata.nxdl.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.errors import (
    FileDamaged,
    LinkMissing,
    NexusError,
    NoDefaultPlot,
    NodeMissing,
    OutsideRoots,
)
from beamhub_reduction.nexus.text import as_text
from beamhub_reduction.nexus.tree import NexusFile, Node, Target

MAX_HOPS = 16
MAX_SEARCHED = 2000
MAX_AXES = 64


@dataclass(frozen=True, slots=True)
class PlotField:
    """One dataset of a plot. Its values: `read_plain(read_layout(field.target, roots=...))`."""

    name: str
    target: Target
    shape: tuple[int, ...]
    dtype: str
    units: str | None
    long_name: str | None

    @property
    def label(self) -> str:
        """What to write beside an axis."""
        if self.long_name:
            return self.long_name
        return f"{self.name} ({self.units})" if self.units else self.name


@dataclass(frozen=True, slots=True)
class PlotAxis:
    """A coordinate and the dimensions of the signal that it goes along.

    `is_edges` says of each of its dimensions whether it holds the edges of bins (n + 1 values).
    """

    field: PlotField
    dimensions: tuple[int, ...]
    is_edges: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class DefaultPlot:
    """A signal with what belongs to it.

    `axes` has one tuple for each dimension of the signal; its first axis is the one to plot over, and it
    is empty where the file names none. In `mask` 0 is good. `explicit` is False when no 'default'
    attribute led here and the first plottable group was taken. `problems` are fields that do not fit.
    """

    group: str
    entry: str
    title: str
    version: int
    explicit: bool
    signal: PlotField
    auxiliary: tuple[PlotField, ...]
    axes: tuple[tuple[PlotAxis, ...], ...]
    errors: PlotField | None
    mask: PlotField | None
    problems: tuple[str, ...]


def read_default_plot(nexus: NexusFile, entry: Node | None = None) -> DefaultPlot:
    """The default plot of a file, or of one entry: along 'default', else the first NXdata with a signal.

    Raises
    ------
    NoDefaultPlot
        If there is none.
    LinkMissing, FileDamaged, OutsideRoots
        If the plot is there but its signal lies behind a broken link.
    """
    root = nexus.node("/")
    broken: NexusError | None = None
    for group, explicit in _candidates(nexus, entry or root, entry):
        try:
            plot = _plot_of(nexus, group, explicit)
        except (LinkMissing, FileDamaged, OutsideRoots) as error:
            broken = broken or error
            if explicit:
                raise
            continue
        if plot is not None:
            return plot
    raise broken or NoDefaultPlot(nexus.path)


def _candidates(nexus: NexusFile, start: Node, entry: Node | None) -> Iterator[tuple[Node, bool]]:
    """(group, whether 'default' attributes led to it) in the order of preference."""
    node, seen = start, set()
    for _ in range(MAX_HOPS):
        name = node.attribute_text("default")
        child = node.get(name) if name else None
        if child is None or child.is_dataset or child.target in seen:
            break
        seen.add(child.target)
        node = child
        if node.nx_class == "NXdata":
            break
    if node is not start and _looks_plottable(node):
        yield node, True
    for place in [node, *([] if entry is not None else nexus.entries())]:
        for group in _search(place):
            yield group, False


def _looks_plottable(group: Node) -> bool:
    return group.nx_class == "NXdata" or group.attribute("signal") is not None


def _search(top: Node) -> Iterator[Node]:
    """The plottable groups below a node, the nearest first."""
    level, n_seen, seen = [top], 0, set()
    while level and n_seen < MAX_SEARCHED:
        below: list[Node] = []
        for node in level:
            if node.target in seen:
                continue
            seen.add(node.target)
            if _looks_plottable(node):
                yield node
                continue
            for child in node.children():
                n_seen += 1
                if n_seen >= MAX_SEARCHED:
                    break
                if not child.is_dataset:
                    below.append(child)
        level = below


def _plot_of(nexus: NexusFile, group: Node, explicit: bool) -> DefaultPlot | None:
    name, version = _signal_name(group)
    if name is None:
        return None
    node = _signal_node(group, name)
    if node is None:
        return None
    signal = _field(node, name)
    problems: list[str] = []
    if version == 3:
        axes = _axes_of_group(group, signal, problems)
    else:
        axes = _axes_of_signal(group, node, signal, problems)
        version = 2 if node.attribute("axes") is not None else 1
    errors = _companion(group, signal, (f"{name}_errors", "errors"), problems)
    mask = _companion(group, signal, (f"{name}_mask",), problems)
    entry = "/" + group.target.path.strip("/").split("/", 1)[0]
    if group.target.file != nexus.path:
        entry = ""
    title = group.text("title") or group.attribute_text("title") or _entry_title(nexus, entry)
    return DefaultPlot(
        group.target.path, entry, title or signal.label, version, explicit, signal,
        _auxiliary(group, signal), _by_dimension(axes, len(signal.shape)), errors, mask, tuple(problems),
    )  # fmt: skip


def _entry_title(nexus: NexusFile, entry: str) -> str | None:
    return nexus.node(entry).text("title") if entry else None


def _signal_name(group: Node) -> tuple[str | None, int]:
    """(name of the signal, version): by attribute of the group, of a dataset, or the only candidate."""
    named = group.attribute_text("signal")
    links = group.links()
    if named is not None and named in links:
        return named, 3
    numeric: list[str] = []
    for name in links:
        child = group.get(name)
        if child is None or not _is_numeric(child):
            continue
        if _integers(child.attribute("signal"))[:1] == (1,):
            return name, 2
        if child.shape:
            numeric.append(name)
    if "data" in links and ("data" in numeric or links["data"] is not None):
        return "data", 3 if group.attribute("axes") is not None else 2
    return (numeric[0], 2) if len(numeric) == 1 else (None, 0)


def _signal_node(group: Node, name: str) -> Node | None:
    """The signal, or None when it is none; a broken link raises."""
    try:
        node = group.owner.node(f"{group.target.path}/{name}", group.target.file)
    except NodeMissing:
        return None
    return node if _is_numeric(node) else None


def _is_numeric(node: Node) -> bool:
    return node.is_dataset and node.item.dtype.kind in "iufbc"


def _field(node: Node, name: str) -> PlotField:
    return PlotField(
        name, node.target, node.shape, node.item.dtype.str,
        node.attribute_text("units"), node.attribute_text("long_name"),
    )  # fmt: skip


def _member(group: Node, name: str) -> PlotField | None:
    node = group.get(name) if name and name != "." else None
    return _field(node, name) if node is not None and _is_numeric(node) else None


def _auxiliary(group: Node, signal: PlotField) -> tuple[PlotField, ...]:
    names = _names(group.attribute("auxiliary_signals"))
    fields = (_member(group, name) for name in names if name != signal.name)
    return tuple(field for field in fields if field is not None)


def _companion(
    group: Node, signal: PlotField, names: tuple[str, ...], problems: list[str]
) -> PlotField | None:
    for name in names:
        field = _member(group, name)
        if field is not None and field.shape == signal.shape:
            return field
        if field is not None:
            problems.append(f"{name} has shape {field.shape}, the signal {signal.shape}")
    return None


def _axes_of_group(group: Node, signal: PlotField, problems: list[str]) -> list[PlotAxis]:
    """Version 3: 'axes' of the group, and where each goes by AXIS_indices, else by its position."""
    value = group.attribute("axes")
    names = _names(value)
    rank = len(signal.shape)
    if value is not None and len(names) != rank:
        problems.append(f"axes names {len(names)} of {rank} dimensions")
    with_indices = [
        key.removesuffix("_indices") for key in group.attribute_names() if key.endswith("_indices")
    ]
    axes = []
    for i, name in enumerate([*names, *(n for n in with_indices if n not in names and n != signal.name)]):
        field = _member(group, name)
        if field is None:
            if name not in (".", ""):
                problems.append(f"axis {name} is not there")
            continue
        dimensions = _integers(group.attribute(f"{name}_indices")) or ((i,) if i < len(names) else ())
        axis = _fit(field, dimensions, signal.shape)
        if axis is None:
            problems.append(f"axis {name} of shape {field.shape} does not fit {signal.shape}")
        else:
            axes.append(axis)
    return axes


def _axes_of_signal(group: Node, node: Node, signal: PlotField, problems: list[str]) -> list[PlotAxis]:
    """Version 2: 'axes' of the signal, one name a dimension; version 1: 'axis' of each coordinate, from 1."""
    axes: list[PlotAxis] = []
    names = _names(node.attribute("axes"))
    numbered: list[tuple[int, int, str]] = []
    if not names:
        for name in group.links():
            child = group.get(name)
            number = _integers(child.attribute("axis")) if child is not None and child.is_dataset else ()
            if child is not None and number and name != signal.name:
                primary = _integers(child.attribute("primary"))[:1] or (99,)
                numbered.append((primary[0], number[0] - 1, name))
    order = [(i, name) for i, name in enumerate(names)] or [(i, name) for _, i, name in sorted(numbered)]
    for i, name in order:
        field = _member(group, name)
        axis = _fit(field, (i,), signal.shape) if field is not None else None
        if axis is not None:
            axes.append(axis)
        elif name not in (".", ""):
            problems.append(f"axis {name} is not there or does not fit {signal.shape}")
    return axes


def _fit(field: PlotField, dimensions: tuple[int, ...], shape: tuple[int, ...]) -> PlotAxis | None:
    """A coordinate along dimensions of a signal of this shape; None where its shape does not allow that.

    One that does not fit its own dimension goes along the only other one that it fits.
    """
    own = field.shape or (1,)
    rank = len(shape)
    if not shape:
        return PlotAxis(field, (), ()) if own == (1,) else None
    if len(own) == len(dimensions) and all(0 <= d < rank for d in dimensions):
        sizes = [(n, shape[d]) for n, d in zip(own, dimensions, strict=True)]
        if all(n in (size, size + 1) for n, size in sizes) and len(set(dimensions)) == len(dimensions):
            return PlotAxis(field, dimensions, tuple(n == size + 1 for n, size in sizes))
    if len(own) == 1:
        fitting = [d for d in range(rank) if shape[d] == own[0]]
        if len(fitting) == 1:
            return PlotAxis(field, (fitting[0],), (False,))
    return None


def _by_dimension(axes: list[PlotAxis], rank: int) -> tuple[tuple[PlotAxis, ...], ...]:
    """For each dimension its axes: those that go along it alone first."""
    per: list[list[PlotAxis]] = [[] for _ in range(rank)]
    for axis in sorted(axes[:MAX_AXES], key=lambda a: len(a.dimensions)):
        for dimension in axis.dimensions:
            per[dimension].append(axis)
    return tuple(tuple(found) for found in per)


def _names(value: object) -> list[str]:
    """Names in an attribute: a list of texts, or one text with brackets, colons, commas or blanks."""
    if isinstance(value, (np.ndarray, list, tuple)) and np.ndim(value) >= 1 and np.size(value) > 1:
        return [as_text(item) or "." for item in np.ravel(np.asarray(value, dtype=object))[:MAX_AXES]]
    text = as_text(value)
    if text is None:
        return []
    return [part.strip() or "." for part in re.split(r"[:,]", text.strip("[]() "))][:MAX_AXES]


def _integers(value: object) -> tuple[int, ...]:
    """Integers in an attribute: a number, a list, or their text; () where there are none."""
    text = as_text(value)
    if text is not None:
        found: Any = re.findall(r"-?[0-9]{1,9}", text)
        if isinstance(value, (np.ndarray, list, tuple)) and np.size(value) > 1:
            found = [as_text(item) or "" for item in np.ravel(np.asarray(value, dtype=object))[:MAX_AXES]]
            found = [item for item in found if re.fullmatch(r"-?[0-9]{1,9}", item)]
        return tuple(int(item) for item in found[:MAX_AXES])
    array = np.ravel(np.asarray(value)) if value is not None else np.zeros(0)
    if array.dtype.kind not in "iuf" or array.size == 0:
        return ()
    kept = array[:MAX_AXES].astype(np.float64)
    return tuple(int(x) for x in kept if np.isfinite(x) and abs(x) < 1e9 and x == int(x))
