"""Neutron events: NXevent_data beside its detector's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.errors import (
    EventsInvalid,
    GeometryMissing,
    MaskShapeWrong,
    NoEvents,
    UnitUnknown,
)
from beamhub_reduction.nexus.event_pulses import Beam, read_beam
from beamhub_reduction.nexus.frames import MASK_BITS
from beamhub_reduction.nexus.text import unit_factor
from beamhub_reduction.nexus.tree import NexusFile, Node
from beamhub_reduction.nexus.virtual import Layout, read_layout, read_plain

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]


ID_NAMES = ("detector_number", "pixel_id", "detector_id", "spectrum_index")
"""What the ids of a detector's pixels are called: NXdetector, SNS, ISIS."""


@dataclass(frozen=True, slots=True)
class EventBank:
    """Pixels and events of one detector.

    All pixel arrays have shape (n_pixels,); `shape` is the detector's own. Without a detector they are None,
    and so are angle and distance where the file does not give them. `event_index` has the first event of each
    pulse and one number more, the number of events: pulse i holds events event_index[i] to event_index[i +
    1]. `event_time_zero` is as it stands in the file, `pulse_unit_s` scales it, `pulse_epoch` is the date it
    counts from. `event_id` and `event_time_offset` say where the events lie; `time_unit_s` scales the
    offsets.
    """

    name: str
    path: str
    shape: tuple[int, ...]
    detector_number: IntArray | None
    two_theta_rad: FloatArray | None
    distance_m: FloatArray | None
    masked: np.ndarray[Any, np.dtype[np.bool_]]
    event_index: IntArray
    event_time_zero: np.ndarray[Any, Any]
    pulse_unit_s: float
    pulse_epoch: str
    event_id: Layout
    event_time_offset: Layout
    time_unit_s: float

    @property
    def n_events(self) -> int:
        """Events in the file, masked or not."""
        return self.event_id.n_rows


@dataclass(frozen=True, slots=True)
class EventRun:
    """All banks of one entry, the flight path before the sample (None where unknown), and the beam."""

    file: str
    entry: str
    primary_flight_path_m: float | None
    banks: tuple[EventBank, ...]
    beam: Beam


@dataclass(frozen=True, slots=True)
class EntryGroups:
    """The groups of an entry and of its instruments that belong to events, each member looked at once.

    Detectors of instruments come before those of the entry, monitors of the entry before the others.
    """

    detectors: tuple[Node, ...]
    events: tuple[Node, ...]
    monitors: tuple[Node, ...]
    sources: tuple[Node, ...]

    @classmethod
    def of(cls, entry: Node) -> EntryGroups:
        """Those of one entry; events are those that lie in the entry itself."""
        found = _classified([entry], "NXinstrument", "NXdetector", "NXevent_data", "NXmonitor")
        inner = _classified(found["NXinstrument"], "NXdetector", "NXmoderator", "NXsource", "NXmonitor")
        return cls(
            (*inner["NXdetector"], *found["NXdetector"]),
            tuple(found["NXevent_data"]),
            (*found["NXmonitor"], *inner["NXmonitor"]),
            (*inner["NXmoderator"], *inner["NXsource"]),
        )


def _classified(parents: Sequence[Node], *classes: str) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {name: [] for name in classes}
    for parent in parents:
        for child, nx_class in parent.owner.groups_of(parent):
            if nx_class in found:
                found[nx_class].append(child)
    return found


def find_event_groups(entry: Node) -> list[tuple[Node, Node]]:
    """(NXdetector, NXevent_data) pairs of an entry.

    The events stand in the detector's group, or beside it in the entry as '<detector>_events'.
    """
    return [(d, e) for d, e in find_all_event_groups(EntryGroups.of(entry)) if d is not None]


