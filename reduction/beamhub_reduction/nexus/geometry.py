"""Where the detector is and what the beam was, as the file says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.nexus.errors import GeometryImplausible, GeometryMissing, UnitUnknown
from beamhub_reduction.nexus.tilt import PixelGrid, is_turned, poni_of, read_pixel_grid
from beamhub_reduction.nexus.transformations import read_matrices
from beamhub_reduction.nexus.tree import NexusFile, Node

MAX_PIXEL_M = 0.01
MAX_DISTANCE_M = 100.0
"""No flat area detector has larger pixels; the longest SAXS cameras are about 30 m."""
HC_KEV_ANGSTROM = 12.398419843320026
"""Planck constant times speed of light. Source: CODATA 2018 (exact in SI)."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A flat detector perpendicular to the beam, unless the rotations say otherwise.

    `poni1` and `poni2` are the distances, in metres along the slow and the fast axis, from the outer
    corner of pixel (0, 0) to the point of normal incidence; rotations in radians about pyFAI's axes.
    Source: pyFAI, doi 10.1107/S1600576715004306.
    """

    distance_m: float
    poni1_m: float
    poni2_m: float
    pixel1_m: float
    pixel2_m: float
    wavelength_angstrom: float
    rot1: float = 0.0
    rot2: float = 0.0
    rot3: float = 0.0


@dataclass(frozen=True, slots=True)
class Monitor:
    """Incident flux of each frame in counts, shape (n,), and what to scale to."""

    name: str
    values: np.ndarray[Any, np.dtype[np.float64]]
    nominal: float | None


def read_wavelength(entry: Node) -> float | None:
    """Wavelength in angstrom from NXmonochromator or NXbeam (wavelength, else photon energy), or None."""
    instruments = entry.groups("NXinstrument")
    samples = entry.groups("NXsample")
    groups = [g for i in instruments for g in i.groups("NXmonochromator", "NXbeam")] + entry.groups("NXbeam")
    groups += [g for s in samples for g in s.groups("NXbeam")]
    for group in groups:
        for name in ("wavelength", "incident_wavelength"):
            value = _number_or_none(group, name, "m")
            if value and value > 0:
                # Without units angstrom is meant: nobody writes wavelengths in metres without saying so.
                return value * 1e10 if _has_units(group, name) else value
        for name in ("energy", "incident_energy"):
            energy_kev = _number_or_none(group, name, "keV")
            if energy_kev and energy_kev > 0:
                return HC_KEV_ANGSTROM / energy_kev
    return None


def _has_units(group: Node, name: str) -> bool:
    node = group.get(name)
    return bool(node and node.attribute_text("units"))


def _number_or_none(group: Node, name: str, unit: str) -> float | None:
    try:
        return group.number(name, unit)
    except UnitUnknown:
        return None


def read_geometry(nexus: NexusFile, entry: str, detector: str) -> Geometry:
    """Geometry of a flat detector from NXdetector and NXmonochromator.

    Where the file places the pixels (NXdetector_module, or pixel offsets and a chain of transformations)
    that is used, tilts included. Else the detector is perpendicular to the beam, with beam_center_x and
    beam_center_y counted from the outer corner of pixel (0, 0), in pixels unless their units are a length;
    x is the fast axis. Source: NeXus, NXdetector.nxdl.

    Raises
    ------
    GeometryMissing
        Naming every field that is absent or not above zero; also for a detector that is turned, when
        the file does not place its pixels.
    UnitUnknown
        If a length has units that we do not know.
    GeometryImplausible
        If a distance or a pixel is larger than any detector has, as millimetres without their units are.
    TransformationInvalid, LinkLoop
        If a chain of transformations cannot be used.
    """
    group = nexus.node(detector)
    grid = read_pixel_grid(group)
    if grid is not None:
        return _of_grid(nexus, entry, group, grid)
    if is_turned(group):
        raise GeometryMissing(nexus.path, detector, ("fast_pixel_direction", "slow_pixel_direction"))
    found: dict[str, float | None] = {
        name: group.number(name, "m") for name in ("distance", "x_pixel_size", "y_pixel_size")
    }
    if found["distance"] is None:  # Dectris' own name, else a translation along the beam
        found["distance"] = group.number("detector_distance", "m") or float(read_matrices(group)[0, 2, 3])
    found["wavelength"] = read_wavelength(nexus.node(entry))
    bad = [name for name, value in found.items() if value is None or not value > 0]
    centre = {}
    for axis in "xy":
        name = f"beam_center_{axis}"
        pixel = found[f"{axis}_pixel_size"]
        centre[axis] = _centre_m(group, name, pixel or 1.0)
        if centre[axis] is None:
            bad.append(name)
    if bad:
        raise GeometryMissing(nexus.path, detector, tuple(bad))
    return _plausible(nexus.path, detector, Geometry(
        distance_m=float(found["distance"] or 0),
        poni1_m=float(centre["y"] or 0),
        poni2_m=float(centre["x"] or 0),
        pixel1_m=float(found["y_pixel_size"] or 0),
        pixel2_m=float(found["x_pixel_size"] or 0),
        wavelength_angstrom=float(found["wavelength"] or 0),
    ))  # fmt: skip


def _plausible(file: str, detector: str, geometry: Geometry) -> Geometry:
    """The geometry, unless it is one of another unit: millimetres would be a guess, so we do not make it."""
    pixel_m = max(geometry.pixel1_m, geometry.pixel2_m)
    if pixel_m > MAX_PIXEL_M or geometry.distance_m > MAX_DISTANCE_M:
        raise GeometryImplausible(file, detector, geometry.distance_m, pixel_m)
    return geometry


def _of_grid(nexus: NexusFile, entry: str, group: Node, grid: PixelGrid) -> Geometry:
    wavelength = read_wavelength(nexus.node(entry))
    if not wavelength:
        raise GeometryMissing(nexus.path, group.target.path, ("wavelength",))
    poni = poni_of(grid, file=group.target.file, path=group.target.path)
    pixel1, pixel2 = (float(np.linalg.norm(step)) for step in (grid.slow, grid.fast))
    return Geometry(
        poni.distance, poni.poni1, poni.poni2, pixel1, pixel2, wavelength, poni.rot1, poni.rot2, poni.rot3
    )


def _centre_m(group: Node, name: str, pixel_m: float) -> float | None:
    node = group.get(name)
    units = (node.attribute_text("units") or "pixel").lower() if node is not None else "pixel"
    if units in ("pixel", "pixels", "px", "nx_length"):
        value = group.number(name)
        return None if value is None else value * pixel_m
    return group.number(name, "m")


def read_monitor(nexus: NexusFile, entry: str) -> Monitor | None:
    """The first NXmonitor of an entry with one reading per frame, or None without any."""
    node = nexus.node(entry)
    groups = node.groups("NXmonitor")
    groups += [m for i in node.groups("NXinstrument") for m in i.groups("NXmonitor")]
    for group in groups:
        values = group.numbers("data")
        if (
            values is not None
            and values.ndim == 1
            and values.size > 0
            and group.get("time_of_flight") is None
        ):
            return Monitor(group.target.path, values, group.number("nominal"))
    return None
