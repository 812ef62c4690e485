"""B6: XFEL pulses: per-cell offset and gain, mean image and pulse intensities, trains matched exactly.

Modules of (2, 512, 128) uint16, one frame a chunk, gzip, with constants for every memory cell, in one thread.
The peer is a loop over trains with EXtra-data, which matches trains and decompresses with zlib, and NumPy,
in a process of its own (HDF5 does not open a file twice with different locking). The limit is all chunks read
and decoded with libdeflate, without a correction. Bar: 5 times EXtra-data.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
from side_by_side import Scale, alternate, parse_arguments, report, write_json

from beamhub_reduction.nexus.xfel import find_run_files, read_xfel_run
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.step import Source, parse_parameters, step_kind
from beamhub_reduction.storage_chunks import open_descriptor, read_chunk_index
from beamhub_reduction.synthetic.xfel import XfelOptions, XfelTruth, write_xfel_run

PEER = """
import sys
import h5py
import numpy as np
from extra_data import RunDirectory

folder, constants, n_modules, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
with h5py.File(constants) as f:
    cells = [(f[f"module_{m}/offset"][()], f[f"module_{m}/gain"][()], f[f"module_{m}/bad_pixels"][()] == 0)
             for m in range(n_modules)]
sources = [f"SPB_DET_AGIPD1M-1/DET/{m}CH0:xtdf" for m in range(n_modules)]
run = RunDirectory(folder).select([(s, "image.*") for s in sources], require_all=True)
image, n_good, intensity = [0.0] * n_modules, [0] * n_modules, []
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


def peer(truth: XfelTruth, options: XfelOptions, out: Path) -> None:
    """The EXtra-data loop; its start of a process is part of it, half a second."""
    words = [str(truth.file.parent), str(truth.constants), str(options.n_modules), str(out)]
    subprocess.run([sys.executable, "-W", "ignore", "-c", PEER, *words], check=True, capture_output=True)


def ours(truth: XfelTruth) -> Any:
    """The step, in one thread."""
    kind = step_kind("xfel_pulses")
    chosen = parse_parameters(kind, {"constants": str(truth.constants)})
    return kind.reduce(Source(str(truth.file)), chosen, Engine(threads=1))


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


def decode_only(truth: XfelTruth) -> None:
    """Every chunk read and decoded into one buffer."""
    for frames in read_xfel_run(str(truth.file)).frames:
        target = frames.data.target
        index = read_chunk_index(target.file, target.path)
        buffer = bytearray(index.row_bytes)
        with open_descriptor(index.file) as descriptor:
            for offset, size in zip(index.offsets.tolist(), index.sizes.tolist(), strict=True):
                imagecodecs.deflate_decode(os.pread(descriptor, size, offset), out=buffer)


def main() -> None:
    """Write the run, compare the results, time."""
    arguments = parse_arguments(__doc__, trains={"type": int, "default": None, "help": "trains of the run"})
    options = XfelOptions(
        n_modules=2 if arguments.quick else 16, n_trains=arguments.trains or (2 if arguments.quick else 400),
        n_pulses=4 if arguments.quick else 64, n_sequences=2, missing=((1, 0),), shuffled=(1,),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="beamhub-bench-") as folder:
        truth = write_xfel_run(Path(folder) / "r0001", seed=1, options=options)
        n_frames = (options.n_trains - 1) * options.n_pulses * options.n_modules
        out = Path(folder) / "peer.npz"
        peer(truth, options, out)
        theirs, mine = np.load(out), ours(truth)
        np.testing.assert_allclose(mine.signals[0].values, theirs["image"], rtol=1e-4, atol=0.02)
        np.testing.assert_allclose(mine.signals[1].values, theirs["intensity"], rtol=1e-4)
        np.testing.assert_array_equal(mine.signals[1].axes[0].values, theirs["trains"])
        subjects = {
            "ours": lambda: ours(truth),
            "EXtra-data loop": lambda: peer(truth, options, out),
            "h5py loop, nothing matched": lambda: naive(truth, options),
            "limit: read and decode": lambda: decode_only(truth),
        }
        found = alternate(subjects, repeats=arguments.repeats)
        scale = Scale(n_frames, "frames", peer="EXtra-data loop", limit="limit: read and decode")
        size = f"{options.n_trains} trains of {options.n_pulses} pulses, {options.n_modules} modules"
        write_json(arguments, [report(f"{size}, one core", found, scale)])


if __name__ == "__main__":
    main()
