"""A fly scan as a fast detector writes it: a file for each line, joined by external links of a master."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import hdf5plugin
import numpy as np

from beamhub_core.techniques import SPATIAL_MAP
from beamhub_reduction.synthetic import tree

CREATOR = "beamhub_reduction.synthetic"
DATA = "/entry/instrument/detector/data"


@dataclass(frozen=True, slots=True)
class FlyScanTruth:
    """What was planted. `centres` (n_lines, n_points, 2) are the spot's (y, x) in pixels on the grid of the
    sample, `totals` (n_lines, n_points) the exact counts; NaN and -1 where the scan ended before."""

    file: Path
    shape: tuple[int, int]
    snake: bool
    n_frames: int
    centres: np.ndarray[Any, np.dtype[np.float64]]
    totals: np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class FlyScanOptions:
    """How a fly scan is written; `positions` are those of the grid or of every frame, or there are none."""

    frame_shape: tuple[int, int] = (32, 32)
    snake: bool = False
    n_missing: int = 0
    joined: Literal["links", "virtual"] = "links"
    positions: Literal["grid", "frames", "none"] = "grid"


def write_fly_scan(
    folder: Path, *, seed: int, shape: tuple[int, int], options: FlyScanOptions = FlyScanOptions()
) -> FlyScanTruth:
    """Write master.h5 and a file for each line; `options.n_missing` frames at the end were never taken.

    The spot's centre follows a lens-like sample, its counts a second pattern; u16, bitshuffle-LZ4, a chunk
    a frame. The same seed gives the same frames.
    """
    n_lines, n_points = shape
    ny, nx = options.frame_shape
    n_frames = n_lines * n_points - options.n_missing
    random = np.random.default_rng(seed)
    line, point = np.indices(shape)
    centres = np.stack(
        [ny / 2 + ny / 8 * np.sin(line / 3), nx / 2 + nx / 8 * np.cos(point / 4)], axis=-1
    )  # fmt: skip
    counts = 20.0 + 10.0 * np.sin(line * point / 7)
    totals = np.full(shape, -1, dtype=np.int64)
    y, x = np.indices(options.frame_shape)
    files = []
    started_at = tree.measurement_time(seed)
    for i in range(n_lines):
        taken = range(i * n_points, min((i + 1) * n_points, n_frames))
        if not taken:
            break
        path = folder / f"line_{i:05d}.h5"
        with tree.begin_file(path, default="entry", started_at=started_at, creator=CREATOR) as file:
            data = file.create_dataset(
                DATA,
                (len(taken), ny, nx),
                np.uint16,
                chunks=(1, ny, nx),
                **hdf5plugin.Bitshuffle(cname="lz4"),
            )
            for k, _ in enumerate(taken):
                j = n_points - 1 - k if options.snake and i % 2 else k
                cy, cx = centres[i, j]
                spot = counts[i, j] * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * (ny / 10) ** 2))
                frame = random.poisson(spot).astype(np.uint16)
                totals[i, j] = int(frame.sum())
                data[k] = frame
        files.append((path, len(taken)))
    _write_master(folder / "master.h5", files, shape, options, started_at)
    centres[totals < 0] = np.nan
    return FlyScanTruth(folder / "master.h5", shape, options.snake, n_frames, centres, totals)


def _write_master(
    path: Path,
    files: list[tuple[Path, int]],
    shape: tuple[int, int],
    options: FlyScanOptions,
    started_at: Any,
) -> None:
    with tree.begin_file(path, default="entry", started_at=started_at, creator=CREATOR) as file:
        entry = tree.add_group(file, "entry", "NXentry")
        tree.add_fields(entry, title="fly scan", start_time=started_at.isoformat())
        tree.add_technique(entry, SPATIAL_MAP)
        instrument = tree.add_group(entry, "instrument", "NXinstrument")
        detector = tree.add_group(instrument, "detector", "NXdetector")
        if options.joined == "links":
            for i, (name, _) in enumerate(files, start=1):
                detector[f"data_{i:06d}"] = h5py.ExternalLink(name.name, DATA)
        else:
            whole = h5py.VirtualLayout((sum(n for _, n in files), *options.frame_shape), np.uint16)
            at = 0
            for name, n in files:
                whole[at : at + n] = h5py.VirtualSource(name.name, DATA, (n, *options.frame_shape))
                at += n
            detector.create_virtual_dataset("data", whole)
        if options.positions == "none":
            return
        motors = tree.add_group(entry, "data", "NXdata", axes=["samy", "samx"])
        lines, points = 0.5 * np.arange(shape[0]), 10.0 + 0.25 * np.arange(shape[1])
        if options.positions == "frames":
            at_line, at_point = (a.ravel() for a in np.indices(shape))
            backwards = options.snake & (at_line % 2 == 1)
            at_point = np.where(backwards, shape[1] - 1 - at_point, at_point)
            n = sum(n for _, n in files)
            lines, points = lines[at_line][:n], points[at_point][:n]
        tree.add_field(motors, "samy", lines, units="um")
        tree.add_field(motors, "samx", points, units="um")
