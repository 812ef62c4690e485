"""The check of a product against what was planted: plain h5py and numpy, nothing of ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # registers the filter that the raw frames are written with
import numpy as np

SENTINEL = 2**32 - 1
assert hdf5plugin is not None


def count_raw(detector_files: list[Path], data_path: str, mask: np.ndarray) -> tuple[int, int]:
    """(frames, counts over the pixels that the mask leaves) of raw detector files, exact."""
    frames, counts = 0, 0
    for path in detector_files:
        with h5py.File(path, "r", locking=False) as file:
            for frame in file[data_path]:
                counts += int(frame[(mask == 0) & (frame != SENTINEL)].sum(dtype=np.int64))
                frames += 1
    return frames, counts


def peak_offsets(x: np.ndarray, y: np.ndarray, planted: list[float]) -> list[float]:
    """For each planted peak inside the axis, how far the measured one is from it, in the axis' unit.

    A peak's place is the centroid, above the local background, of the window that reaches half way to
    its neighbours, at most 2 % of the axis to each side.
    """
    offsets = []
    half = 0.01 * (x[-1] - x[0])
    inside = [p for p in planted if x[0] + half < p < x[-1] - half]
    for p in inside:
        others = [abs(p - other) / 2 for other in planted if other != p]
        reach = min([half, *others])
        window = (x > p - reach) & (x < p + reach) & np.isfinite(y)
        if window.sum() < 5:
            continue
        xs, ys = x[window], y[window]
        above = np.clip(ys - np.percentile(ys, 20), 0, None)
        top = above > 0.5 * above.max()
        offsets.append(float(np.average(xs[top], weights=above[top]) - p))
    return offsets


def read_product(path: Path) -> dict[str, Any]:
    """The product's curve, statistics and provenance."""
    with h5py.File(path, "r", locking=False) as file:
        data = file["entry/data"]
        axis = data.attrs["axes"]
        axis = axis[0] if not isinstance(axis, str | bytes) else axis
        axis = axis.decode() if isinstance(axis, bytes) else axis
        statistics = {name: int(value[()]) for name, value in file["entry/process/statistics"].items()}
        provenance = file["entry/process/provenance/data"][()]
        return {
            "x": data[axis][()].astype(float),
            "y": data[data.attrs["signal"]][()].astype(float),
            "axis": axis,
            "statistics": statistics,
            "provenance": json.loads(provenance),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
