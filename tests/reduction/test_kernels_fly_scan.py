"""Maps straight from stored chunks, and the walk over a chunk index: as the long way, on every path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_reduction import chunk_walk, kernels
from beamhub_reduction.errors import CorruptChunk
from beamhub_reduction.kernels.decode import NO_ROOM, reason_of
from beamhub_reduction.kernels.fly_scan import StoredMapper, can_map_stored
from beamhub_reduction.kernels.statistics_regions import frame_moments, region_sums
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import open_run
from examples import few

Array = np.ndarray[Any, np.dtype[Any]]
COMPILED = [path for path in kernels.available_paths() if path != "numpy"]
SHAPE = (16, 24)
SPANS = np.array([[0, 384, 0], [5, 30, 1], [100, 384, 2], [383, 384, 1]], dtype=np.int64)


def store(folder: Path, frames: Array, name: str = "stored.h5", **filters: Any) -> Path:
    path = folder / name
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset(
            "entry/data/data", data=frames, chunks=(1, *frames.shape[1:]),
            **(filters or hdf5plugin.Bitshuffle(nelems=128, cname="lz4")),
        )  # fmt: skip
        file["entry"].attrs["NX_class"] = "NXentry"
        file["entry/data"].attrs["NX_class"] = "NXdata"
    return path


def chunks_of(path: Path) -> tuple[Array, Array, Array]:
    """All stored bytes, with where each chunk lies in them."""
    with h5py.File(path) as file:
        data = file["entry/data/data"].id
        found = [data.read_direct_chunk((i, 0, 0))[1] for i in range(data.shape[0])]
    sizes = np.array([len(chunk) for chunk in found], dtype=np.int64)
    return np.frombuffer(b"".join(found), dtype=np.uint8).copy(), np.cumsum(sizes) - sizes, sizes


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Array, tuple[Array, Array, Array]]]:
    found = {}
    for kind in ("u1", "u2", "u4", "i2"):
        random = np.random.default_rng(7)
        frames = random.poisson(4, (6, *SHAPE)).astype(kind)
        frames[random.random(frames.shape) < 0.1] = np.iinfo(kind).max if kind[0] == "u" else -1
        found[kind] = frames, chunks_of(store(tmp_path_factory.mktemp(kind), frames))
    return found


@pytest.mark.skipif(not COMPILED, reason="the kernels are not compiled")
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i2"])
def test_stored_frames_give_the_sums_of_decoded_ones_on_every_path(kind: str, stored: Any) -> None:
    frames, (data, offsets, sizes) = stored[kind]
    unsigned = frames.view(f"u{frames.itemsize}")
    limit = int(np.iinfo(kind).max) - (kind[0] == "u")
    masked = np.random.default_rng(1).random(SHAPE) < 0.2
    flat = unsigned.reshape(len(frames), -1)
    sums, valid = region_sums(flat, limit=limit, spans=SPANS, n_regions=3)
    _, moments = frame_moments(unsigned, limit=limit, masked=masked)
    for path in COMPILED:
        with kernels.using_path(path):
            mapper = StoredMapper(
                masked, dtype=np.dtype(kind), spans=SPANS, n_regions=3, limit=limit, moments=True
            )
            maps = mapper(data, offsets=offsets, sizes=sizes)
        assert maps is not None
        assert not maps.status.any()
        for ours, theirs in ((maps.sums, sums), (maps.valid, valid), (maps.moments, moments)):
            assert ours.tobytes() == theirs.tobytes()


@pytest.mark.skipif(not COMPILED, reason="the kernels are not compiled")
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 40))
@few(40)
def test_any_bytes_are_a_status_and_leave_no_trace(place: int, value: int, cut: int, stored: Any) -> None:
    _, (data, offsets, sizes) = stored["u2"]
    broken = data.copy()
    broken[place % data.size] = value
    shorter = sizes.copy()
    shorter[-1] = max(0, shorter[-1] - cut)
    mapper = StoredMapper(
        np.zeros(SHAPE, bool), dtype=np.dtype("u2"), spans=SPANS, n_regions=3, limit=65534, moments=True
    )
    maps = mapper(broken, offsets=offsets, sizes=shorter)
    if maps is None:
        return  # a block that would be too large here
    for i in np.flatnonzero(maps.status):
        assert reason_of(int(maps.status[i]))
        assert maps.status[i] != NO_ROOM
        assert not maps.sums[i].any()
        assert not maps.valid[i].any()
        assert not maps.moments[i].any()
    assert (maps.status[-1] != 0) >= (cut > 0)


@pytest.mark.skipif(not COMPILED, reason="the kernels are not compiled")
def test_chunks_outside_the_data_and_spans_outside_the_frame_are_refused(stored: Any) -> None:
    _, (data, offsets, sizes) = stored["u2"]
    for spans, shift in ((SPANS, data.size), (SPANS, -data.size), (np.array([[0, 385, 0]]), 0)):
        mapper = StoredMapper(
            np.zeros(SHAPE, bool), dtype=np.dtype("u2"), spans=spans, n_regions=3, limit=1, moments=False
        )
        with pytest.raises(ValueError, match="do not fit"):
            mapper(data, offsets=offsets + shift, sizes=sizes)
    assert not can_map_stored(np.dtype("f4"), SHAPE)
    assert not can_map_stored(np.dtype(">u2"), SHAPE)
    assert not can_map_stored(np.dtype("u2"), (1, 70_000))


def bits(result: Any) -> list[bytes]:
    return [signal.values.tobytes() for signal in result.signals]


@pytest.mark.parametrize("kind", ["u2", "i4"])
def test_a_map_is_the_same_from_stored_and_from_decoded_frames(tmp_path: Path, kind: str) -> None:
    frames = np.random.default_rng(2).poisson(3, (11, *SHAPE)).astype(kind)
    frames[:, 3, 3] = np.iinfo(kind).max
    choices: dict[str, Any] = {"scan_shape": (3, 4), "regions": ["a=0:4,1:9"], "progress": silent}
    expected = bits(open_run(store(tmp_path, frames)).fly_scan_map(**choices))
    plain = store(tmp_path, frames, "plain.h5", compression="gzip")
    assert bits(open_run(plain).fly_scan_map(**choices)) == expected
    wide = store(tmp_path, frames, "wide.h5", **hdf5plugin.Bitshuffle(nelems=40_000, cname="lz4"))
    assert bits(open_run(wide).fly_scan_map(**choices)) == expected
    for path in kernels.available_paths():
        with kernels.using_path(path):
            assert bits(open_run(tmp_path / "stored.h5").fly_scan_map(**choices)) == expected


def test_a_corrupt_frame_of_a_map_is_named_or_left_out(tmp_path: Path) -> None:
    frames = np.random.default_rng(3).poisson(3, (6, *SHAPE)).astype("u2")
    path = store(tmp_path, frames)
    with h5py.File(path) as file:
        offset = file["entry/data/data"].id.get_chunk_info_by_coord((4, 0, 0)).byte_offset
    with path.open("r+b") as handle:
        handle.seek(offset + 12)
        handle.write(b"\xff\xff\xff\xff")
    with pytest.raises(CorruptChunk) as caught:
        open_run(path).fly_scan_map(scan_shape=(2, 3), progress=silent)
    assert caught.value.chunk == (4, 0, 0)
    for policy in ("skip", "mask"):
        result = open_run(path).fly_scan_map(scan_shape=(2, 3), corrupt=policy, progress=silent)
        total = next(s.values for s in result.signals if s.name == "total_counts")
        assert np.isnan(total.ravel()[4])
        assert np.array_equal(np.delete(total.ravel(), 4), np.delete(frames.sum(axis=(1, 2)), 4))
        assert result.statistics.n_frames_corrupt == 1


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    chunk=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
@few(15)
def test_the_compiled_walk_gives_what_h5py_gives(shape: tuple[int, int], chunk: tuple[int, int]) -> None:
    name = f"{shape}{chunk}"
    for libver in ("earliest", "latest"):
        with h5py.File(name, "w", driver="core", backing_store=False, libver=libver) as file:
            chunk = (min(chunk[0], shape[0]), min(chunk[1], shape[1]))
            item = file.create_dataset("d", shape, "u2", chunks=chunk, maxshape=(None, None))
            item[shape[0] // 2 :] = 3
            item.resize((max(1, shape[0] - 1), shape[1]))
            file.flush()
            with kernels.using_path("numpy"):
                expected = chunk_walk.walk_chunks(item, 100)
            for path in kernels.available_paths():
                with kernels.using_path(path):
                    assert np.array_equal(chunk_walk.walk_chunks(item, 100), expected)
            assert np.array_equal(chunk_walk.walk_chunks(item, 0), expected)  # no room: h5py does it
