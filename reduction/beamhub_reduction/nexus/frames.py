"""Stacks of detector frames: which datasets they are made of, in which order, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.access import Roots
from beamhub_reduction.nexus.errors import (
    FileDamaged,
    FramePositionUnknown,
    FramesDisagree,
    LinkMissing,
    MaskShapeWrong,
    NodeMissing,
    NoFrames,
    OutsideRoots,
    UnsupportedLayout,
)
from beamhub_reduction.nexus.tree import NexusFile, Node, resolve
from beamhub_reduction.nexus.virtual import Layout, Piece, read_layout

_DATA_NAME = re.compile(r"^data(_[0-9]+)?$")
_MASK_NAME = re.compile(r"^pixel_mask(_[0-9]+)?$")
MASK_BITS = 0xFFFF
"""Bits of a pixel mask that say 'do not use'. Source: NeXus, NXdetector.nxdl, pixel_mask."""


@dataclass(frozen=True, slots=True)
class FrameStack:
    """Frames of one detector, in order, as pieces of plain datasets.

    `n_frames` counts those that are there or whose place is known; `n_expected` is what the scan
    had planned, or None when the file does not say. A piece with `missing` set has no data, and
    frames that no piece covers were never written.
    """

    file: str
    entry: str
    detector: str
    shape: tuple[int, int]
    dtype: str
    pieces: tuple[Piece, ...]
    n_frames: int
    n_expected: int | None

    @property
    def n_present(self) -> int:
        """Frames that can be read."""
        return sum(piece.n_rows for piece in self.pieces if piece.missing is None)

    @property
    def n_missing(self) -> int:
        """Planned or mapped frames that are not there."""
        return max(self.n_frames, self.n_expected or 0) - self.n_present

    @property
    def missing(self) -> tuple[LinkMissing, ...]:
        """The broken links behind missing frames."""
        return tuple(piece.missing for piece in self.pieces if piece.missing is not None)


def find_frame_names(entry: Node) -> tuple[Node, list[str]] | None:
    """The group with the frames of an entry and the names of its datasets, in order; None without any.

    NXdetector groups of the NXinstrument come first; then NXdata groups; then, for files
    without classes, any group that has a dataset of frames.
    """
    instruments = entry.groups("NXinstrument")
    detectors = [d for instrument in instruments for d in instrument.groups("NXdetector")]
    candidates = [*detectors, *entry.groups("NXdetector"), *entry.groups("NXdata")]
    for group in candidates or [child for child in entry.children() if not child.is_dataset]:
        names = _frame_names(group, classless=not candidates)
        if names:
            return group, names
    return None


def _frame_names(group: Node, *, classless: bool) -> list[str]:
    links = group.links()
    names = [name for name in links if _DATA_NAME.match(name)]
    numbered = [name for name in names if name != "data"]
    for chosen in (["data"] if "data" in names else [], numbered):
        if chosen and any(_is_frames(group, name, links[name] is not None) for name in chosen):
            return chosen
    others = [*_signal_names(group, links), *(links if classless else ())]
    return next(([name] for name in others if name in links and _is_frames(group, name, False)), [])


def _signal_names(group: Node, links: Iterable[str]) -> list[str]:
    """What NXdata declares as its signal: by group attribute (version 3), else on the dataset (version 2)."""
    named = group.attribute_text("signal")
    if named or group.nx_class != "NXdata":
        return [named or ""]
    children = ((name, group.get(name)) for name in links)
    return [name for name, child in children if child is not None and child.attribute("signal") is not None]


def _is_frames(group: Node, name: str, linked: bool) -> bool:
    """Whether a member holds numbers in at least two dimensions; a broken link may have done so."""
    try:
        layout = _layout(group, name, group.owner.roots)
    except (LinkMissing, FileDamaged):
        return linked
    except (NodeMissing, OutsideRoots, UnsupportedLayout):
        return False
    return len(layout.shape) >= 2 and np.dtype(layout.dtype).kind in "iuf"


def _layout(group: Node, name: str, roots: Roots) -> Layout:
    return read_layout(resolve(group.target.file, f"{group.target.path}/{name}", roots=roots), roots=roots)


def read_frame_stack(nexus: NexusFile, dataset: str | None = None) -> FrameStack:
    """The frames of the first entry that has any, or of one named dataset.

    Raises
    ------
    NoFrames
        If there are none.
    FramesDisagree, FramePositionUnknown, UnsupportedLayout, NodeMissing
    """
    if dataset is not None:
        parent, _, name = dataset.rstrip("/").rpartition("/")
        group = nexus.node(parent or "/")
        entry = "/" + dataset.strip("/").split("/", 1)[0]
        return _stack(nexus, entry, group, [name])
    looked_at = []
    broken: FrameStack | None = None
    for node in nexus.entries():
        found = find_frame_names(node)
        if found is not None:
            stack = _stack(nexus, node.target.path, *found)
            if stack.n_present:
                return stack
            broken = broken or stack
        looked_at.append(node.target.path)
    if broken is not None and broken.missing:
        raise broken.missing[0]
    raise NoFrames(nexus.path, f"entries looked at: {', '.join(looked_at[:10]) or 'none'}")


def _stack(nexus: NexusFile, entry: str, group: Node, names: list[str]) -> FrameStack:
    parts: list[Layout | LinkMissing] = []
    for name in names:
        try:
            parts.append(_layout(group, name, nexus.roots))
        except LinkMissing as error:
            parts.append(error)
        except FileDamaged as error:
            link = f"{group.target.path}/{name}"
            parts.append(LinkMissing(nexus.path, link, error.path, f"it is damaged ({error.reason})"))
    layouts = [part for part in parts if isinstance(part, Layout)]
    first = layouts[0] if layouts else None
    shape, dtype = _frame_shape(nexus.path, first), first.dtype if first else "<u4"
    for layout in layouts:
        if _frame_shape(nexus.path, layout) != shape or layout.dtype != dtype:
            described = [f"{item.target.path} {item.shape} {item.dtype}" for item in (layouts[0], layout)]
            raise FramesDisagree(nexus.path, *described)
    n_expected = _planned_frames(group)
    pieces, n_frames = _join(nexus.path, parts, n_expected)
    return FrameStack(nexus.path, entry, group.target.path, shape, dtype, pieces, n_frames, n_expected)


def _frame_shape(file: str, layout: Layout | None) -> tuple[int, int]:
    if layout is None:
        return (0, 0)
    if len(layout.shape) not in (2, 3) or np.dtype(layout.dtype).kind not in "iuf":
        raise UnsupportedLayout(
            file, layout.target.path, f"shape {layout.shape} of {layout.dtype} is no stack of frames"
        )
    return layout.shape[-2], layout.shape[-1]


def _join(
    file: str, parts: list[Layout | LinkMissing], n_expected: int | None
) -> tuple[tuple[Piece, ...], int]:
    """The parts one behind the other, and their length; a missing part in the middle needs a known one."""
    last_present = max((i for i, part in enumerate(parts) if isinstance(part, Layout)), default=-1)
    inner = [part for part in parts[:last_present] if isinstance(part, LinkMissing)]
    trailing = len(parts) - 1 - last_present
    n_found = sum(_n_frames(part) for part in parts if isinstance(part, Layout))
    n_gap = (n_expected - n_found) if n_expected is not None and len(inner) == 1 and not trailing else 0
    if inner and n_gap <= 0:
        raise FramePositionUnknown(file, tuple(part.target for part in inner))
    pieces: list[Piece] = []
    at = 0
    for i, part in enumerate(parts):
        if isinstance(part, LinkMissing):
            n_rows = n_gap if i < last_present else 0
            pieces.append(Piece("", "", 0, n_rows, at, part))
            at += n_rows
        elif len(part.shape) == 2:
            piece = part.pieces[0]
            if len(part.pieces) != 1 or piece.missing:
                raise UnsupportedLayout(part.target.file, part.target.path, "a virtual dataset of one frame")
            pieces.append(Piece(piece.file, piece.dataset, 0, 1, at))
            at += 1
        else:
            pieces.extend(
                Piece(p.file, p.dataset, p.first, p.n_rows, at + p.at, p.missing) for p in part.pieces
            )
            at += part.n_rows
    return tuple(pieces), at


def _n_frames(layout: Layout) -> int:
    return 1 if len(layout.shape) == 2 else layout.n_rows


def _planned_frames(group: Node) -> int | None:
    """The number of frames that the scan planned. Source: BLISS, acq_parameters/acq_nb_frames."""
    acquisition = group.get("acq_parameters")
    planned = acquisition.number("acq_nb_frames") if acquisition is not None else None
    return int(planned) if planned is not None and 0 < planned < 1e12 else None


def read_pixel_mask(
    nexus: NexusFile, detector: str, shape: tuple[int, int]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which pixels of a detector are not to be used, shape (ny, nx), True = masked.

    All of pixel_mask, pixel_mask_1, ... are joined; a value masks when any of its lowest 16 bits is set.
    Without any mask, no pixel is masked.

    Raises
    ------
    MaskShapeWrong
        If a mask does not have the frame's shape (a mask per frame is not supported yet).
    """
    group = nexus.node(detector)
    masked = np.zeros(shape, dtype=np.bool_)
    for name in group.links():
        node = group.get(name) if _MASK_NAME.match(name) else None
        if node is None or not node.is_dataset:
            continue
        values = np.asarray(node.values())
        if values.shape != shape:
            raise MaskShapeWrong(node.target.file, node.target.path, values.shape, shape)
        masked |= (values.astype(np.int64) & MASK_BITS) != 0
    return masked
