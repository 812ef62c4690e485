"""Stacks of detector frames: which datasets they are made of, in which order, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from beamhub_reduction.nexus.errors import (
    FileDamaged,
    FramePositionUnknown,
    FramesDisagree,
    LinkMissing,
    NoFrames,
    UnsupportedLayout,
)
from beamhub_reduction.nexus.find_frames import broken_groups, detector_group, find_frame_names, frame_names
from beamhub_reduction.nexus.masks import MASK_BITS, read_pixel_mask
from beamhub_reduction.nexus.tiles import (
    FrameRun,
    frame_pieces,
    frame_runs,
    frame_shape,
    has_module_axis,
)
from beamhub_reduction.nexus.tree import NexusFile, Node, resolve
from beamhub_reduction.nexus.virtual import Layout, Piece, read_layout

__all__ = ["MASK_BITS", "FrameStack", "find_frame_names", "read_frame_stack", "read_pixel_mask"]


@dataclass(frozen=True)
class FrameStack:
    """Frames of one detector, in order, as pieces of plain datasets.

    `shape` is (ny, nx); `n_modules` modules of equal size lie below each other in it. `n_frames` counts
    frames that are there or whose place is known; `n_expected` is what the scan had planned, or None when
    the file does not say. A piece with `missing` set has no data, and frames that no piece covers were
    never written. A frame whose tiles are not all there counts as missing.
    """

    file: str
    entry: str
    detector: str
    shape: tuple[int, int]
    dtype: str
    pieces: tuple[Piece, ...]
    n_frames: int
    n_expected: int | None
    n_modules: int = 1

    @cached_property
    def runs(self) -> tuple[FrameRun, ...]:
        """All frames that pieces speak of, with their tiles side by side."""
        return frame_runs(self.pieces)

    @cached_property
    def present(self) -> tuple[FrameRun, ...]:
        """The runs that can be read: nothing of them is missing, and no tile that other frames have."""
        areas = [sum(prod(t.box.shape) if t.box else prod(self.shape) for t in r.tiles) for r in self.runs]
        full = max(areas, default=0)
        return tuple(r for r, area in zip(self.runs, areas, strict=True) if area == full and not r.is_missing)

    @property
    def n_present(self) -> int:
        """Frames that can be read."""
        return sum(run.n_rows for run in self.present)

    @property
    def n_missing(self) -> int:
        """Planned or mapped frames that are not there."""
        return max(self.n_frames, self.n_expected or 0) - self.n_present

    @property
    def missing(self) -> tuple[LinkMissing, ...]:
        """The broken links behind missing frames."""
        return tuple(piece.missing for piece in self.pieces if piece.missing is not None)


def read_frame_stack(nexus: NexusFile, dataset: str | None = None) -> FrameStack:
    """The frames of the first entry that has any, or of a named dataset, detector or entry.

    Raises
    ------
    NoFrames
        If there are none, or none with a pixel.
    LinkMissing
        If nothing was named and all of them are behind broken links.
    FramesDisagree, FramePositionUnknown, UnsupportedLayout, NodeMissing
    """
    if dataset is not None:
        named = _named(nexus, dataset)
        if 0 in named.shape and not named.missing:  # behind broken links nobody knows the shape
            raise NoFrames(nexus.path, f"frames of {named.shape[0]} x {named.shape[1]} pixels in {dataset}")
        return named
    looked_at = []
    broken: FrameStack | None = None
    for node in nexus.entries():
        stack = _of_entry(nexus, node)
        if stack is not None and stack.n_present and 0 not in stack.shape:
            return stack
        broken = broken or stack
        looked_at.append(node.target.path)
    return _nothing(nexus, broken, f"entries looked at: {', '.join(looked_at[:10]) or 'none'}")


def _nothing(nexus: NexusFile, broken: FrameStack | None, looked_at: str) -> FrameStack:
    if broken is not None and broken.missing:
        raise broken.missing[0]
    for entry in nexus.entries():
        for error in broken_groups(entry):
            raise error
    raise NoFrames(nexus.path, looked_at)


def _named(nexus: NexusFile, path: str) -> FrameStack:
    parent, _, name = path.rstrip("/").rpartition("/")
    entry = nexus.node("/" + path.strip("/").split("/", 1)[0])
    group = _group_or_none(nexus, path)
    if group is None:
        holder = nexus.node(parent or "/")
        return _stack(nexus, holder if entry.is_dataset else entry, holder, [name])
    if group.nx_class == "NXentry":
        stack = _of_entry(nexus, group)
        if stack is None or not stack.n_present:
            return _nothing(nexus, stack, f"entry looked at: {path}")
        return stack
    names, _ = frame_names(group, classless=True)
    if not names:
        raise NoFrames(nexus.path, f"group looked at: {path}")
    return _stack(nexus, entry, group, names)


def _group_or_none(nexus: NexusFile, path: str) -> Node | None:
    try:
        node = nexus.node(path)
    except (LinkMissing, FileDamaged):
        return None
    return None if node.is_dataset else node


def _of_entry(nexus: NexusFile, entry: Node) -> FrameStack | None:
    found = find_frame_names(entry)
    return None if found is None else _stack(nexus, entry, *found)


def _stack(nexus: NexusFile, entry: Node, group: Node, names: list[str]) -> FrameStack:
    detector = detector_group(entry, group)
    found = [_part(nexus, group, name) for name in names]
    parts, numbers = [part for part, _ in found], [number for _, number in found]
    layouts = [part for part in parts if isinstance(part, Layout)]
    n_modules = _n_modules(detector, layouts[0]) if layouts else 1
    shape, dtype = _common(nexus.path, layouts, n_modules)
    n_expected = _planned_frames(group) or _planned_frames(detector)
    pieces, n_frames = _join(nexus.path, parts, n_expected, numbers, n_modules)
    where = detector.target.path if detector.target.file == nexus.path else detector.named
    return FrameStack(
        nexus.path, entry.target.path, where, shape, dtype, pieces, n_frames, n_expected, n_modules
    )


def _part(nexus: NexusFile, group: Node, name: str) -> tuple[Layout | LinkMissing, tuple[int, int] | None]:
    """A dataset of frames, or what is missing of it; and the numbers of its first and last frame."""
    link = f"{group.target.path}/{name}"
    try:
        target = resolve(group.target.file, link, roots=nexus.roots, opener=nexus.files.lend)
        layout = read_layout(target, roots=nexus.roots, files=nexus.files)
        return layout, _image_numbers(nexus, layout)
    except LinkMissing as error:
        return error, None
    except FileDamaged as error:
        return LinkMissing(nexus.path, link, error.path, f"it is damaged ({error.reason})"), None


def _n_modules(detector: Node, layout: Layout) -> int:
    """How many modules lie along an axis of their own: what a field of the detector says, or the sources."""
    if len(layout.shape) < 4:
        return 1
    of_modules = layout.shape[-3:]
    for name in ("pixel_mask", "detector_number", "x_pixel_offset"):
        field = detector.get(name)
        if field is not None and field.is_dataset and field.shape == of_modules:
            return of_modules[0]
    return of_modules[0] if has_module_axis(layout) else 1


def _common(file: str, layouts: list[Layout], n_modules: int) -> tuple[tuple[int, int], str]:
    """Shape and type of the frames of all parts; the type is the sources', not a virtual dataset's."""
    found: dict[tuple[tuple[int, int], str], str] = {}
    for layout in layouts:
        if len(layout.shape) < 2 or np.dtype(layout.dtype).kind not in "iuf":
            reason = f"shape {layout.shape} of {layout.dtype} is no stack of frames"
            raise UnsupportedLayout(file, layout.target.path, reason)
        shape = frame_shape(layout, modules=n_modules > 1)
        for dtype in {slab.dtype for slab in layout.slabs if slab.missing is None} or {layout.dtype}:
            found.setdefault((shape, dtype), f"{layout.target.path} {layout.shape} {dtype}")
    if len(found) > 1:
        raise FramesDisagree(file, *list(found.values())[:2])
    return next(iter(found), ((0, 0), "<u4"))


def _image_numbers(nexus: NexusFile, part: Layout) -> tuple[int, int] | None:
    """First and last number of a part's frames, counted from 1. Source: Dectris, image_nr_low and _high."""
    node = Node(nexus, part.target, nexus.item(part.target))
    ends: list[Any] = [node.attribute(name) for name in ("image_nr_low", "image_nr_high")]
    numbers = [int(np.ravel(e)[0]) for e in ends if np.size(e) == 1 and np.asarray(e).dtype.kind in "iu"]
    if len(numbers) != 2 or not 0 < numbers[0] <= numbers[1]:
        return None
    return (numbers[0], numbers[1]) if numbers[1] - numbers[0] + 1 == _n_frames(part, 1) else None


