"""B3: projections of a tomography scan corrected, -log, 2 x 2 bins: ours, dask, h5py with NumPy, the disk.

All subjects do the same arithmetic (counts are binned before they are divided) and give the same numbers
to 1e-5. `volume` tables write every projection; the others give the mean projection only. Limits: the file's
bytes read into one reused buffer (cold: from the disk), and for a volume its bytes written and synced too.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
from side_by_side import Scale, alternate, forget_files, parse_arguments, read_through, report, write_json

import beamhub_reduction as br
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.progress import silent

DATA = "entry/instrument/detector/data"
REBIN = 2
N_FLATS = 20
GZIP_SHARE = 16
"""Packed with gzip everything takes several times as long, so the scan has fewer projections."""


def write_scan(path: Path, n: int, ny: int, nx: int, compression: str | None) -> None:
    """Darks, flats, n projections, flats: each frame with noise of its own."""
    random = np.random.default_rng(1)
    keys = np.array([2] * N_FLATS + [1] * N_FLATS + [0] * n + [1] * N_FLATS, np.int32)
    levels = {0: 9000, 1: 20000, 2: 100}
    with h5py.File(path, "w", libver=("v110", "v110")) as f:
        entry = f.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        instrument = entry.create_group("instrument")
        instrument.attrs["NX_class"] = "NXinstrument"
        detector = instrument.create_group("detector")
        detector.attrs["NX_class"] = "NXdetector"
        detector["image_key"] = keys
        sample = entry.create_group("sample")
        sample.attrs["NX_class"] = "NXsample"
        sample["rotation_angle"] = np.linspace(0, 180, len(keys))
        shape, chunks = (len(keys), ny, nx), (1, ny, nx)
        data = detector.create_dataset(
            "data",
            shape=shape,
            dtype="<u2",
            chunks=chunks,
            compression=compression,
            shuffle=bool(compression),
        )
        for i, key in enumerate(keys):
            data[i] = random.integers(0, 200, (ny, nx), dtype=np.uint16) + np.uint16(levels[int(key)])


def binned(frames: Any) -> Any:
    """Sums of 2 x 2 pixels, shape (..., ny / 2, nx / 2)."""
    return (
        frames[..., 0::2, 0::2] + frames[..., 0::2, 1::2] + frames[..., 1::2, 0::2] + frames[..., 1::2, 1::2]
    )


def references(f: h5py.File) -> tuple[Any, Any, Any, Any]:
    """(projection numbers, binned dark, binned flats before and behind, less the dark)."""
    keys = f["entry/instrument/detector/image_key"][()]
    flats, at = np.flatnonzero(keys == 1), np.flatnonzero(keys == 0)
    dark = binned(f[DATA][:N_FLATS].mean(axis=0, dtype=np.float32))
    before = binned(f[DATA][flats[0] : flats[N_FLATS - 1] + 1].mean(axis=0, dtype=np.float32)) - dark
    behind = binned(f[DATA][flats[N_FLATS] : flats[-1] + 1].mean(axis=0, dtype=np.float32)) - dark
    return at, dark, before, behind


def corrected(frames: Any, at: Any, references: tuple[Any, Any, Any, Any]) -> Any:
    """-log of the transmission of frames at the scan's positions."""
    numbers, dark, before, behind = references
    first, last = numbers[0] - (N_FLATS + 1) / 2, numbers[-1] + (N_FLATS + 1) / 2
    share = ((at - first) / (last - first)).astype(np.float32)[:, None, None]
    flat = before * (1 - share) + behind * share
    return -np.log(np.maximum((binned(frames.astype(np.float32)) - dark) / flat, np.float32(1e-6)))


def with_h5py(path: Path, out: Path | None) -> Any:
    """A loop over 16 frames at a time, as a careful person writes it."""
    with h5py.File(path) as f:
        found = references(f)
        total: Any = 0.0
        target = h5py.File(out, "w") if out else None
        shape = (len(found[0]), *found[1].shape)
        volume = target.create_dataset("data", shape=shape, dtype="f4") if target else None
        for low in range(0, len(found[0]), 16):
            at = found[0][low : low + 16]
            values = corrected(f[DATA][at[0] : at[-1] + 1], at, found)
            total = total + values.sum(axis=0, dtype=np.float64)
            if volume is not None:
                volume[low : low + 16] = values
        if target is not None:
            target.close()
        return total / len(found[0])


