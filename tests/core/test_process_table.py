"""Processes as /proc tells of them: whatever their names are, also when they are dead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beamhub_core.process_table import is_running, read_process, read_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")


def await_state(pid: int, state: str) -> None:
    deadline = time.monotonic() + 20
    while (facts := read_process(pid)) is None or facts.state != state:
        assert time.monotonic() < deadline, facts
        time.sleep(0.01)


def test_this_process_runs_below_its_parent_and_has_worked() -> None:
    facts = read_process(os.getpid())
    assert facts is not None
    assert (facts.pid, facts.parent, facts.has_ended) == (os.getpid(), os.getppid(), False)
    assert facts.processor_ticks > 0
    assert facts in [facts, *read_processes()]


@pytest.mark.parametrize("name", ["two words", "a) Z 1 (", ") ) 0"])
def test_a_name_cannot_pass_for_another_state(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([str(program), "60"]) as process:
        await_state(process.pid, "S")
        facts = read_process(process.pid)
        assert facts is not None
        assert (facts.parent, is_running(process.pid)) == (os.getpid(), True)
        process.kill()


def test_the_dead_do_not_run_before_and_after_somebody_takes_their_status() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    await_state(process.pid, "Z")
    facts = read_process(process.pid)
    assert facts is not None
    assert facts.has_ended
    assert not is_running(process.pid)
    process.wait()
    assert read_process(process.pid) is None
    assert not is_running(process.pid)


def test_all_processes_are_listed_once_by_their_numbers() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        numbers = [facts.pid for facts in read_processes()]
        assert numbers == sorted(set(numbers))
        assert {os.getpid(), process.pid} <= set(numbers)
        process.kill()
