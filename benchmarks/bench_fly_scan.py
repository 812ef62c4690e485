"""B7: a map from a fly scan of 400 files with 250 frames of 256 x 256, u16, bitshuffle-LZ4, a chunk a frame.

Ours reads the master of links: total, two regions and the centre of mass. Beside it, on the first files, as
rates: Dask as people use it, one task a frame, on a local cluster and (`from_array`) on threads; Dask at its
best, one task a file; an h5py loop, frame by frame, with NumPy's sums. The limit is the same chunks read and
decoded by dectris-compression, without any sum.

The plan (links resolved, the chunk indices of all files read) is measured by itself, of 100, 400 and 1600
files with as many chunks and small frames: what it takes for each file has to stay the same.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import hdf5plugin
import numpy as np
from dask.distributed import Client, LocalCluster
from dectris.compression import decompress
from detector_data import draw_frame, expected_counts, store_bitshuffle_lz4
from side_by_side import Scale, Subject, alternate, parse_arguments, report, write_json

import beamhub_reduction as br
from beamhub_reduction import storage_chunks_index
from beamhub_reduction.nexus import NexusFile, read_frame_stack
from beamhub_reduction.pipeline import Engine
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.pipeline.units import plan_frame_units

SHAPE = (256, 256)
DATA = "/entry/instrument/detector/data"
REGIONS = ["centre=96:160,96:160", "edge=0:32,0:256"]
N_DRAWS = 500
PEER_FILES = 40
"""Of so many files the others are measured; their rate does not depend on it."""
NAIVE, PEER, LIMIT = (
    "naive: Dask cluster, a task a frame",
    "peer: h5py loop and NumPy",
    "limit: read and decode only",
)


def write_scan(folder: Path, n_files: int, n_frames: int, shape: tuple[int, int] = SHAPE) -> Path:
    """Files of one line each and their master; N_DRAWS frames of noise, in another order in every file."""
    expected, gaps, _ = expected_counts(shape)
    n_draws = min(N_DRAWS, n_files * n_frames)
    drawn = [store_bitshuffle_lz4(draw_frame(expected, gaps, dtype="uint16", seed=i)) for i in range(n_draws)]
    random = np.random.default_rng(1)
    with h5py.File(folder / "master.h5", "w") as master:
        entry = master.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        instrument = entry.create_group("instrument")
        instrument.attrs["NX_class"] = "NXinstrument"
        detector = instrument.create_group("detector")
        detector.attrs["NX_class"] = "NXdetector"
        for number in range(1, n_files + 1):
            name = f"line_{number:05d}.h5"
            with h5py.File(folder / name, "w", libver="latest") as file:
                data = file.create_dataset(
                    DATA,
                    (n_frames, *shape),
                    np.uint16,
                    chunks=(1, *shape),
                    **hdf5plugin.Bitshuffle(cname="lz4"),
                )
                for i, k in enumerate(random.integers(0, n_draws, n_frames)):
                    data.id.write_direct_chunk((i, 0, 0), drawn[k])
            detector[f"data_{number:06d}"] = h5py.ExternalLink(name, DATA)
    return folder / "master.h5"


def sums(frame: np.ndarray) -> tuple[int, int, int, int, int]:  # type: ignore[type-arg]  # any integers
    """What is mapped, with NumPy."""
    values = np.where(frame == 65535, 0, frame).astype(np.int64)
    rows, columns = values.sum(axis=1), values.sum(axis=0)
    return (
        int(rows.sum()), int(values[96:160, 96:160].sum()), int(values[:32].sum()),
        int(rows @ np.arange(256)), int(columns @ np.arange(256)),
    )  # fmt: skip


def block_sums(frames: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]  # any integers
    """The same of a block of frames, (n, 5)."""
    values = np.where(frames == 65535, 0, frames).astype(np.int64)
    rows, columns = values.sum(axis=2), values.sum(axis=1)
    return np.stack(
        [
            rows.sum(axis=1), values[:, 96:160, 96:160].sum(axis=(1, 2)), values[:, :32].sum(axis=(1, 2)),
            rows @ np.arange(256), columns @ np.arange(256),
        ],
        axis=1,
    )  # fmt: skip


def loop(master: Path, n_files: int) -> list[object]:
    """The peer: one dataset after the other, frame by frame."""
    found: list[object] = []
    with h5py.File(master) as file:
        detector = file["entry/instrument/detector"]
        for number in range(1, n_files + 1):
            data = detector[f"data_{number:06d}"]
            found += [sums(data[i]) for i in range(len(data))]
    return found


def naive(master: Path, n_files: int, per_task: int | None, **how: object) -> object:
    """dask.array over the first datasets, one task for each storage chunk, or for `per_task` frames."""
    with h5py.File(master) as file:
        detector = file["entry/instrument/detector"]
        datasets = [detector[f"data_{number:06d}"] for number in range(1, n_files + 1)]
        arrays = [da.from_array(d, chunks=(per_task or d.chunks[0], *d.shape[1:])) for d in datasets]
        mapped = [
            a.map_blocks(block_sums, drop_axis=2, chunks=(a.chunks[0], (5,)), dtype="i8") for a in arrays
        ]
        return da.concatenate(mapped).compute(**how)


def read_one(path: str, i: int) -> object:
    """What one task of a cluster does."""
    with h5py.File(path) as file:
        return block_sums(file[DATA][i : i + 1])


def naive_cluster(client: Client, master: Path, n_tasks: int, per_file: int) -> object:
    """One future a frame; a worker opens the file of its frame, because datasets do not travel."""
    names = [str(master.with_name(f"line_{i // per_file + 1:05d}.h5")) for i in range(n_tasks)]
    futures = [client.submit(read_one, n, i % per_file, pure=False) for i, n in enumerate(names)]  # type: ignore[no-untyped-call]
    return client.gather(futures)  # type: ignore[no-untyped-call]  # distributed has no types


def decode_only(master: Path, n_files: int) -> None:
    """The limit: every chunk read and decoded."""
    for number in range(1, n_files + 1):
        path = master.with_name(f"line_{number:05d}.h5")
        where: list[tuple[int, int]] = []
        with h5py.File(path) as file:
            file[DATA].id.chunk_iter(lambda c, to=where: to.append((c.byte_offset, c.size)))
        descriptor = os.open(path, os.O_RDONLY)
        for offset, size in where:
            decompress(os.pread(descriptor, size, offset), "bslz4", elem_size=2)
        os.close(descriptor)


def plan(master: Path) -> None:
    """Resolve all links and read all indices, of a scan that was not read before."""
    storage_chunks_index._cache = storage_chunks_index._IndexCache(storage_chunks_index.CACHE_BYTES)
    with NexusFile(str(master)) as nexus:
        stack = read_frame_stack(nexus)
    plan_frame_units(stack, weights=np.ones(stack.n_frames))


def plan_table(sizes: tuple[int, ...], n_frames: int, repeats: int) -> dict[str, Any]:
    """Plans of scans of several sizes, as files per second."""
    with tempfile.TemporaryDirectory() as name:
        masters = {}
        for n_files in sizes:
            folder = Path(name, str(n_files))
            folder.mkdir()
            masters[f"plan of {n_files} files"] = write_scan(folder, n_files, n_frames, (16, 16))
        times = alternate({n: lambda m=m: plan(m) for n, m in masters.items()}, repeats=repeats)
    amounts = dict(zip(times, map(float, sizes), strict=True))
    middle = f"plan of {sizes[1]} files"
    table = report(
        f"B7 plan, {n_frames} chunks a file (1.0 x peer is linear)", times,
        Scale(sizes[1], "file", middle, amounts=amounts),
    )  # fmt: skip
    for n, found in times.items():
        print(f"  {n}: {found.median:.2f} s by the clock, {found.median_processor:.2f} s of the processor")
    return table


def map_table(n_files: int, n_frames: int, repeats: int) -> dict[str, Any]:
    """The map, by everybody."""
    whole = n_files * n_frames
    few = min(n_files, PEER_FILES)
    n_tasks = min(whole, 1000)
    n_cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        master = write_scan(Path(folder), n_files, n_frames)
        run = br.open_run(master)

        def ours(threads: int) -> Any:
            return run.reduce(
                "fly_scan_map", scan_shape=(n_files, n_frames), regions=REGIONS, progress=silent,
                engine=Engine(threads=threads),
            )  # fmt: skip

        by_name = {s.name: s.values.ravel()[: few * n_frames] for s in ours(n_cores).signals}
        expected = np.array(loop(master, few))
        assert np.array_equal(by_name["total_counts"], expected[:, 0])
        assert np.array_equal(by_name["counts_centre"], expected[:, 1])
        assert np.allclose(by_name["centre_x"], expected[:, 4] / expected[:, 0])
        assert np.array_equal(naive(master, few, n_frames, scheduler="threads"), expected)
        n_naive = max(1, min(few, n_tasks // n_frames))
        with LocalCluster(
            processes=False, n_workers=1, threads_per_worker=n_cores, dashboard_address=None
        ) as own:  # type: ignore[no-untyped-call]
            client = Client(own)  # type: ignore[no-untyped-call]  # distributed has no types
            threads = {"scheduler": "threads", "num_workers": n_cores}
            subjects: dict[str, Subject] = {
                NAIVE: lambda: naive_cluster(client, master, n_tasks, n_frames),
                "Dask threads, a task a frame": lambda: naive(master, n_naive, None, **threads),
                "Dask threads, a task a file": lambda: naive(master, few, n_frames, **threads),
                PEER: lambda: loop(master, few),
                LIMIT: lambda: decode_only(master, few),
                "ours, 1 thread": lambda: ours(1),
                f"ours, {n_cores} threads": lambda: ours(n_cores),
            }
            times = alternate(subjects, repeats=repeats)
            client.close()  # type: ignore[no-untyped-call]
    amounts = dict.fromkeys((*subjects,), float(few * n_frames))
    amounts |= {name: float(whole) for name in subjects if name.startswith("ours")}
    amounts |= {NAIVE: float(n_tasks), "Dask threads, a task a frame": float(n_naive * n_frames)}
    scale = Scale(whole, "frame", PEER, LIMIT, amounts)
    table = report(f"B7 {n_files} files of {n_frames} frames {SHAPE}, u16", times, scale)
    rate = {row["name"]: row["rate"] for row in table["rows"]}
    table["to_naive"] = rate[f"ours, {n_cores} threads"] / rate[NAIVE]
    used = {name: found.median_processor / scale.of(name) for name, found in times.items()}
    table["processor_us_per_frame"] = {name: 1e6 * seconds for name, seconds in used.items()}
    print(f"  ours is {table['to_naive']:.1f} x the naive one (20 is wanted)")
    for name, seconds in used.items():
        print(f"  {name:<44} {1e6 * seconds:8.1f} us of the processor a frame")
    return table


def main() -> None:
    """Run and print."""
    arguments = parse_arguments(
        __doc__,
        files={"type": int, "default": None, "help": "files (default 400, quick 8)"},
        frames={"type": int, "default": None, "help": "frames of a file (default 250, quick 40)"},
    )
    n_files = arguments.files or (8 if arguments.quick else 400)
    n_frames = arguments.frames or (40 if arguments.quick else 250)
    sizes = (10, 20, 40) if arguments.quick else (100, 400, 1600)
    tables = [plan_table(sizes, n_frames, arguments.repeats)]
    tables.append(map_table(n_files, n_frames, arguments.repeats))
    write_json(arguments, tables)


if __name__ == "__main__":
    main()
