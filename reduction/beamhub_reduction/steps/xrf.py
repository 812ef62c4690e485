"""Regions of a fluorescence spectrum, their background, and the correction of dead time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.nexus.scan_errors import CalibrationMissing, DeadTimeMissing
from beamhub_reduction.nexus.xrf import (
    FRACTION,
    INPUT_RATE,
    LIVE_TIME,
    OUTPUT_RATE,
    REAL_TIME,
    DeadTimeFields,
    SpectrumSource,
)
from beamhub_reduction.steps.frames import FloatArray, IntArray

DeadTimeChoice = Literal["auto", "live_time", "rates", "off"]
RoiUnit = Literal["keV", "eV", "channel"]
MAX_ROIS = 200
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,60}$")
_RESERVED = ("data", "process", "sum_spectrum", "max_spectrum")


@dataclass(frozen=True, slots=True)
class Roi:
    """A region of a spectrum: low is inside, high is not, in the caller's unit."""

    name: str
    low: float
    high: float


def parse_rois(words: tuple[str, ...]) -> tuple[Roi, ...]:
    """The regions in words 'NAME=LOW:HIGH'.

    Raises
    ------
    BadParameter
    """
    rois = []
    for word in words:
        name, found, limits = word.partition("=")
        low, between, high = limits.partition(":")
        try:
            roi = Roi(name, float(low), float(high))
        except ValueError:
            found = ""
        if not (found and between) or not _NAME.match(name) or name in _RESERVED:
            raise BadParameter("rois", word, "NAME=LOW:HIGH, the name made of letters, digits and '_'")
        if not (np.isfinite([roi.low, roi.high]).all() and roi.low < roi.high):
            raise BadParameter("rois", word, "a region whose low limit is below its high one")
        rois.append(roi)
    if len({roi.name for roi in rois}) != len(rois) or not 1 <= len(rois) <= MAX_ROIS:
        raise BadParameter("rois", words, f"1 to {MAX_ROIS} regions of different names")
    return tuple(rois)


def channel_ranges(
    rois: tuple[Roi, ...], *, unit: RoiUnit, source: SpectrumSource, file: str, n_channels: int
) -> IntArray:
    """(low, high) channel of each region, shape (n_rois, 2): the channels whose energy is in [low, high).

    Regions that share a limit share no channel, so their counts add up. A part beyond the spectrum is cut.

    Raises
    ------
    CalibrationMissing
        If the regions are energies and the source has none.
    BadParameter
        If a region holds no channel.
    """
    if unit == "channel":
        positions = np.arange(n_channels, dtype=np.float64)
    elif source.energies_keV is None:
        raise CalibrationMissing(file, source.path)
    else:
        positions = source.energies_keV * (1e3 if unit == "eV" else 1.0)
    limits = np.array([[roi.low, roi.high] for roi in rois])
    ranges = np.searchsorted(positions, limits, side="left").astype(np.int64)
    for roi, (low, high) in zip(rois, ranges, strict=True):
        if low >= high:
            reach = f"{positions[0]:g} to {positions[-1]:g} {unit}"
            raise BadParameter("rois", f"{roi.name}={roi.low:g}:{roi.high:g}", f"inside {reach}")
    return ranges


def with_sides(ranges: IntArray, *, width: int, n_channels: int) -> IntArray:
    """Each region, the `width` channels left of it and those right of it; (3 n_rois, 2)."""
    low, high = ranges[:, 0], ranges[:, 1]
    left = np.stack([np.maximum(low - width, 0), low], axis=1)
    right = np.stack([high, np.minimum(high + width, n_channels)], axis=1)
    return np.concatenate([ranges, left, right])


def net_counts(counts: FloatArray, *, ranges: IntArray) -> tuple[FloatArray, FloatArray]:
    """(counts of each region less a linear background, their variance), shape (..., n_rois).

    The background is the mean of the levels left and right of the region times its width:
    B = w/2 (L/l + R/r), with variance (w/2)^2 (L/l^2 + R/r^2); an empty side does not count.

    Parameters
    ----------
    counts:
        Of the regions, their left and their right sides, shape (..., 3 n_rois), from `with_sides`.
    ranges:
        From `with_sides`, shape (3 n_rois, 2).
    """
    n = len(ranges) // 3
    widths = (ranges[:, 1] - ranges[:, 0]).astype(np.float64)
    inside, sides = counts[..., :n], (counts[..., n : 2 * n], counts[..., 2 * n :])
    side_widths = (widths[n : 2 * n], widths[2 * n :])
    n_sides = sum((w > 0).astype(np.float64) for w in side_widths)
    share = np.divide(widths[:n], n_sides, out=np.zeros(n), where=n_sides > 0)
    net, variance = inside.copy(), inside.copy()
    for side, width in zip(sides, side_widths, strict=True):
        per_channel = np.divide(share, width, out=np.zeros(n), where=width > 0)
        net -= side * per_channel
        variance += side * per_channel**2
    return net, variance


def dead_time_factors(
    fields: DeadTimeFields, *, choice: DeadTimeChoice, file: str, path: str, shape: tuple[int, int]
) -> tuple[FloatArray, str]:
    """(what the counts of each point and element are multiplied with, which fields said so).

    'live_time': real time / live time. 'rates': input / output count rate. 'auto' takes live time, else
    rates, else 1 / (1 - dead fraction). NaN where a value is not finite or would divide by zero.
    Source: V. A. Sole et al., doi 10.1016/j.sab.2006.12.002 (live time); G. F. Knoll, Radiation Detection and
    Measurement, chapter 17 (pulse pile-up and input count rate).

    Parameters
    ----------
    shape:
        (n_points, n_elements).

    Raises
    ------
    DeadTimeMissing
        Naming the fields that were looked for.
    """
    if choice == "off":
        return np.ones(shape), "off"
    if choice in ("auto", "live_time") and fields.live_time is not None and fields.real_time is not None:
        return _ratio(fields.real_time, fields.live_time), "live_time"
    if choice in ("auto", "rates") and fields.input_rate is not None and fields.output_rate is not None:
        return _ratio(fields.input_rate, fields.output_rate), "rates"
    if choice == "auto" and fields.fraction is not None:
        return _ratio(np.ones(shape), 1 - fields.fraction), "fraction"
    looked_for = {
        "live_time": (*LIVE_TIME, *REAL_TIME),
        "rates": (*INPUT_RATE, *OUTPUT_RATE),
        "auto": (*LIVE_TIME, *REAL_TIME, *INPUT_RATE, *OUTPUT_RATE, *FRACTION),
    }
    raise DeadTimeMissing(file, path, looked_for[choice])


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    good = np.isfinite(above) & np.isfinite(below) & (above > 0) & (below > 0)
    factors = np.full(above.shape, np.nan)
    np.divide(above, below, out=factors, where=good)
    return factors