def _join(
    file: str,
    parts: list[Layout | LinkMissing],
    n_expected: int | None,
    numbers: list[tuple[int, int] | None],
    n_modules: int,
) -> tuple[tuple[Piece, ...], int]:
    """The parts one behind the other, and their length; a missing part in the middle needs a known one."""
    last_present = max((i for i, part in enumerate(parts) if isinstance(part, Layout)), default=-1)
    n_found = sum(_n_frames(part, n_modules) for part in parts if isinstance(part, Layout))
    if n_expected is not None and n_found >= n_expected and last_present >= 0:
        parts = parts[: last_present + 1]  # links made for files that were never needed are normal
    gaps = _gaps(parts, numbers, n_expected, n_found)
    unknown = tuple(p.target for i, p in enumerate(parts) if isinstance(p, LinkMissing) and i not in gaps)
    if unknown:
        raise FramePositionUnknown(file, unknown)
    pieces: list[Piece] = []
    at = 0
    for i, part in enumerate(parts):
        if isinstance(part, LinkMissing):
            pieces.append(Piece("", "", 0, gaps[i], at, part))
            at += gaps[i]
        else:
            own = frame_pieces(part, modules=n_modules > 1)
            pieces.extend(own if at == 0 else [replace(p, at=at + p.at) for p in own])
            at += _n_frames(part, n_modules)
    return tuple(pieces), at


