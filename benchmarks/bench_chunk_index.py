"""Storage chunks: the index, many small chunks, and one real Eiger frame on every rung of the ladder.

1. The index of 10^4, 10^5 and 10^6 chunks of one element: the time for each chunk has to stay the same.
2. Reading small bitshuffled frames (64 x 64 uint16): ours in one call, ours frame by frame, `dset[i]` of
   h5py, and the stored bytes read alone.
3. Decoding one Eiger-4M frame (the real one where --frame names it, else a drawn one): our kernel on each of
   its paths, dectris-compression, imagecodecs and h5py. The rate is in decoded bytes.
"""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from side_by_side import Scale, Subject, alternate, parse_arguments, report, write_json

from beamhub_reduction import kernels, storage_chunks_index
from beamhub_reduction.codecs import decode_chunk, decoders
from beamhub_reduction.hdf5_filters import Filter
from beamhub_reduction.nexus.guard import read_filters
from beamhub_reduction.storage_chunks import read_chunk_index, read_rows

DETECTOR = (2167, 2070)


def index_tables(folder: Path, sizes: tuple[int, ...], repeats: int) -> list[dict[str, Any]]:
    """One table for each number of chunks; the memory goes to the title."""
    tables = []
    for n in sizes:
        path = folder / f"index{n}.h5"
        with h5py.File(path, "w", libver="latest") as file:
            file.create_dataset("d", data=np.arange(n, dtype="<i4"), chunks=(1,))

        def build(path: Path = path) -> object:
            storage_chunks_index._cache = storage_chunks_index._IndexCache(storage_chunks_index.CACHE_BYTES)
            return read_chunk_index(str(path), "/d")

        def list_chunks(path: Path = path) -> object:
            with h5py.File(path, "r") as file:
                found: list[Any] = []
                file["d"].id.chunk_iter(found.append)
                return len(found)

        tracemalloc.start()
        index = read_chunk_index(str(path), "/d")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert index.numbers.size == n
        times = alternate(
            {"index": build, "h5py chunk_iter into a list": list_chunks}, repeats=repeats, warm_up=False
        )
        title = f"Index of {n} chunks ({index.memory_bytes / n:.0f} B kept, {peak / n:.0f} B peak for each)"
        tables.append(report(title, times, Scale(n, "chunk", limit="h5py chunk_iter into a list")))
        path.unlink()
    return tables


def small_chunks(folder: Path, n: int, repeats: int) -> dict[str, Any]:
    """Reading n small frames."""
    path = folder / "small.h5"
    values = np.random.default_rng(0).poisson(2, (n, 64, 64)).astype("<u2")
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("d", data=values, chunks=(1, 64, 64), **hdf5plugin.Bitshuffle())
    index = read_chunk_index(str(path), "/d")
    out = np.empty_like(values)

    def by_frame() -> None:
        for i in range(n):
            read_rows(index, i, i + 1, out=out[i : i + 1])

    def with_h5py() -> None:
        with h5py.File(path, "r") as file:
            data = file["d"]
            for i in range(n):
                out[i] = data[i]

    def stored_alone() -> None:
        descriptor = os.open(path, os.O_RDONLY)
        for offset, size in zip(index.offsets.tolist(), index.sizes.tolist(), strict=True):
            os.pread(descriptor, size, offset)
        os.close(descriptor)

    subjects: dict[str, Subject] = {
        "one call": lambda: read_rows(index, 0, n, out=out),
        "frame by frame": by_frame,
        "h5py, dset[i]": with_h5py,
        "stored bytes alone (pread from Python)": stored_alone,
    }
    times = alternate(subjects, repeats=repeats)
    assert (out == values).all()
    return report(f"{n} frames of 64 x 64 uint16", times, Scale(n, "frame", peer="h5py, dset[i]"))


def eiger_frame(given: Path | None, folder: Path) -> Path:
    """A file with entry/data/data of one Eiger-4M frame."""
    if given is not None:
        return given
    path = folder / "eiger.h5"
    frame = np.random.default_rng(0).poisson(2, (1, *DETECTOR)).astype("<u4")
    frame[:, 514:551] = 2**32 - 1
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "entry/data/data", data=frame, chunks=(1, *DETECTOR), **hdf5plugin.Bitshuffle(cname="lz4")
        )
    return path


def rungs(path: Path, repeats: int) -> dict[str, Any]:
    """Decoding one frame on every rung, from memory."""
    with h5py.File(path, "r", locking=False) as file:
        data = file["entry/data/data"]
        expected, filters = data[0], read_filters(data)
        stored = np.frombuffer(data.id.read_direct_chunk((0, 0, 0))[1], dtype=np.uint8)
        out = np.empty(expected.nbytes + 64, dtype=np.uint8)
        out = out[-int(out.ctypes.data) % 64 :][: expected.nbytes]
        subjects = {
            f"{name}": _decoding(path_name, name, stored, filters, (expected, out))
            for path_name in kernels.available_paths()
            for name in _names(path_name, filters)
        }
        subjects["h5py"] = lambda: data.read_direct(expected.reshape(1, *expected.shape))
        for name, work in subjects.items():
            out[:] = 0
            work()
            assert name == "h5py" or out.tobytes() == expected.tobytes(), name
        times = alternate(subjects, repeats=repeats)
        title = f"One Eiger-4M frame, {expected.nbytes / stored.nbytes:.1f} x packed, decoded"
        return report(title, times, Scale(expected.nbytes / 1e9, "GB", peer="dectris-compression"))


def _names(path: str, filters: tuple[Filter, ...]) -> list[str]:
    with kernels.using_path(path):
        return list(decoders(filters[-1].codec))


def _decoding(
    path: str, rung: str, stored: Any, filters: tuple[Filter, ...], frame: tuple[Any, Any]
) -> Subject:
    expected, out = frame

    def decode() -> None:
        with kernels.using_path(path):
            decode_chunk(
                stored, filters=filters, skipped=0, item_bytes=expected.itemsize, n_bytes=expected.nbytes,
                out=out, rung=rung,
            )  # fmt: skip

    return decode


def main() -> None:
    """Run the three parts."""
    arguments = parse_arguments(
        __doc__,
        frame={"type": Path, "default": None, "help": "a file with entry/data/data, one Eiger frame"},
        folder={"type": Path, "default": None, "help": "where the files go (default: a temporary folder)"},
    )
    sizes = (10_000, 20_000) if arguments.quick else (10_000, 100_000, 1_000_000)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        tables = index_tables(folder, sizes, arguments.repeats)
        tables.append(small_chunks(folder, 500 if arguments.quick else 20_000, arguments.repeats))
        tables.append(rungs(eiger_frame(arguments.frame, folder), 3 * arguments.repeats))
    write_json(arguments, tables)


if __name__ == "__main__":
    main()
