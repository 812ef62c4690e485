"""Solution scattering as a beamline writes it: a sample run that radiation damages, and its buffer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hdf5plugin
import numpy as np

from beamhub_core.techniques import SMALL_ANGLE_X_RAY_SCATTERING
from beamhub_reduction.synthetic import tree

CREATOR = "beamhub_reduction.synthetic"
SHAPE = (96, 96)
PIXEL_M, DISTANCE_M, WAVELENGTH_ANGSTROM = 172e-6, 1.2, 1.0
GAP = slice(46, 50)
NOMINAL_MONITOR = 1e6
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class SaxsTruth:
    """What was planted: a Guinier curve over a flat buffer.

    Counts of one pixel in a frame of nominal flux and full transmission are
    buffer + level * exp(-(q radius)^2 / 3) for the sample and buffer alone for the background, q in nm^-1.
    Frames from `first_damaged` on scatter more at small angles.
    """

    sample: Path
    background: Path
    n_frames: int
    radius_nm: float
    level: float
    buffer: float
    transmission: float
    first_damaged: int
    beam_lost: int | None
    n_pixels_masked: int


def q_of_pixels() -> FloatArray:
    """q in nm^-1 at the centre of each pixel, shape (ny, nx)."""
    y, x = np.indices(SHAPE)
    radius = PIXEL_M * np.hypot(y + 0.5 - SHAPE[0] / 2, x + 0.5 - SHAPE[1] / 2)
    angle = np.arctan(radius / DISTANCE_M)
    q: FloatArray = 4 * np.pi * np.sin(angle / 2) / (WAVELENGTH_ANGSTROM / 10)
    return q


def write_saxs_runs(
    folder: Path, *, seed: int, n_frames: int = 12, first_damaged: int = 9, beam_lost: int | None = None
) -> SaxsTruth:
    """Write sample.h5 and buffer.h5: frames, monitor and transmission of each; same seed, same counts.

    Parameters
    ----------
    first_damaged:
        From this frame on the sample has aggregated; n_frames for never.
    beam_lost:
        The sample's frame in which the beam was away: no counts, and a monitor of 0.
    """
    radius, level, buffer, transmission = 2.0, 400.0, 60.0, 0.8
    q, flux = q_of_pixels(), 1.0 + 0.05 * np.sin(np.arange(n_frames))
    if beam_lost is not None:
        flux[beam_lost] = 0.0
    scattered = level * np.exp(-((q * radius) ** 2) / 3)
    damaged = 2.5 * level * np.exp(-((q * 2 * radius) ** 2) / 3)
    expected = [
        (buffer + scattered + (damaged if i >= first_damaged else 0.0)) * flux[i] for i in range(n_frames)
    ]
    sample = _write_run(folder / "sample.h5", expected, (flux, transmission), seed)
    even = np.ones(n_frames)
    background = _write_run(
        folder / "buffer.h5", [buffer * e * np.ones(SHAPE) for e in even], (even, 1.0), seed + 1
    )
    n_masked = (GAP.stop - GAP.start) * SHAPE[1]
    return SaxsTruth(
        sample, background, n_frames, radius, level, buffer, transmission, first_damaged, beam_lost, n_masked
    )


def _write_run(path: Path, expected: list[FloatArray], beam: tuple[FloatArray, float], seed: int) -> Path:
    flux, transmission = beam
    random = np.random.default_rng(seed)
    started_at = tree.measurement_time(seed)
    mask = np.zeros(SHAPE, dtype=np.uint32)
    mask[GAP] = 1
    with tree.begin_file(path, default="entry", started_at=started_at, creator=CREATOR) as file:
        entry = tree.add_group(file, "entry", "NXentry")
        tree.add_fields(entry, title=path.stem, definition="NXsas", start_time=started_at.isoformat())
        tree.add_technique(entry, SMALL_ANGLE_X_RAY_SCATTERING)
        sample = tree.add_group(entry, "sample", "NXsample")
        tree.add_fields(sample, name=path.stem, transmission=transmission)
        instrument = tree.add_group(entry, "instrument", "NXinstrument")
        beam_group = tree.add_group(instrument, "monochromator", "NXmonochromator")
        tree.add_field(beam_group, "wavelength", WAVELENGTH_ANGSTROM, units="angstrom")
        detector = tree.add_group(instrument, "detector", "NXdetector")
        tree.add_field(detector, "distance", DISTANCE_M, units="m")
        for axis, n in zip("yx", SHAPE, strict=True):
            tree.add_field(detector, f"{axis}_pixel_size", PIXEL_M, units="m")
            tree.add_field(detector, f"beam_center_{axis}", n / 2, units="pixel")
        detector["pixel_mask"] = mask
        data = detector.create_dataset(
            "data",
            (len(expected), *SHAPE),
            np.uint32,
            chunks=(1, *SHAPE),
            **hdf5plugin.Bitshuffle(cname="lz4"),
        )
        for i, counts in enumerate(expected):
            frame = random.poisson(counts * transmission).astype(np.uint32)
            frame[GAP] = np.iinfo(np.uint32).max
            data[i] = frame
        monitor = tree.add_group(entry, "monitor", "NXmonitor")
        tree.add_field(monitor, "data", NOMINAL_MONITOR * flux, units="counts")
        tree.add_fields(monitor, nominal=NOMINAL_MONITOR)
    return path
