"""B6: XFEL pulses: per-cell offset and gain, mean image and pulse intensities, trains matched exactly.

Modules of (2, 512, 128) uint16, one frame a chunk, gzip, with constants for every memory cell, on one core
and on two. The peer is a loop over trains with EXtra-data, which matches trains and decompresses with zlib,
and NumPy, in processes of its own (HDF5 does not open a file twice with different locking); on two cores it
is two such loops, each over half of the modules. The limit is all chunks read and decoded with libdeflate,
without a correction. Bar: 5 times the EXtra-data loop.

The last table has what the loop does not: three gain stages, and curves over q.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
from side_by_side import Scale, alternate, parse_arguments, report, write_json

from beamhub_reduction.nexus.xfel import ModuleFrames, find_run_files, read_xfel_run
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.step import Source, parse_parameters, step_kind
from beamhub_reduction.storage_chunks import open_descriptor, read_chunk_index
from beamhub_reduction.synthetic.xfel import XfelOptions, XfelTruth, write_xfel_run

PEER = """
import sys
import h5py
import numpy as np
from extra_data import RunDirectory

folder, constants, n_modules, first, last, out = *sys.argv[1:3], *map(int, sys.argv[3:6]), sys.argv[6]
mine = range(first, last)
with h5py.File(constants) as f:
    cells = [(f[f"module_{m}/offset"][()], f[f"module_{m}/gain"][()], f[f"module_{m}/bad_pixels"][()] == 0)
             for m in mine]
everyone = [f"SPB_DET_AGIPD1M-1/DET/{m}CH0:xtdf" for m in range(n_modules)]
run = RunDirectory(folder).select([(s, "image.*") for s in everyone], require_all=True)
sources = [everyone[m] for m in mine]
run = run.select([(s, "image.*") for s in sources])
image, n_good, intensity = [0.0] * len(mine), [0] * len(mine), []
for train_id, data in run.trains():
    total = 0.0
    for m, source in enumerate(sources):
        found = data[source]
        offset, gain, good = (x[found["image.cellId"].ravel()] for x in cells[m])
        frames = np.where(good, (found["image.data"][:, 0].astype(np.float32) - offset) * gain, 0)
        image[m] = image[m] + frames.sum(axis=0, dtype=np.float64)
        n_good[m] = n_good[m] + good.sum(axis=0)
        total = total + frames.sum(axis=(1, 2), dtype=np.float64)
    intensity.append(total)
np.savez(out, image=np.array(image) / np.array(n_good), intensity=np.array(intensity), trains=run.train_ids)
"""


def peer(truth: XfelTruth, options: XfelOptions, out: Path, processes: int = 1) -> None:
    """EXtra-data loops, each over its share of the modules; the start of a process is part of it, 0.5 s."""
    n = options.n_modules
    borders = [n * i // processes for i in range(processes + 1)]
    running = []
    for i in range(processes):
        words = [str(truth.file.parent), str(truth.constants), str(n), str(borders[i]), str(borders[i + 1])]
        command = [sys.executable, "-W", "ignore", "-c", PEER, *words, f"{out}.{i}.npz"]
        running.append(subprocess.Popen(command))
    codes = [process.wait() for process in running]
    if any(codes):
        raise RuntimeError("the EXtra-data loop failed")


def ours(truth: XfelTruth, threads: int = 1, **chosen: Any) -> Any:
    """The step."""
    kind = step_kind("xfel_pulses")
    parameters = parse_parameters(kind, {"constants": str(truth.constants), **chosen})
    return kind.reduce(Source(str(truth.file)), parameters, Engine(threads=threads))


def naive(truth: XfelTruth, options: XfelOptions) -> None:
    """h5py frame by frame, module by module, without matching anything."""
    for path in find_run_files(str(truth.file)):
        with h5py.File(path, "r", locking=False) as f, h5py.File(truth.constants, "r", locking=False) as c:
            (name,) = f["INSTRUMENT/SPB_DET_AGIPD1M-1/DET"]
            module = int(name.partition("CH")[0])
            image = f[f"INSTRUMENT/SPB_DET_AGIPD1M-1/DET/{name}/image"]
            offset, gain = c[f"module_{module}/offset"][()], c[f"module_{module}/gain"][()]
            total = np.zeros(options.shape)
            for i, cell in enumerate(image["cellId"][()].tolist()):
                total += (image["data"][i, 0] - offset[cell]) * gain[cell]


def decode_only(truth: XfelTruth, threads: int = 1) -> None:
    """Every chunk read and decoded into one buffer of each thread."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode_file, read_xfel_run(str(truth.file)).frames))


