"""Time of flight: from neutron events to counts over lattice spacing, wavelength or time.

The de Broglie wavelength of a neutron that flew L1 + L2 in the time t is (h / m_n) * t / (L1 + L2); Bragg's
law gives d = wavelength / (2 sin(theta)), theta half the scattering angle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.kernels.event_plan import EventPlan, Fate
from beamhub_reduction.steps.curve import MAX_BINS, Curve
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray

EventAxis = Literal["d", "wavelength", "tof"]

H_OVER_MN_ANGSTROM_M_PER_S = 3956.0340063
"""Planck constant over neutron mass, in angstrom m / s.

Source: CODATA 2018, h = 6.62607015e-34 J s, m_n = 1.67492749804e-27 kg.
"""
MAX_TABLE_IDS = 200_000_000


@dataclass(frozen=True, slots=True)
class PixelTable:
    """What becomes of the events of each id: index = id - first_id, all of shape (last_id - first_id + 1,).

    `state` is 0, Fate.MASKED or Fate.UNKNOWN; `factor` what a time in seconds is multiplied by (angstrom per
    second), None for plain times; `row` the pixel's place among the bank's pixels. No pixels at all
    (`first_id` None): every id counts.
    """

    first_id: int | None
    state: np.ndarray[Any, np.dtype[np.uint8]] | None
    factor: FloatArray | None
    row: np.ndarray[Any, np.dtype[np.int32]] | None


NO_TABLE = PixelTable(None, None, None, None)


def wavelength(time_s: FloatArray, *, flight_path_m: FloatArray | float) -> FloatArray:
    """Wavelength in angstrom of neutrons that flew for `time_s`; shapes broadcast."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = np.asarray(time_s * (H_OVER_MN_ANGSTROM_M_PER_S / np.asarray(flight_path_m)))
    return found


