"""The grid of a raster scan, as its file says it: axes of NXdata, or positions of every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.nexus.text import as_text
from beamhub_reduction.nexus.tree import NexusFile, Node
from beamhub_reduction.steps.fly_scan import grid_places, line_positions
from beamhub_reduction.steps.frames import FloatArray, IntArray
from beamhub_reduction.steps.signal import Axis


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions that a file names: of lines or points of a grid, or of every frame."""

    name: str
    units: str
    values: FloatArray


@dataclass(frozen=True, slots=True)
class ScanGrid:
    """Lines and points of a line, and their positions."""

    shape: tuple[int, int]
    axes: tuple[Axis, Axis]


def read_positions(nexus: NexusFile, entry: str) -> tuple[tuple[Positions, ...], ...]:
    """The positions of each NXdata of an entry that has two axes of one dimension or more, slow axis first.

    Source: NeXus, NXdata, `axes`; version 2 has them on the signal.
    """
    found = []
    for group in nexus.node(entry).groups("NXdata"):
        positions = [p for name in _axis_names(group)[:2] if (p := _positions(group, name)) is not None]
        if len(positions) == 2:
            found.append(tuple(positions))
    return tuple(found)


def _axis_names(group: Node) -> list[str]:
    value = group.attribute("axes")
    if isinstance(value, np.ndarray):
        return [as_text(name) or "." for name in value.ravel()[:32]]
    text = as_text(value) or ""
    return [name.strip() for name in text.strip("[]").replace(":", ",").split(",") if name.strip()]


def _positions(group: Node, name: str) -> Positions | None:
    if name == "." or "/" in name:
        return None
    values = group.numbers(name)
    if values is None or values.size == 0 or values.ndim > 2:
        return None
    node = group.get(name)
    return Positions(name, (node.attribute_text("units") if node else None) or "", values.ravel())


def choose_grid(
    candidates: tuple[tuple[Positions, ...], ...],
    *,
    given: tuple[int, int] | None,
    n_frames: int,
    snake: bool,
) -> ScanGrid:
    """The grid that the caller gave, with the file's positions where they fit; else the file's.

    Parameters
    ----------
    candidates:
        From `read_positions`.
    given:
        Lines and points of a line, or None.
    n_frames:
        Frames of the scan; the last line may be incomplete.

    Raises
    ------
    BadParameter
        If nothing says what the grid is, or the frames do not fit it.
    """
    shape = given
    for slow, fast in candidates if shape is None else ():
        lines, points = slow.values.size, fast.values.size
        if (lines - 1) * points < n_frames <= lines * points and lines != n_frames:
            shape = (lines, points)
            break
    if shape is None:
        raise BadParameter(
            "scan_shape", None, "two numbers, lines and points: no NXdata has axes for the frames"
        )
    places = grid_places(np.arange(n_frames, dtype=np.int64), shape=shape, snake=snake)
    for pair in candidates:
        axes = [_axis(pair[i], i, shape, places) for i in (0, 1)]
        if axes[0] is not None and axes[1] is not None:
            return ScanGrid(shape, (axes[0], axes[1]))
    numbers = [np.arange(n, dtype=np.int64) for n in shape]
    return ScanGrid(shape, (Axis("line", "", numbers[0]), Axis("point", "", numbers[1])))


def _axis(positions: Positions, i: int, shape: tuple[int, int], places: IntArray) -> Axis | None:
    values = positions.values
    if values.size == shape[i]:
        return Axis(positions.name, positions.units, values)
    if values.size >= places.size and values.size <= shape[0] * shape[1]:
        of_frames = values[: places.size]
        return Axis(
            positions.name, positions.units, line_positions(of_frames, places=places, shape=shape, axis=i)
        )
    return None
