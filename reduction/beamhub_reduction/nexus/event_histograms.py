"""Neutron counts that were histogrammed over time of flight before they were written, by detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.errors import NoEvents
from beamhub_reduction.nexus.event_pulses import Beam, read_beam
from beamhub_reduction.nexus.monitor_spectrum import bin_borders, read_times
from beamhub_reduction.nexus.tree import NexusFile, Node
from beamhub_reduction.nexus.virtual import Layout, read_layout

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

COUNT_NAMES = ("data", "counts")


@dataclass(frozen=True, slots=True)
class HistogramBank:
    """Counts of one detector: the last axis of `counts` is time.

    `time_edges_s` has shape (n_tof + 1,). Angles and distances have shape (n_pixels,), or are None where the
    file does not give them.
    """

    name: str
    counts: Layout
    time_edges_s: FloatArray
    two_theta_rad: FloatArray | None
    distance_m: FloatArray | None


@dataclass(frozen=True, slots=True)
class HistogramRun:
    """All histogrammed detectors of one entry, the beam, and the flight path before the sample if known."""

    file: str
    entry: str
    primary_flight_path_m: float | None
    banks: tuple[HistogramBank, ...]
    beam: Beam


def read_histogram_run(nexus: NexusFile) -> HistogramRun:
    """The detectors of the first entry with counts over time of flight; the counts themselves are not read.

    Raises
    ------
    NoEvents
        If there is none.
    EventsInvalid
        If the times of a detector do not ascend.
    """
    for entry in nexus.entries():
        instruments = entry.groups("NXinstrument")
        detectors = [d for i in instruments for d in i.groups("NXdetector")] + entry.groups("NXdetector")
        banks = tuple(bank for d in detectors if (bank := _read_bank(nexus, d)) is not None)
        if banks:
            monitors = [m for group in (entry, *instruments) for m in group.groups("NXmonitor")]
            beam = read_beam(entry, monitors)
            return HistogramRun(nexus.path, entry.target.path, _primary_path(instruments), banks, beam)
    raise NoEvents(nexus.path)


def _primary_path(instruments: list[Node]) -> float | None:
    for instrument in instruments:
        for group in instrument.groups("NXmoderator", "NXsource"):
            distance = group.number("distance", "m")
            if distance:
                return abs(distance)
    return None


def _read_bank(nexus: NexusFile, detector: Node) -> HistogramBank | None:
    found = read_times(detector)
    if found is None:
        return None
    times, path = found
    for name in COUNT_NAMES:
        node = detector.get(name)
        if node is None or not node.is_dataset or len(node.shape) < 2:
            continue
        n_tof, n_pixels = node.shape[-1], int(np.prod(node.shape[:-1], dtype=np.int64))
        if times.size not in (n_tof, n_tof + 1):
            continue
        edges = bin_borders(times, n_tof, nexus.path, path)
        return HistogramBank(
            detector.name,
            read_layout(node.target, roots=nexus.roots),
            edges,
            _of_pixels(detector.numbers("polar_angle", "rad"), n_pixels),
            _of_pixels(detector.numbers("distance", "m"), n_pixels),
        )
    return None


def _of_pixels(values: FloatArray | None, n_pixels: int) -> FloatArray | None:
    if values is None or values.size not in (1, n_pixels):
        return None
    return np.ascontiguousarray(np.broadcast_to(values.ravel(), (n_pixels,)))
