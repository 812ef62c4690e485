"""One engine for the web service: transactions for reading and for writing, and the schema.

SQLite serves a demonstration or a small facility on one machine; PostgreSQL (`beamhub_catalogue.postgresql`)
serves production. Both answer alike: one suite runs on both.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, StaticPool, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from beamhub_catalogue.keeping import CheckedSession
from beamhub_catalogue.postgresql import MIGRATION_LOCK, Limits, PostgresqlServer, in_words, take_write_lock
from beamhub_catalogue.search_patterns import compiled

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S = 15.0


class Database:
    """The engine and its two kinds of transaction; safe to share between threads.

    A reader sees one snapshot and never waits. A writer waits for the one place that there is for writers
    when it begins, so that it cannot fail half-way because another wrote after it read: on SQLite that is
    the file's lock, on PostgreSQL an advisory lock that ends with the transaction.
    """

    def __init__(self, url: str, password_file: Path | None = None, limits: Limits | None = None) -> None:
        """Open nothing yet; `password_file` holds the password of a PostgreSQL user."""
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.server = (
            None if self.is_sqlite else PostgresqlServer(self.url, password_file, limits or Limits())
        )
        self.engine = self.server.engine() if self.server else _sqlite_engine(self.url)
        self._writing = self.engine.execution_options(writes=True)
        self._reading = (
            self.engine
            if self.is_sqlite
            else self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        )
        if self.server is not None:
            event.listen(self.engine, "begin", _begin_postgresql)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database and leaves nothing behind.

        Raises
        ------
        Unavailable
            If PostgreSQL gives no answer.
        """
        with _told(), Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are committed together at the end, or not at all.

        Raises
        ------
        Unavailable
            If PostgreSQL gives no answer, or another writer takes too long; DatabaseLost where it is not
            known whether the changes were kept.
        """
        with _told(), CheckedSession(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def trying(self) -> Iterator[Session]:
        """A session that may change everything and whose changes are never kept: what would happen, if."""
        with _told(), CheckedSession(self._writing, expire_on_commit=False) as session:
            try:
                yield session
            finally:
                session.rollback()

    def is_up(self) -> bool:
        """Whether the database answers; known within two seconds also where a server hangs."""
        if self.server is not None:
            return self.server.is_up()
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def close(self) -> None:
        """Close all connections; one that somebody still holds is closed when it is given back."""
        event.listen(self.engine.pool, "checkin", _close_at_checkin)
        self.engine.dispose()


def _close_at_checkin(connection: Any, record: Any) -> None:
    """A pool that is closed would keep what comes back, and nobody would close it."""
    record.invalidate()


def ensure_schema(database: Database) -> None:
    """Bring the tables to the newest migration; nothing when they are there already.

    Raises
    ------
    DatabaseUnusable
        If PostgreSQL cannot be reached, does not let us in, or is too old.
    """
    with _migration_lock(database) as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


@contextmanager
def _told() -> Iterator[None]:
    """What happens to a server while we use it, in words for callers."""
    try:
        yield
    except DBAPIError as error:
        if (told := in_words(error)) is not None:
            raise told from error
        raise


@contextmanager
def _migration_lock(database: Database) -> Iterator[Connection]:
    """A connection to migrate over; processes that start together migrate one after the other."""
    if database.server is not None:
        with _migrating_postgresql(database.server) as connection:
            yield connection
        return
    with ExitStack() as stack:
        if database.url.database:
            path = Path(database.url.database)
            file = stack.enter_context(path.with_name(path.name + ".migrate").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield stack.enter_context(database.engine.connect())


@contextmanager
def _migrating_postgresql(server: PostgresqlServer) -> Iterator[Connection]:
    """A connection of its own: a migration of a large catalogue takes as long as it takes."""
    made = server.connect(lock_timeout="0", statement_timeout="0", idle_in_transaction_session_timeout="0")
    made.limit_s = None
    engine = create_engine(server.url, poolclass=StaticPool, creator=lambda: made, use_native_hstore=False)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            yield connection
    finally:
        engine.dispose()


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get("writes", False):
        take_write_lock(connection)


def _sqlite_engine(url: URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # the driver starts no transaction of its own; see _begin_sqlite
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # a stored plan survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")
    # As PostgreSQL does it: LIKE minds letter case, and lower() knows more than ASCII.
    connection.execute("PRAGMA case_sensitive_like=ON")
    connection.create_function("lower", 1, _lower, deterministic=True)
    connection.create_function("re2_matches", 2, _matches, deterministic=True)


def _lower(value: str | None) -> str | None:
    return value.lower() if isinstance(value, str) else value


def _matches(pattern: str, text: str | None) -> bool | None:
    """Whether a pattern that `search_patterns` let through is in a text; of none nothing is known."""
    return None if text is None else compiled(pattern).search(text) is not None


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
