"""B1: one azimuthal curve for each frame of an Eiger 4M stack: full splitting, Poisson variance, bslz4.

Ours on one and two threads, reading included. Naive: dask.array over h5py, pyFAI's CSR integrator in each
task. Peers: bslz4_to_sparse with a CSC matrix (no variance), and direct chunks, dectris-compression and
pyFAI's CSC engine. Limit: 1 / (decode + kernel) of one core, warm: dectris-compression on chunks that lie in
memory, and the fixed loop of reference_kernel.c. Cold, the storage is a subject of its own. All subjects
alternate in one run; with the real Eiger frame in BEAMHUB_FACILITY_DATA the stack is drawn around it. Curves
are compared before anything is measured.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
import scipy.sparse
from bslz4_to_sparse import chunk2sparseCSC
from dectris.compression import decompress
from detector_data import EIGER_SHAPE, Stack, expected_counts, write_stack
from pyFAI.containers import ErrorModel
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator
from side_by_side import Scale, alternate, forget_files, parse_arguments, read_through, report, write_json

from beamhub_reduction.kernels.azimuthal_tiles import build_tiles
from beamhub_reduction.nexus import Geometry
from beamhub_reduction.pipeline.azimuthal import AzimuthalParameters, reduce_azimuthal
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.step import Source

PIXEL_M, DISTANCE_M, WAVELENGTH_ANGSTROM = 75e-6, 0.2, 1.0
KERNEL_TILE = 2048
LIMIT_FRAMES = 16
Curves = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Workload:
    """A stack and what everybody needs to integrate it."""

    stack: Stack
    bins: int

    @property
    def file(self) -> Path:
        """Its one file."""
        return self.stack.files[0]

    @cached_property
    def gaps(self) -> Any:
        """Pixels without data, True = gap."""
        return expected_counts(self.stack.shape)[1]

    @cached_property
    def geometry(self) -> Geometry:
        """The beam in the middle of the detector."""
        ny, nx = self.stack.shape
        return Geometry(DISTANCE_M, ny / 2 * PIXEL_M, nx / 2 * PIXEL_M, PIXEL_M, PIXEL_M, WAVELENGTH_ANGSTROM)

    def integrator(self) -> AzimuthalIntegrator:
        """pyFAI's integrator of that geometry."""
        geometry = self.geometry
        return AzimuthalIntegrator(
            geometry.distance_m, geometry.poni1_m, geometry.poni2_m, wavelength=WAVELENGTH_ANGSTROM * 1e-10,
            detector=Detector(PIXEL_M, PIXEL_M, max_shape=self.stack.shape),
        )  # fmt: skip

    @cached_property
    def solid_angle(self) -> Any:
        """Relative solid angle of each pixel."""
        return self.integrator().solidAngleArray(self.stack.shape)

    def engine(self, kind: str) -> Any:
        """pyFAI's engine with the matrix in it."""
        return self.integrator().setup_sparse_integrator(
            self.stack.shape,
            self.bins,
            mask=self.gaps.astype(np.int8),
            unit="q_nm^-1",
            split="full",
            algo=kind,
        )

    @cached_property
    def matrix(self) -> scipy.sparse.csr_matrix:
        """The sparse matrix (bins, pixels)."""
        engine = self.engine("CSR")
        parts = (np.array(engine.data), np.array(engine.indices), np.array(engine.indptr))
        return scipy.sparse.csr_matrix(parts, shape=(self.bins, self.gaps.size))

    @cached_property
    def chunks(self) -> list[bytes]:
        """Some chunks in memory."""
        with h5py.File(self.file) as file:
            data = file[self.stack.dataset]
            n = min(LIMIT_FRAMES, self.stack.n_frames)
            return [bytes(data.id.read_direct_chunk((i, 0, 0))[1]) for i in range(n)]


def ours(work: Workload, threads: int, *, every: int | None = 1) -> Curves:
    """Our step, as `Run.azimuthal` calls it."""
    parameters = AzimuthalParameters(
        bins=work.bins, every=every, mask=work.gaps, geometry=work.geometry, normalise=False
    )
    engine = Engine(threads=threads)
    reduced = reduce_azimuthal(Source(str(work.file), work.stack.dataset), parameters, engine)
    curves: Curves = reduced.signals[0].values
    return curves


