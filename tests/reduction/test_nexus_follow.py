"""A file that is still being written gives what is surely there, and nothing that is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from beamhub_reduction.nexus import (
    FileMissing,
    FileShrank,
    NexusFile,
    follow,
    read_frame_stack,
    written_prefix,
)
from beamhub_reduction.nexus.tiles import read_run

N_PLANNED = 6
WRITER = Path(__file__).with_name("scan_writer.py")


class Writer:
    """The writing process, told what to do line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.hear()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, word: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.hear()


@contextmanager
def writing(mode: str, path: Path) -> Iterator[Writer]:
    command = [sys.executable, str(WRITER), mode, str(path), str(N_PLANNED)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Writer(process)
        finally:
            process.kill()


def prefix_of(path: Path) -> Any:
    with NexusFile(path) as nexus:
        return written_prefix(read_frame_stack(nexus))


def values_of(stack: Any) -> list[int]:
    runs = [read_run(run, shape=stack.shape, dtype=stack.dtype, n_frames=run.n_rows) for run in stack.present]
    return [int(frame[0, 0]) for run in runs for frame in run]


@pytest.mark.parametrize("mode", ["swmr", "exclusive", "late"])
def test_a_scan_is_followed_frame_by_frame_while_another_process_writes_it(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "scan.h5"
    given = []
    with writing(mode, path) as writer:
        for _ in range(2):
            writer.tell("frame")
        prefixes = follow(path, poll_s=0.01, timeout_s=20 if mode != "swmr" else 1.0)
        given.append(values_of(next(prefixes)))
        for _ in range(2, N_PLANNED):
            writer.tell("frame")
        given.append(values_of(next(prefixes)))
        assert writer.tell("end") == "closed"
        writer.process.wait(10)
        given.extend(values_of(stack) for stack in prefixes)
    assert given[0] == [1, 2]
    assert given[-1] == list(range(1, N_PLANNED + 1))
    assert given == sorted(given, key=len)


def test_a_killed_writer_leaves_the_frames_that_it_flushed(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with writing("exclusive", path) as writer:
        for _ in range(3):
            writer.tell("frame")
        writer.process.kill()
        writer.process.wait(10)
    assert values_of(prefix_of(path)) == [1, 2, 3]


def test_frames_behind_a_hole_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as f:
        data = f.create_dataset("entry/data/data", (7, 4, 4), np.uint16, chunks=(2, 4, 2))
        data[:4], data[6:] = 1, 1
        data[4:6, :, :2] = 1
    assert (prefix_of(path).n_frames, prefix_of(path).n_present) == (4, 4)


def test_a_replaced_or_shrunken_file_is_an_error(tmp_path: Path) -> None:
    path, other = tmp_path / "a.h5", tmp_path / "b.h5"
    for target, n in ((path, 4), (other, 5)):
        with h5py.File(target, "w") as f:
            f["entry/data"] = np.ones((n, 3, 4), np.uint16)
    prefixes = follow(path, "/entry/data", poll_s=0.01, timeout_s=5)
    assert next(prefixes).n_frames == 4
    other.replace(path)
    with pytest.raises(FileShrank, match="another file"):
        next(prefixes)
    shutil.copy(path, other)
    prefixes = follow(path, "/entry/data", poll_s=0.01, timeout_s=5)
    assert next(prefixes).n_frames == 5
    with path.open("r+b") as raw:
        raw.truncate(path.stat().st_size - 8)
    with pytest.raises(FileShrank, match="shrank"):
        next(prefixes)


def test_waiting_for_a_file_that_never_comes_ends(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        next(follow(tmp_path / "never.h5", timeout_s=0.05, poll_s=0.01))
