"""Virtual datasets of tiles, strides, endless and numbered sources give what HDF5 gives, and never zeros."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction.nexus import (
    LinkMissing,
    NexusFile,
    Target,
    UnsupportedLayout,
    read_frame_stack,
    read_layout,
)
from beamhub_reduction.nexus.tiles import read_run
from beamhub_reduction.nexus.virtual import read_plain
from beamhub_reduction.pipeline.frames import frame_batches
from beamhub_reduction.pipeline.units import plan_frame_units
from examples import few

UNLIMITED = h5py.h5s.UNLIMITED


def values_of(path: Path, name: str = "/data") -> np.ndarray[Any, Any]:
    return read_plain(read_layout(Target(str(path), name), roots=None))


def write_source(path: Path, shape: tuple[int, ...], first: int = 0, **options: Any) -> None:
    with h5py.File(path, "w") as f:
        data = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape) + np.uint32(first)
        f.create_dataset("data", data=data, **options)


def write_virtual(path: Path, layout: h5py.VirtualLayout) -> Path:
    with h5py.File(path, "w") as f:
        f.create_virtual_dataset("data", layout)
    return path


def add_endless(path: Path, names: tuple[bytes, bytes], into: Any, taken: Any) -> None:
    """A virtual dataset whose first axis has no end; `into` and `taken` are (shape, select arguments)."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    spaces = []
    for shape, selected in (into, taken):
        space = h5py.h5s.create_simple(shape, tuple(UNLIMITED if n == 0 else n for n in shape))
        space.select_hyperslab(*selected)
        spaces.append(space)
    plist.set_virtual(spaces[0], *names, spaces[1])
    whole = h5py.h5s.create_simple((0, *into[0][1:]), (UNLIMITED, *into[0][1:]))
    with h5py.File(path, "a") as f:
        h5py.h5d.create(f.id, b"data", h5py.h5t.NATIVE_UINT32, whole, plist)


def frames_of(path: Path) -> np.ndarray[Any, Any]:
    """All frames as a step gets them."""
    with NexusFile(path) as nexus:
        stack = read_frame_stack(nexus, "/data")
    units = plan_frame_units(stack, weights=np.ones(stack.n_frames))
    batches = [b.data.copy() for u in units for b in frame_batches(u, shape=stack.shape, corrupt="fail")]
    through_hdf5 = [
        read_run(run, shape=stack.shape, dtype=stack.dtype, n_frames=run.n_rows) for run in stack.present
    ]
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(through_hdf5))
    return np.concatenate(batches)


