"""Fluorescence maps: spectra of several detector elements with lines, dead time and a monitor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from beamhub_core.techniques import SCANNING_X_RAY_FLUORESCENCE
from beamhub_reduction.synthetic import tree

CREATOR = "beamhub_reduction.synthetic"
LINES_KEV = {"Ca": 3.69, "Fe": 6.40, "Cu": 8.05, "Zn": 8.64}
"""K-alpha energies. Source: X-ray Data Booklet, table 1-2."""
OFFSET_KEV, GAIN_KEV, WIDTH_KEV = -0.1, 0.01, 0.06
REAL_TIME_S, DEAD_TIME_S = 0.1, 1e-6

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class XrfOptions:
    """What a map may have besides its size.

    `layout`: 'map' writes (ny, nx, channels) for each element, 'points' (ny nx, channels) as BLISS does,
    'elements' one dataset (ny, nx, elements, channels) as DLS does. `counts` is the mean number of counts of
    a spectrum. `dead_time` says which fields there are.
    """

    shape: tuple[int, int] = (6, 8)
    n_channels: int = 1024
    n_elements: int = 2
    counts: float = 2000.0
    layout: Literal["map", "points", "elements"] = "map"
    dead_time: Literal["live_time", "rates", "fraction", "none"] = "live_time"
    dtype: str = "<u4"
    with_energies: bool = True


@dataclass(frozen=True, slots=True)
class XrfTruth:
    """What was planted: `amounts` (ny, nx) of each line relative to its mean, and all `spectra`.

    `spectra` (n_elements, ny, nx, n_channels) as they stand in the file; `factors` (n_elements, ny, nx) undo
    the dead time; `monitor` (ny, nx).
    """

    file: str
    amounts: dict[str, FloatArray]
    spectra: npt.NDArray[Any]
    factors: FloatArray
    monitor: FloatArray
    energies_keV: FloatArray  # noqa: N815  # the unit's own spelling
    technique: str = SCANNING_X_RAY_FLUORESCENCE


def write_xrf_map(
    folder: Path, *, seed: int, options: XrfOptions = XrfOptions(), name: str = "xrf_0001"
) -> XrfTruth:
    """Write one map, gzip and shuffle, one row of spectra a storage chunk, and return what was planted in it.

    Raises
    ------
    ValueError
        If the name is no path component.
    """
    tree.check_names(name)
    random = np.random.default_rng((seed, 977))
    (ny, nx), n_channels = options.shape, options.n_channels
    energies = OFFSET_KEV + GAIN_KEV * np.arange(n_channels, dtype=np.float64)
    amounts = _amounts(options.shape)
    monitor = 1e5 * (1 + 0.1 * np.sin(np.arange(ny * nx) / 5.0)).reshape(ny, nx)
    spectra = np.empty((options.n_elements, ny, nx, n_channels), options.dtype)
    shape_of_lines = {line: _line(energies, keV) for line, keV in LINES_KEV.items()}
    ground = 0.3 * np.exp(-((energies - 5) ** 2) / 20) / n_channels
    for element in range(options.n_elements):
        expected = np.broadcast_to(ground, (ny, nx, n_channels)).copy()
        for line, share in shape_of_lines.items():
            expected += amounts[line][:, :, np.newaxis] * share * 0.25
        scale = options.counts * (1 - 0.1 * element) * (monitor / 1e5)
        spectra[element] = random.poisson(expected * scale[:, :, np.newaxis]).astype(options.dtype)
    events = spectra.sum(axis=3, dtype=np.float64)
    live = REAL_TIME_S - events * DEAD_TIME_S
    path = folder / f"{name}.nxs"
    with tree.begin_file(path, default="entry", started_at=tree.measurement_time(seed), creator=CREATOR) as f:
        _write(f, options, spectra, live, monitor, seed)
    return XrfTruth(str(path), amounts, spectra, REAL_TIME_S / live, monitor, energies)


def _amounts(shape: tuple[int, int]) -> dict[str, FloatArray]:
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    fields = (x + 1.0, y + 1.0, x + y + 1.0, np.ones(shape))
    return {line: field / field.mean() for line, field in zip(LINES_KEV, fields, strict=True)}


def _line(energies: FloatArray, centre_keV: float) -> FloatArray:  # the unit's own spelling
    peak = np.exp(-((energies - centre_keV) ** 2) / (2 * WIDTH_KEV**2))
    total = peak.sum()
    normed: FloatArray = peak / total if total > 0 else peak
    return normed


def _write(
    file: Any,
    options: XrfOptions,
    spectra: npt.NDArray[Any],
    live: FloatArray,
    monitor: FloatArray,
    seed: int,
) -> None:
    (ny, nx), n = options.shape, options.n_elements
    entry = tree.add_group(file, "entry", "NXentry", default="data")
    tree.add_fields(entry, title="fluorescence map", definition="NXfluo")
    tree.add_field(entry, "start_time", tree.measurement_time(seed).isoformat())
    tree.add_technique(entry, SCANNING_X_RAY_FLUORESCENCE)
    instrument = tree.add_group(entry, "instrument", "NXinstrument")
    if options.layout == "elements":
        parts = [("xspress3", np.moveaxis(spectra, 0, 2), np.moveaxis(live, 0, 2))]
    else:
        parts = [(f"mca_det{i}", spectra[i], live[i]) for i in range(n)]
    for name, values, seconds in parts:
        detector = tree.add_group(instrument, name, "NXdetector")
        if options.layout == "points":
            values, seconds = values.reshape(ny * nx, -1), seconds.ravel()
        chunks = (min(nx, len(values)) if options.layout == "points" else 1, *values.shape[1:])
        detector.create_dataset("data", data=values, chunks=chunks, compression="gzip", shuffle=True)
        if options.with_energies:
            energies = (OFFSET_KEV + GAIN_KEV * np.arange(options.n_channels)) * 1e3
            tree.add_field(detector, "energy", energies, units="eV")
        _write_dead_time(detector, options, seconds)
    data = tree.add_group(entry, "data", "NXdata", signal="data", axes=["sample_y", "sample_x", "."])
    first = instrument[parts[0][0]]
    data["data"] = first["data"]
    tree.add_field(data, "sample_y", np.arange(ny) * 0.5, units="um")
    tree.add_field(data, "sample_x", np.arange(nx) * 0.25, units="um")
    tree.add_field(tree.add_group(entry, "monitor", "NXmonitor"), "data", monitor, units="counts")


def _write_dead_time(detector: Any, options: XrfOptions, live: FloatArray) -> None:
    real = np.full(live.shape, REAL_TIME_S)
    if options.dead_time == "live_time":
        tree.add_field(detector, "live_time", live, units="s")
        tree.add_field(detector, "elapsed_time", real, units="s")
    elif options.dead_time == "rates":
        tree.add_field(detector, "trigger_count_rate", 1e5 * real / live, units="Hz")
        tree.add_field(detector, "event_count_rate", np.full(live.shape, 1e5), units="Hz")
    elif options.dead_time == "fraction":
        tree.add_field(detector, "fractional_dead_time", 1 - live / real)
