"""Batch files are checked as a whole, jobs are independent, and a growing file is followed to its end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import h5py
import pytest
from pydantic import Field

from beamhub_core.command import main
from beamhub_core.errors import ConfigInvalid
from beamhub_reduction.batch import read_jobs
from beamhub_reduction.follow import PolledRun
from beamhub_reduction.pipeline import Engine, step_kind
from beamhub_reduction.pipeline.step import Reduced, StepKind, StepParameters
from beamhub_reduction.reduce_command import build_step_parser
from beamhub_reduction.reduce_job import follow_run
from beamhub_reduction.reduce_options import chosen_parameters
from beamhub_reduction.synthetic import Truth

pytestmark = pytest.mark.usefixtures("outside_session")


def test_help_lists_the_steps_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["reduce", "--help"], ["reduce", "azimuthal", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
    out = capsys.readouterr().out
    assert re.search(r"azimuthal +intensity over q", out)
    assert "--journal FOLDER" in out
    for words in (["reduce"], ["reduce", "nosuch"], ["reduce", "azimuthal"], ["reduce", "--config"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2


class Wide(StepParameters):
    roi: tuple[tuple[int, int, int, int], ...] = Field(default=(), description="100 % of a region")
    angles: tuple[float, ...] = ()
    window: tuple[float, float] | None = None
    names: list[str] = []
    dark: Path | None = None
    mode: Literal[1, 2] = 1
    table: dict[str, float] = {}
    either: int | str | None = None
    needed: float


def _never(*_: Any) -> Reduced:
    raise AssertionError("only its options are looked at")


def test_options_fit_every_kind_of_parameter() -> None:
    kind = StepKind("wide", "Wide", "none", Wide, _never)
    parser = build_step_parser(kind)
    words = (
        "f.h5 -o o.h5 --roi 1 2 3 4 --roi 5 6 7 8 --angles -1e-3 2 -.5 --window -1 2.5 --names a b "
        '--dark d.h5 --mode 2 --table {"a":1} --either [1,2] --needed -1E5'
    )
    chosen = chosen_parameters(kind, parser.parse_args(words.split()))
    assert chosen == {
        "roi": [[1, 2, 3, 4], [5, 6, 7, 8]],
        "angles": [-1e-3, 2, -0.5],
        "window": [-1, 2.5],
        "names": ["a", "b"],
        "dark": Path("d.h5"),
        "mode": 2,
        "table": {"a": 1},
        "either": [1, 2],
        "needed": -1e5,
    }
    assert "100 % of a region" in parser.format_help()


def batch(folder: Path, *jobs: Any) -> Path:
    path = folder / "jobs.json"
    path.write_text(json.dumps(list(jobs)))
    return path


def test_every_problem_of_a_batch_file_is_told_with_its_path(tmp_path: Path) -> None:
    good = {"step": "azimuthal", "file": "f", "output": "o"}
    path = batch(
        tmp_path,
        good,
        {"step": "nosuch", "file": "f", "output": "p"},
        {"step": "azimuthal", "output": "p", "more": 1},
        good | {"parameters": {"bins": 0, "colour": "red"}},
        5,
    )
    with pytest.raises(ConfigInvalid) as caught:
        read_jobs(path)
    told = "\n".join(caught.value.problems)
    for where in ("jobs[1].step", "jobs[2].file", "jobs[2].more", "jobs[3].parameters.bins", "jobs[4]"):
        assert where in told
    assert "jobs[3].parameters.colour" in told
    with pytest.raises(ConfigInvalid, match=r"jobs\[1\]\.output: jobs\[0\] writes o too"):
        read_jobs(batch(tmp_path, good, good))
    for content in ("", "[", "[]", '{"jobs": [], "x": 1}', "[" * 100_000):
        path.write_text(content)
        with pytest.raises(ConfigInvalid):
            read_jobs(path)


def test_a_job_that_fails_leaves_the_others_alone(
    powder_truth: Truth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"step": "azimuthal", "file": powder_truth.file, "parameters": {"bins": 20}}
    path = batch(
        tmp_path,
        {**job, "output": str(tmp_path / "a.nxs")},
        {**job, "output": str(tmp_path / "b.nxs"), "file": str(tmp_path / "absent.h5")},
        {**job, "output": str(tmp_path / "c.nxs")},
    )
    assert main(["reduce", "--config", str(path), "--json", "--workers", "1", "--progress"]) == 3
    captured = capsys.readouterr()
    told = [json.loads(line) for line in captured.out.splitlines()]
    assert [(t["job"], t["ok"]) for t in told] == [(0, True), (1, False), (2, True)]
    assert (told[1]["error"], told[1]["exit_code"]) == ("RunNotFound", 3)
    shown = [json.loads(line)["progress"] for line in captured.err.splitlines()]
    assert shown[-1]["rows_done"] == shown[-1]["rows_total"] == 12
    assert {p.name for p in tmp_path.glob("*.nxs")} == {"a.nxs", "c.nxs"}


def test_a_taken_output_is_refused_before_the_work(powder_truth: Truth, tmp_path: Path) -> None:
    (tmp_path / "o.nxs").touch()
    words = ["reduce", "azimuthal", "absent.h5", "-o"]
    assert main([*words, str(tmp_path / "o.nxs")]) == 1
    assert main([*words, str(tmp_path / "none" / "o.nxs")]) == 1


class Told:
    """A follower that says what the test says, after doing what the test wants done before it."""

    def __init__(self, *before: Any) -> None:
        self._before = list(before)

    def wait(self) -> bool:
        if not self._before:
            return False
        self._before.pop(0)()
        return True


def test_a_growing_run_shows_its_state_and_ends_as_one_product(powder_truth: Truth, tmp_path: Path) -> None:
    source = Path(powder_truth.file)
    shutil.copytree(source.parent.parent, tmp_path / "copy")
    master = tmp_path / "copy" / source.parent.name / source.name
    details = sorted(master.parent.parent.glob("detector_*/*.h5"))
    away = [path.rename(path.with_suffix(".later")) for path in details[1:]]
    live, seen = tmp_path / "out.live.nxs", []

    def grow() -> None:
        if live.exists():
            with h5py.File(live) as file:
                seen.append(int(file["entry/process/statistics/n_frames_read"][()]))
        if away:
            late = away.pop(0)
            late.rename(late.with_suffix(".h5"))

    kind = step_kind("azimuthal")
    said: list[str] = []
    watch = (Told(lambda: None, grow, grow, grow), tmp_path / "out.nxs", said.append)
    parameters = {"bins": 20, "missing": "skip", "normalise": False}
    result = follow_run(kind, str(master), parameters, Engine(threads=1), watch)
    assert (seen, result.statistics.n_frames_read, len(said)) == ([5, 10, 12], 12, 4)
    assert not live.exists()


def test_a_run_is_over_when_it_has_not_changed_for_a_while(powder_truth: Truth, tmp_path: Path) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] == 3.0:
            (tmp_path / "grows.h5").write_bytes(b"more")

    (tmp_path / "grows.h5").write_bytes(b"")
    watcher = PolledRun(str(tmp_path / "grows.h5"), 5.0, sleep=sleep, clock=lambda: now[0])
    assert [watcher.wait(), watcher.wait()] == [True, True]
    assert now[0] == 3.0
    assert watcher.wait() is False
    assert now[0] == 8.0
