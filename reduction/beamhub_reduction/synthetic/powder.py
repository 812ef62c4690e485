"""Powder scans in the layout of a synchrotron beamline: a master file, and frames in a sibling folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt

from beamhub_core.techniques import POWDER_DIFFRACTION
from beamhub_reduction.synthetic import tree
from beamhub_reduction.synthetic.crystal import XRAY_CRYSTALS, Crystal, random_crystal
from beamhub_reduction.synthetic.powder_model import (
    DEAD,
    GAP,
    MASKED,
    SENTINEL,
    SHAPE,
    FloatArray,
    MaskArray,
    PowderGeometry,
    RingPattern,
    build_drift,
    build_expected_counts,
    build_mask,
    build_rings,
)
from beamhub_reduction.synthetic.truth import Truth

CREATOR = "beamhub_reduction.synthetic"
DETECTOR = "pilatus"
EXPOSURE_S = 0.5
NOMINAL_MONITOR = 1e6  # counts of the monitor in an undrifted frame

FrameArray = npt.NDArray[np.uint32]
Tick = Callable[[int], None]


def _silent(_done: int) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True, slots=True)
class PowderOptions:
    """What a powder scan may have besides its sample.

    `peaks` plants rings at these q (nm^-1), all of one height, instead of those of a crystal.
    `crystal` is None for the known crystal of the sample's name or else a random one from the seed.
    `tick` is called with the number of frames written since the last call.
    """

    number: int = 1
    instrument: str = "bl09"
    frames_per_file: int = 32
    peaks: tuple[float, ...] | None = None
    crystal: Crystal | None = None
    unfinished_scan: bool = False
    title: str | None = None
    user: str = "Demo Measurement Team"
    geometry: PowderGeometry = field(default_factory=PowderGeometry)
    tick: Tick = _silent


@dataclass(frozen=True, slots=True)
class _Scan:
    """Everything one scan is, before a file is written."""

    proposal: str
    sample: str
    seed: int
    n_frames: int
    options: PowderOptions
    crystal: Crystal
    rings: RingPattern
    mask: MaskArray
    drift: FloatArray
    started_at: datetime

    @property
    def name(self) -> str:
        return f"{self.sample}_{self.options.number:04d}"

    @property
    def detector_folder(self) -> str:
        return f"detector_{self.name}"

    @property
    def inner_path(self) -> str:
        return f"/entry_0000/{self.options.instrument.upper()}/{DETECTOR}/data"

    @property
    def title(self) -> str:
        return self.options.title or f"{self.sample} powder, {self.n_frames} frames of {EXPOSURE_S} s"

    @property
    def pieces(self) -> list[tuple[str, int, int]]:
        """File name, first frame, end frame of every detector file."""
        step = self.options.frames_per_file
        return [
            (f"{DETECTOR}_{i:04d}.h5", first, min(first + step, self.n_frames))
            for i, first in enumerate(range(0, self.n_frames, step))
        ]


def write_powder_scan(
    folder: Path,
    *,
    proposal: str,
    sample: str,
    seed: int,
    n_frames: int = 80,
    options: PowderOptions = PowderOptions(),
) -> Truth:
    """Write one complete powder scan and return what was planted in it.

    Parameters
    ----------
    folder:
        Root of a storage pool. The master becomes
        `<folder>/<proposal>/<instrument>/<sample>_<number>/<sample>_<number>.h5`; the proposal's
        `processed` folder is made when it is missing.
    sample:
        Name of a crystal that we know (its true lattice is used), or any other name: then the lattice
        comes from the seed, so that nobody knows the peaks beforehand.
    seed:
        The same seed gives the same files, byte by byte.

    Raises
    ------
    AlreadyThere
        If the dataset exists.
    ValueError
        If a name is no path component, there is no frame, or a planted ring lies off the detector.
    """
    scan = _planned(proposal, sample, seed, n_frames, options)
    parent = folder / proposal / options.instrument
    (folder / proposal / "processed").mkdir(parents=True, exist_ok=True)
    with tree.written_together((parent / scan.detector_folder, parent / scan.name)) as (frames_in, master_in):
        counts_total = _write_frames(frames_in, scan)
        _write_master(master_in / f"{scan.name}.h5", scan)
    return Truth(
        stem=scan.name,
        file=str((parent / scan.name / f"{scan.name}.h5").absolute()),
        proposal=proposal,
        instrument=options.instrument,
        sample=sample,
        title=scan.title,
        technique=POWDER_DIFFRACTION,
        axis="q_nm^-1",
        peaks=tuple(scan.rings.positions.tolist()),
        peak_weights=tuple(scan.rings.weights.tolist()),
        lattice_angstrom=scan.crystal.lattice_angstrom,
        seed=seed,
        n_frames=n_frames,
        n_pixels_masked=int(np.count_nonzero(scan.mask & MASKED)),
        counts_total=counts_total,
    )


def _planned(proposal: str, sample: str, seed: int, n_frames: int, options: PowderOptions) -> _Scan:
    tree.check_names(proposal, sample, options.instrument)
    if n_frames < 1:
        raise ValueError(f"a scan has at least one frame, not {n_frames}")
    crystal = options.crystal or XRAY_CRYSTALS.get(sample) or random_crystal(sample, seed)
    if options.peaks is None:
        rings = build_rings(crystal, options.geometry)
    else:
        positions = np.sort(np.array(options.peaks, dtype=float))
        if positions.size and (positions[0] < 2.0 or positions[-1] > 60.0):
            raise ValueError(f"planted rings must lie between 2 and 60 nm^-1, not {options.peaks}")
        rings = RingPattern(positions=positions, weights=np.ones(positions.size))
    return _Scan(
        proposal=proposal,
        sample=sample,
        seed=seed,
        n_frames=n_frames,
        options=options,
        crystal=crystal,
        rings=rings,
        mask=build_mask(options.geometry, seed),
        drift=build_drift(n_frames, seed),
        started_at=tree.measurement_time(seed),
    )


def _write_frames(folder: Path, scan: _Scan) -> int:
    """Write every detector file; returns the exact sum of counts of all unmasked pixels."""
    expected = build_expected_counts(scan.rings, scan.options.geometry, scan.mask)
    unmasked = (scan.mask & MASKED) == 0
    counts_total = 0
    with ThreadPoolExecutor(2, thread_name_prefix="synthetic") as pool:
        for name, first, end in scan.pieces:
            frames = pool.map(lambda i: _drawn_frame(expected, scan, i), range(first, end))
            with tree.begin_file(
                folder / name, default="entry_0000", started_at=scan.started_at, creator=CREATOR
            ) as file:
                target = _begin_detector_entry(file, scan, end - first)
                for i, frame in enumerate(frames):
                    target[i] = frame
                    counts_total += int(frame[unmasked].sum(dtype=np.int64))
                    scan.options.tick(1)
    return counts_total


def _drawn_frame(expected: FloatArray, scan: _Scan, i_frame: int) -> FrameArray:
    """One frame with a Poisson draw of its own, shape `SHAPE`; gaps and dead pixels hold the sentinel."""
    rng = np.random.default_rng([scan.seed, 3, i_frame])
    live = (scan.mask & (GAP | DEAD)) == 0
    frame = np.full(SHAPE, SENTINEL, dtype=np.uint32)
    frame[live] = rng.poisson(expected[live] * scan.drift[i_frame])
    return frame


def _begin_detector_entry(file: Any, scan: _Scan, n_frames: int) -> Any:
    entry = tree.add_group(file, "entry_0000", "NXentry", default="measurement")
    tree.add_fields(entry, title=f"Lima {DETECTOR}", start_time=scan.started_at.isoformat())
    instrument = tree.add_group(entry, scan.options.instrument.upper(), "NXinstrument")
    detector = tree.add_group(instrument, DETECTOR, "NXdetector")
    data = detector.create_dataset(
        "data",
        shape=(n_frames, *SHAPE),
        dtype=np.uint32,
        chunks=(1, *SHAPE),
        **hdf5plugin.Bitshuffle(cname="lz4"),
    )
    data.attrs.update(interpretation="image", units="counts")
    plot = tree.add_group(entry, "measurement", "NXdata", signal="data")
    plot["data"] = h5py.SoftLink(scan.inner_path)
    return data


def _write_master(path: Path, scan: _Scan) -> None:
    with tree.begin_file(path, default="1.1", started_at=scan.started_at, creator=CREATOR) as file:
        file.attrs["publisher"] = "bliss"
        entry = tree.add_group(file, "1.1", "NXentry", default="plotselect")
        ended_at = scan.started_at + timedelta(seconds=EXPOSURE_S * scan.n_frames * 1.02)
        tree.add_fields(
            entry,
            title=scan.title,
            experiment_identifier=scan.proposal,
            start_time=scan.started_at.isoformat(),
            end_time=ended_at.isoformat(),
            end_reason="SUCCESS",
            scan_number=np.int32(1),
        )
        tree.add_technique(entry, POWDER_DIFFRACTION)
        tree.add_fields(
            tree.add_group(entry, "sample", "NXsample"),
            name=scan.sample,
            chemical_formula=scan.crystal.formula,
        )
        tree.add_fields(
            tree.add_group(entry, "user", "NXuser"), name=scan.options.user, role="principal_investigator"
        )
        detector = _add_instrument(entry, scan)
        for name, link in _frame_links(scan):
            detector[name] = link
        _add_readings(entry, scan)
        if scan.options.unfinished_scan:
            _add_unfinished(file, scan, ended_at)


def _frame_links(scan: _Scan) -> Iterator[tuple[str, Any]]:
    """The external links to the frames, relative to the master."""
    for i, (name, _first, _end) in enumerate(scan.pieces):
        yield f"data_{i:04d}", h5py.ExternalLink(f"../{scan.detector_folder}/{name}", scan.inner_path)


def _add_instrument(entry: Any, scan: _Scan) -> Any:
    """Everything of the instrument but the frames; returns the NXdetector group."""
    geometry, name = scan.options.geometry, scan.options.instrument
    instrument = tree.add_group(entry, "instrument", "NXinstrument")
    tree.add_field(instrument, "name", name.upper(), short_name=name)
    tree.add_fields(
        tree.add_group(instrument, "source", "NXsource"),
        name="Demo storage ring",
        type="Synchrotron X-ray Source",
        probe="x-ray",
    )
    monochromator = tree.add_group(instrument, "monochromator", "NXmonochromator")
    tree.add_field(monochromator, "wavelength", geometry.wavelength_angstrom, units="angstrom")
    tree.add_field(monochromator, "energy", geometry.energy_kev, units="keV")
    detector = tree.add_group(instrument, DETECTOR, "NXdetector")
    tree.add_fields(
        detector,
        type="hybrid pixel detector",
        description="Pilatus 300k, three modules",
        local_name=DETECTOR,
        sensor_material="Si",
        saturation_value=np.int64(2**20 - 1),
        bit_depth_readout=np.int32(20),
    )
    detector.create_dataset("pixel_mask", data=scan.mask, chunks=SHAPE, **hdf5plugin.Bitshuffle(cname="lz4"))
    tree.add_field(detector, "sensor_thickness", 0.45e-3, units="m")
    tree.add_field(detector, "distance", geometry.distance_m, units="m")
    tree.add_field(detector, "x_pixel_size", geometry.pixel_m, units="m")
    tree.add_field(detector, "y_pixel_size", geometry.pixel_m, units="m")
    tree.add_field(detector, "beam_center_x", geometry.centre_x, units="pixel")
    tree.add_field(detector, "beam_center_y", geometry.centre_y, units="pixel")
    tree.add_field(detector, "count_time", np.full(scan.n_frames, EXPOSURE_S), units="s")
    acquisition = tree.add_group(detector, "acq_parameters", "NXcollection")
    tree.add_fields(acquisition, acq_nb_frames=np.int64(scan.n_frames))
    tree.add_field(acquisition, "acq_expo_time", EXPOSURE_S, units="s")
    return detector


def _add_readings(entry: Any, scan: _Scan) -> None:
    """The beam monitor, the links of `measurement` and the default plot."""
    rng = np.random.default_rng([scan.seed, 4])
    monitor = tree.add_group(entry, "monitor", "NXmonitor")
    counts = rng.poisson(NOMINAL_MONITOR * scan.drift).astype(float)
    tree.add_field(monitor, "data", counts, units="counts")
    tree.add_fields(monitor, mode="timer", nominal=NOMINAL_MONITOR)
    measurement = tree.add_group(entry, "measurement", "NXcollection")
    for name, _link in _frame_links(scan):
        measurement[name.replace("data", DETECTOR)] = h5py.SoftLink(f"/1.1/instrument/{DETECTOR}/{name}")
    measurement["mon"] = h5py.SoftLink("/1.1/monitor/data")
    measurement["count_time"] = h5py.SoftLink(f"/1.1/instrument/{DETECTOR}/count_time")
    epoch = scan.started_at.timestamp() + 1.02 * EXPOSURE_S * np.arange(scan.n_frames)
    tree.add_field(measurement, "epoch", epoch, units="s")
    plot = tree.add_group(entry, "plotselect", "NXdata", signal=DETECTOR)
    plot[DETECTOR] = h5py.SoftLink(f"/1.1/instrument/{DETECTOR}/data_0000")


def _add_unfinished(file: Any, scan: _Scan, begun_at: datetime) -> None:
    """A second scan as its crash left it: begun, planned, without frames and without an end."""
    entry = tree.add_group(file, "2.1", "NXentry")
    tree.add_fields(
        entry,
        title=f"{scan.sample} powder, repeat",
        experiment_identifier=scan.proposal,
        start_time=begun_at.isoformat(),
        scan_number=np.int32(2),
    )
    _add_instrument(entry, scan)
