"""What a running server knows of its session, and what it says of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from beamhub_core.session import ClusterLimits, SessionInfo
from beamhub_core.word import Word
from beamhub_session.errors import SessionUnknown

MAX_SESSION_FILE_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a server finds its session file and the template notebooks; None when nobody said."""

    session_file: Path | None
    templates: Path | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Sources:
        """The sources that BEAMHUB_SESSION_FILE and BEAMHUB_TEMPLATES name."""

        def named(variable: str) -> Path | None:
            value = environment.get(variable, "")
            return Path(value) if value else None

        return cls(session_file=named("BEAMHUB_SESSION_FILE"), templates=named("BEAMHUB_TEMPLATES"))


class MountedDataset(Word):
    """A dataset as the Lab panel shows it."""

    pid: str
    title: str
    proposal: str
    technique: str
    instrument: str
    file: str
    missing: tuple[str, ...]
    is_readable: bool


class WritableFolder(Word):
    """The processed folder of a proposal."""

    proposal: str
    path: str
    is_writable: bool


class TemplateState(Word):
    """What became of the planned template."""

    name: str
    notebook: str | None = None
    problem: str | None = None


class SessionView(Word):
    """The answer of `GET beamhub/session`."""

    plan_id: str
    who: str
    place: str
    environment: str
    datasets: tuple[MountedDataset, ...]
    processed: tuple[WritableFolder, ...]
    home: str
    enforced: dict[str, bool]
    cluster_limits: ClusterLimits
    expires_at: datetime
    seconds_left: float
    template: TemplateState | None


def read_session(sources: Sources) -> SessionInfo:
    """The session file's content, read anew at every call because an extension rewrites it.

    Raises
    ------
    SessionUnknown
        If no file is named, or it cannot be read or understood.
    """
    file = sources.session_file
    if file is None:
        raise SessionUnknown("it was not started by the platform")
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_SESSION_FILE_BYTES + 1)
    except OSError as error:
        raise SessionUnknown("its session file cannot be read") from error
    if len(content) > MAX_SESSION_FILE_BYTES:
        raise SessionUnknown("its session file is too large")
    try:
        return SessionInfo.model_validate_json(content)
    except ValidationError as error:
        raise SessionUnknown(
            f"its session file is of another version ({error.error_count()} differences)"
        ) from None


def build_view(info: SessionInfo, *, template: TemplateState | None, now: datetime) -> SessionView:
    """What is mounted and until when; looks at each dataset's file and each processed folder."""
    return SessionView(
        plan_id=info.plan_id,
        who=info.who,
        place=info.place,
        environment=info.environment,
        datasets=tuple(
            MountedDataset(
                pid=dataset.pid,
                title=dataset.title,
                proposal=dataset.proposal,
                technique=dataset.technique,
                instrument=dataset.instrument,
                file=dataset.file,
                missing=dataset.missing,
                is_readable=os.access(dataset.file, os.R_OK),
            )
            for dataset in info.datasets
        ),
        processed=tuple(
            WritableFolder(proposal=proposal, path=path, is_writable=os.access(path, os.W_OK | os.X_OK))
            for proposal, path in sorted(info.processed.items())
        ),
        home=info.home,
        enforced=info.enforced,
        cluster_limits=info.cluster_limits,
        expires_at=info.expires_at,
        seconds_left=max(0.0, (info.expires_at - now).total_seconds()),
        template=template,
    )
