"""Maps of a raster scan: one number of each frame at its place on the scan's grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.steps.frames import FloatArray, IntArray

MAX_POINTS = 2**28


def grid_places(numbers: IntArray, *, shape: tuple[int, int], snake: bool) -> IntArray:
    """Places of frames on the flattened grid, (n_frames,).

    Parameters
    ----------
    numbers:
        Numbers of the frames in the order of the scan, from 0.
    shape:
        Lines and points of a line: the second axis moves fast.
    snake:
        Whether every second line runs backwards.

    Raises
    ------
    BadParameter
        If the grid has no point or too many, or a frame lies behind its end.
    """
    n_lines, n_points = shape
    if n_lines < 1 or n_points < 1 or n_lines * n_points > MAX_POINTS:
        raise BadParameter("scan_shape", shape, f"two numbers above 0, {MAX_POINTS} points at most")
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < n_lines * n_points:
        raise BadParameter("scan_shape", shape, f"large enough for {int(numbers.max()) + 1} frames")
    line, point = numbers // n_points, numbers % n_points
    if snake:
        point = np.where(line % 2 == 1, n_points - 1 - point, point)
    return np.asarray(line * n_points + point)


def scan_map(values: Any, *, places: IntArray, shape: tuple[int, int]) -> FloatArray:
    """Values of frames, (n_frames, ...), on the grid, (n_lines, n_points, ...); NaN where there is none."""
    given = np.asarray(values, dtype=np.float64)
    whole = np.full((shape[0] * shape[1], *given.shape[1:]), np.nan)
    whole[places] = given
    return whole.reshape(*shape, *given.shape[1:])


def centre_of_mass(totals: Any, *, moments: FloatArray) -> FloatArray:
    """(y, x) in pixels of each frame, (n_frames, 2): moments over totals; NaN where the total is not above 0.

    Pixel (0, 0) has its centre at (0, 0). In differential phase contrast the shift of the centre is the
    gradient of the phase. Source: doi 10.1088/1367-2630/11/12/123016.
    """
    centre = np.full(moments.shape, np.nan)
    total = np.asarray(totals, dtype=np.float64)[:, np.newaxis]
    np.divide(moments, total, out=centre, where=total > 0)
    return centre


def line_positions(
    positions: FloatArray, *, places: IntArray, shape: tuple[int, int], axis: int
) -> FloatArray:
    """One position for each line (axis 0) or point of a line (axis 1), from those of every frame.

    The median over the other axis: jitter and a line that is not complete change nothing. NaN where no
    frame is.
    """
    ordered = np.sort(scan_map(positions, places=places, shape=shape), axis=1 - axis)  # NaN last
    n = np.count_nonzero(np.isfinite(ordered), axis=1 - axis)
    lines = ordered if axis == 0 else ordered.T
    rows = np.arange(len(lines))
    last = lines.shape[1] - 1
    middle: FloatArray = (lines[rows, np.maximum(n - 1, 0) // 2] + lines[rows, np.minimum(n // 2, last)]) / 2
    return np.where(n > 0, middle, np.nan)
