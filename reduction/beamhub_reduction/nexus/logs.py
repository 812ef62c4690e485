"""Values that change with time: NXlog, and what they were at the time of a frame or pulse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from beamhub_reduction.nexus.errors import LogInvalid, UnitUnknown
from beamhub_reduction.nexus.text import as_text, unit_factor
from beamhub_reduction.nexus.tree import Node
from beamhub_reduction.nexus.virtual import read_layout, read_plain

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Log:
    """Readings sorted by time: `time_ns` (n,) int64 since `start`, `values` (n,) or (n, ...) float64.

    `start` is None when the file does not say; times count from an unknown moment then. Of readings at
    the same time the last one is kept; readings whose time is no number are left out.
    """

    name: str
    start: datetime | None
    time_ns: IntArray
    values: FloatArray
    units: str | None

    def at(self, times_ns: IntArray, *, how: Literal["last", "linear"] = "last") -> FloatArray:
        """The values at these times, in ns since `start`; NaN before the first reading.

        'last' takes the last reading before or at each time, which is how devices log that write when they
        change; 'linear' interpolates, and gives the last value behind the last reading.
        """
        wanted = np.asarray(times_ns, dtype=np.int64)
        out = np.full((wanted.size, *self.values.shape[1:]), np.nan)
        i = np.searchsorted(self.time_ns, wanted.ravel(), side="right") - 1
        known = i >= 0
        out[known] = self.values[i[known]]
        if how == "linear":
            between = known & (i + 1 < self.time_ns.size)
            low, high = i[between], i[between] + 1
            span = (self.time_ns[high] - self.time_ns[low]).astype(np.float64)
            share = (wanted.ravel()[between] - self.time_ns[low]) / span
            share = share.reshape(-1, *(1,) * (self.values.ndim - 1))
            out[between] = self.values[low] * (1 - share) + self.values[high] * share
        return out.reshape(*wanted.shape, *self.values.shape[1:])


def read_log(group: Node) -> Log:
    """The readings of an NXlog: `value` (or SNS's average_value alone) over `time`, or `value_log` inside.

    Raises
    ------
    LogInvalid
        If values or times are absent, no numbers, or not equally many.
    UnitUnknown
        If the times have units that we do not know.
    LinkMissing, UnsupportedLayout
    """
    inner = group.get("value_log") if group.get("value") is None else None
    group = inner if inner is not None and not inner.is_dataset else group
    value = group.get("value")
    value = value if value is not None else group.get("raw_value")
    time = group.get("time")
    value = value if value is not None else group.get("average_value")
    if value is None or not value.is_dataset or value.item.dtype.kind not in "iufb":
        raise LogInvalid(group.target.file, group.target.path, "it has no numbers as values")
    values = _array(value).astype(np.float64)
    units = value.attribute_text("units")
    if time is None or not time.is_dataset:
        if values.size != 1:
            raise LogInvalid(group.target.file, group.target.path, f"{values.size} values without times")
        return Log(group.name, None, np.zeros(1, dtype=np.int64), values.reshape(1), units)
    values = values if values.ndim else values.reshape(1)
    time_ns, good = _times(time)
    if time_ns.shape != values.shape[:1]:
        reason = f"{values.shape[0]} values for {time_ns.size} times"
        raise LogInvalid(group.target.file, group.target.path, reason)
    time_ns, values = time_ns[good], values[good]
    order = np.argsort(time_ns, kind="stable")
    time_ns, values = time_ns[order], values[order]
    last = np.append(time_ns[1:] != time_ns[:-1], True)[: time_ns.size]
    start = parse_time(time.attribute_text("start") or time.attribute_text("offset"))
    return Log(group.name, start, time_ns[last], values[last], units)


def _array(node: Node) -> np.ndarray[Any, Any]:
    if not node.shape:
        return np.asarray(node.values())
    return read_plain(read_layout(node.target, roots=node.owner.roots))


def _times(node: Node) -> tuple[IntArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Times in ns, and which of them are numbers; integers stay exact."""
    raw = _array(node).reshape(-1)
    units = node.attribute_text("units")
    factor = unit_factor(units, "s")
    if factor is None:
        raise UnitUnknown(node.target.file, node.target.path, units or "", "s")
    if raw.dtype.kind not in "iuf":
        raise LogInvalid(node.target.file, node.target.path, "its times are no numbers")
    scale = factor * NS
    whole = round(scale)
    if raw.dtype.kind in "iu" and whole >= 1 and abs(scale - whole) < 1e-6 * scale:
        good = np.abs(raw.astype(np.float64)) < (2.0**63) / whole
        return np.where(good, raw, 0).astype(np.int64) * whole, good
    ns = raw.astype(np.float64) * scale
    good = np.isfinite(ns) & (np.abs(ns) < 2.0**62)
    return np.rint(np.where(good, ns, 0)).astype(np.int64), good


def parse_time(text: object) -> datetime | None:
    """An ISO 8601 time, in UTC where it names no zone; None when it is none."""
    found = as_text(text)
    if found is None:
        return None
    try:
        parsed = datetime.fromisoformat(found.replace("Z", "+00:00"))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
