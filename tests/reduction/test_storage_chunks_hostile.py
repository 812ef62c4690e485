"""Files that are damaged, enormous or strange: a typed error or the right numbers, in bounded memory."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction import kernels, storage_chunks_index
from beamhub_reduction.bitshuffle import BITSHUFFLE
from beamhub_reduction.errors import FilesChanged, MemoryTooSmall
from beamhub_reduction.nexus import FileDamaged, UnsupportedLayout
from beamhub_reduction.storage_chunks import read_chunk_index, read_rows

BITSHUFFLED = dict(hdf5plugin.Bitshuffle(cname="lz4"))


@pytest.fixture(scope="module")
def eiger(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int, int, np.ndarray]:
    """(the bytes of a file of ten bitshuffled frames, place and size of the chunk of frame 4, the frames)."""
    values = np.random.default_rng(0).poisson(3, (10, 40, 33)).astype("<u4")
    path = tmp_path_factory.mktemp("eiger") / "a.h5"
    with h5py.File(path, "w") as f:
        data = f.create_dataset("d", data=values, chunks=(1, 40, 33), **BITSHUFFLED)
        info = data.id.get_chunk_info_by_coord((4, 0, 0))
    return path.read_bytes(), info.byte_offset, info.size, values


@given(data=st.data())
def test_any_damage_to_a_chunk_leaves_its_neighbours(
    tmp_path_factory: pytest.TempPathFactory, eiger: tuple[bytes, int, int, np.ndarray], data: st.DataObject
) -> None:
    whole, offset, size, values = eiger
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = offset + data.draw(st.integers(0, size - 4) | st.integers(0, 20))
        broken[at : at + 4] = struct.pack(">I", data.draw(st.integers(0, 2**32 - 1)))
    path = tmp_path_factory.mktemp("broken") / "a.h5"
    path.write_bytes(broken)
    index = read_chunk_index(str(path), "/d")
    outcomes = {}
    for way in kernels.available_paths():
        with kernels.using_path(way):
            rows = read_rows(index, 0, 10)
        others = np.delete(np.arange(10), 4)
        np.testing.assert_array_equal(rows.data[others], values[others])
        assert not rows.corrupt[others].any() and not rows.unwritten.any()
        assert rows.corrupt[4] == bool(rows.problems)
        outcomes[way] = b"" if rows.corrupt[4] else rows.data[4].tobytes()
    # Another LZ4 decoder lets a distance of 0 pass; what ours decodes, all decode.
    compiled = {found for way, found in outcomes.items() if way != "numpy"}
    assert len(compiled) <= 1 and compiled in (set(), {b""}, set(outcomes.values()))


def test_a_corrupt_tile_blanks_only_its_pixels(tmp_path: Path) -> None:
    values = np.arange(4 * 10 * 12, dtype="<u2").reshape(4, 10, 12) + 1
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        data = f.create_dataset("d", data=values, chunks=(2, 5, 7), **BITSHUFFLED)
        offset = data.id.get_chunk_info_by_coord((2, 5, 0)).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 12)
    rows = read_rows(read_chunk_index(str(path), "/d"), 1, 4)
    blank = np.zeros((3, 10, 12), dtype=bool)
    blank[1:, 5:, :7] = True
    np.testing.assert_array_equal(rows.blank(), blank)
    np.testing.assert_array_equal(rows.data[~blank], values[1:][~blank])
    assert rows.problems[0].chunk == (2, 5, 0)


def test_rows_go_into_the_callers_buffer_and_fill_values_into_what_was_never_written(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        data = f.create_dataset("d", (6, 4), ">i4", chunks=(2, 4), fillvalue=-7, **BITSHUFFLED)
        data[2:4] = 5
    out = np.zeros((8, 4), ">i4")
    rows = read_rows(read_chunk_index(str(path), "/d"), 1, 6, out=out)
    assert np.shares_memory(rows.data, out) and rows.data.shape == (5, 4)
    assert rows.data[:, 0].tolist() == [-7, 5, 5, -7, -7]
    assert rows.unwritten.tolist() == [True, False, False, True, True]
    for wrong in (np.zeros((8, 4), "<i4"), np.zeros((8, 5), ">i4"), np.zeros((2, 4), ">i4")):
        with pytest.raises(ValueError, match="do not go into"):
            read_rows(read_chunk_index(str(path), "/d"), 1, 6, out=wrong)


@pytest.mark.parametrize("where", ["chunked", "contiguous"])
def test_a_file_that_shrinks_has_changed_and_an_offset_past_the_end_is_corrupt(
    tmp_path: Path, where: str
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=np.arange(40000), chunks=(1000,) if where == "chunked" else None)
    index = read_chunk_index(str(path), "/d")
    far = storage_chunks_index.replace(index, offsets=index.offsets + 10**6)
    rows = read_rows(far, 0, 40000)
    assert rows.corrupt.all() and "file ends" in rows.problems[0].reason
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(FilesChanged):
        read_rows(index, 0, 40000)


def test_a_chunk_that_does_not_fit_the_memory_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as f:
        data = f.create_dataset("d", (1, 5, 1 << 29), "u1", chunks=(1, 5, 1 << 29), compression="gzip")
        data.id.write_direct_chunk((0, 0, 0), b"x" * 100, 0)
    with pytest.raises(MemoryTooSmall) as caught:
        read_rows(read_chunk_index(str(path), "/d"), 0, 1, memory_bytes=3 << 29)
    assert caught.value.n_bytes > 5 << 29 and caught.value.limit_bytes == 3 << 29
    code = (
        "import resource, sys\n"
        "from beamhub_reduction.errors import MemoryTooSmall\n"
        "from beamhub_reduction.storage_chunks import read_chunk_index, read_rows\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))\n"
        "try:\n    read_rows(read_chunk_index(sys.argv[1], '/d'), 0, 1)\n"
        "except MemoryTooSmall as error:\n    print(error)\n"
    )
    done = subprocess.run(  # this interpreter, with a limit of its own
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "GiB are allowed" in done.stdout


def test_thousands_of_chunks_of_one_element_are_read_and_kept_in_bounded_memory(tmp_path: Path) -> None:
    n = 20_000
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as f:
        data = f.create_dataset("d", (n,), "<i4", chunks=(1,))
        for i in range(0, n, 2):
            data.id.write_direct_chunk((i,), struct.pack("<i", i))
    index = read_chunk_index(str(path), "/d")
    assert index.numbers.size == n // 2 and index.memory_bytes < 40 * n
    rows = read_rows(index, 0, n)
    np.testing.assert_array_equal(rows.data[::2], np.arange(0, n, 2))
    assert rows.unwritten[1::2].all() and rows.good[::2].all()
    part = index.select(9_000, 9_010)
    assert part.numbers.size == 5 and np.shares_memory(part.offsets, index.offsets)


def test_the_indexes_that_are_kept_are_bounded_by_bytes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as f:
        for i in range(5):
            f.create_dataset(f"d{i}", data=np.arange(100), chunks=(1,))
    cache = storage_chunks_index._IndexCache(limit_bytes=12_000)
    for i in range(5):
        index = read_chunk_index(str(tmp_path / "a.h5"), f"/d{i}")
        cache.put((index.identity, index.file, index.dataset), index)
        assert cache.held_bytes <= 12_000
    assert cache.get((index.identity, index.file, "/d4")) is index
    assert cache.get((index.identity, index.file, "/d0")) is None


def test_many_files_are_read_with_few_descriptors(tmp_path: Path) -> None:
    indexes = []
    for i in range(60):
        with h5py.File(tmp_path / f"{i}.h5", "w") as f:
            f["d"] = np.full(10, i)
        indexes.append(read_chunk_index(str(tmp_path / f"{i}.h5"), "/d"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 8, hard))
    try:
        assert [int(read_rows(index, 3, 4).data[0]) for index in indexes] == list(range(60))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_filters_that_are_not_installed_or_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        for name, number, values in (("unknown", 32999, (1,)), ("wrong", BITSHUFFLE, (0, 4, 2, 0, 2))):
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk((4,))
            plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, values)
            space = h5py.h5s.create_simple((4,))
            h5py.h5d.create(f.id, name.encode(), h5py.h5t.STD_I32LE, space, plist)
    with pytest.raises(UnsupportedLayout, match="filter 32999"):
        read_chunk_index(str(path), "/unknown")


@pytest.mark.parametrize("options", [{"scaleoffset": 0}, {"compression": "lzf", "shuffle": True}])
def test_what_only_hdf5_decodes_is_read_by_it_and_says_so(tmp_path: Path, options: dict[str, Any]) -> None:
    values = np.arange(60, dtype="<i4").reshape(6, 10)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=values, chunks=(2, 5), **options)
        data = f.create_dataset("half", (6, 10), "<i4", chunks=(2, 5), **options)
        data[:2] = values[:2]
    index = read_chunk_index(str(path), "/d")
    assert index.way == "hdf5" and index.rung.startswith("HDF5 (filters")
    np.testing.assert_array_equal(read_rows(index, 1, 5).data, values[1:5])
    assert (
        read_rows(read_chunk_index(str(path), "/half"), 0, 4).unwritten.tolist() == [False] * 2 + [True] * 2
    )


def test_a_truncated_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=np.arange(4000), chunks=(100,))
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(FileDamaged):
        read_chunk_index(str(path), "/d")
