"""B4: 12 regions of a map of spectra (gzip + shuffle, a row a chunk): ours, h5py, dask, libdeflate.

Every subject gives the same exact counts; ours also the sum and the maximum spectrum, which h5py's loop gives
too when it is asked to (second line). Limit: the chunks read into reused buffers, inflated by libdeflate, and
unshuffled by the fixed loop of reference_unshuffle.c, in one thread and in two. Naive is h5py
row by row (more threads do not help HDF5) and dask.array with a row a task.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import imagecodecs
import numpy as np
from side_by_side import Scale, alternate, forget_files, parse_arguments, report, write_json

import beamhub_reduction as br
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.progress import silent

DATA = "entry/instrument/mca/data"
N_ROIS = 12


def write_map(path: Path, ny: int, nx: int, n_channels: int) -> None:
    """Peaks on a falling ground, a fresh Poisson draw for each spectrum, stored as HDF5's filters would."""
    random = np.random.default_rng(1)
    channels = np.arange(n_channels)
    expected = 0.5 + 3 * np.exp(-channels / 800)
    for i in range(N_ROIS):
        expected += 20 * np.exp(-((channels - regions(n_channels)[i].mean()) ** 2) / 200)
    with h5py.File(path, "w", libver=("v110", "v110")) as f:
        entry = f.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        instrument = entry.create_group("instrument")
        instrument.attrs["NX_class"] = "NXinstrument"
        detector = instrument.create_group("mca")
        detector.attrs["NX_class"] = "NXdetector"
        detector["live_time"] = random.uniform(0.9, 1, (ny, nx))
        detector["elapsed_time"] = np.ones((ny, nx))
        data = detector.create_dataset(
            "data", shape=(ny, nx, n_channels), dtype="<u4", chunks=(1, nx, n_channels),
            compression="gzip", compression_opts=1, shuffle=True,
        )  # fmt: skip
        for y in range(ny):
            row = random.poisson(expected, (nx, n_channels)).astype("<u4")
            planes = row.reshape(-1).view(np.uint8).reshape(-1, 4).T.tobytes()
            data.id.write_direct_chunk((y, 0, 0), imagecodecs.deflate_encode(planes, level=4))