def naive(work: Workload, n_frames: int) -> Curves:
    """What people write first: dask.array over h5py, pyFAI in each task."""
    integrator = work.integrator()

    def integrate(frames: Any) -> Curves:
        found = [
            integrator.integrate1d(
                frame, work.bins, unit="q_nm^-1", mask=work.gaps, method=("full", "csr", "cython"),
                error_model="poisson",
            ).intensity
            for frame in frames
        ]  # fmt: skip
        return np.stack(found)

    with h5py.File(work.file) as file:
        frames = dask.array.from_array(file[work.stack.dataset], chunks=(1, *work.stack.shape))[:n_frames]
        curves = frames.map_blocks(
            integrate, dtype=np.float32, chunks=(1, work.bins), drop_axis=[1, 2], new_axis=[1],
            meta=np.zeros((0, work.bins), np.float32),
        )  # fmt: skip
        # One thread: with two, pyFAI 2026.9 mixes the sums of frames in its one engine. It has OpenMP itself.
        found: Curves = curves.compute(scheduler="synchronous")
        return found


def sparse_peer(work: Workload) -> Callable[[int], Curves]:
    """bslz4_to_sparse: decoding and a CSC product in one call for each frame; intensities only."""
    dtype = np.dtype(work.stack.dtype)
    integrate = chunk2sparseCSC((~work.gaps).astype(np.uint8), work.matrix.tocsc(), dtype=dtype)
    norm = work.matrix @ work.solid_angle.ravel().astype(np.float64)
    nothing_above = min(int(np.iinfo(dtype).max), 2**31 - 1)

    def run(n_frames: int) -> Curves:
        curves = np.empty((n_frames, work.bins))
        with h5py.File(work.file) as file:
            data = file[work.stack.dataset]
            for i in range(n_frames):
                _, _, powder = integrate(data.id.read_direct_chunk((i, 0, 0))[1], nothing_above)
                curves[i] = powder / norm
        return curves

    return run


def pyfai_peer(work: Workload) -> Callable[[int], Curves]:
    """Direct chunks, dectris-compression, pyFAI's CSC engine."""
    engine = work.engine("CSC")
    dtype = np.dtype(work.stack.dtype)

    def run(n_frames: int) -> Curves:
        curves = np.empty((n_frames, work.bins))
        with h5py.File(work.file) as file:
            data = file[work.stack.dataset]
            for i in range(n_frames):
                raw = decompress(data.id.read_direct_chunk((i, 0, 0))[1], "bslz4", elem_size=dtype.itemsize)
                frame = np.frombuffer(raw, dtype=dtype).reshape(work.stack.shape)
                found = engine.integrate_ng(
                    frame, error_model=ErrorModel.POISSON, solidangle=work.solid_angle
                )
                curves[i] = found.intensity
        return curves

    return run


def decode_alone(work: Workload) -> None:
    """The decode term of the limit."""
    item_bytes = np.dtype(work.stack.dtype).itemsize
    for chunk in work.chunks:
        decompress(chunk, "bslz4", elem_size=item_bytes)


