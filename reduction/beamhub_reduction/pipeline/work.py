"""What a worker does with one unit: read, decode, reduce. No h5py object and no open file travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.errors import CorruptChunk
from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.units import EventUnit
from beamhub_reduction.steps.frames import FloatArray
from beamhub_reduction.steps.time_of_flight import (
    EventHistogram,
    PixelTable,
    add_histograms,
    d_range,
    histogram_events,
)
from beamhub_reduction.storage_chunks import Rows, read_rows


def check_policy(rows: Rows, corrupt: CorruptPolicy) -> None:
    """Raise the first corrupt chunk unless such rows are to be skipped."""
    if rows.problems and corrupt == "fail":
        raise rows.problems[0]


@dataclass(frozen=True, slots=True)
class EventTask:
    """What all units of an event reduction share; `edges` is None while the range is being looked for."""

    tables: tuple[PixelTable, ...]
    time_units_s: tuple[float, ...]
    edges: FloatArray | None
    corrupt: CorruptPolicy


@dataclass(frozen=True, slots=True)
class EventPart:
    """The result of one unit, or of several."""

    histogram: EventHistogram
    n_corrupt: int
    problems: tuple[str, ...]


def find_d_range(unit: EventUnit, task: EventTask) -> tuple[float, float]:
    """Smallest and largest d-spacing in a unit."""
    ids, times, _, _ = _read_events(unit, task)
    return d_range(ids, time_s=times, table=task.tables[unit.i_bank])


def merge_range(left: tuple[float, float], right: tuple[float, float]) -> tuple[float, float]:
    """The range that holds both."""
    return min(left[0], right[0]), max(left[1], right[1])


def reduce_events(unit: EventUnit, task: EventTask) -> EventPart:
    """Histogram the events of one unit.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    """
    if task.edges is None:
        raise ValueError("the edges of the bins are set before events are counted")
    ids, times, n_corrupt, problems = _read_events(unit, task)
    histogram = histogram_events(ids, time_s=times, table=task.tables[unit.i_bank], edges=task.edges)
    return EventPart(histogram, n_corrupt, tuple(str(p) for p in problems))


def merge_events(left: EventPart, right: EventPart) -> EventPart:
    """Both parts together."""
    return EventPart(
        add_histograms(left.histogram, right.histogram),
        left.n_corrupt + right.n_corrupt,
        (*left.problems, *right.problems)[:100],
    )


def _read_events(
    unit: EventUnit, task: EventTask
) -> tuple[np.ndarray[Any, Any], FloatArray, int, tuple[CorruptChunk, ...]]:
    """(ids, times of flight in s, number of events in corrupt or unwritten chunks, problems)."""
    ids = [read_rows(s.index, s.start, s.stop) for s in unit.ids]
    offsets = [read_rows(s.index, s.start, s.stop) for s in unit.offsets]
    for rows in (*ids, *offsets):
        check_policy(rows, task.corrupt)
    good = np.concatenate([r.good for r in ids]) & np.concatenate([r.good for r in offsets])
    event_id = np.concatenate([r.data for r in ids])[good]
    times = (
        np.concatenate([r.data for r in offsets])[good].astype(np.float64) * task.time_units_s[unit.i_bank]
    )
    problems = tuple(p for rows in (*ids, *offsets) for p in rows.problems)
    return event_id, times, int(good.size - np.count_nonzero(good)), problems
