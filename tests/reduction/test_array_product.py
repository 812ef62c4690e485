"""An array larger than memory: its chunks in any order, the file whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.array_product import ArrayLayout, array_file, write_chunks, write_counts
from beamhub_reduction.errors import ProductExists, ProductNotWritten, StorageFull
from beamhub_reduction.nexus.frames import FrameStack
from beamhub_reduction.pipeline.tomography_plan import plan_projections
from examples import few

LAYOUT = ArrayLayout("entry/data/values", (37, 21, 10), (8, 4, 10))


def nothing(file: h5py.File) -> None:
    """No metadata."""


def chunked(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """All chunks of an array of LAYOUT in the order of the grid, padded with NaN."""
    padded = np.full((40, 24, 10), np.nan, np.float32)
    padded[:37, :21] = values
    return padded.reshape(5, 8, 6, 4, 10).transpose(0, 2, 1, 3, 4).reshape(30, 8, 4, 10)


@contextmanager
def at_most(n_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond this size: what a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_chunks_written_in_any_order_are_the_array_that_hdf5_reads(tmp_path: Path) -> None:
    values = np.arange(37 * 21 * 10, dtype=np.float32).reshape(LAYOUT.shape)
    chunks = chunked(values)
    with array_file(tmp_path / "out.nxs", LAYOUT, head=nothing, counts=("entry/n",)) as span:
        assert not (tmp_path / "out.nxs").exists()
        for first in (20, 0, 10, 20):  # a unit that is done twice does no harm
            write_chunks(span, first, chunks[first : first + 10])
        write_counts(span, {"entry/n": 77})
    assert [path.name for path in tmp_path.iterdir()] == ["out.nxs"]
    with h5py.File(tmp_path / "out.nxs") as f:
        np.testing.assert_array_equal(f[LAYOUT.dataset][()], values)
        assert f["entry/n"][()] == 77
        assert f[LAYOUT.dataset].chunks == LAYOUT.chunk_shape


def test_an_error_inside_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError, match="unknown"),
        array_file(tmp_path / "out.nxs", LAYOUT, head=nothing, counts=()) as span,
    ):
        write_counts(span, {"unknown": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_that_name_is_never_replaced_not_even_one_made_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "out.nxs"
    with pytest.raises(ProductExists), array_file(path, LAYOUT, head=nothing, counts=()):
        path.write_text("mine")
    with pytest.raises(ProductExists), array_file(path, LAYOUT, head=nothing, counts=()):
        raise AssertionError("the name was taken")
    assert path.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_met_before_any_work_and_leaves_nothing(tmp_path: Path) -> None:
    room = os.statvfs(tmp_path)
    huge = ArrayLayout("data", (room.f_bavail * room.f_frsize // 2**18 + 1000, 256, 256), (1, 256, 256))
    with pytest.raises(StorageFull), array_file(tmp_path / "out.nxs", huge, head=nothing, counts=()):
        raise AssertionError("there is no room")
    with (
        at_most(20_000),
        pytest.raises(StorageFull),
        array_file(tmp_path / "out.nxs", LAYOUT, head=nothing, counts=()),
    ):
        raise AssertionError("there is no room")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_and_wrong_chunks_are_refused(tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "out.nxs"
    with pytest.raises(ProductNotWritten), array_file(absent, LAYOUT, head=nothing, counts=()):
        raise AssertionError("there is no folder")
    with array_file(tmp_path / "out.nxs", LAYOUT, head=nothing, counts=()) as span:
        for first, shape in ((29, (2, 8, 4, 10)), (-1, (1, 8, 4, 10)), (0, (1, 4, 8, 10))):
            with pytest.raises(ValueError, match="not of this array"):
                write_chunks(span, first, np.zeros(shape, np.float32))


@given(
    n=st.integers(1, 60), per_chunk=st.integers(1, 9), ny=st.integers(1, 7), rows=st.integers(1, 4),
    target=st.integers(1, 400),
)  # fmt: skip
@few(20)
def test_two_units_never_write_the_same_rows(n: int, per_chunk: int, ny: int, rows: int, target: int) -> None:
    rows, per_chunk = min(rows, ny), min(per_chunk, n)
    stack = FrameStack("f.h5", "/entry", "/entry/detector", (ny, 2), "<u2", (), n, None)
    numbers = np.arange(n, dtype=np.int64)
    units = plan_projections(stack, numbers, weights=np.ones(n), per_chunk=per_chunk, target_bytes=target)
    layout = ArrayLayout("d", (n, ny, 2), (per_chunk, rows, 2))
    wanted = np.concatenate([np.full(unit.stop - unit.first, float(i)) for i, unit in enumerate(units)])
    written = np.zeros(layout.n_chunks, np.int64)
    with TemporaryDirectory() as folder:
        with array_file(Path(folder, "out.h5"), layout, head=nothing, counts=()) as span:
            for i, unit in reversed(list(enumerate(units))):
                for first in range(unit.first, unit.stop, per_chunk):
                    values = np.full((layout.grid[1], *layout.chunk_shape), float(i), np.float32)
                    at = layout.first_chunk(first)
                    written[at : at + layout.grid[1]] += 1
                    write_chunks(span, at, values)
        with h5py.File(Path(folder, "out.h5")) as f:
            found = f["d"][()]
    assert (written == 1).all()
    assert (found == wanted[:, np.newaxis, np.newaxis]).all()


def test_a_block_that_begins_inside_a_chunk_is_refused() -> None:
    assert LAYOUT.first_chunk(8) == 6
    for row in (1, 9, 40, -8):
        with pytest.raises(ValueError, match="no storage chunk"):
            LAYOUT.first_chunk(row)
