"""Time of flight: from neutron events to counts over lattice spacing.

Bragg's law with the de Broglie wavelength of a neutron that flew L1 + L2 in the time t:
d = (h / m_n) * t / ((L1 + L2) * 2 sin(theta)), theta half the scattering angle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.steps.curve import MAX_BINS, Curve
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray

H_OVER_MN_ANGSTROM_M_PER_S = 3956.0340063
"""Planck constant over neutron mass, in angstrom m / s.

Source: CODATA 2018, h = 6.62607015e-34 J s, m_n = 1.67492749804e-27 kg.
"""
MAX_TABLE_IDS = 200_000_000


@dataclass(frozen=True, slots=True)
class PixelTable:
    """Angstrom per second of flight, by event id: index = id - first_id.

    NaN for ids of masked pixels, -1 for ids that no pixel has; shape (last_id - first_id + 1,).
    """

    first_id: int
    angstrom_per_s: FloatArray


@dataclass(frozen=True, slots=True)
class EventHistogram:
    """What a part of the events adds: counts per bin, and what became of all of its events."""

    counts: IntArray
    n_used: int
    n_masked: int
    n_unknown_id: int
    n_outside: int


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
    detector_number: IntArray, *, two_theta_rad: FloatArray, flight_path_m: FloatArray, masked: BoolArray
) -> PixelTable:
    """The conversion of every pixel, all arguments of shape (n_pixels,), to be looked up by event id.

    A pixel without a usable geometry (angle or path zero or NaN) counts as masked.

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
    if np.unique(detector_number).size != detector_number.size:
        raise BadParameter("detector_number", "an id that stands twice", "one number for each pixel")
    factor = d_spacing(np.ones(1), flight_path_m=flight_path_m, two_theta_rad=two_theta_rad)
    usable = ~masked & np.isfinite(factor) & (factor > 0)
    table = np.full(last - first + 1, -1.0)
    table[detector_number - first] = np.where(usable, factor, np.nan)
    return PixelTable(first, table)


def event_d_spacings(
    event_id: np.ndarray[Any, Any], *, time_s: FloatArray, table: PixelTable
) -> tuple[FloatArray, int, int]:
    """(d-spacings in angstrom of the events of usable pixels, events of masked pixels, of unknown ids).

    Events with a time that is not finite, or not above zero, come out as NaN.
    """
    index = event_id.astype(np.int64) - table.first_id
    known = (index >= 0) & (index < table.angstrom_per_s.size)
    factor = table.angstrom_per_s[np.where(known, index, 0)]
    known &= factor != -1.0
    usable = known & ~np.isnan(factor)
    spacing: FloatArray = time_s[usable] * factor[usable]
    spacing[~(spacing > 0)] = np.nan
    n_known = int(np.count_nonzero(known))
    return spacing, n_known - int(np.count_nonzero(usable)), int(event_id.size) - n_known


def d_range(event_id: np.ndarray[Any, Any], *, time_s: FloatArray, table: PixelTable) -> tuple[float, float]:
    """Smallest and largest d-spacing of these events; (inf, -inf) when none is usable."""
    spacing, _, _ = event_d_spacings(event_id, time_s=time_s, table=table)
    spacing = spacing[np.isfinite(spacing)]
    if spacing.size == 0:
        return float("inf"), float("-inf")
    return float(spacing.min()), float(spacing.max())


def bin_edges(low: float, high: float, *, n_bins: int) -> FloatArray:
    """Edges of bins of equal width, shape (n_bins + 1,); the last bin includes `high`.

    Raises
    ------
    BadParameter
        If the range is empty or the number of bins is below 1 or above MAX_BINS.
    """
    if not 1 <= n_bins <= MAX_BINS:
        raise BadParameter("bins", n_bins, f"from 1 to {MAX_BINS}")
    if not (np.isfinite(low) and np.isfinite(high) and 0 <= low <= high):
        raise BadParameter("d_range", (low, high), "two finite lengths in angstrom, the smaller first")
    if low == high:
        low, high = low * (1 - 1e-6), high * (1 + 1e-6)
    if not low < high:
        raise BadParameter("d_range", (low, high), "two different lengths")
    edges: FloatArray = np.linspace(low, high, n_bins + 1)
    return edges


def histogram_events(
    event_id: np.ndarray[Any, Any], *, time_s: FloatArray, table: PixelTable, edges: FloatArray
) -> EventHistogram:
    """Count events by d-spacing; every event is used, masked, unknown or outside, and counted as such.

    Parameters
    ----------
    event_id:
        Pixel of each event, shape (n_events,).
    time_s:
        Time of flight of each event in seconds, shape (n_events,).
    """
    spacing, n_masked, n_unknown = event_d_spacings(event_id, time_s=time_s, table=table)
    inside = spacing[(spacing >= edges[0]) & (spacing <= edges[-1])]
    counts, _ = np.histogram(inside, bins=edges)
    n_used = int(counts.sum())
    return EventHistogram(
        counts.astype(np.int64),
        n_used,
        n_masked,
        n_unknown,
        int(event_id.size) - n_used - n_masked - n_unknown,
    )


def add_histograms(left: EventHistogram, right: EventHistogram) -> EventHistogram:
    """Both parts together; exact, so the order does not matter."""
    return EventHistogram(
        left.counts + right.counts,
        left.n_used + right.n_used,
        left.n_masked + right.n_masked,
        left.n_unknown_id + right.n_unknown_id,
        left.n_outside + right.n_outside,
    )


def histogram_curve(edges: FloatArray, *, counts: IntArray, charge: float) -> Curve:
    """Counts per unit of charge (1 for none) over bin centres, with Poisson uncertainties."""
    centres: FloatArray = (edges[1:] + edges[:-1]) / 2
    return Curve(centres, counts / charge, np.sqrt(counts) / charge)
