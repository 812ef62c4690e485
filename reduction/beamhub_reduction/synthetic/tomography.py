"""Tomography scans as NXtomo: interleaved flats and darks, a drifting beam, a phantom of known absorption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from beamhub_core.techniques import X_RAY_TOMOGRAPHY
from beamhub_reduction.synthetic import tree

CREATOR = "beamhub_reduction.synthetic"
PROJECTION, FLAT, DARK, INVALID = 0, 1, 2, 3
BEAM, DARK_COUNTS, DRIFT = 30_000.0, 100.0, 0.1
PIXEL_M = 3.25e-6

FloatArray = npt.NDArray[np.float64]
References = Literal["interleaved", "at_end", "other_files", "none"]


@dataclass(frozen=True, slots=True)
class TomographyOptions:
    """What a scan may have besides its size.

    `references`: flats before, between (every `flats_every` projections) and behind the projections with
    darks at both ends; all at the end; in files of their own; or nowhere. `noise` draws counts from a
    Poisson distribution; without it they are the expected ones, rounded. `n_dead` pixels never count.
    `linked` puts the frames into a file of their own, as DLS does. `style` 'esrf' adds image_key_control
    with two alignment images at the end.
    """

    n_projections: int = 60
    shape: tuple[int, int] = (32, 48)
    references: References = "interleaved"
    n_flats: int = 5
    n_darks: int = 5
    flats_every: int = 25
    noise: bool = True
    n_dead: int = 3
    compression: Literal["gzip"] | None = None
    dtype: str = "<u2"
    linked: bool = False
    style: Literal["dls", "esrf"] = "dls"


@dataclass(frozen=True, slots=True)
class TomographyTruth:
    """What was planted: files, `keys` (n_frames,), `angles_deg` of the projections, their attenuation.

    `attenuation` (n_projections, ny, nx) is what -log of the transmission must give without noise;
    `dead` (ny, nx) marks pixels whose flat is not above the dark.
    """

    file: str
    flats_file: str | None
    darks_file: str | None
    keys: npt.NDArray[np.int32]
    angles_deg: FloatArray
    attenuation: FloatArray
    dead: npt.NDArray[np.bool_]
    monitor: FloatArray
    title: str
    technique: str = X_RAY_TOMOGRAPHY


def phantom_attenuation(angles_deg: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Line integrals through two rotating cylinders of different absorption, shape (n_angles, ny, nx).

    A cylinder of radius r at distance a from the axis absorbs 2 mu sqrt(r^2 - (x - a sin(angle))^2); mu grows
    with the row, so that rows can be told from each other.
    """
    ny, nx = shape
    x = (np.arange(nx) - (nx - 1) / 2) / nx
    rows = 1 + 0.5 * np.arange(ny) / ny
    total = np.zeros((angles_deg.size, nx))
    for distance, radius, mu in ((0.0, 0.35, 1.5), (0.18, 0.08, 6.0)):
        centre = distance * np.sin(np.deg2rad(angles_deg))[:, np.newaxis]
        total += 2 * mu * np.sqrt(np.clip(radius**2 - (x - centre) ** 2, 0, None))
    attenuation: FloatArray = total[:, np.newaxis, :] * rows[np.newaxis, :, np.newaxis]
    return attenuation


def image_keys(options: TomographyOptions) -> npt.NDArray[np.int32]:
    """The kind of every frame of the scan's own file; one invalid frame stands before the projections."""
    flats, darks = [FLAT] * options.n_flats, [DARK] * options.n_darks
    if options.references == "interleaved":
        keys = [*darks, *flats, INVALID]
        for i in range(options.n_projections):
            between = i and i % options.flats_every == 0
            keys += [*flats, PROJECTION] if between else [PROJECTION]
        keys += [*flats, *darks]
    else:
        keys = [INVALID, *([PROJECTION] * options.n_projections)]
        keys += [*flats, *darks] if options.references == "at_end" else []
    return np.array([*keys, 0, 0] if options.style == "esrf" else keys, np.int32)


def write_tomography_scan(
    folder: Path, *, seed: int, options: TomographyOptions = TomographyOptions(), name: str = "tomo_0001"
) -> TomographyTruth:
    """Write one scan into a folder and return what was planted in it.

    Parameters
    ----------
    seed:
        The same seed gives the same counts.
    name:
        The master file becomes `<folder>/<name>.nxs`.

    Raises
    ------
    ValueError
        If the name is no path component.
    """
    tree.check_names(name)
    scan = _Scan(options, seed)
    path = folder / f"{name}.nxs"
    detail = folder / f"{name}-imaging.h5" if options.linked else None
    with tree.begin_file(path, default="entry", started_at=tree.measurement_time(seed), creator=CREATOR) as f:
        detector = _write_entry(f, scan, seed, name)
        if detail is None:
            _write_frames(detector, "data", scan, scan.keys)
        else:
            with h5py.File(detail, "x", libver=("v110", "v110")) as other:
                _write_frames(other.create_group("entry/detector"), "detector", scan, scan.keys)
            detector["data"] = h5py.ExternalLink(detail.name, "/entry/detector/detector")
        f["entry/data/data"] = detector["data"] if detail is None else h5py.SoftLink(f"{detector.name}/data")
    others: dict[int, str | None] = {FLAT: None, DARK: None}
    if options.references == "other_files":
        for key, word, n in ((FLAT, "flats", options.n_flats), (DARK, "darks", options.n_darks)):
            with h5py.File(folder / f"{name}-{word}.h5", "x", libver=("v110", "v110")) as other:
                _write_frames(other.create_group("entry/detector"), "data", scan, np.full(n, key, np.int32))
            others[key] = str(folder / f"{name}-{word}.h5")
    return TomographyTruth(
        str(path), others[FLAT], others[DARK], scan.keys, scan.angles, scan.attenuation, scan.dead,
        scan.monitor, f"tomography {name}",
    )  # fmt: skip


