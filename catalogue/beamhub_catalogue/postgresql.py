"""PostgreSQL as the web service's database: connections that cannot hang, and faults in plain words.

Everything that waits has an end. The server ends a statement, a wait for a lock and a transaction that idles;
the client ends a wait for a server that stopped answering, and TCP one for a machine that is gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from beamhub_core.errors import BeamhubError, Unavailable

log = logging.getLogger(__name__)

DRIVER = "postgresql+psycopg"
OLDEST_SERVER = 15
"""The oldest major version whose makers still mend it (November 2026), and the one that the suite runs on."""
WRITE_LOCK, MIGRATION_LOCK, VISITS_LOCK = 0x6265616D68756201, 0x6265616D68756202, 0x6265616D68756203
"""Advisory locks of a database: 'beamhub' in ASCII and a number. They hold within this database alone."""
POOL_SIZE = 20
POOL_OVERFLOW = 24
"""Together one connection for each of the 40 threads that answer requests, and a few for scans and health."""

Fault = Literal["unreachable", "refused", "too_old", "encoding", "password_file"]
_ADVICE: dict[Fault, str] = {
    "unreachable": "Is the server running, and are host and port those of web.database_url?",
    "refused": "Check user and database in web.database_url, web.database_password_file and pg_hba.conf.",
    "too_old": f"Use PostgreSQL {OLDEST_SERVER} or newer.",
    "encoding": "Make it again: CREATE DATABASE beamhub ENCODING 'UTF8' TEMPLATE template0.",
    "password_file": "Name a file that this process may read and that holds the password alone.",
}
_BUSY = {"55P03": "another change takes long", "57014": "a question took too long", "53300": "it is full"}


@dataclass(frozen=True, slots=True)
class Limits:
    """For how long anything waits, in whole seconds, and which server will do."""

    connect_s: int = 5
    lock_s: int = 15
    statement_s: int = 60
    idle_s: int = 120
    """A transaction that does nothing for so long is ended by the server: it may hold the lock of writers."""
    silence_s: int = 65
    """When a client gives up a server that does not even say that a statement took too long."""
    probe_s: int = 2
    """For the question whether the database is up; no shorter time can be asked for."""
    oldest_server: int = OLDEST_SERVER


class DatabaseUnusable(BeamhubError):
    """The database of the web service cannot be used; for the operator, who reads where and why.

    `where` is its URL without password, `fault` what kind of trouble it is, `detail` the server's own words.
    """

    exit_code = 6

    def __init__(self, where: str, fault: Fault, detail: str) -> None:
        super().__init__(where, fault, detail)
        self.where, self.fault, self.detail = where, fault, detail

    def __str__(self) -> str:
        return f"The database {self.where} cannot be used: {self.detail}. {_ADVICE[self.fault]}"


class DatabaseLost(Unavailable):
    """The connection broke in the middle: what was about to be kept may be kept or not."""

    def __init__(self) -> None:
        super().__init__("database", "the connection broke")
        self.args = ()

    def __str__(self) -> str:
        return "The connection to the database broke. Look whether the change was kept before you repeat it."


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that gives up, and closes, when the server falls silent."""

    limit_s: float | None = Limits().silence_s

    def wait(self, gen: PQGen[Any], *arguments: Any, **options: Any) -> Any:
        """As psycopg waits for an answer, but not longer than `limit_s`."""
        if self.limit_s is None:
            return super().wait(gen, *arguments, **options)
        try:
            return super().wait(_until(gen, time.monotonic() + self.limit_s), *arguments, **options)
        except _Silent:
            self.pgconn.finish()
            raise psycopg.OperationalError("the server fell silent") from None


class _Silent(Exception):
    """The server did not answer in time."""