def with_dask(path: Path, out: Path | None, threads: int) -> Any:
    """from_array with chunks of 16 frames, threads, store."""
    with h5py.File(path) as f, dask.config.set(scheduler="threads", num_workers=threads):
        found = references(f)
        at = found[0]
        frames = da.from_array(f[DATA], chunks=(16, -1, -1))[at[0] : at[-1] + 1]
        numbers = da.from_array(at, chunks=(frames.chunks[0],))
        values = da.map_blocks(
            lambda block, n: corrected(block, n.ravel(), found), frames, numbers[:, None, None],
            dtype=np.float32, chunks=(frames.chunks[0], *((n,) for n in found[1].shape)),
        )  # fmt: skip
        mean = values.mean(axis=0, dtype=np.float64)
        if out is None:
            return mean.compute()
        with h5py.File(out, "w") as target:
            volume = target.create_dataset("data", shape=values.shape, dtype="f4")
            da.store(values, volume)
        return None


def ours(path: Path, out: Path | None, threads: int = 1) -> Any:
    """The step of this package."""
    if out is not None:
        out.unlink(missing_ok=True)
    result = br.open_run(path).reduce(
        "tomography", volume=out, rebin=REBIN, engine=Engine(threads=threads), progress=silent
    )
    return result.signal.values


def write_bytes(path: Path, n_bytes: int) -> None:
    """So many bytes written from one buffer and synced."""
    block = memoryview(np.ones(4 * 1024**2, np.uint8))
    with path.open("wb") as f:
        for _ in range(-(-n_bytes // len(block))):
            f.write(block)
        f.flush()
        os.fsync(f.fileno())


def peak_rss_gib(path: Path, out: Path) -> float:
    """The largest resident memory of a process that does nothing but our reduction with a volume."""
    out.unlink(missing_ok=True)
    code = (
        "import sys, beamhub_reduction as br; from beamhub_reduction.pipeline.progress import silent; "
        "br.open_run(sys.argv[1]).tomography(volume=sys.argv[2], rebin=2, progress=silent)"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(out)], check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2


def measure(folder: Path, arguments: Any, compression: str | None) -> list[dict[str, Any]]:
    """Warm and cold, with and without a volume, of one kind of storage."""
    n, size = (60, 256) if arguments.quick else (arguments.projections, arguments.size)
    if compression and not arguments.quick:
        n //= GZIP_SHARE
    path, out = folder / f"scan-{compression}.nxs", folder / "volume.nxs"
    write_scan(path, n, size, size, compression)
    volume_bytes = n * (size // REBIN) ** 2 * 4
    difference = np.nanmax(np.abs(ours(path, None) - with_h5py(path, None)))
    assert difference < 1e-5, difference
    gigabytes = (n + 3 * N_FLATS) * size * size * 2 / 1e9
    title = f"B3 {n} projections of {size} x {size} uint16, {compression or 'raw'}"
    tables = []
    for volume in (None, out):
        subjects = {
            "ours, one thread": lambda v=volume: ours(path, v),
            "ours, two threads": lambda v=volume: ours(path, v, 2),
            "dask.array, 1 thread": lambda v=volume: with_dask(path, v, 1),
            "dask.array, 2 threads": lambda v=volume: with_dask(path, v, 2),
            "h5py and NumPy, 16 frames at a time": lambda v=volume: with_h5py(path, v),
            "limit": lambda v=volume: (read_through([path]), v and write_bytes(v, volume_bytes)),
        }
        scale = Scale(gigabytes, "GB", peer="dask.array, 1 thread", limit="limit")
        for state in ("warm", "cold"):
            before = (lambda: forget_files([path])) if state == "cold" else None
            some = {k: w for k, w in subjects.items() if state == "warm" or k.startswith(("ours", "limit"))}
            of_state = scale if state == "warm" else Scale(gigabytes, "GB", limit="limit")
            times = alternate(some, repeats=arguments.repeats, before_each=before, warm_up=state == "warm")
            what = "volume" if volume else "mean projection"
            tables.append(report(f"{title}, {what}, {state}", times, of_state))
    rss = peak_rss_gib(path, out)
    print(f"  peak resident memory with a volume: {rss:.2f} GiB")
    tables.append({"title": f"{title}, peak resident memory", "unit": "GiB", "rows": [{"rate": rss}]})
    path.unlink()
    return tables


def main() -> None:
    """Print the tables and, with --json, write them."""
    arguments = parse_arguments(
        __doc__,
        projections={"type": int, "default": 1801},
        size={"type": int, "default": 1024},
        folder={"type": Path, "default": None, "help": "where the files are made (default: a temporary one)"},
    )
    tables = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for compression in (None, "gzip"):
            tables += measure(Path(folder), arguments, compression)
    write_json(arguments, tables)


if __name__ == "__main__":
    main()
