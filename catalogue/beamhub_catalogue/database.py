"""One engine for the web service: transactions for reading and for writing, and the schema."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S = 15.0


class Database:
    """The engine and its two kinds of transaction; safe to share between threads.

    On SQLite a reader sees one snapshot and never waits; a writer takes the lock when it begins, so that
    it cannot fail half-way because another wrote after it read.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        arguments = {"timeout": BUSY_TIMEOUT_S} if self.is_sqlite else {}
        self.engine = create_engine(self.url, connect_args=arguments, pool_pre_ping=not self.is_sqlite)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._writing = self.engine.execution_options(writes=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database and leaves nothing behind."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are committed together at the end, or not at all."""
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def is_up(self) -> bool:
        """Whether the database answers."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def ensure_schema(database: Database) -> None:
    """Bring the tables to the newest migration; nothing when they are there already."""
    with _migration_lock(database), database.engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


@contextmanager
def _migration_lock(database: Database) -> Iterator[None]:
    """Two processes that start together make an SQLite schema one after the other."""
    if not (database.is_sqlite and database.url.database):
        yield
        return
    path = Path(database.url.database)
    with path.with_name(path.name + ".migrate").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # the driver starts no transaction of its own; see _begin_sqlite
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # a stored plan survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")
    # As PostgreSQL does it: LIKE minds letter case, and lower() knows more than ASCII.
    connection.execute("PRAGMA case_sensitive_like=ON")
    connection.create_function("lower", 1, _lower, deterministic=True)


def _lower(value: str | None) -> str | None:
    return value.lower() if isinstance(value, str) else value


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
