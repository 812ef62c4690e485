"""What counts are divided by: proton charge, pulses, a monitor's counts, or its spectrum bin by bin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.nexus.errors import GeometryMissing
from beamhub_reduction.nexus.event_pulses import Beam
from beamhub_reduction.nexus.monitor_spectrum import MonitorSpectrum
from beamhub_reduction.steps.frames import FloatArray
from beamhub_reduction.steps.time_of_flight import EventAxis, rebin_counts, wavelength

PC_PER_UC = 1e6

Normalisation = Literal["charge", "monitor", "monitor_spectrum", "pulses"]


@dataclass(frozen=True, slots=True)
class Divisor:
    """What counts are divided by, one number or one for each bin, and its variance (0 when it is exact)."""

    value: float | FloatArray
    variance: float | FloatArray
    title: str
    units: str

    @property
    def total(self) -> float:
        """The beam of all bins together."""
        return float(np.sum(self.value))

    def facts(self) -> dict[str, Any]:
        """As it stands in the product."""
        return {"normalised_to": self.title, "normalised_by": self.total}


def charge_divisor(charge_pc: float | None) -> Divisor | None:
    """The charge in uC, taken as exact; None without any."""
    if charge_pc is None or not (np.isfinite(charge_pc) and charge_pc > 0):
        return None
    return Divisor(charge_pc / PC_PER_UC, 0.0, "proton charge", "counts/uC")


def monitor_divisor(beam: Beam) -> Divisor | None:
    """All counts of the first monitor, with the variance of counts; None without any."""
    counts = beam.monitor_counts
    if counts is None or not (np.isfinite(counts) and counts > 0):
        return None
    return Divisor(counts, counts, f"monitor {beam.monitor}", "counts/count")


def spectrum_divisor(
    beam: Beam, *, file: str, axis: EventAxis, edges: FloatArray, primary_flight_path_m: float | None
) -> Divisor | None:
    """The first monitor's spectrum in the bins of the result; None without any.

    Each of its bins is shared evenly among the new bins that it overlaps; the variance of a share of Poisson
    counts is that share. On the axis 'tof' (edges in us) its times are taken as they are; on 'wavelength'
    they are those of neutrons that flew to the monitor.

    Raises
    ------
    BadParameter
        If the axis is 'd', where one bin holds neutrons of many wavelengths.
    GeometryMissing
        If the axis is 'wavelength' and the monitor's place is not known.
    """
    spectrum = beam.spectrum
    if axis == "d":
        raise BadParameter("normalise_to", "monitor_spectrum", "with the axis 'tof' or 'wavelength'")
    if spectrum is None:
        return None
    factor = 1e6 if axis == "tof" else _angstrom_per_s(spectrum, file, primary_flight_path_m)
    counts = rebin_counts(
        spectrum.counts[np.newaxis],
        time_edges_s=spectrum.time_edges_s,
        factor=np.array([factor]),
        edges=edges,
    )
    return Divisor(counts, counts, f"spectrum of monitor {spectrum.path}", "counts/count")


def _angstrom_per_s(spectrum: MonitorSpectrum, file: str, primary_flight_path_m: float | None) -> float:
    if primary_flight_path_m is None or spectrum.distance_m is None:
        name = "distance" if spectrum.distance_m is None else "moderator/distance"
        raise GeometryMissing(file, spectrum.path, (name,))
    path = primary_flight_path_m + spectrum.distance_m
    if not path > 0:
        raise GeometryMissing(file, spectrum.path, ("a distance behind the moderator",))
    return float(wavelength(np.ones(1), flight_path_m=path)[0])
