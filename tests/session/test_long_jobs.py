"""Long jobs: done by the session's server, interrupted anywhere, and the product is the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_core.clock import utc_now
from beamhub_core.long_job import (
    MAX_SHOWN,
    JobReduction,
    JobState,
    LongJob,
    jobs_in,
    new_job_id,
    read_state,
    report_of,
    store_job,
    write_whole,
)
from beamhub_core.session_life import SessionReport
from beamhub_reduction import open_run
from beamhub_reduction.batch import Job
from beamhub_reduction.errors import BadParameter, NoSuchJob, NotInSession
from beamhub_reduction.long_jobs import find_job, own_jobs, submit
from beamhub_reduction.synthetic import write_powder_scan
from beamhub_session.job_runner import JobRunner
from session.test_session_life import FAST, session_server, wait_for
from session.web_of_session import serve_session

if TYPE_CHECKING:
    from session.conftest import Stage  # the tests' folder, not the room

DEADLINE_S = 120.0
TEXT = st.text(max_size=60)


def some_job(server: str = "", title: str = "a job") -> LongJob:
    reduction = JobReduction(step="azimuthal", file="/nowhere.h5", output="/nowhere/out.nxs")
    return LongJob(
        id=new_job_id(), title=title, server=server, made_at=utc_now(), reductions=(reduction,), journal="/j"
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(words=TEXT, text=TEXT, n_done=st.integers(0, 10**9))
def test_a_job_comes_back_as_it_was_kept(tmp_path: Path, words: str, text: str, n_done: int) -> None:
    job = some_job(title=words or "x")
    folder = store_job(tmp_path, job)
    state = JobState(phase="running", n_done=n_done, text=text)
    write_whole(folder / "state.json", state)
    assert (folder, job) in jobs_in(tmp_path)
    assert read_state(folder) == state
    report = report_of(folder, job)
    assert SessionReport(idle_s=0, jobs=(report,)).jobs == (report,)


def test_damaged_files_are_no_jobs_and_another_servers_are_not_ours(tmp_path: Path) -> None:
    ours, theirs = some_job("d-1"), some_job("d-2")
    for job in (ours, theirs):
        store_job(tmp_path, job)
    broken = tmp_path / ".beamhub/jobs" / new_job_id()
    broken.mkdir()
    (broken / "job.json").write_text("{")
    stolen = tmp_path / ".beamhub/jobs" / new_job_id()
    stolen.mkdir()
    (stolen / "job.json").symlink_to(tmp_path / ".beamhub/jobs" / ours.id / "job.json")
    assert [job for _, job in jobs_in(tmp_path)] == [ours, theirs]
    assert [job for _, job in jobs_in(tmp_path, "d-1")] == [ours]
    (tmp_path / ".beamhub/jobs" / ours.id / "state.json").write_text("\0")
    assert read_state(tmp_path / ".beamhub/jobs" / ours.id) == JobState()
    assert MAX_SHOWN <= 20


def test_a_job_that_was_stopped_before_it_began_never_begins(tmp_path: Path) -> None:
    folder = store_job(tmp_path, some_job())
    (folder / "stop").touch()
    runner = JobRunner(tmp_path, "", program="nothing.that.exists")
    runner.look(jobs_in(tmp_path, ""))
    assert read_state(folder).phase == "stopped"
    assert not runner.is_busy


def test_outside_of_a_session_there_are_no_long_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEAMHUB_SESSION_FILE", raising=False)
    with pytest.raises(NotInSession, match="beamhub reduce"):
        submit([Job(step="azimuthal", file="a.h5", output=str(tmp_path / "out.nxs"))])


def until(what: Callable[[], bool], runner: JobRunner, home: Path) -> None:
    """Have the server look after its jobs until something is so."""
    end = time.monotonic() + DEADLINE_S
    while not what():
        runner.look(jobs_in(home, ""))
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.docker  # needs none, but twenty seconds: it runs with the slow ones
def test_a_killed_job_goes_on_in_the_next_server_and_gives_the_same_numbers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEAMHUB_SESSION_FILE", str(stage.session_file))
    monkeypatch.setenv("JUPYTERHUB_SERVER_NAME", "")
    truth = write_powder_scan(
        stage.root.parent / "pool", proposal="MA-5101", sample="CeO2", seed=5, n_frames=6
    )
    scan = truth.file
    outputs = [stage.home / f"out-{i}.nxs" for i in range(3)]
    jobs = [
        Job(step="azimuthal", file=str(scan), output=str(one), parameters={"bins": 200}) for one in outputs
    ]
    with pytest.raises(BadParameter, match="a new file"):
        submit([jobs[0].model_copy(update={"output": str(stage.home)})])
    submitted = submit(jobs, title="<b>three</b>")
    assert find_job(submitted.id[:6]).id == submitted.id
    with pytest.raises(NoSuchJob, match="not one job"):
        find_job("x")

    first = JobRunner(stage.home, "")
    until(lambda: len(read_state(submitted.folder).finished) >= 1, first, stage.home)
    assert first.is_busy
    child = first._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    child.wait(20)
    first.look(jobs_in(stage.home, ""))  # sees its end, and waits before it would begin again
    assert not first.is_busy
    assert not submitted.is_over
    assert "&lt;b&gt;three" in submitted._repr_html_()

    second = JobRunner(stage.home, "")
    until(lambda: submitted.is_over, second, stage.home)
    until(lambda: not second.is_busy, second, stage.home)
    assert submitted.report().phase == "done", (submitted.folder / "log").read_text()
    assert read_state(submitted.folder).n_starts == 2
    assert not list((stage.home / ".beamhub/journal").iterdir())
    assert [job.id for job in own_jobs()] == [submitted.id]

    expected = open_run(scan).reduce("azimuthal", bins=200).write(stage.home / "direct.nxs")
    for output in outputs:
        with h5py.File(output) as found, h5py.File(expected.path) as direct:
            signal_path = _signal(direct)
            np.testing.assert_array_equal(found[signal_path][()], direct[signal_path][()])


@pytest.mark.docker  # needs none, but ten seconds: it runs with the slow ones
def test_the_server_does_a_job_without_a_kernel_stays_awake_and_web_hears_of_it(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEAMHUB_SESSION_FILE", str(stage.session_file))
    monkeypatch.setenv("JUPYTERHUB_SERVER_NAME", "")
    truth = write_powder_scan(
        stage.root.parent / "pool", proposal="MA-5101", sample="CeO2", seed=5, n_frames=6
    )
    with (
        serve_session(tmp_path / "web", FAST, timedelta(hours=4)) as web,
        session_server(stage, web) as client,
    ):
        output = stage.home / "out.nxs"
        job = submit([Job(step="azimuthal", file=truth.file, output=str(output), parameters={"bins": 50})])
        wait_for(lambda: job.report().phase == "running")
        wait_for(lambda: "job" in client.get("beamhub/life").json()["busy_with"] or job.is_over)
        wait_for(lambda: job.is_over, DEADLINE_S)
        assert job.report().phase == "done", (job.folder / "log").read_text()
        assert output.is_file()
        wait_for(lambda: [one["phase"] for one in web.row().jobs or ()] == ["done"])


def _signal(file: h5py.File) -> str:
    found: list[str] = []
    file.visititems(
        lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) and item.size > 100 else None
    )
    return found[0]