def reference_kernel(work: Workload, folder: Path) -> Callable[[], None]:
    """The kernel term of the limit, compiled here for this machine; one call is LIMIT_FRAMES frames."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("the limit needs a C compiler (cc)")
    library = folder / "reference_kernel.so"
    source = Path(__file__).with_name("reference_kernel.c")
    flags = ["-O3", "-march=native", "-ffast-math", "-mprefer-vector-width=512", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
    call = ctypes.CDLL(str(library)).reference_kernel
    call.argtypes = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_void_p] * 5]
    call.restype = None
    tiles = build_tiles(work.matrix, tile=KERNEL_TILE)
    frames = np.random.default_rng(1).poisson(20, (KERNEL_TILE, LIMIT_FRAMES)).astype(np.float32)
    bins, sums = tiles.run_bin.astype(np.uint16), np.zeros((work.bins, LIMIT_FRAMES), np.float32)
    arrays = [frames, bins, tiles.run_stop, tiles.offset, tiles.weight, sums]

    def run() -> None:
        pointers = [array.ctypes.data for array in arrays]
        call(pointers[0], bins.size, *pointers[1:])

    return run


def compare(work: Workload, peers: dict[str, Callable[[int], Curves]]) -> None:
    """Every subject gives the same curves, or nothing is measured."""
    n = min(2, work.stack.n_frames)
    expected = ours(work, 1)[:n]
    filled = np.isfinite(expected)
    for name, run in peers.items():
        found = run(n)
        np.testing.assert_allclose(found[filled], expected[filled], rtol=2e-5, atol=1e-6, err_msg=name)


def measure(work: Workload, folder: Path, arguments: Any) -> list[dict[str, Any]]:
    """The warm and the cold table of one workload."""
    stack = work.stack
    n, few = stack.n_frames, min(stack.n_frames, 4 if arguments.quick else 16)
    peers: dict[str, Callable[[int], Curves]] = {
        "naive: dask + h5py + pyFAI CSR": lambda n_frames: naive(work, n_frames),
        "peer: direct chunk + dectris + pyFAI CSC": pyfai_peer(work),
    }
    if stack.dtype in ("uint16", "uint32") and arguments.block_bytes == 8192:
        peers["best peer: bslz4_to_sparse CSC"] = sparse_peer(work)
    compare(work, peers)
    kernel = reference_kernel(work, folder)
    subjects: dict[str, Callable[[], object]] = {
        "ours, one thread": lambda: ours(work, 1),
        "ours, two threads": lambda: ours(work, 2),
        "ours, one thread, one curve of all": lambda: ours(work, 1, every=None),
        **{name: (lambda run=run: run(few)) for name, run in peers.items()},  # type: ignore[misc]  # late binding
        "limit: decode alone (dectris)": lambda: decode_alone(work),
        "limit: reference kernel alone": kernel,
    }
    amounts = dict.fromkeys(peers, float(few))
    amounts["limit: decode alone (dectris)"] = len(work.chunks)
    amounts["limit: reference kernel alone"] = LIMIT_FRAMES
    times = alternate(subjects, repeats=arguments.repeats)
    terms = [times[f"limit: {name}"].median / amounts[f"limit: {name}"]
             for name in ("decode alone (dectris)", "reference kernel alone")]  # fmt: skip
    limit = 1 / sum(terms)
    source = "real frame" if stack.real else "synthetic rings"
    kind = f"{n} frames {stack.shape[0]} x {stack.shape[1]} {stack.dtype} ({source}), {work.bins} bins"
    best = "best peer: bslz4_to_sparse CSC"
    peer = best if best in peers else "peer: direct chunk + dectris + pyFAI CSC"
    tables = [report(f"B1 warm, {kind}", times, Scale(n, "frame", peer=peer, limit=limit, amounts=amounts))]
    cold: dict[str, Callable[[], object]] = {
        "ours, one thread": subjects["ours, one thread"],
        "ours, two threads": subjects["ours, two threads"],
        "limit: read alone": lambda: read_through(stack.files),
    }
    times = alternate(cold, repeats=arguments.repeats, before_each=lambda: forget_files(stack.files))
    scale = Scale(n, "frame", limit="limit: read alone")
    return [*tables, report(f"B1 cold, {kind}", times, scale)]


def main() -> None:
    """Print the tables and, with --json, write them."""
    arguments = parse_arguments(
        __doc__,
        frames={"type": int, "default": None, "help": "frames of the stack (default 128, quick 8)"},
        dtype={"choices": ["uint16", "uint32"], "nargs": "+", "default": ["uint32", "uint16"]},
        shape={"type": int, "nargs": 2, "default": None, "help": "rows and columns (default Eiger 4M)"},
        block_bytes={"type": int, "default": 8192, "help": "bytes of a block of bitshuffle"},
        bins={"type": int, "default": 1000},
    )
    shape = tuple(arguments.shape or ((257, 515) if arguments.quick else EIGER_SHAPE))
    n_frames = arguments.frames or (8 if arguments.quick else 128)
    # Freed frames stay in the heap: dectris-compression's best setting, worth a millisecond a frame.
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 32 * 1024**2)
        libc.mallopt(-1, 1024**3)
    tables = []
    for dtype in arguments.dtype:
        with tempfile.TemporaryDirectory() as folder:
            stack = write_stack(
                Path(folder), n_frames=n_frames, dtype=dtype, shape=(shape[0], shape[1]),
                frames_per_file=n_frames, block_bytes=arguments.block_bytes,
            )  # fmt: skip
            tables += measure(Workload(stack, arguments.bins), Path(folder), arguments)
    write_json(arguments, tables)


if __name__ == "__main__":
    main()
