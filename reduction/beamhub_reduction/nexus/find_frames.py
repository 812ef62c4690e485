"""Which datasets of an entry hold detector frames, in the layouts of the facilities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from beamhub_reduction.nexus.errors import (
    FileDamaged,
    LinkMissing,
    NodeMissing,
    OutsideRoots,
    UnsupportedLayout,
)
from beamhub_reduction.nexus.tree import Node

_DATA_NAME = re.compile(r"^data(_[0-9]+)?$")
_GEOMETRY = ("x_pixel_size", "detectorSpecific", "pixel_mask", "depends_on")


def find_frame_names(entry: Node) -> tuple[Node, list[str]] | None:
    """The group with the frames of an entry and the names of its datasets, in order; None without any.

    NXdetector groups of the NXinstrument come first; then NXdata groups, ILL's data_scan and the
    groups of a 'measurement'; then, for files without classes, any group that has a dataset of frames.
    Stacks come before datasets of one frame, which might as well be spectra.
    """
    single: tuple[Node, list[str]] | None = None
    candidates = list(_candidates(entry))
    for group in candidates or [child for child in entry.children() if not child.is_dataset]:
        names, rank = frame_names(group, classless=not candidates)
        if rank >= 3:
            return group, names
        if rank == 2 and single is None:
            single = group, names
    return single


def _candidates(entry: Node) -> Iterator[Node]:
    yield from detectors_of(entry)
    yield from entry.groups("NXdata")
    for name in ("data_scan", "measurement"):
        group = entry.get(name)
        if group is not None and not group.is_dataset:
            if group.nx_class != "NXdata":
                yield group
            yield from (child for child in group.children() if not child.is_dataset)


def broken_groups(entry: Node) -> Iterator[LinkMissing]:
    """The broken links to whole groups where detectors may be: what they miss may have been the frames."""
    holders = [entry.get("measurement"), *entry.groups("NXinstrument")]
    for holder in holders:
        for name, link in holder.links().items() if holder is not None else ():
            try:
                if link is not None and holder is not None:
                    holder.owner.node(f"{holder.target.path}/{name}", holder.target.file)
            except LinkMissing as error:
                yield error
            except (NodeMissing, OutsideRoots, FileDamaged):
                continue


def detectors_of(entry: Node) -> list[Node]:
    """The NXdetector groups of an entry, those of its instruments first."""
    instruments = entry.groups("NXinstrument")
    return [d for i in instruments for d in i.groups("NXdetector")] + entry.groups("NXdetector")


def detector_group(entry: Node, group: Node) -> Node:
    """The NXdetector that describes frames found in a group: itself, or the only one with a geometry.

    Source: NXmx, where frames lie in an NXdata group and their detector in the instrument.
    """
    if group.nx_class == "NXdetector":
        return group
    described = [d for d in detectors_of(entry) if any(name in d.links() for name in _GEOMETRY)]
    return described[0] if len(described) == 1 else group


def frame_names(group: Node, *, classless: bool) -> tuple[list[str], int]:
    """The names of a group's datasets of frames, and how many axes the first one has; 0 without any."""
    links = group.links()
    names = [name for name in links if _DATA_NAME.match(name)]
    numbered = [name for name in names if name != "data"]
    for chosen in (["data"] if "data" in names else [], numbered):
        rank = next((r for n in chosen if (r := _rank(group, n, links[n] is not None))), 0)
        if rank:
            return chosen, rank
    others = [*_signal_names(group, links), *(["detector_data"] if "detector_data" in links else [])]
    for name in [*others, *(links if classless else ())]:
        rank = _rank(group, name, False) if name in links else 0
        if rank:
            return [name], rank
    return [], 0


def _signal_names(group: Node, links: Iterable[str]) -> list[str]:
    """What NXdata declares as its signal: by group attribute (version 3), else on the dataset (version 2)."""
    named = group.attribute_text("signal")
    if named or group.nx_class != "NXdata":
        return [named or ""]
    children = ((name, group.get(name)) for name in links)
    return [name for name, child in children if child is not None and child.attribute("signal") is not None]


def _rank(group: Node, name: str, linked: bool) -> int:
    """The number of axes of a member that may hold frames, else 0; a broken link may have been a stack."""
    try:
        node = group.owner.node(f"{group.target.path}/{name}", group.target.file)
    except (LinkMissing, FileDamaged):
        return 3 if linked else 0
    except (NodeMissing, OutsideRoots, UnsupportedLayout):
        return 0
    if not node.is_dataset or node.item.dtype.kind not in "iuf" or node.item.external:
        return 0
    if node.attribute_text("interpretation") in ("spectrum", "scalar"):
        return 0
    return len(node.shape) if len(node.shape) >= 2 else 0