def regions(n_channels: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(low, high) of 12 regions."""
    low = np.linspace(0.05, 0.9, N_ROIS) * n_channels
    return np.stack([low, low + n_channels / 50], axis=1).astype(np.int64)


def ours(path: Path, n_channels: int, threads: int = 1) -> Any:
    """The step of this package, with dead time, sum spectrum and maximum spectrum."""
    rois = [f"r{i}={a}:{b}" for i, (a, b) in enumerate(regions(n_channels))]
    return br.open_run(path).reduce(
        "xrf_map", rois=rois, roi_unit="channel", engine=Engine(threads=threads), progress=silent
    )


def with_h5py(path: Path, *, spectra: bool) -> Any:
    """Row by row, exact sums, dead time."""
    with h5py.File(path) as f:
        data = f[DATA]
        table = regions(data.shape[2])
        maps = np.empty((N_ROIS, *data.shape[:2]))
        total, top = np.zeros(data.shape[2], np.int64), np.zeros(data.shape[2], np.uint32)
        for y in range(len(data)):
            row = data[y]
            for i, (low, high) in enumerate(table):
                maps[i, y] = row[:, low:high].sum(axis=1, dtype=np.int64)
            if spectra:
                total += row.sum(axis=0, dtype=np.int64)
                np.maximum(top, row.max(axis=0), out=top)
        maps *= f["entry/instrument/mca/elapsed_time"][()] / f["entry/instrument/mca/live_time"][()]
        return maps, total, top


def with_dask(path: Path, threads: int) -> Any:
    """from_array with a row a task."""
    with h5py.File(path) as f, dask.config.set(scheduler="threads", num_workers=threads):
        data = da.from_array(f[DATA], chunks=(1, -1, -1))
        table = regions(data.shape[2])
        maps = da.stack([data[:, :, low:high].sum(axis=2, dtype=np.int64) for low, high in table])
        live = f["entry/instrument/mca/live_time"][()]
        return maps.compute() * (f["entry/instrument/mca/elapsed_time"][()] / live)


def fixed_unshuffle(folder: Path) -> Any:
    """The loop of reference_unshuffle.c: (source, elements, target) as addresses and a number."""
    library, source = folder / "reference_unshuffle.so", Path(__file__).with_name("reference_unshuffle.c")
    flags = ["-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, str(source), "-o", str(library)], check=True)
    call = ctypes.CDLL(str(library)).reference_unshuffle_4
    call.argtypes, call.restype = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p), None
    return call


def decode_only(path: Path, unshuffle: Any, threads: int) -> int:
    """Every chunk read, inflated and unshuffled, in buffers that each thread reuses."""
    with h5py.File(path) as f:
        data = f[DATA]
        n_bytes = int(np.prod(data.chunks)) * 4
        chunks: list[tuple[int, int]] = []
        data.id.chunk_iter(lambda c: chunks.append((c.byte_offset, c.size)))
    descriptor = os.open(path, os.O_RDONLY)

    def decode(part: list[tuple[int, int]]) -> None:
        stored = np.empty(max(size for _, size in chunks), np.uint8)
        planes, values = np.empty(n_bytes, np.uint8), np.empty(n_bytes, np.uint8)
        for offset, size in part:
            os.preadv(descriptor, [stored[:size]], offset)
            imagecodecs.deflate_decode(stored[:size], out=planes)
            unshuffle(planes.ctypes.data, n_bytes // 4, values.ctypes.data)

    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode, [chunks[i::threads] for i in range(threads)]))
    finally:
        os.close(descriptor)
    return len(chunks)


def compare(path: Path, n_channels: int) -> None:
    """Everybody gives the same numbers, or nothing is measured; maps to one rounding of their dead time."""
    maps, total, top = with_h5py(path, spectra=True)
    np.testing.assert_allclose(with_dask(path, 2), maps, rtol=1e-12)
    for threads in (1, 2):
        found = {signal.name: signal.values for signal in ours(path, n_channels, threads).signals}
        np.testing.assert_allclose(np.stack([found[f"r{i}"] for i in range(N_ROIS)]), maps, rtol=1e-12)
        np.testing.assert_array_equal(found["sum_spectrum"], total)
        np.testing.assert_array_equal(found["max_spectrum"], top)


def main() -> None:
    """Print the tables and, with --json, write them."""
    arguments = parse_arguments(
        __doc__,
        rows={"type": int, "default": 128, "help": "rows of the map; 512 for the whole of B4"},
        folder={"type": Path, "default": None, "help": "where the files are made (default: a temporary one)"},
    )
    ny, nx, n_channels = (4, 64, 1024) if arguments.quick else (arguments.rows, 512, 4096)
    tables = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "map.nxs"
        write_map(path, ny, nx, n_channels)
        compare(path, n_channels)
        loop = fixed_unshuffle(Path(folder))
        subjects = {
            "ours, one thread": lambda: ours(path, n_channels),
            "ours, two threads": lambda: ours(path, n_channels, 2),
            "h5py, row by row": lambda: with_h5py(path, spectra=False),
            "h5py, row by row, with spectra": lambda: with_h5py(path, spectra=True),
            "dask.array, 2 threads": lambda: with_dask(path, 2),
            "libdeflate and unshuffle only": lambda: decode_only(path, loop, 1),
            "libdeflate and unshuffle only, two threads": lambda: decode_only(path, loop, 2),
        }
        amount = ny * nx * n_channels * 4 / 1e9
        title = f"B4 {ny} x {nx} spectra of {n_channels} uint32, gzip + shuffle, {N_ROIS} regions"
        limit = "libdeflate and unshuffle only"
        scale = Scale(amount, "GB", peer="h5py, row by row", limit=limit)
        tables.append(report(f"{title}, warm", alternate(subjects, repeats=arguments.repeats), scale))
        some = {k: w for k, w in subjects.items() if k.startswith(("ours", "libdeflate"))}
        cold = alternate(
            some, repeats=arguments.repeats, before_each=lambda: forget_files([path]), warm_up=False
        )
        tables.append(report(f"{title}, cold", cold, Scale(amount, "GB", limit=limit)))
    write_json(arguments, tables)


if __name__ == "__main__":
    main()