def find_all_event_groups(groups: EntryGroups) -> list[tuple[Node | None, Node]]:
    """(NXdetector, NXevent_data) pairs; None for events in the entry that no detector is named for.

    Events of monitors are left out.
    """
    detectors = groups.detectors
    pairs: list[tuple[Node | None, Node]] = [(d, e) for d in detectors for e in d.groups("NXevent_data")]
    seen = {events.target for _, events in pairs}
    named = {f"{d.name}_events": d for d in detectors}
    for events in groups.events:
        if events.target not in seen and (events.name in named or not pairs or not detectors):
            pairs.append((named.get(events.name), events))
    with_detector = [pair for pair in pairs if pair[0] is not None]
    return with_detector or pairs


def read_event_run(nexus: NexusFile, *, without_geometry: bool = False) -> EventRun:
    """Geometry and event layouts of the first entry with events; the events themselves are not read.

    Parameters
    ----------
    without_geometry:
        Whether events without a detector, and detectors without angles or distances, are taken too.

    Raises
    ------
    NoEvents
        If no entry has an NXevent_data (with a detector, unless without_geometry).
    GeometryMissing, EventsInvalid, MaskShapeWrong, UnitUnknown
    """
    for entry in nexus.entries():
        groups = EntryGroups.of(entry)
        pairs = find_all_event_groups(groups)
        if not without_geometry:
            pairs = [pair for pair in pairs if pair[0] is not None]
        if pairs:
            banks = tuple(_read_bank(nexus, d, e, without_geometry) for d, e in pairs)
            primary = _primary_path(nexus, entry, groups, without_geometry)
            beam = read_beam(entry, groups.monitors)
            return EventRun(nexus.path, entry.target.path, primary, banks, beam)
    raise NoEvents(nexus.path)


def _primary_path(nexus: NexusFile, entry: Node, groups: EntryGroups, without_geometry: bool) -> float | None:
    """Moderator to sample, metres. Source: NeXus, NXmoderator/distance is negative before the sample."""
    for group in groups.sources:
        distance = group.number("distance", "m")
        if distance:
            return abs(distance)
    if without_geometry:
        return None
    raise GeometryMissing(nexus.path, f"{entry.target.path}/instrument", ("moderator/distance",))


def _read_bank(nexus: NexusFile, detector: Node | None, events: Node, without_geometry: bool) -> EventBank:
    pixels = _no_pixels(events) if detector is None else _read_pixels(nexus, detector, without_geometry)
    layouts = {name: _layout(events, name) for name in ("event_id", "event_time_offset")}
    lengths = {name: layout.n_rows for name, layout in layouts.items()}
    if len(set(lengths.values())) != 1:
        raise EventsInvalid(nexus.path, events.target.path, f"lengths differ: {lengths}")
    time_zero, unit, epoch = _pulse_times(nexus, events)
    return EventBank(
        **pixels,
        path=events.target.path,
        event_index=_event_index(nexus.path, events, lengths["event_id"], time_zero.size),
        event_time_zero=time_zero,
        pulse_unit_s=unit,
        pulse_epoch=epoch,
        event_id=layouts["event_id"],
        event_time_offset=layouts["event_time_offset"],
        time_unit_s=_time_unit(nexus, events),
    )


def _no_pixels(events: Node) -> dict[str, Any]:
    return {
        "name": events.name.removesuffix("_events"), "shape": (), "detector_number": None,
        "two_theta_rad": None, "distance_m": None, "masked": np.zeros(0, dtype=np.bool_),
    }  # fmt: skip


def _read_pixels(nexus: NexusFile, detector: Node, without_geometry: bool) -> dict[str, Any]:
    numbers = next((n for name in ID_NAMES if (n := detector.numbers(name)) is not None), None)
    arrays = {
        "distance": detector.numbers("distance", "m"),
        "polar_angle": detector.numbers("polar_angle", "rad"),
    }
    missing = tuple(name for name, array in arrays.items() if array is None)
    absent = (*missing, *(("detector_number",) if numbers is None else ()))
    if absent and not without_geometry:
        raise GeometryMissing(nexus.path, detector.target.path, absent)
    if numbers is None:
        return _no_pixels(detector) | {"name": detector.name}
    flat = {
        name: None if a is None else _per_pixel(nexus, detector, name, a, numbers)
        for name, a in arrays.items()
    }
    return {
        "name": detector.name,
        "shape": numbers.shape,
        "detector_number": numbers.ravel().astype(np.int64),
        "two_theta_rad": flat["polar_angle"],
        "distance_m": flat["distance"],
        "masked": _masked_pixels(nexus, detector, numbers.shape),
    }


