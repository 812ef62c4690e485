"""What a running session tells its notebooks: the one module of this room that reads the environment."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from beamhub_core.session import PlannedDataset, SessionInfo
from beamhub_reduction.errors import SessionFileInvalid

MAX_SESSION_FILE_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class WebService:
    """Where the web service is and what to show it; `token` is never logged nor stored."""

    url: str
    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return f"WebService(url={self.url!r})"


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where this session's clusters are made; `token` is never logged nor stored."""

    url: str
    token: str

    def __repr__(self) -> str:
        """Without the token."""
        return f"Gateway(url={self.url!r})"


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
    url, token = os.environ.get("BEAMHUB_WEB_URL"), os.environ.get("JUPYTERHUB_API_TOKEN")
    return WebService(url.rstrip("/"), token) if url and token else None


def gateway() -> Gateway | None:
    """The gateway of this session; None outside of one, and in a facility that has none."""
    url, token = os.environ.get("BEAMHUB_GATEWAY_URL"), os.environ.get("JUPYTERHUB_API_TOKEN")
    return Gateway(url.rstrip("/"), token) if url and token else None


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
