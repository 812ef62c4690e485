"""Small scans in the layouts of synchrotrons: what is in them is known, down to each count."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt

from beamhub_reduction.synthetic.tree import add_field, add_fields, add_group

START = "2026-03-02T09:30:00+01:00"
END = "2026-03-02T09:31:00+01:00"


@dataclass(frozen=True)
class LayoutTruth:
    """What was written: the file to open, its frames (n, ny, nx) and the pixels that are masked (ny, nx).

    `place` are distance, PONI 1 and 2 and pixel sizes 1 and 2 in metres, and the wavelength in angstrom.
    """

    file: Path
    entry: str
    frames: npt.NDArray[Any]
    masked: npt.NDArray[np.bool_]
    title: str
    n_expected: int | None = None
    place: tuple[float, ...] = ()
    others: dict[str, Any] = field(default_factory=dict)


def make_frames(seed: int, shape: tuple[int, ...], dtype: Any = np.uint32) -> npt.NDArray[Any]:
    """Poisson counts around a slope over the pixels, different in each frame."""
    generator = np.random.default_rng(seed)
    slope = np.linspace(1, 40, shape[-1]) * np.linspace(1, 2, shape[-2])[:, np.newaxis]
    return generator.poisson(np.broadcast_to(slope, shape)).astype(dtype)


def bslz4(group: Any, name: str, frames: npt.NDArray[Any]) -> Any:
    """Frames as detectors write them: a chunk a frame, bitshuffle and LZ4."""
    return group.create_dataset(name, data=frames, chunks=(1, *frames.shape[1:]), **hdf5plugin.Bitshuffle())


def add_entry(file: Any, name: str, title: str, *, end: bool = True) -> Any:
    """An NXentry with its title and times, and an instrument."""
    entry = add_group(file, name, "NXentry")
    add_fields(entry, title=title, start_time=START)
    if end:
        add_fields(entry, end_time=END)
    add_group(entry, "instrument", "NXinstrument")
    return entry


def write_bliss_scan(folder: Path, *, seed: int = 1, n_frames: int = 5, unfinished: int = 2) -> LayoutTruth:
    """ESRF: BLISS with LIMA. Scan 9.1 has frames in two LIMA files below a virtual dataset; its sub-scan 9.2
    has more points and no images; 10.1 goes on still, with `unfinished` frames of those planned.

    Source: BLISS documentation, data_nexus and data_hdf5.
    """
    frames = make_frames(seed, (n_frames, 12, 16))
    images = folder / "scan0009"
    images.mkdir(parents=True)
    cut = (n_frames + 1) // 2
    virtual = h5py.VirtualLayout(frames.shape, np.uint32)
    for i, (low, high) in enumerate(((0, cut), (cut, n_frames))):
        name = f"cam_{i:04d}.h5"
        with h5py.File(images / name, "x") as lima:
            entry = add_group(lima, "entry_0000", "NXentry", default="measurement")
            bslz4(add_group(add_group(entry, "ESRF-ID00", "NXinstrument"), "cam", "NXdetector"), "data",
                  frames[low:high])  # fmt: skip
        source = h5py.VirtualSource(
            f"scan0009/{name}", "/entry_0000/ESRF-ID00/cam/data", (high - low, 12, 16)
        )
        virtual[low:high] = source
    path = folder / "sample_dataset.h5"
    with h5py.File(path, "x") as file:
        for name, n in (("9.1", n_frames), ("9.2", n_frames + 3), ("10.1", unfinished)):
            entry = add_entry(file, name, f"scan {name}", end=name != "10.1")
            counters = add_group(entry, "measurement", "NXcollection")
            add_field(counters, "epoch", np.arange(float(n)), units="s")
            mca = add_group(entry["instrument"], "a_mca", "NXdetector")
            add_field(mca, "data", np.ones((n, 64), np.uint32), interpretation="spectrum")
            if name == "9.2":
                continue
            detector = add_group(entry["instrument"], "cam", "NXdetector")
            planned = add_group(detector, "acq_parameters", "NXcollection")
            add_field(planned, "acq_nb_frames", n_frames)
            if name == "9.1":
                detector.create_virtual_dataset("data", virtual)
                counters["cam"] = h5py.SoftLink("/9.1/instrument/cam/data")
            else:
                bslz4(detector, "data", frames[:unfinished])
    return LayoutTruth(
        path, "/9.1", frames, np.zeros((12, 16), np.bool_), "scan 9.1", n_frames,
        others={"entries": ("/9.1", "/9.2", "/10.1")},
    )  # fmt: skip


def write_dls_scan(folder: Path, *, seed: int = 2, grid: tuple[int, int] = (3, 4)) -> LayoutTruth:
    """DLS: a grid scan whose detector file is a virtual dataset over its own external link to raw data, which
    it declares as int64 though they are uint32; a meta file; and a link to a file that was never copied.

    Source: DLS, GDA and Odin files (nested virtual datasets behind external links).
    """
    n = grid[0] * grid[1]
    frames = make_frames(seed, (n, 10, 14))
    frames[:, 0, 0] = 2**32 - 1
    raw = folder / "raw"
    raw.mkdir(parents=True)
    with h5py.File(raw / "i00-1_000001.h5", "x") as file:
        bslz4(file, "data", frames)
    with h5py.File(raw / "i00-1_meta.h5", "x") as file:
        mask = np.zeros((10, 14), np.int32)
        mask[0, 0] = 1
        file["mask"] = mask
    with h5py.File(raw / "i00-1.h5", "x") as file:
        file["raw_000001"] = h5py.ExternalLink("i00-1_000001.h5", "/data")
        layout = h5py.VirtualLayout((*grid, 10, 14), np.int64)
        source = h5py.VirtualSource(".", "raw_000001", (n, 10, 14))
        for row in range(grid[0]):
            layout[row] = source[row * grid[1] : (row + 1) * grid[1]]
        file.create_virtual_dataset("data", layout)
    path = folder / "i00-1.nxs"
    with h5py.File(path, "x") as file:
        file.attrs["file_name"] = "/dls/i00/data/2026/mg1-1/i00-1.nxs"
        entry = add_entry(file, "entry", "grid")
        detector = add_group(entry["instrument"], "eiger", "NXdetector")
        detector["data"] = h5py.ExternalLink("raw/i00-1.h5", "/data")
        detector["pixel_mask"] = h5py.ExternalLink("raw/i00-1_meta.h5", "/mask")
        other = add_group(entry["instrument"], "diode", "NXdetector")
        other["total"] = h5py.ExternalLink("raw/never-copied.h5", "/data")
    masked = np.zeros((10, 14), np.bool_)
    masked[0, 0] = True
    return LayoutTruth(path, "/entry", frames, masked, "grid", others={"grid": grid, "missing": 1})


def write_maxiv_scan(folder: Path, *, seed: int = 3, n_frames: int = 4) -> LayoutTruth:
    """MAX IV: a master whose relative links lead to one file for each detector in the same folder.

    Source: ForMAX beamline's description of scan files.
    """
    frames = make_frames(seed, (n_frames, 9, 11), np.uint16)
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "scan-0042_eiger.h5", "x") as file:
        bslz4(file.create_group("entry/instrument/eiger"), "data", frames)
    path = folder / "scan-0042.h5"
    with h5py.File(path, "x") as file:
        entry = add_entry(file, "entry", "ascan")
        counters = add_group(entry, "measurement", "NXcollection")
        counters["eiger"] = h5py.ExternalLink("scan-0042_eiger.h5", "/entry/instrument/eiger")
        add_field(counters, "samx", np.arange(float(n_frames)), units="mm")
    return LayoutTruth(path, "/entry", frames, np.zeros((9, 11), np.bool_), "ascan")


def write_jungfrau_run(
    folder: Path, *, seed: int = 4, n_frames: int = 5, n_modules: int = 4, own_axis: bool = False
) -> LayoutTruth:
    """PSI: a master without classes whose virtual dataset puts modules from files of their own into one
    image, with gaps of 2 pixels, or along an axis of their own.
    """
    shape = (n_modules, 8, 10) if own_axis else (n_modules * 10 - 2, 10)
    layout = h5py.VirtualLayout((n_frames, *shape), np.uint16)
    frames = np.full((n_frames, n_modules * 8 if own_axis else shape[0], 10), 65535, np.uint16)
    folder.mkdir(parents=True, exist_ok=True)
    step = 8 if own_axis else 10
    for m in range(n_modules):
        tile = make_frames(seed + m, (n_frames, 8, 10), np.uint16)
        frames[:, step * m : step * m + 8] = tile
        with h5py.File(folder / f"run_0001.JF07-{m}.h5", "x") as file:
            bslz4(file.create_group("data/JF07"), "data", tile)
        source = h5py.VirtualSource(f"run_0001.JF07-{m}.h5", "data/JF07/data", (n_frames, 8, 10))
        if own_axis:
            layout[:, m] = source
        else:
            layout[:, step * m : step * m + 8] = source
    path = folder / "run_0001.JF07.h5"
    with h5py.File(path, "x") as file:
        file.create_group("data/JF07").create_virtual_dataset("data", layout)
    return LayoutTruth(path, "/data", frames, np.zeros(frames.shape[1:], np.bool_), "")
