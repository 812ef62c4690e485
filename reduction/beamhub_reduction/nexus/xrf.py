"""Fluorescence scans: spectra of one or several detector elements, their dead time, where each was measured.

Source: NeXus, NXfluo.nxdl and NXdetector; field names of BLISS (ESRF) and of DLS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from beamhub_reduction.nexus.errors import LinkMissing, NodeMissing, UnitUnknown, UnsupportedLayout
from beamhub_reduction.nexus.scan_errors import NoSpectra, ScanArrayWrong
from beamhub_reduction.nexus.tree import NexusFile, Node, resolve
from beamhub_reduction.nexus.virtual import Layout, read_layout

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
AxesChoice = Literal["auto", "channel_last", "element_channel"]

DATA_NAMES = ("data", "spectrum", "counts")
LIVE_TIME = ("live_time",)
REAL_TIME = ("elapsed_time", "real_time", "count_time")
INPUT_RATE = ("trigger_count_rate", "input_count_rate", "icr")
OUTPUT_RATE = ("event_count_rate", "output_count_rate", "ocr")
FRACTION = ("fractional_dead_time", "dead_time_fraction")
_MARKS = {
    "energy", "calibration", "spectrum",
    *LIVE_TIME, *REAL_TIME[:2], *INPUT_RATE, *OUTPUT_RATE, *FRACTION,
}  # fmt: skip
MIN_CHANNELS = 16
_PAIRS = (("sample_y", "sample_x"), ("y", "x"))


@dataclass(frozen=True, slots=True)
class DeadTimeFields:
    """What an element says of its dead time, shape (n_points, n_elements) each, or None.

    Times in seconds, rates in counts per second, `fraction` of the time that it was dead (0 to 1).
    """

    live_time: FloatArray | None
    real_time: FloatArray | None
    input_rate: FloatArray | None
    output_rate: FloatArray | None
    fraction: FloatArray | None


@dataclass(frozen=True, slots=True)
class SpectrumSource:
    """One dataset of spectra: of one element, or of `n_elements` along the axis before the channels.

    `energies_keV` (n_channels,) is None when the file does not say.
    """

    path: str
    layout: Layout
    n_elements: int
    dead_time: DeadTimeFields
    energies_keV: FloatArray | None  # noqa: N815  # the unit's own spelling


@dataclass(frozen=True, slots=True)
class ScanAxis:
    """Positions along one axis of a map."""

    name: str
    units: str
    values: FloatArray


@dataclass(frozen=True, slots=True)
class XrfScan:
    """Spectra over `shape` (ny, nx) points. `monitor` (n_points,) is None when the file has none."""

    file: str
    entry: str
    sources: tuple[SpectrumSource, ...]
    shape: tuple[int, int]
    n_channels: int
    axes: tuple[ScanAxis, ScanAxis]
    monitor: FloatArray | None
    monitor_name: str | None

    @property
    def missing(self) -> tuple[LinkMissing, ...]:
        """The broken links behind missing spectra."""
        return tuple(p.missing for s in self.sources for p in s.layout.missing if p.missing is not None)


def read_xrf_scan(
    nexus: NexusFile, dataset: str | None = None, *, shape: tuple[int, int] | None = None,
    axes: AxesChoice = "auto",
) -> XrfScan:  # fmt: skip
    """The spectra of all elements of the first entry that has any, or of one named dataset.

    Parameters
    ----------
    shape:
        (ny, nx) of a scan that is a list of points; without it such a list is one row.
    axes:
        'auto': four dimensions are (y, x, element, channel), less are points and channels.

    Raises
    ------
    NoSpectra
    ScanArrayWrong
        If elements, dead times or the shape do not fit together.
    LinkMissing
        If no spectra can be reached because a link is broken.
    """
    entry, found = _find(nexus, dataset)
    layouts = [layout for _, layout in found]
    first = layouts[0]
    if any(layout.shape != first.shape for layout in layouts):
        described = ", ".join(f"{layout.target.path} {layout.shape}" for layout in layouts[:4])
        raise ScanArrayWrong(nexus.path, first.target.path, f"elements of different shapes: {described}")
    has_elements = axes == "element_channel" or (axes == "auto" and len(first.shape) == 4)
    scan_dims = first.shape[: -2 if has_elements else -1]
    if len(scan_dims) not in (1, 2) or not all(first.shape):
        raise ScanArrayWrong(nexus.path, first.target.path, f"{first.shape} is no map of spectra")
    n_points = int(np.prod(scan_dims))
    ny, nx = shape or (scan_dims if len(scan_dims) == 2 else (1, n_points))
    if ny * nx != n_points:
        raise ScanArrayWrong(nexus.path, first.target.path, f"{n_points} points are no map of {ny} x {nx}")
    n_elements = first.shape[-2] if has_elements else 1
    n_channels = first.shape[-1]
    sources = tuple(
        SpectrumSource(
            layout.target.path, layout, n_elements, _dead_time(group, n_points, n_elements),
            _energies(group, n_channels),
        )
        for group, layout in found
    )  # fmt: skip
    name, monitor = _monitor(entry, n_points)
    map_axes = read_scan_axes(entry, (ny, nx))
    return XrfScan(nexus.path, entry.target.path, sources, (ny, nx), n_channels, map_axes, monitor, name)


def _find(nexus: NexusFile, dataset: str | None) -> tuple[Node, list[tuple[Node, Layout]]]:
    """The entry, and each group of spectra with its dataset's layout."""
    if dataset is not None:
        parent, _, name = dataset.rstrip("/").rpartition("/")
        group = nexus.node(parent or "/")
        entry = nexus.node("/" + dataset.strip("/").split("/", 1)[0])
        return entry, [(group, _layout(group, name))]
    looked_at = []
    broken: LinkMissing | None = None
    for entry in nexus.entries():
        found: list[tuple[Node, Layout]] = []
        for group in _detectors(entry):
            try:
                layout = _spectra(group)
            except LinkMissing as error:
                broken = broken or error
                continue
            if layout is not None:
                found.append((group, layout))
        if found:
            return entry, found
        looked_at.append(entry.target.path)
    if broken is not None:
        raise broken
    raise NoSpectra(nexus.path, f"entries looked at: {', '.join(looked_at[:10]) or 'none'}")


