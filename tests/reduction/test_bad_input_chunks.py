"""Chunks that are damaged, cut off, enormous or strange: named or said to be unverifiable, never a crash."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_reduction import kernels
from beamhub_reduction.errors import CorruptChunk, FilesChanged
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.progress import silent
from beamhub_reduction.run import open_run
from reduction.bad_files import (
    BITSHUFFLE_LZ4,
    STACK,
    Command,
    bytes_at,
    chunk_of,
    draw_frames,
    overwrite,
    write_stack,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("outside_session")]
FRAMES = draw_frames()
STEPS = ("azimuthal", "frame-statistics")


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    folder = tmp_path / "products"
    folder.mkdir()
    return Command(folder, capsys)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Six frames, one bitshuffle-LZ4 chunk each."""
    return write_stack(tmp_path / "scan.h5", FRAMES, **BITSHUFFLE_LZ4)


def flip_literal(path: Path, frame: int) -> None:
    """One bit of a byte that LZ4 copies as it is: the chunk decodes, to another count."""
    offset, _ = chunk_of(path, frame)
    # 12 bytes of header, 4 of the block's length, then the token of a run of 15 or more literals.
    token = bytes_at(path, offset + 16, 1)[0]
    assert token >> 4, "the block begins with literals"
    at = offset + 16 + 1 + (1 if token >> 4 == 15 else 0)
    overwrite(path, at, bytes([bytes_at(path, at, 1)[0] ^ 1]))


@pytest.mark.parametrize("step", STEPS)
def test_a_flipped_byte_without_a_checksum_is_said_to_be_unverifiable(
    stack: Path, command: Command, step: str
) -> None:
    flip_literal(stack, 2)
    with h5py.File(stack) as file:
        assert (file[STACK][2] != FRAMES[2]).any()
    done = command(step, stack)
    assert done.code == 0 and command.left == ["out.nxs"]
    assert done.said["evidence"]["integrity"] == "not verifiable"
    with h5py.File(command.folder / "out.nxs") as file:
        assert json.loads(file["entry/process/evidence/data"][()])["integrity"] == "not verifiable"


@pytest.mark.parametrize("step", STEPS)
def test_a_flipped_byte_under_a_checksum_is_found_by_name(
    tmp_path: Path, command: Command, step: str
) -> None:
    path = write_stack(tmp_path / "sum.h5", FRAMES, fletcher32=True, **BITSHUFFLE_LZ4)
    assert command(step, path).said["evidence"]["integrity"] == "checksummed"
    (command.folder / "out.nxs").unlink()
    flip_literal(path, 2)
    done = command(step, path)
    assert (done.code, done.said["error"], command.left) == (1, "CorruptChunk", [])
    assert "fletcher32" in done.message and "(2, 0, 0)" in done.message and STACK in done.message
    skipped = command(step, path, "--corrupt", "skip")
    assert skipped.code == 0 and skipped.said["evidence"]["frames"] == {
        "read": 5, "missing": 0, "corrupt": 1, "without_flux": 0,
    }  # fmt: skip