class _Scan:
    """The numbers of one scan."""

    def __init__(self, options: TomographyOptions, seed: int) -> None:
        self.options = options
        self.random = np.random.default_rng((seed, 731))
        self.keys = image_keys(options)
        n_aligned = 2 if options.style == "esrf" else 0
        self.is_projection = self.keys == PROJECTION
        if n_aligned:
            self.is_projection[-n_aligned:] = False
        self.angles = np.linspace(0, 180, options.n_projections)
        self.attenuation = phantom_attenuation(self.angles, options.shape)
        ny, nx = options.shape
        y, x = np.mgrid[0:ny, 0:nx]
        self.beam = BEAM * (1 - 0.3 * ((y - ny / 2) ** 2 / ny**2 + (x - nx / 2) ** 2 / nx**2))
        self.dark = DARK_COUNTS + 5.0 * np.sin(x / 3.0)
        self.dead = np.zeros(options.shape, np.bool_)
        self.dead.flat[self.random.choice(ny * nx, min(options.n_dead, ny * nx), replace=False)] = True
        n = self.keys.size
        self.monitor = 1e6 * (1 + 0.05 * np.cos(np.arange(n) / 7.0))

    def frames(self, keys: npt.NDArray[np.int32]) -> Iterator[npt.NDArray[Any]]:
        """Counts of each frame: the profile of the beam drifts linearly, the flux follows the monitor."""
        own = keys is self.keys
        dtype = np.dtype(self.options.dtype)
        limit = np.iinfo(dtype).max if dtype.kind in "iu" else np.inf
        i_projection = 0
        for i, key in enumerate(keys):
            flux = self.monitor[i] / 1e6 if own else 1.0
            drift = 1 + DRIFT * i / max(1, len(keys)) if own else 1.0
            expected = self.dark.copy()
            if key != DARK:
                light = self.beam * drift * flux
                if own and self.is_projection[i]:
                    light = light * np.exp(-self.attenuation[i_projection])
                    i_projection += 1
                expected += np.where(self.dead, 0.0, light)
            counts = self.random.poisson(expected) if self.options.noise else np.rint(expected)
            yield np.clip(counts, 0, limit).astype(dtype)


def _write_frames(group: Any, name: str, scan: _Scan, keys: npt.NDArray[np.int32]) -> None:
    options = scan.options
    dataset = group.create_dataset(
        name, shape=(len(keys), *options.shape), dtype=options.dtype, chunks=(1, *options.shape),
        compression=options.compression,
    )  # fmt: skip
    for i, frame in enumerate(scan.frames(keys)):
        dataset[i] = frame


def _write_entry(file: Any, scan: _Scan, seed: int, name: str) -> Any:
    """Everything but the frames; gives the detector group."""
    entry = tree.add_group(file, "entry", "NXentry", default="data")
    tree.add_fields(entry, title=f"tomography {name}", definition="NXtomo")
    tree.add_field(entry, "start_time", tree.measurement_time(seed).isoformat())
    tree.add_technique(entry, X_RAY_TOMOGRAPHY)
    instrument = tree.add_group(entry, "instrument", "NXinstrument")
    source = tree.add_group(instrument, "source", "NXsource")
    tree.add_fields(source, type="Synchrotron X-ray Source", probe="x-ray")
    detector = tree.add_group(instrument, "detector", "NXdetector")
    tree.add_field(detector, "image_key", scan.keys)
    if scan.options.style == "esrf":
        control = scan.keys.copy()
        control[-2:] = -1
        tree.add_field(detector, "image_key_control", control)
    for axis in "xy":
        tree.add_field(detector, f"{axis}_pixel_size", PIXEL_M, units="m")
    sample = tree.add_group(entry, "sample", "NXsample")
    tree.add_field(sample, "name", "two cylinders")
    angles = np.zeros(scan.keys.size)
    angles[scan.is_projection] = scan.angles
    tree.add_field(sample, "rotation_angle", angles, units="deg")
    tree.add_field(tree.add_group(entry, "control", "NXmonitor"), "data", scan.monitor, units="counts")
    data = tree.add_group(entry, "data", "NXdata", signal="data", axes=["rotation_angle", ".", "."])
    data["rotation_angle"] = sample["rotation_angle"]
    data["image_key"] = detector["image_key"]
    return detector