def _detectors(entry: Node) -> list[Node]:
    groups = [d for i in entry.groups("NXinstrument") for d in i.groups("NXdetector")]
    return [*groups, *entry.groups("NXdetector")]


def _spectra(group: Node) -> Layout | None:
    """The spectra of a detector that looks like a multichannel analyser, or None."""
    links = group.links()
    if not _MARKS & set(links):
        return None
    for name in DATA_NAMES:
        if name not in links:
            continue
        try:
            layout = _layout(group, name)
        except (NodeMissing, UnsupportedLayout):
            continue
        if len(layout.shape) >= 2 and layout.shape[-1] >= MIN_CHANNELS:
            return layout
    return None


def _layout(group: Node, name: str) -> Layout:
    roots = group.owner.roots
    layout = read_layout(resolve(group.target.file, f"{group.target.path}/{name}", roots=roots), roots=roots)
    if len(layout.shape) < 2 or np.dtype(layout.dtype).kind not in "iuf":
        raise UnsupportedLayout(group.target.file, layout.target.path, f"{layout.shape} holds no spectra")
    return layout


def _dead_time(group: Node, n_points: int, n_elements: int) -> DeadTimeFields:
    def first_of(names: Sequence[str], unit: str | None) -> FloatArray | None:
        found = ((name, group.numbers(name, unit)) for name in names)
        for name, values in found:
            if values is not None:
                return _per_element(group, name, values, (n_points, n_elements))
        return None

    return DeadTimeFields(
        first_of(LIVE_TIME, "s"), first_of(REAL_TIME, "s"), first_of(INPUT_RATE, None),
        first_of(OUTPUT_RATE, None), first_of(FRACTION, None),
    )  # fmt: skip


def _per_element(group: Node, name: str, values: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Values for every point and element; one for each point, or a single one, counts for all elements."""
    if values.size == shape[0] * shape[1]:
        return values.reshape(shape)
    if values.size in (1, shape[0]):
        return np.broadcast_to(values.reshape(-1, 1), shape)
    node = f"{group.target.path}/{name}"
    raise ScanArrayWrong(group.target.file, node, f"{values.size} values for {shape[0]} points x {shape[1]}")


def _energies(group: Node, n_channels: int) -> FloatArray | None:
    """keV of each channel: an axis `energy`, else `calibration` (offset, gain, perhaps a square term)."""
    try:
        energies = group.numbers("energy", "keV")
        terms = group.numbers("calibration", "keV")
    except UnitUnknown:
        return None
    if energies is not None and energies.size == n_channels:
        flat: FloatArray = energies.ravel()
        return flat if np.isfinite(flat).all() and (np.diff(flat) > 0).all() else None
    if terms is None or terms.size not in (2, 3) or not np.isfinite(terms).all() or terms.flat[1] <= 0:
        return None
    channels = np.arange(n_channels, dtype=np.float64)
    return np.asarray(np.polynomial.polynomial.polyval(channels, terms.ravel()), dtype=np.float64)


def _monitor(entry: Node, n_points: int) -> tuple[str | None, FloatArray | None]:
    groups = [
        *entry.groups("NXmonitor"),
        *(m for i in entry.groups("NXinstrument") for m in i.groups("NXmonitor")),
    ]
    for group in groups:
        values = group.numbers("data")
        if values is not None and values.size == n_points > 0:
            return group.target.path, values.ravel()
    return None, None


def read_scan_axes(entry: Node, shape: tuple[int, int]) -> tuple[ScanAxis, ScanAxis]:
    """Positions along y and x: the axes of an NXdata that fit the map, else the indices.

    An axis with a value for every point is averaged over the other one.
    """
    for data in (*entry.groups("NXdata"), *entry.groups("NXmonitor")):
        axes = data.attribute("axes")
        listed = np.ravel(np.asarray([] if axes is None else axes))
        names = [n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in listed]
        pairs = [(names[0], names[1])] if len(names) >= 2 else []
        for pair in (*pairs, *_PAIRS):
            found = [_scan_axis(data, name, shape, i) for i, name in enumerate(pair)]
            if found[0] is not None and found[1] is not None:
                return found[0], found[1]
    y, x = (ScanAxis(name, "", np.arange(float(n))) for name, n in zip("yx", shape, strict=True))
    return y, x


def _scan_axis(data: Node, name: str, shape: tuple[int, int], i: int) -> ScanAxis | None:
    node = data.get(name) if name not in (".", "") and "/" not in name else None
    if node is None or not node.is_dataset:
        return None
    values = data.numbers(name)
    if values is None or values.size not in (shape[i], shape[0] * shape[1]):
        return None
    if values.size != shape[i]:
        values = values.reshape(shape).mean(axis=1 - i)
    return ScanAxis(name, node.attribute_text("units") or "", values.ravel())