def d_spacing(
    time_s: FloatArray, *, flight_path_m: FloatArray | float, two_theta_rad: FloatArray | float
) -> FloatArray:
    """Lattice spacing in angstrom of neutrons scattered by `two_theta_rad` after a flight of `time_s`.

    Infinite or NaN where the angle is zero. Shapes broadcast.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = H_OVER_MN_ANGSTROM_M_PER_S / (
            2 * np.asarray(flight_path_m) * np.sin(np.asarray(two_theta_rad) / 2)
        )
        spacing: FloatArray = np.asarray(time_s * factor)
    return spacing


def build_pixel_table(
    detector_number: IntArray, *, factor: FloatArray | None, masked: BoolArray
) -> PixelTable:
    """The conversion of every pixel, all arguments of shape (n_pixels,), to be looked up by event id.

    A pixel whose factor is not above zero and finite has no usable geometry and counts as masked.

    Raises
    ------
    BadParameter
        If an id stands twice, or the ids are spread over more than MAX_TABLE_IDS numbers.
    """
    if detector_number.size == 0:
        raise BadParameter("detector_number", "no pixels", "at least one pixel")
    first, last = int(detector_number.min()), int(detector_number.max())
    if last - first >= MAX_TABLE_IDS:
        raise BadParameter("detector_number", f"{first} to {last}", f"within {MAX_TABLE_IDS} numbers")
    usable = ~masked if factor is None else ~masked & np.isfinite(factor) & (factor > 0)
    place, n_ids = detector_number - first, last - first + 1
    state = np.full(n_ids, Fate.UNKNOWN, dtype=np.uint8)
    state[place] = np.where(usable, 0, Fate.MASKED)
    if np.count_nonzero(state != Fate.UNKNOWN) != detector_number.size:
        raise BadParameter("detector_number", "an id that stands twice", "one number for each pixel")
    row = np.zeros(n_ids, dtype=np.int32)
    row[place] = np.arange(detector_number.size, dtype=np.int32)
    factors = None
    if factor is not None:
        factors = np.full(n_ids, np.nan)
        factors[place] = np.where(usable, factor, np.nan)
    return PixelTable(first, state, factors, row)


def event_plan(
    table: PixelTable, *, edges: FloatArray, unit: float, first_row: int = 0, n_rows: int = 0
) -> EventPlan:
    """How the events of a bank are counted; with `n_rows` for a map whose rows begin at `first_row`."""
    row = None
    if n_rows and table.row is not None:
        row = (table.row + np.int32(first_row)).astype(np.int32)
    return EventPlan(edges, unit, table.first_id, table.state, table.factor, row, n_rows)


def bin_edges(low: float, high: float, *, n_bins: int, log: bool = False) -> FloatArray:
    """Edges of bins of equal width (or equal ratio), shape (n_bins + 1,); the last bin includes `high`.

    Raises
    ------
    BadParameter
        If the range is empty or the number of bins is below 1 or above MAX_BINS.
    """
    if not 1 <= n_bins <= MAX_BINS:
        raise BadParameter("bins", n_bins, f"from 1 to {MAX_BINS}")
    low, high = _checked_range(low, high, log=log)
    edges: FloatArray = np.geomspace(low, high, n_bins + 1) if log else np.linspace(low, high, n_bins + 1)
    edges[0], edges[-1] = low, high
    return edges


def bin_edges_by_width(low: float, high: float, *, width: float, log: bool = False) -> FloatArray:
    """Edges from `low` in steps of `width`, or of `width` times the edge; the last is at or above `high`.

    Raises
    ------
    BadParameter
        If the range is empty, the width not above zero, or more than MAX_BINS bins would be made.
    """
    low, high = _checked_range(low, high, log=log)
    if not (np.isfinite(width) and width > 0):
        raise BadParameter("bin_width", width, "above zero")
    wanted = np.log(high / low) / np.log1p(width) if log else (high - low) / width
    if not wanted <= MAX_BINS:
        raise BadParameter("bin_width", width, f"so wide that there are at most {MAX_BINS} bins")
    steps = np.arange(max(int(np.ceil(wanted - 1e-9)), 1) + 1)
    edges = low * np.exp(steps * np.log1p(width)) if log else low + steps * width
    return np.asarray(edges, dtype=np.float64)


def _checked_range(low: float, high: float, *, log: bool) -> tuple[float, float]:
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise BadParameter("axis_range", (low, high), "two finite numbers, the smaller first")
    if low == high:
        low, high = low - 1e-6 * abs(low), high + 1e-6 * abs(high)
    if not low < high:
        raise BadParameter("axis_range", (low, high), "two different numbers")
    if log and low <= 0:
        raise BadParameter("axis_range", (low, high), "above zero for bins of equal ratio")
    return low, high


def histogram_curve(
    edges: FloatArray, *, counts: IntArray | FloatArray, divisor: FloatArray | float = 1.0,
    variance: FloatArray | float = 0.0,
) -> Curve:  # fmt: skip
    """Counts per unit of beam over bin centres, with the uncertainties of both.

    Parameters
    ----------
    counts:
        Shape (n_bins,); their variance is their number.
    divisor, variance:
        The beam that came, one number or one for each bin, and its variance. A bin without beam is NaN.
    """
    centres: FloatArray = (edges[1:] + edges[:-1]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        beam = np.where(np.asarray(divisor) > 0, divisor, np.nan)
        intensity = counts / beam
        errors = np.sqrt(counts + np.square(intensity) * variance) / beam
    return Curve(centres, intensity, errors)


def rebin_counts(
    counts: np.ndarray[Any, Any], *, time_edges_s: FloatArray, factor: FloatArray, edges: FloatArray
) -> FloatArray:
    """Counts of all pixels together in other bins; a bin's counts lie evenly between its edges.

    Parameters
    ----------
    counts:
        Shape (n_pixels, n_tof).
    time_edges_s:
        Shape (n_tof + 1,), ascending.
    factor:
        What a pixel's times are multiplied by, shape (n_pixels,); pixels whose factor is not above zero and
        finite add nothing.
    edges:
        The new edges, shape (n_bins + 1,), ascending.

    Returns
    -------
    Shape (n_bins,), float64, summed in the order of the pixels.
    """
    total = np.zeros(edges.size - 1)
    for pixel in np.flatnonzero(np.isfinite(factor) & (factor > 0)):
        running = np.concatenate([[0.0], np.cumsum(counts[pixel], dtype=np.float64)])
        total += np.diff(np.interp(edges, time_edges_s * factor[pixel], running))
    return total