def decode_file(frames: ModuleFrames) -> None:
    """All chunks of one file."""
    target = frames.data.target
    index = read_chunk_index(target.file, target.path)
    buffer = bytearray(index.row_bytes)
    with open_descriptor(index.file) as descriptor:
        for offset, size in zip(index.offsets.tolist(), index.sizes.tolist(), strict=True):
            imagecodecs.deflate_decode(os.pread(descriptor, size, offset), out=buffer)


def compare(truth: XfelTruth, options: XfelOptions, out: Path) -> None:
    """The peer's numbers are ours."""
    peer(truth, options, out)
    theirs, mine = np.load(f"{out}.0.npz"), ours(truth)
    np.testing.assert_allclose(mine.signals[0].values, theirs["image"], rtol=1e-4, atol=0.02)
    np.testing.assert_allclose(mine.signals[1].values, theirs["intensity"], rtol=1e-4)
    np.testing.assert_array_equal(mine.signals[1].axes[0].values, theirs["trains"])


def on_cores(truth: XfelTruth, options: XfelOptions, out: Path, cores: int, repeats: int) -> dict[str, Any]:
    """The table of one or two cores."""
    loop, limit = f"EXtra-data loop, {cores} processes", f"limit: read and decode, {cores} threads"
    subjects: dict[str, Any] = {
        "ours": lambda: ours(truth, cores),
        loop: lambda: peer(truth, options, out, cores),
        limit: lambda: decode_only(truth, cores),
    }
    amounts = {limit: count(options, everything=True)}
    if cores == 1:
        naively = "h5py loop, nothing matched"
        subjects[naively] = lambda: naive(truth, options)
        amounts[naively] = amounts[limit]
    else:
        subjects["EXtra-data loop, 1 process"] = lambda: peer(truth, options, out)
    found = alternate(subjects, repeats=repeats)
    size = f"{options.n_trains} trains of {options.n_pulses} pulses, {options.n_modules} modules"
    scale = Scale(count(options), "frames", peer=loop, limit=limit, amounts=amounts)
    return report(f"{size}, {cores} core(s)", found, scale)


def with_stages(folder: Path, options: XfelOptions, repeats: int) -> dict[str, Any]:
    """The table of what the peer does not do."""
    few = replace(options, n_modules=2, n_stages=3)
    truth = write_xfel_run(folder, seed=1, options=few)
    limit = "limit: read and decode"
    subjects = {
        "three gain stages": lambda: ours(truth),
        "three gain stages, curves over q": lambda: ours(truth, geometry=str(truth.geometry)),
        limit: lambda: decode_only(truth),
    }
    scale = Scale(count(few), "frames", limit=limit, amounts={limit: count(few, everything=True)})
    return report("gain stages, 2 modules, 1 core", alternate(subjects, repeats=repeats), scale)


def count(options: XfelOptions, *, everything: bool = False) -> float:
    """Frames of the trains that all modules have, or of all; one module lacks one train."""
    o = options
    n = o.n_trains * o.n_modules - 1 if everything else (o.n_trains - 1) * o.n_modules
    return float(n * o.n_pulses)


def main() -> None:
    """Write the runs, compare the results, time."""
    arguments = parse_arguments(
        __doc__, trains={"type": int, "default": None, "help": "trains of the run"},
        modules={"type": int, "default": None, "help": "modules of the run"},
    )  # fmt: skip
    quick = arguments.quick
    options = XfelOptions(
        n_modules=arguments.modules or (2 if quick else 8), n_trains=arguments.trains or (2 if quick else 12),
        n_pulses=4 if quick else 64, n_sequences=2, missing=((1, 0),), shuffled=(1,),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="beamhub-bench-") as folder:
        truth = write_xfel_run(Path(folder) / "r0001", seed=1, options=options)
        out = Path(folder) / "peer"
        compare(truth, options, out)
        tables = [on_cores(truth, options, out, cores, arguments.repeats) for cores in (1, 2)]
        tables.append(with_stages(Path(folder) / "staged", options, arguments.repeats))
        write_json(arguments, tables)


if __name__ == "__main__":
    main()