def _until(gen: PQGen[Any], deadline: float) -> Generator[Any, Any, Any]:
    """The same generator with an end; psycopg resumes it several times a second also when nothing came."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise _Silent
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value


class PostgresqlServer:
    """How connections to one database are made.

    The password's file is read for each new connection, so that a password may change while we run.
    """

    def __init__(self, url: URL, password_file: Path | None, limits: Limits) -> None:
        self.url, self._limits = url.set(drivername=DRIVER), limits
        self.where = url.set(query={}).render_as_string(hide_password=True)
        self._dialect = self.url.get_dialect()()
        self._password_file = password_file

    def engine(self) -> Engine:
        """An engine whose connections have limits, in UTC."""
        engine = create_engine(
            self.url,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=self._limits.lock_s,
            pool_pre_ping=True,
            pool_use_lifo=True,
            pool_recycle=1800,
            hide_parameters=True,
            use_native_hstore=False,  # else every new connection asks for a type that we never use
        )

        @event.listens_for(engine, "do_connect")
        def connect(dialect: Any, record: Any, words: Any, options: dict[str, Any]) -> BoundedConnection:
            try:
                return self.connect(options)
            except DatabaseUnusable as error:
                log.warning("no database: %s", error)
                raise Unavailable("database", error.fault.replace("_", " ")) from None

        return engine

    def connect(self, options: dict[str, Any] | None = None, **changes: str) -> BoundedConnection:
        """One connection; `changes` are settings of the server for it, such as `lock_timeout`.

        Raises
        ------
        DatabaseUnusable
            If there is none to be had, or none that the platform can use.
        """
        options = self._named() if options is None else options
        try:
            made = BoundedConnection.connect(**self._complete(options, changes))
            made.limit_s = self._limits.silence_s
        except psycopg.Error as error:
            detail = " ".join(str(error).split())[:400].rstrip(".")
            raise DatabaseUnusable(self.where, _fault_of(error, detail), detail) from None
        try:
            self._check(made)
        except DatabaseUnusable:
            made.close()
            raise
        return made

    def is_up(self) -> bool:
        """Whether the server lets us in now; known within two seconds also when it hangs."""
        try:
            self.connect(self._named() | {"connect_timeout": str(self._limits.probe_s)}).close()
        except DatabaseUnusable:
            return False
        return True

    def _named(self) -> dict[str, Any]:
        """What the URL says of host, user, database and the rest."""
        return dict(self._dialect.create_connect_args(self.url)[1])

    def _complete(self, options: dict[str, Any], changes: dict[str, str]) -> dict[str, Any]:
        settings = {
            "timezone": "UTC",
            "lock_timeout": f"{self._limits.lock_s}s",
            "statement_timeout": f"{self._limits.statement_s}s",
            "idle_in_transaction_session_timeout": f"{self._limits.idle_s}s",
        } | changes
        ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
        defaults = {
            "application_name": "beamhub-web",
            "connect_timeout": str(self._limits.connect_s),
            "keepalives_idle": "10",
            "keepalives_interval": "5",
            "keepalives_count": "3",
            "tcp_user_timeout": "20000",
            "client_encoding": "utf8",
        }
        chosen = defaults | options
        chosen["options"] = f"{ours} {options.get('options', '')}".strip()
        if self._password_file is not None:
            chosen["password"] = self._password()
        return chosen

    def _password(self) -> str:
        assert self._password_file is not None  # noqa: S101  # asked before
        try:
            return self._password_file.read_text("utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no text"
            detail = f"its password file {self._password_file} cannot be read ({reason})"
            raise DatabaseUnusable(self.where, "password_file", detail) from None

    def _check(self, made: BoundedConnection) -> None:
        version = made.info.server_version // 10_000
        if version < self._limits.oldest_server:
            raise DatabaseUnusable(self.where, "too_old", f"its server is PostgreSQL {version}")
        encoding = made.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise DatabaseUnusable(self.where, "encoding", f"it keeps text as {encoding}, not as UTF-8")


def _fault_of(error: psycopg.Error, detail: str) -> Fault:
    """Whether a server answered at all: only its own words say FATAL."""
    return "refused" if "FATAL" in detail or "password" in detail else "unreachable"


def take_write_lock(connection: Connection) -> None:
    """Wait for the one place for writers, until the transaction ends."""
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")


def in_words(error: DBAPIError) -> Unavailable | None:
    """What a caller is told of an error that another try may not meet; None for any other error."""
    if error.connection_invalidated:
        return DatabaseLost()
    reason = _BUSY.get(getattr(error.orig, "sqlstate", None) or "")
    return Unavailable("database", reason) if reason is not None else None
