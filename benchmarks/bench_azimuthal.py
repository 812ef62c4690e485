"""Azimuthal integration of a synthetic powder scan: ours, the loop that people write today, and two limits.

Peer: h5py frame by frame and pyFAI's `integrate1d` with its fastest method on one core (CSC without pixel
splitting, Cython). Limits: the frames decoded by h5py alone (what any h5py loop can reach), and the stored
bytes read alone. All alternate in one run; medians of `--repeats`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator

import beamhub_reduction as br
from beamhub_reduction.synthetic import write_powder_scan

DATA = "/entry_0000/BL09/pilatus/data"
assert hdf5plugin is not None  # its import registers the frames' filter


def pyfai_loop(master: Path, details: list[Path], bins: int) -> float:
    """The peer: one frame after the other; the sum of its intensities, so that nothing is left out."""
    with h5py.File(master, "r") as file:
        detector = file["1.1/instrument/pilatus"]
        pixel = [float(detector[f"{axis}_pixel_size"][()]) for axis in "yx"]
        centre = [float(detector[f"beam_center_{axis}"][()]) for axis in "yx"]
        mask = (detector["pixel_mask"][()] & 0xFFFF) != 0
        wavelength = float(file["1.1/instrument/monochromator/wavelength"][()]) * 1e-10
        distance = float(detector["distance"][()])
    integrator = AzimuthalIntegrator(
        dist=distance,
        poni1=centre[0] * pixel[0],
        poni2=centre[1] * pixel[1],
        detector=Detector(*pixel, max_shape=mask.shape),
        wavelength=wavelength,
    )
    total = 0.0
    for path in details:
        with h5py.File(path, "r") as file:
            for frame in file[DATA]:
                found = integrator.integrate1d(
                    frame,
                    bins,
                    unit="q_nm^-1",
                    mask=mask,
                    method=("no", "csc", "cython"),
                    error_model="poisson",
                )
                total += float(np.nansum(found.intensity))
    return total


def decode_only(details: list[Path]) -> int:
    """h5py's own limit: every frame decoded, nothing done with it."""
    total = 0
    for path in details:
        with h5py.File(path, "r") as file:
            data = file[DATA]
            buffer = np.empty(data.shape[1:], data.dtype)
            for i_frame in range(len(data)):
                data.read_direct(buffer, np.s_[i_frame])
                total += int(buffer[0, 0])
    return total


def read_only(details: list[Path]) -> int:
    """The storage's limit: every byte read from the page cache."""
    return sum(len(path.read_bytes()) for path in details)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print the table and, with --json, write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bins", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, br.connect(workers=2) as client:
        truth = write_powder_scan(
            Path(folder), proposal="MA-1", sample="LaB6", seed=1, n_frames=arguments.frames
        )
        master = Path(truth.file)
        details = sorted(master.parent.parent.glob("detector_*/*.h5"))
        run = br.open_run(str(master))

        def silent(done: int, total: int) -> None:
            """No progress bar."""

        subjects: dict[str, Callable[[], object]] = {
            "ours, one thread": lambda: run.azimuthal(bins=arguments.bins, progress=silent),
            "ours, two workers": lambda: run.azimuthal(bins=arguments.bins, client=client, progress=silent),
            "peer: h5py + pyFAI loop": lambda: pyfai_loop(master, details, arguments.bins),
            "limit: h5py decode": lambda: decode_only(details),
            "limit: read": lambda: read_only(details),
        }
        seconds: dict[str, list[float]] = {name: [] for name in subjects}
        for work in subjects.values():
            work()  # warm
        for _ in range(arguments.repeats):
            for name, work in subjects.items():
                seconds[name].append(timed(work))
    report(seconds, arguments)


def report(seconds: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    """Frames a second, and each as a ratio to the peer."""
    load = os.getloadavg()[0]
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f}"
    print(f"azimuthal, {arguments.frames} frames of 619 x 487 uint32, {arguments.bins} bins; {machine}")
    peer = statistics.median(seconds["peer: h5py + pyFAI loop"])
    rows = []
    for name, runs in seconds.items():
        median = statistics.median(runs)
        row = {"name": name, "frames_per_s": arguments.frames / median, "to_peer": peer / median}
        row["slowest"], row["fastest"] = arguments.frames / max(runs), arguments.frames / min(runs)
        rows.append(row)
        spread = f"({row['slowest']:.0f} to {row['fastest']:.0f})"
        print(f"  {name:<26} {row['frames_per_s']:9.0f} frames/s {spread}, {row['to_peer']:.2f} x the peer")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