@few(30)
@given(data=st.data())
def test_any_product_of_runs_gives_what_hdf5_gives(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("product")
    count, step, whole_step = (
        tuple(data.draw(st.integers(1, 3)) for _ in range(3)),
        tuple(data.draw(st.integers(1, 3)) for _ in range(3)),
        tuple(data.draw(st.integers(1, 3)) for _ in range(3)),
    )
    extra = data.draw(st.booleans())
    write_source(folder / "s.h5", tuple(n * k + 1 for n, k in zip(count, step, strict=True)))
    shape = tuple(n * k + 1 for n, k in zip(count, whole_step, strict=True))
    layout = h5py.VirtualLayout((2, *shape) if extra else shape, np.uint32)
    source = h5py.VirtualSource(
        folder / "s.h5", "data", tuple(n * k + 1 for n, k in zip(count, step, strict=True))
    )
    taken = tuple(slice(0, n * k, k) for n, k in zip(count, step, strict=True))
    into = tuple(slice(1, 1 + n * k, k) for n, k in zip(count, whole_step, strict=True))
    layout[(1, *into) if extra else into] = source[taken]
    path = write_virtual(folder / "v.h5", layout)
    with h5py.File(path) as f:
        expected = f["data"][:]
    found = read_layout(Target(str(path), "/data"), roots=None)
    out = np.zeros_like(expected)
    for slab in found.slabs:
        with h5py.File(slab.file) as f:
            box = tuple(slice(a, a + n) for a, n in zip(slab.source, slab.source_shape, strict=True))
            place = tuple(slice(a, a + n) for a, n in zip(slab.at, slab.shape, strict=True))
            out[place] = f[slab.dataset][box].reshape(slab.shape)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("n_modules", [8, 16])
def test_modules_make_one_image_and_the_gaps_between_them_hold_no_counts(
    tmp_path: Path, n_modules: int
) -> None:
    layout = h5py.VirtualLayout((5, n_modules * 6, 7), np.uint32)
    for m in range(n_modules):
        write_source(tmp_path / f"m{m}.h5", (5, 4, 7), first=1000 * m, chunks=(2, 4, 7), compression="gzip")
        layout[:, 6 * m : 6 * m + 4, :] = h5py.VirtualSource(f"m{m}.h5", "data", (5, 4, 7))
    path = write_virtual(tmp_path / "v.h5", layout)
    with h5py.File(path) as f:
        expected = f["data"][:]
    frames = frames_of(path)
    gaps = np.tile(np.arange(n_modules * 6) % 6 >= 4, (7, 1)).T
    np.testing.assert_array_equal(frames[:, ~gaps], expected[:, ~gaps])
    assert (frames[:, gaps] == 2**32 - 1).all()


def test_modules_along_an_axis_of_their_own_lie_below_each_other(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((5, 3, 4, 7), np.uint32)
    for m in range(3):
        write_source(tmp_path / f"m{m}.h5", (5, 4, 7), first=1000 * m)
        layout[:, m] = h5py.VirtualSource(f"m{m}.h5", "data", (5, 4, 7))
    path = write_virtual(tmp_path / "v.h5", layout)
    with h5py.File(path) as f:
        expected = f["data"][:].reshape(5, 12, 7)
    np.testing.assert_array_equal(frames_of(path), expected)


def test_a_module_that_ends_early_or_is_gone_takes_its_frames_with_it(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((5, 8, 7), np.uint32)
    for m, n in enumerate((5, 3)):
        write_source(tmp_path / f"m{m}.h5", (n, 4, 7))
        layout[:n, 4 * m : 4 * m + 4] = h5py.VirtualSource(f"m{m}.h5", "data", (n, 4, 7))
    path = write_virtual(tmp_path / "v.h5", layout)
    with NexusFile(path) as nexus:
        stack = read_frame_stack(nexus, "/data")
        assert (stack.n_present, stack.n_missing, stack.missing) == (3, 2, ())
        (tmp_path / "m1.h5").unlink()
        stack = read_frame_stack(nexus, "/data")
    assert (stack.n_present, len(stack.missing)) == (0, 1)
    with pytest.raises(LinkMissing):
        values_of(path)


def test_frames_of_interleaved_writers_and_of_grids_come_in_order(tmp_path: Path) -> None:
    interleaved = h5py.VirtualLayout((11, 4, 7), np.uint32)
    for w in range(3):
        n = len(range(w, 11, 3))
        write_source(tmp_path / f"w{w}.h5", (n, 4, 7), first=10_000 * w)
        interleaved[w::3] = h5py.VirtualSource(f"w{w}.h5", "data", (n, 4, 7))
    path = write_virtual(tmp_path / "interleaved.h5", interleaved)
    with h5py.File(path) as f:
        np.testing.assert_array_equal(frames_of(path), f["data"][:])
    grid = h5py.VirtualLayout((3, 5, 4, 7), np.uint32)
    write_source(tmp_path / "line.h5", (16, 4, 7), chunks=(2, 4, 7))
    source = h5py.VirtualSource("line.h5", "data", (16, 4, 7))
    for row in range(3):
        grid[row] = source[1 + 5 * row : 6 + 5 * row]
    path = write_virtual(tmp_path / "grid.h5", grid)
    with h5py.File(path) as f:
        expected = f["data"][:]
    np.testing.assert_array_equal(values_of(path), expected)
    np.testing.assert_array_equal(frames_of(path), expected.reshape(15, 4, 7))


@pytest.mark.parametrize("chunks", [(1, 1, 4, 7), (1, 5, 2, 7), (3, 5, 4, 3), None, (1, 2, 4, 7)])
def test_a_plain_grid_scan_is_its_frames_one_behind_the_other(
    tmp_path: Path, chunks: tuple[int, ...] | None
) -> None:
    write_source(tmp_path / "a.h5", (3, 5, 4, 7), chunks=chunks)
    if chunks == (1, 2, 4, 7):
        with pytest.raises(UnsupportedLayout, match="storage chunks"):
            frames_of(tmp_path / "a.h5")
    else:
        np.testing.assert_array_equal(frames_of(tmp_path / "a.h5").ravel(), np.arange(420))


def test_an_endless_mapping_reaches_as_far_as_its_source(tmp_path: Path) -> None:
    whole = ((0, 4, 7), ((0, 0, 0), (UNLIMITED, 1, 1), (1, 1, 1), (1, 4, 7)))
    add_endless(tmp_path / "v.h5", (b"s.h5", b"data"), whole, whole)
    with NexusFile(tmp_path / "v.h5") as nexus, pytest.raises(LinkMissing):
        raise read_frame_stack(nexus, "/data").missing[0]
    for n in (3, 8):
        write_source(tmp_path / "s.h5", (n, 4, 7), maxshape=(None, 4, 7))
        np.testing.assert_array_equal(values_of(tmp_path / "v.h5").ravel(), np.arange(n * 28))


def test_endless_interleaved_writers_end_with_the_last_frame(tmp_path: Path) -> None:
    path = tmp_path / "v.h5"
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    for w, n in enumerate((3, 2)):
        write_source(tmp_path / f"w{w}.h5", (n, 2, 2), first=100 * w, maxshape=(None, 2, 2))
        into, taken = (h5py.h5s.create_simple((0, 2, 2), (UNLIMITED, 2, 2)) for _ in range(2))
        into.select_hyperslab((w, 0, 0), (UNLIMITED, 1, 1), (2, 1, 1), (1, 2, 2))
        taken.select_hyperslab((0, 0, 0), (UNLIMITED, 1, 1), (1, 1, 1), (1, 2, 2))
        plist.set_virtual(into, f"w{w}.h5".encode(), b"data", taken)
    whole = h5py.h5s.create_simple((0, 2, 2), (UNLIMITED, 2, 2))
    with h5py.File(path, "w") as f:
        h5py.h5d.create(f.id, b"data", h5py.h5t.NATIVE_UINT32, whole, plist)
    assert values_of(path)[:, 0, 0].tolist() == [0, 100, 4, 104, 8]
    with h5py.File(path) as f:
        assert f["data"][:, 0, 0].tolist() == [0, 100, 4, 104, 8]


def test_numbered_sources_end_at_the_last_and_a_hole_is_an_error(tmp_path: Path) -> None:
    into = ((0, 4, 7), ((0, 0, 0), (UNLIMITED, 1, 1), (2, 1, 1), (2, 4, 7)))
    taken = ((2, 4, 7), ((0, 0, 0), (1, 1, 1), (1, 1, 1), (2, 4, 7)))
    add_endless(tmp_path / "v.h5", (b"s%%-%b.h5", b"data"), into, taken)
    layout = read_layout(Target(str(tmp_path / "v.h5"), "/data"), roots=None)
    assert [link.target for link in layout.missing_links] == ["s%-0.h5:data"]
    for i in range(4):
        write_source(tmp_path / f"s%-{i}.h5", (2, 4, 7), first=56 * i)
    np.testing.assert_array_equal(values_of(tmp_path / "v.h5").ravel(), np.arange(224))
    (tmp_path / "s%-1.h5").unlink()
    layout = read_layout(Target(str(tmp_path / "v.h5"), "/data"), roots=None)
    assert (layout.n_rows, [piece.at for piece in layout.missing]) == (8, [2])


def test_mappings_that_overlap_or_are_ragged_are_refused(tmp_path: Path) -> None:
    write_source(tmp_path / "s.h5", (4, 4, 7))
    overlapping = h5py.VirtualLayout((4, 4, 8), np.uint32)
    overlapping[:, :, :7] = h5py.VirtualSource("s.h5", "data", (4, 4, 7))
    overlapping[2, :, 6:] = h5py.VirtualSource("s.h5", "data", (4, 4, 7))[0, :, :2]
    write_virtual(tmp_path / "overlap.h5", overlapping)
    with pytest.raises(UnsupportedLayout, match="overlap"):
        values_of(tmp_path / "overlap.h5")
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    points, taken = h5py.h5s.create_simple((4, 4, 7)), h5py.h5s.create_simple((4, 4, 7))
    for space in (points, taken):
        space.select_hyperslab((0, 0, 0), (1, 1, 1), block=(2, 2, 2))
        space.select_hyperslab((2, 2, 2), (1, 1, 1), block=(1, 1, 1), op=h5py.h5s.SELECT_OR)
    plist.set_virtual(points, b"s.h5", b"data", taken)
    with h5py.File(tmp_path / "ragged.h5", "w") as f:
        h5py.h5d.create(f.id, b"data", h5py.h5t.NATIVE_UINT32, points, plist)
    with pytest.raises(UnsupportedLayout, match="irregular"):
        values_of(tmp_path / "ragged.h5")


def test_chosen_frames_are_a_selection_like_any_other(tmp_path: Path) -> None:
    write_source(tmp_path / "s.h5", (9, 4, 7))
    layout = h5py.VirtualLayout((4, 4, 7), np.uint32)
    layout[:] = h5py.VirtualSource("s.h5", "data", (9, 4, 7))[[0, 3, 4, 8]]
    path = write_virtual(tmp_path / "v.h5", layout)
    assert frames_of(path)[:, 0, 0].tolist() == [0, 84, 112, 224]


def test_a_source_of_another_type_is_read_as_it_is_or_refused(tmp_path: Path) -> None:
    write_source(tmp_path / "s.h5", (2, 2, 2), first=2**20)
    for declared, fits in ((np.int64, True), (np.uint16, False)):
        layout = h5py.VirtualLayout((2, 2, 2), declared)
        layout[:] = h5py.VirtualSource("s.h5", "data", (2, 2, 2))
        path = write_virtual(tmp_path / f"{fits}.h5", layout)
        if fits:
            with NexusFile(path) as nexus:
                assert read_frame_stack(nexus, "/data").dtype == "<u4"
            assert values_of(path).dtype == np.int64
        else:
            with pytest.raises(UnsupportedLayout, match="declared"):
                values_of(path)


def test_many_mappings_take_linear_time(tmp_path: Path) -> None:
    write_source(tmp_path / "s.h5", (4000, 2, 2))
    times = []
    for n in (1000, 4000):
        layout = h5py.VirtualLayout((n, 2, 2), np.uint32)
        source = h5py.VirtualSource("s.h5", "data", (4000, 2, 2))
        for i in range(n):
            layout[n - 1 - i] = source[i]
        path = write_virtual(tmp_path / f"v{n}.h5", layout)
        gc.disable()  # it would look through all that earlier tests left in this process
        try:
            begin = time.thread_time()
            with NexusFile(path) as nexus:
                stack = read_frame_stack(nexus, "/data")
            plan_frame_units(stack, weights=np.ones(n))
            times.append(time.thread_time() - begin)
        finally:
            gc.enable()
    assert stack.n_present == 4000
    assert times[1] < 12 * times[0] + 0.2
