"""What a running session tells its notebooks: the one module of this room that reads the environment."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from beamhub_core.cluster_record import records_folder
from beamhub_core.session import PlannedDataset, SessionInfo
from beamhub_reduction.errors import SessionFileInvalid

MAX_SESSION_FILE_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class SessionService:
    """Where a service of this session is and what to show it; `token` is never logged nor stored."""

    url: str
    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return f"{type(self).__name__}(url={self.url!r})"

    @classmethod
    def from_environment(cls, variable: str) -> Self | None:
        """The service whose address stands in a variable, or None where none does."""
        url, token = os.environ.get(variable), os.environ.get("JUPYTERHUB_API_TOKEN")
        return cls(url.rstrip("/"), token) if url and token else None


class WebService(SessionService):
    """The web service."""

    __slots__ = ()


class Gateway(SessionService):
    """Where this session's clusters are made."""

    __slots__ = ()


def read_session() -> SessionInfo | None:
    """The session this process runs in, or None outside of one.

    Raises
    ------
    SessionFileInvalid
        If the file named by BEAMHUB_SESSION_FILE cannot be read or understood.
    """
    name = os.environ.get("BEAMHUB_SESSION_FILE")
    if not name:
        return None
    try:
        path = Path(name)
        if path.stat().st_size > MAX_SESSION_FILE_BYTES:
            raise SessionFileInvalid(name, "it is too large")
        return SessionInfo.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SessionFileInvalid(name, error.strerror or type(error).__name__) from error
    except ValidationError as error:
        raise SessionFileInvalid(name, f"{error.error_count()} fields are wrong") from error


def web_service() -> WebService | None:
    """The web service of this session, or None outside of one."""
    return WebService.from_environment("BEAMHUB_WEB_URL")


def gateway() -> Gateway | None:
    """The gateway of this session; None outside of one, and in a facility that has none."""
    return Gateway.from_environment("BEAMHUB_GATEWAY_URL")


def server_name() -> str:
    """The name of this person's server; empty for the default one, and outside of a hub."""
    return os.environ.get("JUPYTERHUB_SERVER_NAME", "")[:255]


def session_end() -> datetime | None:
    """When the session ends as it was planned; None outside of one, and where its file cannot be read."""
    try:
        session = read_session()
    except SessionFileInvalid:
        return None
    return session.expires_at if session is not None else None


def cluster_records() -> Path | None:
    """The folder by which the session's server learns of clusters; None outside of a Jupyter server."""
    return records_folder(os.environ)


def cluster_pages(cluster: str) -> str | None:
    """The dashboards of a cluster, as a path on this server's host; None outside of a hub's server."""
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    return f"{prefix.rstrip('/')}/beamhub/clusters/{cluster}/status" if prefix.startswith("/") else None


def user_name() -> str:
    """Who runs this process when no session says so."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid, as in many containers
        return "unknown"


def find_dataset(session: SessionInfo | None, name: str) -> PlannedDataset | None:
    """The session's dataset with this pid, or whose master file this path is."""
    if session is None:
        return None
    by_pid = next((d for d in session.datasets if d.pid == name), None)
    if by_pid is not None:
        return by_pid
    real = os.path.realpath(name)
    return next((d for d in session.datasets if os.path.realpath(d.file) == real), None)
