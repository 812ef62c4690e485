"""`beamhub reduce --follow` beside a process that writes: states while it grows, one product at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path

import h5py
import numpy as np
import pytest

from beamhub_core.command import main
from beamhub_reduction.follow import FollowedFrames
from beamhub_reduction.nexus import FileMissing, FileShrank
from reduction.bad_files import write_stack

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("outside_session")]
WRITER = Path(__file__).with_name("scan_writer.py")
N_FRAMES = 4


@contextmanager
def writing(mode: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(WRITER), mode, str(path), str(N_FRAMES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert hear(process) == "ready"
            yield process
        finally:
            process.kill()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return hear(process)


class Seen(StringIO):
    """What the command says on standard error: a state for each; the next frame is written then."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__()
        self.process, self.states, self.n_written = process, list[int](), 1

    def write(self, text: str) -> int:
        """A line of standard error."""
        self.states.append(int(text.split()[0]))
        if self.n_written < N_FRAMES:
            tell(self.process, "frame")
            self.n_written += 1
        elif self.process.poll() is None and self.n_written == N_FRAMES:
            self.n_written += 1
            assert tell(self.process, "end") == "closed"
        return len(text)


@pytest.mark.parametrize("mode", ["swmr", "exclusive"])
def test_a_scan_is_reduced_while_another_process_writes_it(
    tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "scan.h5", tmp_path / "products"
    folder.mkdir()
    with writing(mode, path) as process:
        tell(process, "frame")
        seen = Seen(process)
        words = ["reduce", "frame-statistics", str(path), "-o", str(folder / "out.nxs"), "--json"]
        with redirect_stderr(seen):
            assert main([*words, "--follow", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["statistics"]["n_frames_read"] == N_FRAMES
    assert said["statistics"]["counts_total"] == 12 * sum(range(1, N_FRAMES + 1))
    assert seen.states[0] == 1 and seen.states == sorted(seen.states) and seen.states[-1] == N_FRAMES
    assert [p.name for p in folder.iterdir()] == ["out.nxs"]


def test_what_the_caller_does_between_two_states_is_not_silence(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.h5", None, shape=(4, 3, 5), dtype="u2", chunks=(1, 3, 5))
    with h5py.File(path, "r+") as file:
        file["entry/instrument/detector/data"][:2] = 1
    follower = FollowedFrames(str(path), None, 0.3, poll_s=0.01)
    assert follower.wait()
    threading.Event().wait(0.4)  # a reduction that takes longer than the silence that ends the run
    with h5py.File(path, "r+") as file:
        file["entry/instrument/detector/data"][2:] = 1
    assert follower.wait()


def test_frames_that_are_lost_while_following_are_an_error(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.h5", np.ones((4, 3, 5), np.uint16))
    follower = FollowedFrames(str(path), None, 5.0, poll_s=0.01)
    assert follower.wait()
    with path.open("r+b") as raw:
        raw.truncate(path.stat().st_size - 8)
    with pytest.raises(FileShrank):
        follower.wait()


def test_a_file_that_comes_later_is_waited_for_and_one_that_never_comes_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "late.h5"
    late = threading.Timer(0.2, lambda: write_stack(path, np.ones((4, 3, 5), np.uint16)))
    late.start()
    assert FollowedFrames(str(path), None, 10.0, poll_s=0.05).wait()
    late.join()
    with h5py.File(path) as file:
        assert len(file["entry/instrument/detector/data"]) == 4
    with pytest.raises(FileMissing):
        FollowedFrames(str(tmp_path / "never.h5"), None, 0.1).wait()
