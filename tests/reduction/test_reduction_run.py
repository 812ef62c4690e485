"""Runs are opened by pid or path, results know where they belong, and the notebook's calls work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import beamhub_reduction as br
from beamhub_core.session import ClusterLimits, PlannedDataset, SessionInfo
from beamhub_reduction.errors import BadParameter, RunNotFound, SessionFileInvalid
from beamhub_reduction.nexus import FileMissing
from beamhub_reduction.synthetic import Truth

PID = "demo:MA-5101:CeO2_0001"


@pytest.fixture
def session(
    powder_truth: Truth, outside_session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SessionInfo:
    """A session with one dataset, whose proposal's processed folder is writable, and a lost one."""
    processed = tmp_path / "processed"
    processed.mkdir()

    def planned(pid: str, file: str) -> PlannedDataset:
        return PlannedDataset(
            pid=pid, title="Ceria", proposal="MA-5101", technique=powder_truth.technique,
            instrument="bl09", file=file,
        )  # fmt: skip

    info = SessionInfo(
        plan_id="0" * 32,
        plan_hash="1" * 64,
        account="u-" + "a" * 26,
        who="Ines",
        place="hall-a",
        datasets=(planned(PID, powder_truth.file), planned("demo:MA-5101:lost", str(tmp_path / "lost.h5"))),
        processed={"MA-5101": str(processed)},
        home=str(outside_session),
        template=None,
        environment="standard",
        image="local",
        cluster_limits=ClusterLimits(max_workers=2, threads_per_worker=1, memory_gib=1),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )
    path = tmp_path / "session.json"
    path.write_text(info.model_dump_json())
    monkeypatch.setenv("BEAMHUB_SESSION_FILE", str(path))
    return info


def test_the_calls_of_the_notebook_work_from_pid_to_product(
    session: SessionInfo, powder_truth: Truth
) -> None:
    with br.connect() as client:
        run = br.open_run(PID)
        result = run.azimuthal(bins=100, unit="q_nm^-1", client=client)
    assert result.execution.scheduler_id is not None
    assert 1 <= result.execution.n_workers <= 2
    product = result.write()
    assert Path(product.path).parent == Path(session.processed["MA-5101"])
    assert product.inputs == (PID,)
    assert (product.who, product.account, product.plan_id) == ("Ines", session.account, session.plan_id)
    assert product.proposal == "MA-5101"
    assert product.title == "Azimuthal integration of Ceria"


def test_a_result_draws_itself_and_shows_its_counts(session: SessionInfo) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    result = br.open_run(PID).azimuthal(bins=20, progress=lambda *_: None)
    axes = result.plot()
    assert axes.get_xlabel() == "q (nm^-1)"
    assert "counts_total" in result._repr_html_()
    pyplot.close(axes.figure)


def test_a_dataset_is_recognised_by_its_path_too(session: SessionInfo, powder_truth: Truth) -> None:
    assert br.open_run(powder_truth.file).pid == PID


def test_a_proposal_without_a_writable_folder_writes_home(session: SessionInfo, tmp_path: Path) -> None:
    readable = session.model_copy(update={"processed": {}})
    (tmp_path / "session.json").write_text(readable.model_dump_json())
    product = br.open_run(PID).azimuthal(bins=20, progress=lambda *_: None).write()
    assert Path(product.path).parent == Path(session.home)


def test_unknown_names_and_lost_files_are_told_apart(session: SessionInfo) -> None:
    with pytest.raises(RunNotFound) as caught:
        br.open_run("demo:MA-5101:other")
    assert caught.value.known == (PID, "demo:MA-5101:lost")
    with pytest.raises(FileMissing, match=r"lost\.h5"):
        br.open_run("demo:MA-5101:lost")


def test_a_session_may_not_have_more_workers_than_it_was_given(session: SessionInfo) -> None:
    for workers in (0, 3):
        with pytest.raises(BadParameter, match="workers"):
            br.connect(workers)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff"])
def test_a_broken_session_file_is_an_error_that_does_not_quote_it(
    session: SessionInfo, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "session.json").write_bytes(content)
    with pytest.raises(SessionFileInvalid) as caught:
        br.open_run(PID)
    assert caught.value.path.endswith("session.json")
    assert "not json" not in str(caught.value)


def test_a_missing_session_file_is_an_error_too(session: SessionInfo, tmp_path: Path) -> None:
    (tmp_path / "session.json").unlink()
    with pytest.raises(SessionFileInvalid, match="No such file"):
        br.connect()
