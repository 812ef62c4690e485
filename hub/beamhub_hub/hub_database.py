"""Whether the hub's own database answers, asked before JupyterHub is: its word would be a traceback."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from beamhub_core.errors import BeamhubError

CONNECT_S = 5


class HubDatabaseUnusable(BeamhubError):
    """The hub's database cannot be used; `where` is its URL without password, `detail` the reason."""

    exit_code = 6

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(where, detail)
        self.where, self.detail = where, detail

    def __str__(self) -> str:
        return (
            f"The hub's database {self.where} cannot be used: {self.detail}. Is the server running, and are "
            "host, user and database those of hub.database_url? Nothing was started; the next try is whoever "
            "starts this process."
        )


def check_hub_database(database_url: str, connect_args: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Nothing when the server of a PostgreSQL database lets the hub in; other kinds are not looked at.

    Parameters
    ----------
    connect_args:
        What the hub connects with besides the URL, e.g. its password.

    Raises
    ------
    HubDatabaseUnusable
        If it does not, within `CONNECT_S` seconds.
    """
    try:
        url: URL = make_url(database_url)
    except ArgumentError:  # its text would repeat the URL, which may hold a password
        raise HubDatabaseUnusable("(hub.database_url)", "it is no URL of a database") from None
    if url.get_backend_name() != "postgresql":
        return
    engine = create_engine(
        url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_S, **connect_args}
    )
    try:
        with engine.connect():
            pass
    except SQLAlchemyError as error:
        raise HubDatabaseUnusable(_where(url), _first_line(error)) from None
    finally:
        engine.dispose()


def _where(url: URL) -> str:
    return url.set(query={}).render_as_string(hide_password=True)


def _first_line(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0].rstrip(".")[:300] if lines else type(cause).__name__
