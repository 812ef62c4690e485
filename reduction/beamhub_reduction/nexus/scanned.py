"""What was moved and counted in a scan, one reading a point, and when its frames were taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.text import as_text, unit_factor
from beamhub_reduction.nexus.tree import Node

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

MAX_VARIABLES = 10_000
_DETECTOR_TIMES = ("start_time", "timestamp", "timestamps")
_SCAN_TIMES = ("epoch_trig", "epoch", "elapsed_time")


@dataclass(frozen=True, slots=True)
class ScannedVariable:
    """One column of a scan: `values` (n_points,) float64."""

    name: str
    units: str | None
    values: FloatArray


def read_scanned_variables(entry: Node) -> tuple[ScannedVariable, ...]:
    """The columns of a scan, in the file's order; () where the entry has none.

    ILL: data_scan/scanned_variables/data (n_variables, n_points) with variables_names beside it. Else
    the one-dimensional datasets of numbers in a group 'measurement' (BLISS, MAX IV).
    """
    scan = entry.get("data_scan")
    table = scan.get("scanned_variables") if scan is not None else None
    values = table.numbers("data") if table is not None else None
    if table is not None and values is not None and values.ndim == 2:
        names, units = _texts(table, "name"), _texts(table, "unit")
        return tuple(
            ScannedVariable(
                names[i] if i < len(names) else f"variable {i}", units[i] if i < len(units) else None, row
            )
            for i, row in enumerate(values[:MAX_VARIABLES])
        )
    counters = entry.get("measurement")
    found: list[ScannedVariable] = []
    for name in counters.links() if counters is not None else ():
        column = _column(counters, name)
        if column is not None and len(found) < MAX_VARIABLES:
            found.append(column)
    return tuple(found)


def read_frame_times(entry: Node, detector: Node | None, n_frames: int) -> FloatArray | None:
    """When each frame was taken, (n_frames,) in seconds as the file counts them; None where it does not say.

    From the detector (`start_time` of each frame, or `timestamp`, with units), else from the columns of the
    scan (BLISS: epoch or elapsed time). `frame_time` of NXdetector is no such time: it is how long a frame
    takes. Readings behind the last frame, of a scan that goes on, are left out.
    Source: NeXus, NXdetector.nxdl; BLISS, data_nexus.
    """
    measurement = entry.get("measurement")
    places: list[tuple[Node | None, str, str | None]] = [(detector, name, None) for name in _DETECTOR_TIMES]
    places += [(measurement, name, "s") for name in _SCAN_TIMES]
    for group, name, assumed in places:
        column = _column(group, name)
        if column is None or not n_frames or column.values.size < n_frames:
            continue
        units = column.units or assumed
        factor = unit_factor(units, "s") if units else None
        if factor is not None and np.isfinite(column.values[:n_frames]).all():
            return column.values[:n_frames] * factor
    return None


def _column(group: Node | None, name: str) -> ScannedVariable | None:
    """A one-dimensional dataset of numbers."""
    node = group.get(name) if group is not None and not group.is_dataset else None
    if group is None or node is None or not node.is_dataset:
        return None
    if len(node.shape) != 1 or node.item.dtype.kind not in "iuf":
        return None
    values = group.numbers(name)
    return None if values is None else ScannedVariable(name, node.attribute_text("units"), values)


def _texts(table: Node, name: str) -> list[str]:
    described = table.get("variables_names")
    node = described.get(name) if described is not None else None
    if node is None or not node.is_dataset or node.size > MAX_VARIABLES:
        return []
    return [as_text(item) or "" for item in np.ravel(np.asarray(node.values(), dtype=object))]
