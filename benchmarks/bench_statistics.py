"""B2: statistics of each pixel over Eiger-4M frames, and counts of regions, u16 and u32.

Naive: h5py frame by frame with NumPy. Peer: positional reads, dectris-compression and NumPy. Limit:
1 / (decode + kernel), the same chunks read and decoded by dectris-compression alone, and the fixed loop of
reference_statistics.c. Counts of frames and regions come straight from the bit planes: 1.5 times decoding
alone is wanted. Ours runs on one thread.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from dectris.compression import decompress
from detector_data import DATA, EIGER_SHAPE, Stack, write_stack
from side_by_side import Scale, Subject, alternate, parse_arguments, report, write_json

import beamhub_reduction as br
from beamhub_reduction.pipeline import Engine
from beamhub_reduction.pipeline.frame_statistics import FrameStatisticsParameters, reduce_run_statistics
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.pipeline.step import Source

LIMIT_FRAMES = 64
DECODE, KERNEL = "limit: read and decode only", "limit: reference kernel alone"
REGIONS = ["spot=900:1100,1000:1200", "corner=0:500,0:500"]


def naive(path: Path) -> object:
    """What people write first."""
    with h5py.File(path) as file:
        data = file[DATA]
        return numpy_sums(data[i] for i in range(len(data)))


def numpy_sums(frames: object) -> object:
    """Sum, sum of squares, extremes, number of values with NumPy; the detector's largest value is none."""
    total = None
    for frame in frames:  # type: ignore[attr-defined]  # any iterable of frames
        if total is None:
            none = np.iinfo(frame.dtype).max
            total, square = np.zeros(frame.shape, np.int64), np.zeros(frame.shape, np.float64)
            n, least, most = np.zeros(frame.shape, np.uint32), frame.copy(), np.zeros_like(frame)
        good = frame != none
        values = np.where(good, frame, 0)
        total += values
        square += values.astype(np.float64) ** 2
        n += good
        np.minimum(least, frame, out=least)
        np.maximum(most, values, out=most)
    return total, square, n, least, most


def chunks(path: Path) -> list[tuple[int, int]]:
    """Offset and size of every chunk."""
    found: list[tuple[int, int]] = []
    with h5py.File(path) as file:
        file[DATA].id.chunk_iter(lambda c: found.append((c.byte_offset, c.size)))
    return found


def decoded(path: Path, where: list[tuple[int, int]], dtype: str) -> object:
    """Frames read and decoded one after the other."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for offset, size in where:
            raw = decompress(os.pread(descriptor, size, offset), "bslz4", elem_size=np.dtype(dtype).itemsize)
            yield np.frombuffer(raw, dtype=dtype).reshape(EIGER_SHAPE)
    finally:
        os.close(descriptor)


def decode_only(path: Path, where: list[tuple[int, int]], dtype: str) -> int:
    """The limit."""
    return sum(1 for _ in decoded(path, where, dtype))  # type: ignore[attr-defined, misc]  # a generator


def reference_kernel(dtype: str, folder: Path) -> Callable[[], None]:
    """The kernel term of the limit, compiled here for this machine; one call is LIMIT_FRAMES frames."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("the limit needs a C compiler (cc)")
    library, source = folder / "reference.so", Path(__file__).with_name("reference_statistics.c")
    flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
    call = getattr(ctypes.CDLL(str(library)), f"reference_{dtype}")
    call.argtypes, call.restype = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_void_p] * 5], None
    n_pixels = EIGER_SHAPE[0] * EIGER_SHAPE[1]
    tile = np.random.default_rng(1).poisson(20, (LIMIT_FRAMES, 2048)).astype(dtype)
    total, square = np.zeros(n_pixels, np.uint64), np.zeros(n_pixels, np.uint64)
    least, most, n = np.zeros(n_pixels, dtype), np.zeros(n_pixels, dtype), np.zeros(n_pixels, np.uint32)
    arrays = [total, square, least, most, n]

    def run() -> None:
        call(tile.ctypes.data, n_pixels, *[array.ctypes.data for array in arrays])

    return run


def ours(path: Path, **settings: object) -> object:
    """Our step on one thread, as `Run.frame_statistics` calls it."""
    parameters = FrameStatisticsParameters(**settings)
    return reduce_run_statistics(Source(str(path), DATA), parameters, Engine(threads=1))


def check(path: Path) -> None:
    """Ours and NumPy's are the same numbers."""
    found = br.open_run(path).frame_statistics(regions=REGIONS, progress=silent)
    by_name = {s.name: s.values for s in found.signals}
    total, _, n, _, _ = naive(path)  # type: ignore[misc]  # five arrays
    assert np.array_equal(by_name["sum"], total)
    assert np.array_equal(by_name["n_valid"], n)


def measure(folder: Path, n_frames: int, dtype: str, repeats: int) -> dict[str, object]:
    """One table."""
    stack: Stack = write_stack(folder, n_frames=n_frames, dtype=dtype, frames_per_file=n_frames)
    path = stack.files[0]
    where = chunks(path)
    check(path)
    subjects: dict[str, Subject] = {
        "naive: h5py and NumPy": lambda: naive(path),
        "peer: dectris-compression and NumPy": lambda: numpy_sums(decoded(path, where, dtype)),
        DECODE: lambda: decode_only(path, where, dtype),
        KERNEL: reference_kernel(dtype, folder),
        "ours: pixels and frames": lambda: ours(path),
        "ours: pixels, frames, regions": lambda: ours(path, regions=REGIONS),
        "ours: frames and regions only": lambda: ours(path, images=False, regions=REGIONS),
    }
    amounts = {KERNEL: LIMIT_FRAMES}
    times = alternate(subjects, repeats=repeats)
    limit = 1 / sum(times[name].median / amounts.get(name, n_frames) for name in (DECODE, KERNEL))
    scale = Scale(n_frames, "frame", "peer: dectris-compression and NumPy", limit, amounts)
    return report(f"B2 {dtype}, {n_frames} frames, {'real' if stack.real else 'synthetic'}", times, scale)


def main() -> None:
    """Run and print."""
    arguments = parse_arguments(
        __doc__, frames={"type": int, "default": None, "help": "frames of the stack (default 128, quick 4)"}
    )
    n_frames = arguments.frames or (4 if arguments.quick else 128)
    with tempfile.TemporaryDirectory() as folder:
        tables = [
            measure(Path(folder) / dtype, n_frames, dtype, arguments.repeats)
            for dtype in ("uint32", "uint16")
        ]
    write_json(arguments, tables)


if __name__ == "__main__":
    main()
