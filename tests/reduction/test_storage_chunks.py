"""Reading storage chunks gives what HDF5 gives, or says what it could not read."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.errors import CorruptChunk, FilesChanged
from beamhub_reduction.nexus import FileDamaged, NodeMissing, UnsupportedLayout, preview_image
from beamhub_reduction.storage_chunks import read_chunk_index, read_rows
from examples import few

FILTERS: dict[str, dict[str, Any]] = {
    "raw": {},
    "gzip": {"compression": "gzip"},
    "gzip and shuffle": {"compression": "gzip", "shuffle": True},
    "bitshuffle": dict(hdf5plugin.Bitshuffle(cname="lz4")),
    "lzf": {"compression": "lzf"},
    "zstd": dict(hdf5plugin.Zstd()),
    "fletcher": {"fletcher32": True},
}


@few(60)
@given(
    data=st.data(), name=st.sampled_from(sorted(FILTERS)), dtype=st.sampled_from(["u1", "<u2", ">u4", "<f8"])
)
def test_any_rows_of_any_dataset_are_those_of_hdf5(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str, dtype: str
) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start, shape[0]))
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    path = tmp_path_factory.mktemp("rows") / "a.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("g/d", data=values, chunks=chunks, **FILTERS[name])
    index = read_chunk_index(str(path), "/g/d")
    rows = read_rows(pickle.loads(pickle.dumps(index.select(start, stop))), start, stop)  # noqa: S301
    np.testing.assert_array_equal(rows.data, values[start:stop])
    assert rows.good.all() and rows.problems == ()
    assert index.way == ("hdf5" if name == "lzf" else "direct")
    assert (index.reason == "") == (index.way == "direct")


def test_contiguous_and_compact_datasets_and_user_blocks_are_read(tmp_path: Path) -> None:
    values = np.arange(60, dtype="<i4").reshape(10, 6)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=512) as f:
        f["plain"] = values
        f.create_dataset("chunked", data=values, chunks=(3, 4), compression="gzip")
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((10, 6))
        h5py.h5d.create(f.id, b"compact", h5py.h5t.STD_I32LE, space, plist).write(
            h5py.h5s.ALL, h5py.h5s.ALL, values
        )
    for name, way in (("/plain", "direct"), ("/chunked", "direct"), ("/compact", "hdf5")):
        index = read_chunk_index(str(path), name)
        assert index.way == way, index.reason
        np.testing.assert_array_equal(read_rows(index, 2, 9).data, values[2:9])


def test_the_filter_mask_of_each_chunk_is_honoured(tmp_path: Path) -> None:
    values = np.arange(8, dtype="<u4")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        data = f.create_dataset("d", (2, 8), "<u4", chunks=(1, 8), shuffle=True, compression="gzip")
        data[0] = values
        data.id.write_direct_chunk((1, 0), values.tobytes(), 0b11)
    rows = read_rows(read_chunk_index(str(path), "/d"), 0, 2)
    np.testing.assert_array_equal(rows.data, [values, values])


def test_chunks_that_were_never_written_are_not_zeros(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        data = f.create_dataset("d", (4, 2, 6), "<u4", chunks=(1, 2, 3), fillvalue=5)
        data[0] = 1
        data[2, :, :3] = 1
        f.create_dataset("none", (4, 2), "<u4")
    rows = read_rows(read_chunk_index(str(path), "/d"), 0, 4)
    assert rows.unwritten.tolist() == [False, True, True, True]
    assert not rows.corrupt.any()
    assert read_rows(read_chunk_index(str(path), "/none"), 0, 4).unwritten.all()


def corrupt_one_chunk(path: Path, name: str, i_chunk: int) -> None:
    with h5py.File(path, "r") as f:
        info = f[name].id.get_chunk_info(i_chunk)
    with path.open("r+b") as raw:
        raw.seek(info.byte_offset + 12)
        raw.write(b"\xff" * 8)


@pytest.mark.parametrize("name", ["bitshuffle", "gzip", "fletcher"])
def test_a_corrupt_chunk_is_named_and_its_neighbours_are_read(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(0).poisson(5, (6, 50, 40)).astype("<u4")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=values, chunks=(1, 50, 40), **FILTERS[name])
    corrupt_one_chunk(path, "d", 3)
    rows = read_rows(read_chunk_index(str(path), "/d"), 1, 6)
    assert rows.corrupt.tolist() == [False, False, True, False, False]
    (problem,) = rows.problems
    assert (problem.path, problem.dataset, problem.chunk[0]) == (str(path), "/d", 3)
    np.testing.assert_array_equal(rows.data[rows.good], values[1:][rows.good])
    copy = pickle.loads(pickle.dumps(problem))  # noqa: S301
    assert isinstance(copy, CorruptChunk) and str(copy) == str(problem)


def test_a_file_cut_after_its_index_was_read_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("d", data=np.arange(4000), chunks=(100,))
    index = read_chunk_index(str(path), "/d")
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(FilesChanged) as caught:
        read_rows(index, 0, 4000)
    assert caught.value.path == str(path)


def test_the_index_is_kept_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f["d"] = np.arange(3)
    first = read_chunk_index(str(path), "/d")
    assert read_chunk_index(str(path), "/d") is first
    with h5py.File(path, "a") as f:
        f["e"] = 1
    assert read_chunk_index(str(path), "/d") is not first


def test_what_is_no_array_of_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f["text"] = ["a", "b"]
        f["scalar"] = 1
        f.create_dataset("outside", (4,), "u1", external=[("/etc/hostname", 0, 4)])
    for name in ("/text", "/scalar", "/outside"):
        with pytest.raises(UnsupportedLayout):
            read_chunk_index(str(path), name)
    with pytest.raises(NodeMissing):
        read_chunk_index(str(path), "/absent")


@pytest.mark.parametrize("length", [0, 0x00FFFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", ["lz4", "zstd"])
def test_a_lying_block_length_is_an_error_where_hdf5_would_end_the_process(
    tmp_path: Path, kind: str, length: int
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        f.create_group("e/data").attrs["NX_class"] = "NXdata"
        f["e"].attrs["NX_class"] = "NXentry"
        data = f.create_dataset(
            "e/data/data", data=np.random.default_rng(0).poisson(5, (2, 50, 400)).astype("<u4"),
            chunks=(1, 50, 400), **hdf5plugin.Bitshuffle(cname=kind),
        )  # fmt: skip
        offset = data.id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset + 12)
        raw.write(length.to_bytes(4, "big"))
    with pytest.raises(FileDamaged, match=r"storage chunk \(0, 0, 0\)"):
        preview_image(path)
    index = read_chunk_index(str(path), "/e/data/data")
    assert index.way == "direct"
    assert read_rows(index, 0, 2).corrupt.tolist() == [True, False]
