"""A beam monitor's counts over time of flight (NXmonitor)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.errors import EventsInvalid
from beamhub_reduction.nexus.text import unit_factor
from beamhub_reduction.nexus.tree import Node

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

TIME_NAMES = ("time_of_flight", "time_binning", "tof")


@dataclass(frozen=True, slots=True)
class MonitorSpectrum:
    """Counts of one monitor, shape (n_tof,), between `time_edges_s`, shape (n_tof + 1,).

    `distance_m` is the monitor's distance from the sample, below zero before it; None where the file does not
    give it. Source: NeXus, NXmonitor.
    """

    path: str
    counts: FloatArray
    time_edges_s: FloatArray
    distance_m: float | None


def read_monitor_spectrum(monitors: Sequence[Node]) -> MonitorSpectrum | None:
    """The spectrum of the first monitor that has one; counts over other axes (periods) are summed.

    Raises
    ------
    EventsInvalid
        If its times do not ascend.
    """
    for monitor in monitors:
        found = read_times(monitor)
        data = monitor.numbers("data")
        if found is None or data is None or not data.ndim or not data.size:
            continue
        times, path = found
        if data.shape[-1] in (times.size, times.size - 1) and data.shape[-1] > 1:
            edges = bin_borders(times, data.shape[-1], monitor.target.file, path)
            counts: FloatArray = data.reshape(-1, data.shape[-1]).sum(axis=0)
            if np.isfinite(counts).all() and (counts >= 0).all():
                return MonitorSpectrum(monitor.target.path, counts, edges, monitor.number("distance", "m"))
    return None


def read_times(group: Node) -> tuple[FloatArray, str] | None:
    """The times of flight of a detector or monitor in seconds, and their path; None without any."""
    for name in TIME_NAMES:
        node, values = group.get(name), group.numbers(name)
        if node is not None and values is not None and values.ndim == 1 and values.size > 1:
            # Without units microseconds are meant: no neutron flies for seconds.
            units = node.attribute_text("units")
            factor = unit_factor(units, "s") if units else 1e-6
            if factor is not None:
                return values * factor, node.target.path
    return None


def bin_borders(times: FloatArray, n_tof: int, file: str, path: str) -> FloatArray:
    """The edges of n_tof bins, from edges or from points in their middles.

    Raises
    ------
    EventsInvalid
        If they do not ascend.
    """
    edges = times if times.size == n_tof + 1 else _edges_between(times)
    if not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise EventsInvalid(file, path, "its times do not ascend")
    return edges


def _edges_between(points: FloatArray) -> FloatArray:
    """Edges halfway between points, the outer ones as far out."""
    middle = (points[1:] + points[:-1]) / 2
    return np.concatenate([[2 * points[0] - middle[0]], middle, [2 * points[-1] - middle[-1]]])
