"""Data for a small picture of a file: a summed frame, or a curve."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.access import Roots, real_file
from beamhub_reduction.nexus.errors import LinkMissing, MaskShapeWrong, NoDefaultPlot, NoFrames, OutsideRoots
from beamhub_reduction.nexus.events import find_event_groups
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack, read_pixel_mask
from beamhub_reduction.nexus.plot import PlotField, read_default_plot
from beamhub_reduction.nexus.text import unit_factor
from beamhub_reduction.nexus.tiles import read_run
from beamhub_reduction.nexus.tree import NexusFile, Node
from beamhub_reduction.nexus.virtual import read_layout, read_plain

MAX_PREVIEW_FRAMES = 8
MAX_PREVIEW_SIDE = 512
MAX_PREVIEW_EVENTS = 2_000_000
MAX_FRAME_BYTES = 256 * 1024**2
MAX_CURVE_POINTS = 10_000_000
N_CURVE_BINS = 500

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class ImagePreview:
    """A mean of the first frames, float32 (ny, nx), at most 512 on a side; NaN where masked."""

    values: np.ndarray[Any, np.dtype[np.float32]]
    title: str
    n_frames: int


@dataclass(frozen=True, slots=True)
class CurvePreview:
    """A curve: `x` and `y` of one length."""

    x: FloatArray
    y: FloatArray
    x_label: str
    y_label: str
    title: str


def preview_image(path: str | os.PathLike[str], allowed_roots: Roots = None) -> ImagePreview | CurvePreview:
    """What a preview shows: the default 1-D plot of a product, a time-of-flight histogram, or frames.

    Frames come from the first ones that are there; at most 8 are read, and none above 256 MB.

    Raises
    ------
    NoFrames
        If the file has nothing to show.
    FileMissing, FileDamaged, OutsideRoots, UnsupportedLayout
    """
    real = real_file(path, allowed_roots)
    with NexusFile(real, allowed_roots) as nexus:
        for entry in nexus.entries():
            curve = _default_curve(nexus, entry) or _event_curve(entry)
            if curve is not None:
                return curve
        return _image(nexus, read_frame_stack(nexus))


def _default_curve(nexus: NexusFile, entry: Node) -> CurvePreview | None:
    """The plot that an entry names as its default, when its signal has one dimension and an axis."""
    try:
        plot = read_default_plot(nexus, entry)
        if not plot.explicit or len(plot.signal.shape) != 1 or not plot.axes[0]:
            return None
        axis = plot.axes[0][0]
        if not 0 < plot.signal.shape[0] <= MAX_CURVE_POINTS or len(axis.dimensions) != 1:
            return None
        x, y = (_values(nexus, field) for field in (axis.field, plot.signal))
    except (NoDefaultPlot, LinkMissing, OutsideRoots):
        return None
    if axis.is_edges[0]:  # edges of a histogram. Source: NeXus, NXdata
        x = (x[1:] + x[:-1]) / 2
    return CurvePreview(x, y, axis.field.label, plot.signal.label, entry.text("title") or entry.name)


def _values(nexus: NexusFile, field: PlotField) -> FloatArray:
    layout = read_layout(field.target, roots=nexus.roots)
    return np.asarray(read_plain(layout), dtype=np.float64)


def _event_curve(entry: Node) -> CurvePreview | None:
    """A time-of-flight histogram of the first events of each bank."""
    offsets = []
    for _, events in find_event_groups(entry):
        node = events.get("event_time_offset")
        if node is None:
            continue
        factor = unit_factor(node.attribute_text("units"), "s") or 1e-6
        layout = read_layout(node.target, roots=node.owner.roots)
        rows = read_plain(layout, 0, MAX_PREVIEW_EVENTS).astype(np.float64)
        offsets.append(rows[np.isfinite(rows)] * factor * 1e6)
    values = np.concatenate(offsets) if offsets else np.zeros(0)
    if values.size == 0:
        return None
    counts, edges = np.histogram(values, bins=N_CURVE_BINS)
    x = (edges[1:] + edges[:-1]) / 2
    y = counts.astype(np.float64)
    return CurvePreview(x, y, "time of flight (microsecond)", "counts", entry.text("title") or "")


def _image(nexus: NexusFile, stack: FrameStack) -> ImagePreview:
    n_bytes = int(np.prod(stack.shape, dtype=np.int64)) * np.dtype(stack.dtype).itemsize
    if not 0 < n_bytes <= MAX_FRAME_BYTES:
        raise NoFrames(nexus.path, f"frames of {n_bytes} bytes are not previewed")
    try:
        masked = read_pixel_mask(nexus, stack.detector, stack.shape)
    except MaskShapeWrong:
        masked = np.zeros(stack.shape, dtype=np.bool_)
    total = np.zeros(stack.shape)
    valid = np.zeros(stack.shape)
    n_frames = 0
    for frame in _first_frames(stack):
        good = ~masked & ~is_sentinel(frame)
        total += np.where(good, frame, 0)
        valid += good
        n_frames += 1
    mean = np.full(stack.shape, np.nan)
    np.divide(total, valid, out=mean, where=valid > 0)
    title = nexus.node(stack.entry).text("title") or ""
    return ImagePreview(_shrink(mean), title, n_frames)


def _first_frames(stack: FrameStack) -> list[Any]:
    frames: list[Any] = []
    for run in stack.present:
        if len(frames) < MAX_PREVIEW_FRAMES:
            n_rows = min(run.n_rows, MAX_PREVIEW_FRAMES - len(frames))
            frames.extend(read_run(run, shape=stack.shape, dtype=stack.dtype, n_frames=n_rows))
    return frames


def is_sentinel(frames: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where detectors write 'no value': the largest unsigned value, or below zero for signed counts.

    Floating-point frames: where not finite. Source: NXmx writers (Eiger), CBF of Pilatus (-1, -2).
    """
    if frames.dtype.kind == "u":
        return np.asarray(frames == np.iinfo(frames.dtype).max)
    if frames.dtype.kind == "i":
        return np.asarray(frames < 0)
    return np.asarray(~np.isfinite(frames))


def _shrink(image: FloatArray) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Block means that make no side longer than MAX_PREVIEW_SIDE; NaN where a whole block is masked."""
    step = max(1, -(-max(image.shape) // MAX_PREVIEW_SIDE))
    if step == 1:
        return image.astype(np.float32)
    ny, nx = (-(-n // step) * step for n in image.shape)
    padded = np.full((ny, nx), np.nan)
    padded[: image.shape[0], : image.shape[1]] = image
    blocks = padded.reshape(ny // step, step, nx // step, step)
    good = np.isfinite(blocks)
    total, n_good = np.where(good, blocks, 0).sum(axis=(1, 3)), good.sum(axis=(1, 3))
    small = np.full(total.shape, np.nan)
    np.divide(total, n_good, out=small, where=n_good > 0)
    return small.astype(np.float32)
