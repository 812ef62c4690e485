"""Long jobs: reductions that a session's server runs outside of every kernel, and how far they are.

A job is a folder in its person's home: `job.json` says what to do and never changes, `state.json` how far it
is, an empty file `stop` that it shall end. Notebook, server and job speak through these files alone, so that
each of them may end and come back.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from beamhub_core.word import Word

JOBS_FOLDER = Path(".beamhub") / "jobs"
JOB_FILE, STATE_FILE, STOP_FILE, LOCK_FILE, LOG_FILE = "job.json", "state.json", "stop", "lock", "log"
MAX_JOB_BYTES = 16 * 1024**2
MAX_LISTED = 200
MAX_SHOWN = 20
MAX_STARTS = 20
"""A job that was interrupted so often is given up."""
_ID = re.compile(r"[0-9a-f]{16}")

JobPhase = Literal["waiting", "running", "done", "failed", "stopped"]
FINAL_PHASES: tuple[JobPhase, ...] = ("done", "failed", "stopped")
JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0, le=10**15)]


class JobReduction(Word):
    """One reduction of a job, as `beamhub reduce --config` takes it; the output is a new file."""

    step: str = Field(max_length=60)
    file: str = Field(min_length=1, max_length=4096)
    output: str = Field(min_length=1, max_length=4096)
    parameters: dict[str, Any] = {}


class LongJob(Word):
    """What to do."""

    id: JobId
    title: str = Field(min_length=1, max_length=120)
    server: str = Field(max_length=255, description="The server whose job it is; empty for the default one.")
    made_at: datetime
    reductions: tuple[JobReduction, ...] = Field(min_length=1, max_length=1000)
    journal: str = Field(max_length=4096, description="Where finished units are kept, absolute.")
    workers: int | None = Field(
        default=None, ge=1, le=10_000, description="Workers of a cluster; without it threads of the session."
    )


class JobReport(Word):
    """How far a job is, as its session tells web."""

    id: JobId
    title: str = Field(max_length=120)
    phase: JobPhase
    n_done: Count = Field(default=0, description="Units of the reduction that is being done.")
    n_units: Count = 0
    text: str = Field(default="", max_length=300, description="The same in words, or why it failed.")


class JobState(Word):
    """How far a job is."""

    phase: JobPhase = "waiting"
    n_done: Count = 0
    n_units: Count = 0
    text: str = Field(default="", max_length=300)
    finished: tuple[Count, ...] = Field(
        default=(), max_length=1000, description="Reductions whose products are there."
    )
    n_starts: Count = 0


def new_job_id() -> str:
    """An id that no other job has."""
    return secrets.token_hex(8)


def write_whole(path: Path, word: Word) -> None:
    """Put a word into a file, whole or not at all; for its owner only.

    Raises
    ------
    OSError
    """
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(word.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    except OSError:
        with suppress(OSError):
            hidden.unlink()
        raise


def store_job(home: Path, job: LongJob) -> Path:
    """Make a job's folder; its server finds it there.

    Raises
    ------
    OSError
        If the home cannot be written.
    """
    folder = home / JOBS_FOLDER / job.id
    folder.mkdir(mode=0o700, parents=True)
    write_whole(folder / JOB_FILE, job)
    return folder


def read_job(folder: Path) -> LongJob | None:
    """The job of a folder; None where there is none that can be understood."""
    job = _read(folder / JOB_FILE, LongJob)
    return job if isinstance(job, LongJob) and job.id == folder.name and job.made_at.tzinfo else None


def read_state(folder: Path) -> JobState:
    """How far a job is; one that nobody has begun waits."""
    state = _read(folder / STATE_FILE, JobState)
    return state if isinstance(state, JobState) else JobState()


def jobs_in(
    home: Path, server: str | None = None, *, but: frozenset[str] = frozenset()
) -> tuple[tuple[Path, LongJob], ...]:
    """The jobs of a home, the oldest first; of one server, or of all; the ids in `but` are not read."""
    found = [(folder, job) for folder, job in _jobs(home, but) if server is None or job.server == server]
    return tuple(sorted(found, key=lambda one: (one[1].made_at, one[1].id))[-MAX_LISTED:])


def report_of(folder: Path, job: LongJob) -> JobReport:
    """What is told of a job."""
    state = read_state(folder)
    return JobReport(
        id=job.id,
        title=job.title,
        phase=state.phase,
        n_done=state.n_done,
        n_units=state.n_units,
        text=state.text,
    )


def _jobs(home: Path, but: frozenset[str]) -> Iterator[tuple[Path, LongJob]]:
    try:
        folders = [one for one in (home / JOBS_FOLDER).iterdir() if _ID.fullmatch(one.name)]
        folders = [one for one in folders if one.name not in but]
    except OSError:
        return
    for folder in folders:
        job = read_job(folder)
        if job is not None:
            yield folder, job


def _read(path: Path, kind: type[Word]) -> Word | None:
    with suppress(OSError, ValidationError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            return kind.model_validate_json(file.read(MAX_JOB_BYTES))
    return None
