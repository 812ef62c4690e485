"""What was moved and counted in a scan, one reading a point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.text import as_text
from beamhub_reduction.nexus.tree import Node

MAX_VARIABLES = 10_000


@dataclass(frozen=True, slots=True)
class ScannedVariable:
    """One column of a scan: `values` (n_points,) float64."""

    name: str
    units: str | None
    values: np.ndarray[Any, np.dtype[np.float64]]


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
        node = counters.get(name) if counters is not None else None
        if node is None or not node.is_dataset or len(node.shape) != 1 or node.item.dtype.kind not in "iuf":
            continue
        column = counters.numbers(name) if counters is not None else None
        if column is not None and len(found) < MAX_VARIABLES:
            found.append(ScannedVariable(name, node.attribute_text("units"), column))
    return tuple(found)


def _texts(table: Node, name: str) -> list[str]:
    described = table.get("variables_names")
    node = described.get(name) if described is not None else None
    if node is None or not node.is_dataset or node.size > MAX_VARIABLES:
        return []
    return [as_text(item) or "" for item in np.ravel(np.asarray(node.values(), dtype=object))]