def _pulse_times(nexus: NexusFile, events: Node) -> tuple[np.ndarray[Any, Any], float, str]:
    """(event_time_zero as it stands in the file, seconds per unit, the date it counts from or '')."""
    node = events.get("event_time_zero")
    if node is None or not node.is_dataset or np.asarray(node.values()).dtype.kind not in "iuf":
        return np.zeros(0), 1.0, ""
    units = node.attribute_text("units")
    factor = unit_factor(units, "s")
    if factor is None:
        raise UnitUnknown(nexus.path, node.target.path, units or "", "seconds")
    return np.atleast_1d(np.asarray(node.values())).ravel(), factor, node.attribute_text("offset") or ""


def _per_pixel(
    nexus: NexusFile, detector: Node, name: str, array: FloatArray, numbers: FloatArray
) -> FloatArray:
    if array.size not in (1, numbers.size):
        raise GeometryMissing(
            nexus.path, detector.target.path, (f"{name} for each of {numbers.size} pixels",)
        )
    return np.ascontiguousarray(np.broadcast_to(array.ravel(), (numbers.size,)), dtype=np.float64)


def _masked_pixels(
    nexus: NexusFile, detector: Node, shape: tuple[int, ...]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = detector.numbers("pixel_mask")
    if mask is None:
        return np.zeros(int(np.prod(shape)), dtype=np.bool_)
    if mask.shape != shape:
        raise MaskShapeWrong(nexus.path, f"{detector.target.path}/pixel_mask", mask.shape, shape)
    return np.asarray((mask.ravel().astype(np.int64) & MASK_BITS) != 0)


def _layout(events: Node, name: str) -> Layout:
    node = events.get(name)
    if node is None or not node.is_dataset:
        raise EventsInvalid(events.target.file, events.target.path, f"it has no {name}")
    return read_layout(node.target, roots=events.owner.roots)


def _event_index(file: str, events: Node, n_events: int, n_pulses: int) -> IntArray:
    """First event of each pulse, closed by the number of events.

    Entries of 2^64 - 1 (written for pulses that never came) mean an empty pulse: they count as what the next
    pulse begins with. An index shorter than event_time_zero means that the last pulses were empty.
    Source: scippnexus and Mantid, which repair the same files.
    """
    raw = np.asarray(read_plain(_layout(events, "event_index"))).ravel()
    if raw.dtype.kind not in "iu":
        raise EventsInvalid(file, events.target.path, f"event_index has type {raw.dtype}")
    if raw.size and raw.dtype.kind == "u":
        never = raw == np.iinfo(raw.dtype).max
        here = np.where(never, raw.size, np.arange(raw.size))
        following = np.minimum.accumulate(here[::-1])[::-1]
        raw = np.append(raw, np.asarray(n_events, dtype=raw.dtype))[following]
    if raw.size and (int(raw.min()) < 0 or int(raw.max()) > n_events):
        raise EventsInvalid(file, events.target.path, f"event_index points beyond its {n_events} events")
    index = np.full(max(raw.size, n_pulses) + 1, n_events, dtype=np.int64)
    index[: raw.size] = raw
    if np.any(np.diff(index) < 0):
        raise EventsInvalid(file, events.target.path, "event_index decreases")
    return index


def _time_unit(nexus: NexusFile, events: Node) -> float:
    node = events.get("event_time_offset")
    units = node.attribute_text("units") if node is not None else None
    factor = unit_factor(units, "s") if units else None
    if factor is None:
        raise UnitUnknown(nexus.path, f"{events.target.path}/event_time_offset", units or "", "seconds")
    return factor
