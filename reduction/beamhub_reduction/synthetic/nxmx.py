"""A run of a Dectris detector as its filewriter leaves it: an NXmx master and numbered data files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from beamhub_reduction.synthetic.layouts import LayoutTruth, add_entry, bslz4, make_frames
from beamhub_reduction.synthetic.tree import add_field, add_group

PIXEL_M = 75e-6
DISTANCE_M = 0.15
WAVELENGTH_ANGSTROM = 0.97
CENTRE = (14.5, 9.25)  # x, y in pixels from the outer corner of pixel (0, 0)


@dataclass(frozen=True)
class NxmxOptions:
    """`extra_links` lead to data files that were never written, as when a trigger was not used.

    `bits` is the depth of the readout: at 16, gap pixels of the 32-bit file hold 65535. `tilt_deg` turns
    the detector upwards about the horizontal axis through the sample.
    """

    n_frames: int = 7
    frames_per_file: int = 3
    extra_links: int = 2
    bits: int = 32
    tilt_deg: float = 0.0


def write_nxmx_run(folder: Path, *, seed: int = 5, options: NxmxOptions | None = None) -> LayoutTruth:
    """Write master and data files. Source: NXmx.nxdl; Dectris, SIMPLON filewriter."""
    options = options or NxmxOptions()
    shape = (20, 30)
    frames = make_frames(seed, (options.n_frames, *shape))
    masked = np.zeros(shape, np.bool_)
    masked[9:11], masked[3, 4] = True, True
    frames[:, masked] = 2**options.bits - 1
    folder.mkdir(parents=True, exist_ok=True)
    n_files = -(-options.n_frames // options.frames_per_file)
    for i in range(n_files):
        low = i * options.frames_per_file
        part = frames[low : low + options.frames_per_file]
        with h5py.File(folder / f"run_data_{i + 1:06d}.h5", "x") as file:
            entry = add_group(file, "entry", "NXentry")
            data = bslz4(add_group(entry, "data", "NXdata", signal="data"), "data", part)
            data.attrs.update(image_nr_low=low + 1, image_nr_high=low + len(part))
    path = folder / "run_master.h5"
    with h5py.File(path, "x") as file:
        entry = add_entry(file, "entry", "lysozyme")
        add_field(entry, "definition", "NXmx")
        data = add_group(entry, "data", "NXdata", signal="data_000001")
        for i in range(n_files + options.extra_links):
            data[f"data_{i + 1:06d}"] = h5py.ExternalLink(f"run_data_{i + 1:06d}.h5", "/entry/data/data")
        beam = add_group(entry["instrument"], "beam", "NXbeam")
        add_field(beam, "incident_wavelength", WAVELENGTH_ANGSTROM, units="angstrom")
        _add_detector(entry["instrument"], masked, options)
    place = (DISTANCE_M, CENTRE[1] * PIXEL_M, CENTRE[0] * PIXEL_M, PIXEL_M, PIXEL_M, WAVELENGTH_ANGSTROM)
    return LayoutTruth(path, "/entry", frames, masked, "lysozyme", options.n_frames, place)


def _add_detector(instrument: Any, masked: Any, options: NxmxOptions) -> None:
    detector = add_group(instrument, "detector", "NXdetector")
    add_field(detector, "description", "Dectris Eiger")
    for axis, centre in zip("xy", CENTRE, strict=True):
        add_field(detector, f"beam_center_{axis}", centre, units="pixel")
        add_field(detector, f"{axis}_pixel_size", PIXEL_M, units="m")
    add_field(detector, "detector_distance", DISTANCE_M, units="m")
    add_field(detector, "bit_depth_image", options.bits)
    add_field(detector, "saturation_value", 2**options.bits - 2)
    add_field(detector, "flatfield_correction_applied", 1)
    specific = add_group(detector, "detectorSpecific", "NXcollection")
    add_field(specific, "nimages", options.n_frames)
    add_field(specific, "ntrigger", 1)
    add_field(specific, "pixel_mask", masked.astype(np.uint32))
    add_field(specific, "flatfield", np.ones(masked.shape, np.float32))
    detector["pixel_mask"] = h5py.SoftLink("detectorSpecific/pixel_mask")
    _add_position(detector, options.tilt_deg)


def _add_position(detector: Any, tilt_deg: float) -> None:
    base = f"{detector.name}/transformations"
    add_field(detector, "depends_on", f"{base}/translation")
    chain = add_group(detector, "transformations", "NXtransformations")
    rotation: dict[str, Any] = {"vector": [-1.0, 0, 0], "transformation_type": "rotation", "depends_on": "."}
    add_field(chain, "two_theta", tilt_deg, units="deg", **rotation)
    along: dict[str, Any] = {"vector": [0, 0, 1.0], "transformation_type": "translation"}
    add_field(chain, "translation", DISTANCE_M, units="m", depends_on=f"{base}/two_theta", **along)
    module = add_group(detector, "module", "NXdetector_module")
    corner = np.array([CENTRE[0], CENTRE[1], 0.0]) * PIXEL_M  # x runs to the left, seen along the beam
    length = float(np.linalg.norm(corner))
    add_field(
        module, "module_offset", length, units="m", vector=corner / length,
        transformation_type="translation", depends_on=f"{base}/translation",
    )  # fmt: skip
    for name, vector in (("fast", [-1.0, 0, 0]), ("slow", [0, -1.0, 0])):
        add_field(
            module, f"{name}_pixel_direction", PIXEL_M, units="m", vector=vector,
            transformation_type="translation", depends_on=f"{module.name}/module_offset",
        )  # fmt: skip
    add_field(module, "data_origin", np.array([0, 0]))
