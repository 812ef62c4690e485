"""Stacks of large detector frames for benchmarks, every frame another draw of noise.

With the real Eiger 4M frame (BEAMHUB_FACILITY_DATA) each copy is a fresh Poisson draw around it, its gaps as
they are; without it, Poisson noise around rings. Identical copies would flatter every decoder.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import imagecodecs
import numpy as np

EIGER_SHAPE = (2167, 2070)
REAL_FRAME = "eiger4m_frame_bitshuffle.h5"
DATA = "/entry/data/data"
Frame = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Stack:
    """A written stack: its files in order, and what is in each."""

    files: tuple[Path, ...]
    dataset: str
    n_frames: int
    shape: tuple[int, int]
    dtype: str
    stored_bytes: int
    real: bool


def expected_counts(shape: tuple[int, int] = EIGER_SHAPE) -> tuple[Frame, Frame, bool]:
    """(expected counts float64, gaps bool, whether they come from the real frame); shape (ny, nx)."""
    folder = os.environ.get("BEAMHUB_FACILITY_DATA")
    path = Path(folder, REAL_FRAME) if folder else None
    if path is not None and path.exists() and shape == EIGER_SHAPE:
        with h5py.File(path) as file:
            frame = file[DATA][0]
        gaps = frame == np.iinfo(frame.dtype).max
        return np.where(gaps, 0, frame).astype(np.float64), gaps, True
    y, x = np.indices(shape)
    radius = np.hypot(y - shape[0] * 0.48, x - shape[1] * 0.51)
    counts = 1.0 + 30.0 * np.exp(-(((radius % 150) - 75) ** 2) / 60)
    gaps = ((y % 551) > 513) | ((x % 1040) > 1029)
    return counts, gaps, False


def draw_frame(expected: Frame, gaps: Frame, *, dtype: str, seed: int) -> Frame:
    """One frame: Poisson counts, the type's largest value in gaps."""
    random = np.random.default_rng(seed)
    # Normal where the mean is large: the same noise, drawn ten times faster.
    large = expected > 50
    frame = random.poisson(np.where(large, 0, expected)).astype(np.float64)
    frame[large] = np.rint(np.maximum(0, random.normal(expected[large], np.sqrt(expected[large]))))
    largest = np.iinfo(dtype).max
    counts = np.minimum(frame, largest - 1).astype(dtype)
    counts[gaps] = largest
    return counts


def store_bitshuffle_lz4(frame: Frame, *, block_bytes: int = 8192) -> bytes:
    """A frame as HDF5's bitshuffle filter with LZ4 stores it. Source: bitshuffle, bshuf_h5filter.c."""
    raw = frame.tobytes()
    size = frame.dtype.itemsize
    out = [len(raw).to_bytes(8, "big"), block_bytes.to_bytes(4, "big")]
    whole = len(raw) // (8 * size) * (8 * size)
    for at in range(0, whole, block_bytes):
        block = raw[at : min(at + block_bytes, whole)]
        shuffled = imagecodecs.bitshuffle_encode(block, itemsize=size, blocksize=len(block) // size)
        packed = imagecodecs.lz4_encode(bytes(shuffled))
        out += [len(packed).to_bytes(4, "big"), packed]
    out.append(raw[whole:])
    return b"".join(out)


def write_stack(
    folder: Path,
    *,
    n_frames: int,
    dtype: str = "uint32",
    shape: tuple[int, int] = EIGER_SHAPE,
    frames_per_file: int = 128,
    block_bytes: int = 8192,
) -> Stack:
    """Frames of `shape`, one bitshuffle-LZ4 chunk each, in files as a detector's writer makes them."""
    expected, gaps, real = expected_counts(shape)
    folder.mkdir(parents=True, exist_ok=True)

    def stored(i: int) -> bytes:
        frame = draw_frame(expected, gaps, dtype=dtype, seed=i)
        return store_bitshuffle_lz4(frame, block_bytes=block_bytes)

    files, total = [], 0
    with ThreadPoolExecutor(2) as pool:
        for number, first in enumerate(range(0, n_frames, frames_per_file), start=1):
            n = min(frames_per_file, n_frames - first)
            path = folder / f"data_{number:06d}.h5"
            with h5py.File(path, "w", libver="latest") as file:
                data = file.create_dataset(
                    DATA, shape=(n, *shape), dtype=dtype, chunks=(1, *shape),
                    **hdf5plugin.Bitshuffle(nelems=block_bytes // np.dtype(dtype).itemsize, cname="lz4"),
                )  # fmt: skip
                for i, chunk in enumerate(pool.map(stored, range(first, first + n))):
                    data.id.write_direct_chunk((i, 0, 0), chunk)
                    total += len(chunk)
            files.append(path)
    return Stack(tuple(files), DATA, n_frames, shape, dtype, total, real)
