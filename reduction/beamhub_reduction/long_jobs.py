"""Handing a reduction to the session's server, which does it while no kernel and no browser is there."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from beamhub_core.clock import utc_now
from beamhub_core.long_job import (
    FINAL_PHASES,
    STOP_FILE,
    JobReduction,
    JobReport,
    LongJob,
    jobs_in,
    new_job_id,
    read_job,
    report_of,
    store_job,
)
from beamhub_core.session import SessionInfo
from beamhub_reduction.batch import Job
from beamhub_reduction.errors import BadParameter, NoSuchJob, NotInSession
from beamhub_reduction.pipeline.step import parse_parameters
from beamhub_reduction.product import check_output
from beamhub_reduction.session_info import read_session, server_name

MAX_TITLE = 120


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job of this session; shows how far it is."""

    folder: Path

    @property
    def id(self) -> str:
        """Its id, for `beamhub job stop`."""
        return self.folder.name

    def report(self) -> JobReport:
        """How far it is.

        Raises
        ------
        NoSuchJob
            If its folder was removed.
        """
        job = read_job(self.folder)
        if job is None:
            raise NoSuchJob(self.id)
        return report_of(self.folder, job)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.report().phase in FINAL_PHASES

    def stop(self) -> None:
        """Ask it to end; what is finished stays in its journal."""
        (self.folder / STOP_FILE).touch(mode=0o600)

    def __repr__(self) -> str:
        report = self.report()
        return f"<job {report.id} {report.title!r}: {report.phase}. {report.text}>"

    def _repr_html_(self) -> str:
        """Title, state and a bar; everything is escaped."""
        report = self.report()
        bar = (
            f'<progress max="{report.n_units}" value="{report.n_done}"></progress> ' if report.n_units else ""
        )
        return (
            f"<p><strong>{html.escape(report.title)}</strong> ({html.escape(report.id)}): "
            f"{html.escape(report.phase)}<br>{bar}{html.escape(report.text)}</p>"
        )


def submit(jobs: Sequence[Job], *, workers: int | None = None, title: str = "") -> SubmittedJob:
    """Hand reductions to the session's server, which does them one after the other.

    The job goes on when browser and kernel are gone, keeps the session awake, and ends with it; a new start
    of the same session goes on where it was. `workers` asks for a cluster of its own, within the limits.

    Raises
    ------
    NotInSession
        Outside of a session.
    BadParameter
        If a step, a parameter or a number is wrong, or an output is a folder.
    ProductExists, ProductNotWritten
        If an output is there already, or its folder is not.
    OSError
        If the home cannot be written.
    """
    session = read_session()
    if session is None:
        raise NotInSession
    if workers is not None:
        most = max(1, session.cluster_limits.max_workers)
        if not 1 <= workers <= most:
            raise BadParameter("workers", workers, f"from 1 to {most}")
    reductions = tuple(_checked(job) for job in jobs)
    if not reductions:
        raise BadParameter("jobs", 0, "at least one")
    first = jobs[0]
    said = title or f"{first.step} of {Path(first.file).name}" + (
        f" and {len(jobs) - 1} more" if jobs[1:] else ""
    )
    job_id = new_job_id()
    job = LongJob(
        id=job_id,
        title=said[:MAX_TITLE],
        server=server_name(),
        made_at=utc_now(),
        reductions=reductions,
        journal=str(_journal(session) / job_id),
        workers=workers,
    )
    return SubmittedJob(store_job(Path(session.home), job))


def own_jobs() -> tuple[SubmittedJob, ...]:
    """The jobs of this person's sessions, the oldest first.

    Raises
    ------
    NotInSession
        Outside of a session.
    """
    session = read_session()
    if session is None:
        raise NotInSession
    return tuple(SubmittedJob(folder) for folder, _ in jobs_in(Path(session.home)))


def find_job(text: str) -> SubmittedJob:
    """The job whose id begins so.

    Raises
    ------
    NoSuchJob
        If there is none, or several are.
    NotInSession
    """
    found = [job for job in own_jobs() if text and job.id.startswith(text)]
    if len(found) != 1:
        raise NoSuchJob(text)
    return found[0]


def _checked(job: Job) -> JobReduction:
    output = Path(job.output).absolute()
    parse_parameters(job.kind, dict(job.parameters))
    check_output(output)
    if output.is_dir():
        raise BadParameter("output", job.output, "a new file")
    file, colon, inside = job.file.partition("::")
    if Path(file).exists():
        file = str(Path(file).absolute())
    return JobReduction(
        step=job.kind.name, file=f"{file}{colon}{inside}", output=str(output), parameters=dict(job.parameters)
    )


def _journal(session: SessionInfo) -> Path:
    """Scratch where there is any: parts are large, and homes small."""
    return Path(session.scratch or session.home) / ".beamhub" / "journal"
