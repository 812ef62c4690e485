"""Neutron events: NXevent_data beside its detector's pixels."""

from __future__ import annotations

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
from beamhub_reduction.nexus.frames import MASK_BITS
from beamhub_reduction.nexus.text import unit_factor
from beamhub_reduction.nexus.tree import NexusFile, Node
from beamhub_reduction.nexus.virtual import Layout, read_layout, read_plain

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class EventBank:
    """Pixels and events of one detector.

    All pixel arrays have shape (n_pixels,). `event_index` has the first event of each pulse and one
    number more, the number of events: pulse i holds events event_index[i] to event_index[i + 1].
    `event_id` and `event_time_offset` say where the events lie; `time_unit_s` scales the offsets.
    """

    name: str
    detector_number: IntArray
    two_theta_rad: FloatArray
    distance_m: FloatArray
    masked: np.ndarray[Any, np.dtype[np.bool_]]
    event_index: IntArray
    event_time_zero: FloatArray
    event_id: Layout
    event_time_offset: Layout
    time_unit_s: float

    @property
    def n_events(self) -> int:
        """Events in the file, masked or not."""
        return self.event_id.n_rows


@dataclass(frozen=True, slots=True)
class EventRun:
    """All banks of one entry, the flight path before the sample, and the beam's charge."""

    file: str
    entry: str
    primary_flight_path_m: float
    banks: tuple[EventBank, ...]
    proton_charge_pC: float | None  # noqa: N815  # the unit's own spelling


def find_event_groups(entry: Node) -> list[tuple[Node, Node]]:
    """(NXdetector, NXevent_data) pairs of an entry.

    The events stand in the detector's group, or beside it in the entry as '<detector>_events'.
    """
    instruments = entry.groups("NXinstrument")
    detectors = [d for i in instruments for d in i.groups("NXdetector")] + entry.groups("NXdetector")
    pairs = [(d, e) for d in detectors for e in d.groups("NXevent_data")]
    if not pairs:
        beside = {e.name: e for e in entry.groups("NXevent_data")}
        pairs = [(d, beside[f"{d.name}_events"]) for d in detectors if f"{d.name}_events" in beside]
    return pairs


def read_event_run(nexus: NexusFile) -> EventRun:
    """Geometry and event layouts of the first entry with events; the events themselves are not read.

    Raises
    ------
    NoEvents
        If no entry has an NXevent_data with a detector.
    GeometryMissing, EventsInvalid, MaskShapeWrong, UnitUnknown
    """
    for entry in nexus.entries():
        pairs = find_event_groups(entry)
        if pairs:
            banks = tuple(_read_bank(nexus, detector, events) for detector, events in pairs)
            return EventRun(
                nexus.path, entry.target.path, _primary_path(nexus, entry), banks, read_proton_charge(entry)
            )
    raise NoEvents(nexus.path)


def _primary_path(nexus: NexusFile, entry: Node) -> float:
    """Moderator to sample, metres. Source: NeXus, NXmoderator/distance is negative before the sample."""
    for instrument in entry.groups("NXinstrument"):
        for group in instrument.groups("NXmoderator", "NXsource"):
            distance = group.number("distance", "m")
            if distance:
                return abs(distance)
    raise GeometryMissing(nexus.path, f"{entry.target.path}/instrument", ("moderator/distance",))


def _read_bank(nexus: NexusFile, detector: Node, events: Node) -> EventBank:
    numbers = detector.numbers("detector_number")
    arrays = {
        "distance": detector.numbers("distance", "m"),
        "polar_angle": detector.numbers("polar_angle", "rad"),
    }
    missing = tuple(name for name, array in arrays.items() if array is None)
    if numbers is None or missing:
        absent = (*missing, *(("detector_number",) if numbers is None else ()))
        raise GeometryMissing(nexus.path, detector.target.path, absent)
    flat = {
        name: _per_pixel(nexus, detector, name, a, numbers) for name, a in arrays.items() if a is not None
    }
    layouts = {name: _layout(events, name) for name in ("event_id", "event_time_offset")}
    lengths = {name: layout.n_rows for name, layout in layouts.items()}
    if len(set(lengths.values())) != 1:
        raise EventsInvalid(nexus.path, events.target.path, f"lengths differ: {lengths}")
    time_zero = events.numbers("event_time_zero", None)
    time_zero = np.zeros(0) if time_zero is None else time_zero.ravel()
    index = _event_index(nexus.path, events, lengths["event_id"], time_zero.size)
    return EventBank(
        name=detector.name,
        detector_number=numbers.ravel().astype(np.int64),
        two_theta_rad=flat["polar_angle"],
        distance_m=flat["distance"],
        masked=_masked_pixels(nexus, detector, numbers.shape),
        event_index=index,
        event_time_zero=time_zero,
        event_id=layouts["event_id"],
        event_time_offset=layouts["event_time_offset"],
        time_unit_s=_time_unit(nexus, events),
    )


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

    Entries of 2^64 - 1 (written for pulses that never came) count as 'behind the last event', and an
    index shorter than event_time_zero means that the last pulses were empty.
    Source: scippnexus and Mantid, which repair the same files.
    """
    raw = np.asarray(read_plain(_layout(events, "event_index"))).ravel()
    if raw.dtype.kind not in "iu":
        raise EventsInvalid(file, events.target.path, f"event_index has type {raw.dtype}")
    if raw.dtype.kind == "u":
        raw = np.where(raw == np.iinfo(raw.dtype).max, n_events, raw)
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


def read_proton_charge(entry: Node) -> float | None:
    """Charge on target in pC: the sum over the NXlog in DASlogs, else the entry's total, else None."""
    logs = entry.get("DASlogs")
    log = logs.get("proton_charge") if logs is not None else None
    values = log.numbers("value", "pC") if log is not None and not log.is_dataset else None
    if values is not None and values.size:
        return float(np.nansum(values))
    return entry.number("proton_charge", "pC")


def count_pulses(banks: tuple[EventBank, ...]) -> tuple[int, int]:
    """(pulses, pulses in which no bank has an event).

    Banks with the same event_time_zero share their pulses; otherwise pulses are told apart by time.
    """
    times = [bank.event_time_zero for bank in banks]
    lengths = {bank.event_index.size - 1 for bank in banks}
    shared = len(lengths) == 1 and all(np.array_equal(times[0], t) for t in times[1:])
    if shared:
        filled = np.zeros(lengths.pop(), dtype=np.bool_)
        for bank in banks:
            filled |= np.diff(bank.event_index) > 0
        return int(filled.size), int(np.count_nonzero(~filled))
    pulses = np.unique(np.concatenate(times))
    with_events = [t[np.diff(b.event_index)[: t.size] > 0] for b, t in zip(banks, times, strict=True)]
    return int(pulses.size), int(pulses.size - np.unique(np.concatenate(with_events)).size)