def _gaps(
    parts: list[Layout | LinkMissing],
    numbers: list[tuple[int, int] | None],
    n_expected: int | None,
    n_found: int,
) -> dict[int, int]:
    """How many frames each missing part had; 0 at the end, where it does not matter to the others.

    Known when the next part says where it begins, or when it is the only one and the plan is known.
    """
    present = [i for i, part in enumerate(parts) if isinstance(part, Layout)]
    absent = [i for i in range(len(parts)) if i not in set(present)]
    last = present[-1] if present else -1
    gaps = {i: 0 for i in absent if i > last}
    inner = [i for i in absent if i < last]
    for i in inner:
        after, before = (numbers[j] if 0 <= j < len(parts) else None for j in (i + 1, i - 1))
        start = 0 if i == 0 else before[1] if before else None
        if after is not None and start is not None and after[0] > start + 1:
            gaps[i] = after[0] - start - 1
    alone = len(inner) == 1 and inner[0] not in gaps and not any(i > last for i in absent)
    if alone and n_expected is not None and n_expected > n_found:
        gaps[inner[0]] = n_expected - n_found
    return gaps


def _n_frames(layout: Layout, n_modules: int) -> int:
    return prod(layout.shape[: -3 if n_modules > 1 else -2])


def _planned_frames(group: Node) -> int | None:
    """The number of frames that the scan planned.

    Source: BLISS, acq_parameters/acq_nb_frames; Dectris, detectorSpecific/nimages times ntrigger.
    """
    acquisition, specific = group.get("acq_parameters"), group.get("detectorSpecific")
    planned = acquisition.number("acq_nb_frames") if acquisition is not None else None
    if planned is None and specific is not None:
        images, triggers = (specific.number(name) for name in ("nimages", "ntrigger"))
        planned = None if images is None else images * (triggers or 1)
    return int(planned) if planned is not None and 0 < planned < 1e12 else None