@pytest.mark.parametrize("length", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_corrupt_block_lengths_are_named_on_every_path(stack: Path, length: int) -> None:
    offset, _ = chunk_of(stack, 4)
    overwrite(stack, offset + 12, struct.pack(">I", length))
    for way in kernels.available_paths():
        with kernels.using_path(way):
            for corrupt in ("fail", "skip", "mask"):
                run, options = open_run(stack), {"corrupt": corrupt, "progress": silent}
                for step in ("azimuthal", "frame_statistics"):
                    if corrupt == "fail":
                        with pytest.raises(CorruptChunk) as caught:
                            run.reduce(step, **options)
                        assert caught.value.chunk == (4, 0, 0)
                    else:
                        counts = run.reduce(step, **options).statistics
                        assert (counts.n_frames_read, counts.n_frames_corrupt) == (5, 1)
                        assert counts.counts_total == np.delete(FRAMES, 4, axis=0).sum()


def test_headers_that_are_wrong_end_no_process(tmp_path: Path, command: Command) -> None:
    """The first 12 bytes of a chunk: its decoded size and that of a block; all in one process of its own."""
    files = []
    for i, sizes in enumerate(
        [(0, 8192), (2**63 - 1, 8192), (1919, 8192), (1920, 2**31), (1920, 0), (1920, 7)]
    ):
        files.append(write_stack(tmp_path / f"{i}.h5", FRAMES, **BITSHUFFLE_LZ4))
        overwrite(files[i], chunk_of(files[i], 0)[0], struct.pack(">QI", *sizes))
    jobs = [
        {"step": "frame_statistics", "file": str(f), "output": str(tmp_path / f"{f.stem}.nxs")} for f in files
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    lines = command.batch(tmp_path / "jobs.json")
    assert len(lines) == len(jobs)
    for said in lines:  # a block that is larger than the chunk, or 0 for the usual size, is no error
        right = said["ok"] and said["statistics"]["counts_total"] == FRAMES.sum()
        assert right or said["error"] == "CorruptChunk", said
    assert [said["ok"] for said in lines[:3]] == [False] * 3


@pytest.mark.parametrize("step", STEPS)
def test_a_chunk_that_was_cut_off_is_corrupt(tmp_path: Path, command: Command, step: str) -> None:
    """Stored shorter than it was compressed to, as by a writer that died."""
    path = write_stack(tmp_path / "cut.h5", FRAMES, **BITSHUFFLE_LZ4)
    whole = bytes_at(path, *chunk_of(path, 3))
    with h5py.File(path, "r+") as file:
        file[STACK].id.write_direct_chunk((3, 0, 0), whole[: len(whole) // 2])
    done = command(step, path)
    assert (done.code, done.said["error"], command.left) == (1, "CorruptChunk", [])
    assert "(3, 0, 0)" in done.message
    assert command(step, path, "--corrupt", "skip").said["statistics"]["n_frames_corrupt"] == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_file_that_was_cut_off_is_damaged(stack: Path, command: Command, step: str) -> None:
    os.truncate(stack, stack.stat().st_size - 500)
    done = command(step, stack)
    assert (done.code, done.said["error"], command.left) == (1, "FileDamaged", [])
    assert str(stack) in done.message and "Copy it again" in done.message


@pytest.mark.parametrize("step", STEPS)
def test_an_offset_past_the_end_is_corrupt(tmp_path: Path, command: Command, step: str) -> None:
    """The index of chunks of an old file (version 1 B-tree, no checksum of its own) points behind the end."""
    old = write_stack(tmp_path / "old.h5", FRAMES, libver="earliest", **BITSHUFFLE_LZ4)
    offset, _ = chunk_of(old, 5)
    content = old.read_bytes()
    at = content.rindex(struct.pack("<Q", offset))
    overwrite(old, at, struct.pack("<Q", offset + 10**9))
    done = command(step, old)
    assert (done.code, done.said["error"], command.left) == (1, "CorruptChunk", []), done.said
    assert "(5, 0, 0)" in done.message and "ends" in done.message
    skipped = command(step, old, "--corrupt", "skip")
    assert skipped.said["statistics"]["n_frames_corrupt"] == 1


def test_a_file_that_shrinks_during_the_run_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "shrinks.h5"

    def cut() -> bool:
        """The first time that the engine asks: the plan is made, nothing is read."""
        os.truncate(path, min(path.stat().st_size, whole // 2))
        return False

    for step in ("azimuthal", "frame_statistics"):
        path.unlink(missing_ok=True)
        whole = write_stack(path, FRAMES, **BITSHUFFLE_LZ4).stat().st_size
        with pytest.raises(FilesChanged) as caught:
            open_run(path).reduce(step, engine=Engine(cancelled=cut), progress=silent)
        assert str(path) in str(caught.value) and caught.value.exit_code == 6


@pytest.mark.parametrize("step", STEPS)
def test_a_filter_that_nobody_has_is_named(tmp_path: Path, command: Command, step: str) -> None:
    path = write_stack(tmp_path / "filter.h5", FRAMES)
    with h5py.File(path, "r+") as file:
        del file[STACK]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 24, 20))
        plist.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple(FRAMES.shape)
        data = h5py.h5d.create(file.id, STACK.encode(), h5py.h5t.STD_U32LE, space, plist)
        data.write_direct_chunk((0, 0, 0), b"x" * 100)
    done = command(step, path)
    assert done.code == 1 and done.said["error"] == "UnsupportedLayout" and command.left == []
    assert "32999" in done.message


@pytest.mark.parametrize(
    ("shape", "refusal"),
    [((1280, 1024, 1024), (5, "MemoryTooSmall")), ((1, 5 << 14, 1 << 15), (1, "LimitExceeded"))],
    ids=["of many frames", "of one frame"],
)
def test_a_chunk_of_2_5_gib_is_refused_under_a_limit_of_1_5(
    tmp_path: Path, command: Command, shape: tuple[int, int, int], refusal: tuple[int, str]
) -> None:
    """A few bytes that say they are 2.5 GiB: refused before anything of that size is allocated."""
    dtype = "u1" if shape[0] == 1 else "<u2"
    path = write_stack(tmp_path / "huge.h5", None, shape=shape, dtype=dtype, chunks=shape, **BITSHUFFLE_LZ4)
    with h5py.File(path, "r+") as file:
        file[STACK].id.write_direct_chunk((0, 0, 0), struct.pack(">QI", 5 << 29, 8192) + b"\0" * 100)
    assert path.stat().st_size < 1 << 20
    if shape[0] > 1:  # once in a process that would die of it
        apart = command.under({"RLIMIT_AS": 3 << 29}, "frame-statistics", path, "--workers", "1")
        assert (apart.code, apart.said["error"]) == refusal and command.left == [], apart.said
    for step in STEPS:
        done = command(step, path, "--memory-gib", "1.5")
        assert (done.code, done.said["error"]) == refusal and command.left == [], done.said


def test_very_many_chunks_of_one_element_are_read_in_reasonable_time(tmp_path: Path) -> None:
    """10^5 chunks; BEAMHUB_SOAK=1 takes the 10^6 of the issue."""
    n = 1000 if os.environ.get("BEAMHUB_SOAK") else 316
    path = write_stack(tmp_path / "ones.h5", None, shape=(n, n, 1), dtype="<u2", chunks=(1, 1, 1))
    with h5py.File(path, "r+") as file:
        write: Any = file[STACK].id.write_direct_chunk
        for i in range(n):
            for j in range(n):
                write((i, j, 0), struct.pack("<H", (i + j) % 60_000))
    result = open_run(path).frame_statistics(progress=silent)
    places = np.arange(n)
    assert result.statistics.counts_total == int((places[:, None] + places).sum())
    assert result.statistics.n_frames_read == n
