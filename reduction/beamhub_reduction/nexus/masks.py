"""Pixels not to be used, corrections and value limits of a detector, as NXdetector and Dectris write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.errors import LimitExceeded, MaskPerFrame, MaskShapeWrong, NodeMissing
from beamhub_reduction.nexus.tree import NexusFile, Node
from beamhub_reduction.nexus.virtual import Layout, read_layout, read_plain

_MASK_NAME = re.compile(r"^pixel_mask(_[0-9]+)?$")
MASK_BITS = 0xFFFF
"""Bits of a pixel mask that say 'do not use'. Source: NeXus, NXdetector.nxdl, pixel_mask."""
MAX_MASK_PIXELS = 1 << 28

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class PixelMasks:
    """All masks of a detector: `fixed` (ny, nx) is for all frames, True = masked.

    `per_frame` are masks (n_frames, ny, nx) of their own for each frame; read rows of them with `of_frames`.
    """

    fixed: BoolArray
    per_frame: tuple[Layout, ...] = ()

    def of_frames(self, first: int, n_frames: int) -> BoolArray:
        """Masks of some frames, shape (n_frames, ny, nx), with what is masked in all of them."""
        masked = np.repeat(self.fixed[np.newaxis], n_frames, axis=0)
        for layout in self.per_frame:
            masked |= _is_masked(read_plain(layout, first, n_frames))
        return masked


@dataclass(frozen=True, slots=True)
class ValueLimits:
    """Which values of a pixel are counts: from `lowest` to `highest`, both included; others are none."""

    lowest: float = -np.inf
    highest: float = np.inf

    def is_blank(self, values: np.ndarray[Any, Any]) -> BoolArray:
        """Where an array holds no counts; floating-point values that are not finite never are any."""
        blank: BoolArray = (values < self.lowest) | (values > self.highest)
        return blank | ~np.isfinite(values) if values.dtype.kind == "f" else blank


def read_pixel_masks(nexus: NexusFile, detector: str, shape: tuple[int, int]) -> PixelMasks:
    """All of pixel_mask, pixel_mask_1, ... of an NXdetector and of its detectorSpecific group, joined.

    A value masks when any of its lowest 16 bits is set. Masks of modules (n_modules, ny, nx) are laid
    below each other like their frames. Without any mask, no pixel is masked.

    Raises
    ------
    MaskShapeWrong
        If a mask fits neither a frame nor a stack of them.
    LimitExceeded
        If a frame has more than MAX_MASK_PIXELS pixels; before anything of its size is allocated.
    LinkMissing, UnsupportedLayout
    """
    if shape[0] * shape[1] > MAX_MASK_PIXELS:
        raise LimitExceeded(nexus.path, "pixels in a frame", MAX_MASK_PIXELS)
    masked = np.zeros(shape, dtype=np.bool_)
    per_frame = []
    for node in _mask_nodes(nexus.node(detector)):
        layout = read_layout(node.target, roots=nexus.roots)
        if len(layout.shape) == 3 and layout.shape[0] * layout.shape[1] == shape[0] != layout.shape[1]:
            fits = layout.shape[2] == shape[1]
        else:
            fits = layout.shape[-2:] == shape and len(layout.shape) in (2, 3)
            if fits and len(layout.shape) == 3 and layout.shape[0] != 1:
                per_frame.append(layout)
                continue
        if not fits:
            raise MaskShapeWrong(node.target.file, node.target.path, layout.shape, shape)
        if np.prod(layout.shape, dtype=np.int64) > MAX_MASK_PIXELS:
            raise LimitExceeded(node.target.file, "pixels in a mask", MAX_MASK_PIXELS)
        masked |= _is_masked(read_plain(layout)).reshape(shape)
    return PixelMasks(masked, tuple(per_frame))


def _mask_nodes(group: Node) -> Iterator[Node]:
    """The mask datasets, each once however many links lead to it."""
    seen = set()
    for holder in (group, group.get("detectorSpecific")):
        for name in holder.links() if holder is not None else ():
            node = holder.get(name) if holder is not None and _MASK_NAME.match(name) else None
            if node is not None and node.is_dataset and node.target not in seen:
                seen.add(node.target)
                if node.shape and node.item.dtype.kind in "iufb":
                    yield node


def _is_masked(values: np.ndarray[Any, Any]) -> BoolArray:
    if values.dtype.kind == "f":  # some write masks as floats; what is no number masks
        finite = np.isfinite(values) & (np.abs(values) < 2.0**62)
        values = np.where(finite, values, 1).astype(np.int64)
    return np.asarray((values.astype(np.int64) & MASK_BITS) != 0)


def read_pixel_mask(nexus: NexusFile, detector: str, shape: tuple[int, int]) -> BoolArray:
    """Which pixels of a detector are not to be used in any frame, shape (ny, nx), True = masked.

    Raises
    ------
    MaskPerFrame
        If the file has a mask for each frame: see `read_pixel_masks`.
    MaskShapeWrong
    """
    masks = read_pixel_masks(nexus, detector, shape)
    for layout in masks.per_frame:
        raise MaskPerFrame(layout.target.file, layout.target.path, layout.shape, shape)
    return masks.fixed


def read_flat_field(nexus: NexusFile, detector: str, shape: tuple[int, int]) -> FloatArray | None:
    """What to multiply frames with (ny, nx), or None where it was applied already.

    Source: NeXus, NXdetector.nxdl, flatfield and flatfield_applied; Dectris, flatfield_correction_applied.

    Raises
    ------
    NodeMissing
        If the detector has none.
    MaskShapeWrong
        If the flat field does not have the frame's shape.
    """
    group = nexus.node(detector)
    specific = group.get("detectorSpecific")
    holders = [holder for holder in (group, specific) if holder is not None]
    names = ("flatfield_applied", "flatfield_correction_applied")
    if any(_flag(holder, name) for holder in holders for name in names):
        return None
    for holder in holders:
        node = holder.get("flatfield")
        if node is None or not node.is_dataset or node.item.dtype.kind not in "iuf":
            continue
        if node.shape != shape:
            raise MaskShapeWrong(node.target.file, node.target.path, node.shape, shape)
        return np.asarray(node.values(), dtype=np.float64)
    raise NodeMissing(nexus.path, f"{detector}/flatfield")


def _flag(group: Node, name: str) -> bool:
    """A flag as number, bool or text."""
    node = group.get(name)
    if node is None or not node.is_dataset or node.size != 1:
        return False
    text = group.text(name)
    if text is not None:
        return text.lower() in ("1", "true", "yes", "on")
    values = np.asarray(node.values()).ravel()
    return values.dtype.kind in "iufb" and bool(values[0])


def read_value_limits(nexus: NexusFile, detector: str, dtype: str) -> ValueLimits:
    """Which values of a detector's frames of this type are counts.

    Unsigned counts: below the largest value of the type, or of the image's bit depth where the detector
    names one (16-bit images in 32-bit files hold 65535). Signed counts: from zero on (Pilatus writes -1 and
    -2). Both within underload_value and saturation_value. Source: NeXus, NXdetector.nxdl; NXmx writers.
    """
    kind = np.dtype(dtype)
    low, high = _limits_of_type(kind)
    group = nexus.node(detector)
    holders = [holder for holder in (group, group.get("detectorSpecific")) if holder is not None]
    saturation, underload = group.number("saturation_value"), group.number("underload_value")
    bits = _first(holders, "bit_depth_image")
    # The readout may be narrower than the image, which adds several of them up: the last thing to go by.
    if bits is None and saturation is None:
        bits = group.number("bit_depth_readout")
    if kind.kind == "u" and bits is not None and 1 < bits < 8 * kind.itemsize:
        high = min(high, 2.0 ** int(bits) - 2)
    if saturation is not None and saturation > 0:  # zero is a field that nobody filled in
        high = min(high, saturation)
    if underload is not None and underload < high:
        low = max(low, underload)
    return ValueLimits(low, high)


def _limits_of_type(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind not in "iu":
        return -np.inf, np.inf
    largest = int(np.iinfo(dtype).max)
    if dtype.itemsize == 8:  # such values are exact up to 2^53 only, so their largest one is far away
        return 0.0, 2.0**62
    return 0.0, float(largest - 1 if dtype.kind == "u" else largest)


def _first(holders: list[Node], name: str) -> float | None:
    return next((value for group in holders if (value := group.number(name)) is not None), None)
