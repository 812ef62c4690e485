"""B7: a map from a fly scan of 400 files with 250 frames of 256 x 256, u16, bitshuffle-LZ4, a chunk a frame.

Naive: Dask with one task a frame (of a part of the frames, as a rate). Peer: an h5py loop over linked files,
frame by frame, with NumPy's sums. Ours reads the same master: total, two regions and the centre of mass. The
limit is the same chunks read and decoded by dectris-compression, without any sum. The time to plan (links
resolved, indices of all files read) is measured by itself, for a quarter of the files and for all.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import dask
import h5py
import hdf5plugin
import numpy as np
from dectris.compression import decompress
from detector_data import draw_frame, expected_counts, store_bitshuffle_lz4
from side_by_side import Scale, alternate, parse_arguments, report, write_json

import beamhub_reduction as br
from beamhub_reduction.nexus import NexusFile, read_frame_stack
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.pipeline.units import plan_frame_units

SHAPE = (256, 256)
DATA = "/entry/instrument/detector/data"
REGIONS = ["centre=96:160,96:160", "edge=0:32,0:256"]
N_DRAWS = 500


def write_scan(folder: Path, n_files: int, n_frames: int) -> Path:
    """Files of one line each and their master; N_DRAWS frames of noise, in another order in every file."""
    expected, gaps, _ = expected_counts(SHAPE)
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
                    (n_frames, *SHAPE),
                    np.uint16,
                    chunks=(1, *SHAPE),
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


def loop(master: Path) -> list[object]:
    """The peer: one dataset after the other, frame by frame."""
    found: list[object] = []
    with h5py.File(master) as file:
        detector = file["entry/instrument/detector"]
        for name in detector:
            data = detector[name]
            found += [sums(data[i]) for i in range(len(data))]
    return found


def naive(master: Path, n_tasks: int, per_file: int) -> object:
    """One Dask task a frame, for the first frames."""

    @dask.delayed  # type: ignore[untyped-decorator]  # dask
    def one(i: int) -> object:
        with h5py.File(master) as file:
            return sums(file[f"entry/instrument/detector/data_{i // per_file + 1:06d}"][i % per_file])

    return dask.compute(*[one(i) for i in range(n_tasks)], scheduler="threads", num_workers=1)


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


def plan_seconds(master: Path) -> float:
    """Processor time to resolve all links and read all indices, of a scan that was not read before."""
    began = time.process_time()
    with NexusFile(str(master)) as nexus:
        stack = read_frame_stack(nexus)
    plan_frame_units(stack, weights=np.ones(stack.n_frames))
    return time.process_time() - began


def main() -> None:
    """Run and print."""
    arguments = parse_arguments(
        __doc__,
        files={"type": int, "default": None, "help": "files (default 400, quick 4)"},
        frames={"type": int, "default": None, "help": "frames of a file (default 250, quick 10)"},
    )
    n_files, n_frames = (
        arguments.files or (4 if arguments.quick else 400),
        arguments.frames or (10 if arguments.quick else 250),
    )
    whole = n_files * n_frames
    n_tasks = min(whole, 1000)
    with tempfile.TemporaryDirectory() as folder:
        master = write_scan(Path(folder), n_files, n_frames)
        plan_s = plan_seconds(master)
        run = br.open_run(master)

        def ours() -> object:
            return run.fly_scan_map(scan_shape=(n_files, n_frames), regions=REGIONS, progress=silent)

        by_name = {s.name: s.values.ravel() for s in ours().signals}  # type: ignore[attr-defined]  # a Result
        expected = np.array(loop(master))
        assert np.array_equal(by_name["total_counts"], expected[:, 0])
        assert np.array_equal(by_name["counts_centre"], expected[:, 1])
        assert np.allclose(by_name["centre_x"], expected[:, 4] / expected[:, 0])
        times = alternate(
            {
                "naive: Dask, a task a frame": lambda: naive(master, n_tasks, n_frames),
                "peer: h5py loop and NumPy": lambda: loop(master),
                "limit: read and decode only": lambda: decode_only(master, n_files),
                "ours": ours,
            },
            repeats=arguments.repeats,
        )
        amounts = {"naive: Dask, a task a frame": n_tasks}
        scale = Scale(whole, "frame", "peer: h5py loop and NumPy", "limit: read and decode only", amounts)
        table = report(f"B7 {n_files} files of {n_frames} frames {SHAPE}, u16", times, scale)
        table["plan_s"] = plan_s
        with tempfile.TemporaryDirectory() as other:
            quarter = max(1, n_files // 4)
            table["plan_s_quarter"] = plan_seconds(write_scan(Path(other), quarter, n_frames))
        print(f"  plan: {table['plan_s']:.2f} s; of {quarter} files {table['plan_s_quarter']:.2f} s")
    write_json(arguments, [table])


if __name__ == "__main__":
    main()
