"""What PostgreSQL is told, and what happens when it is away, slow, foreign or restarted."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg import sql
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, InternalError

from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.models import Base, LostEntitlementRow
from beamhub_catalogue.postgresql import DatabaseLost, DatabaseUnusable, Limits
from beamhub_core.errors import Unavailable
from catalogue.catalogue_parts import NOW, note, subjects
from postgresql_server import MISSING, PostgresqlServer, find_programs

pytestmark = pytest.mark.postgresql

SHORT = Limits(connect_s=2, lock_s=1, statement_s=2, silence_s=3, idle_s=2)


@pytest.fixture
def database(postgresql_url: str) -> Iterator[Database]:
    """A database with its tables."""
    made = Database(postgresql_url)
    yield made
    made.close()


@pytest.fixture
def hasty(postgresql_url: str) -> Iterator[Database]:
    """The same database for somebody who waits a second."""
    made = Database(postgresql_url, limits=SHORT)
    yield made
    made.close()


@pytest.fixture
def own_server() -> Iterator[PostgresqlServer]:
    """A server that a test may stop."""
    programs = find_programs()
    if programs is None:
        pytest.skip(MISSING)
    server = PostgresqlServer(programs)
    yield server
    server.stop()


class TestTransactions:
    """Reading and writing."""

    def test_a_connection_says_who_it_is_and_has_limits_and_utc(self, database: Database) -> None:
        with database.reading() as session:
            told = {
                name: session.scalar(select(func.current_setting(name)))
                for name in (
                    "application_name",
                    "TimeZone",
                    "lock_timeout",
                    "statement_timeout",
                    "idle_in_transaction_session_timeout",
                )
            }
        assert list(told.values()) == ["beamhub-web", "UTC", "15s", "1min", "2min"]

    def test_a_reader_sees_one_state_while_another_writes(self, database: Database) -> None:
        with database.reading() as looking:
            assert list(looking.scalars(select(LostEntitlementRow.account))) == []
            with database.writing() as session:
                session.add(note("meanwhile"))
            assert list(looking.scalars(select(LostEntitlementRow.account))) == []
        assert subjects(database) == ["meanwhile"]

    def test_a_reader_can_write_nothing(self, database: Database) -> None:
        with pytest.raises(InternalError, match="read-only"), database.reading() as session:
            session.add(note("stray"))
            session.flush()
        assert subjects(database) == []

    def test_what_fails_half_way_leaves_nothing(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError), database.writing() as session:
            session.add(note("half"))
            session.flush()
            raise ZeroDivisionError
        assert subjects(database) == []

    def test_many_writers_lose_nothing(self, database: Database) -> None:
        def write(i: int) -> None:
            for j in range(5):
                with database.writing() as session:
                    count = len(session.scalars(select(LostEntitlementRow.account)).all())
                    session.add(note(f"{i}-{j}-{count}"))

        threads = [threading.Thread(target=write, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = sorted(int(subject.rpartition("-")[2]) for subject in subjects(database))
        assert counts == list(range(30))

    def test_a_second_process_waits_for_the_writer_and_then_writes(
        self, database: Database, postgresql_url: str
    ) -> None:
        code = (
            "import sys; from sqlalchemy import text\n"
            "from beamhub_catalogue.database import Database\n"
            "database = Database(sys.argv[1]); print('ready', flush=True)\n"
            "with database.writing() as session:\n"
            '    session.execute(text("INSERT INTO lost_entitlements (account, proposal, lost_at)'
            " SELECT 'after ' || count(*), 'test', '2026-01-01' FROM lost_entitlements\"))\n"
            "database.close()"
        )
        with database.writing() as session:
            session.add(note("first"))
            session.flush()
            command = [sys.executable, "-c", code, postgresql_url]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert subjects(database) == ["after 1", "first"]

    def test_forty_threads_read_at_once(self, database: Database) -> None:
        together, seen = threading.Barrier(40, timeout=30), []

        def read() -> None:
            with database.reading() as session:
                session.execute(text("SELECT 1"))
                together.wait()
                seen.append(1)

        threads = [threading.Thread(target=read) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 40


class TestSchema:
    """Migrations."""

    def test_the_migrations_make_the_tables_of_the_models(self, database: Database) -> None:
        with database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            found = compare_metadata(context, Base.metadata)
            newest = connection.scalar(text("SELECT pg_get_indexdef('ix_datasets_start_pid'::regclass)"))
        # Alembic takes an order within an index for an expression, and does not compare those.
        # The indexes of trigrams are made where the server has the extension.
        odd = {difference[1].name for difference in found}
        assert {name for name in odd if not name.startswith("ix_text_")} <= {"ix_datasets_start_pid"}
        assert "(start DESC NULLS LAST, pid)" in newest

    def test_all_text_is_in_the_order_of_code_points(self, database: Database) -> None:
        with database.reading() as session:
            found = session.execute(
                text(
                    "SELECT table_name, column_name, collation_name FROM information_schema.columns"
                    " WHERE table_schema = 'public' AND data_type IN ('text', 'character varying')"
                    " AND table_name <> 'alembic_version'"
                )
            ).all()
        assert len(found) > 80
        assert [row for row in found if row.collation_name != "C"] == []

    def test_processes_that_start_together_make_one_schema(self, postgresql_server: PostgresqlServer) -> None:
        name = postgresql_server.make_database(empty=True)
        code = (
            "import sys; from beamhub_catalogue.database import Database, ensure_schema\n"
            "database = Database(sys.argv[1]); ensure_schema(database); database.close()"
        )
        command = [sys.executable, "-c", code, postgresql_server.url(name)]
        started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
        ends = [(process.communicate(timeout=60)[1], process.returncode) for process in started]
        assert [code for _, code in ends] == [0, 0, 0], ends
        made = Database(postgresql_server.url(name))
        ensure_schema(made)
        assert subjects(made) == []
        made.close()
        postgresql_server.drop_database(name)


class TestLimits:
    """Nothing waits for ever."""

    def test_a_writer_waits_for_another_only_so_long(self, database: Database, hasty: Database) -> None:
        with database.writing() as session:
            session.add(note("slow"))
            session.flush()
            with pytest.raises(Unavailable, match="another change takes long"), hasty.writing() as waiting:
                waiting.add(note("late"))
        assert subjects(hasty) == ["slow"]

    def test_a_question_has_an_end(self, hasty: Database) -> None:
        with pytest.raises(Unavailable, match="took too long"), hasty.reading() as session:
            session.execute(text("SELECT pg_sleep(30)"))
        assert subjects(hasty) == []

    def test_a_writer_that_does_nothing_gives_its_place_up(self, database: Database, hasty: Database) -> None:
        with pytest.raises(DatabaseLost), hasty.writing() as stuck:
            stuck.add(note("stuck"))
            stuck.flush()
            with database.writing() as session:  # waits until the server ended the other
                session.add(note("next"))
        assert subjects(database) == ["next"]

    def test_a_connection_that_broke_is_said_and_the_next_request_gets_a_new_one(
        self, database: Database, postgresql_server: PostgresqlServer
    ) -> None:
        with pytest.raises(DatabaseLost, match="broke"), database.writing() as session:
            session.add(note("lost"))
            session.flush()
            pid = session.scalar(text("SELECT pg_backend_pid()"))
            with postgresql_server.connect() as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            session.execute(text("SELECT 1"))
        assert subjects(database) == []

    def test_a_restart_between_two_requests_is_not_noticed(self, own_server: PostgresqlServer) -> None:
        database = Database(own_server.url(own_server.make_database()))
        with database.writing() as session:
            session.add(note("before"))
        own_server.halt()
        assert not database.is_up()
        with pytest.raises(Unavailable, match="database"), database.reading():
            subjects(database)
        own_server.start()
        assert database.is_up()
        assert subjects(database) == ["before"]
        database.close()

    def test_a_server_that_hangs_is_down_within_seconds_and_hangs_no_request(
        self, own_server: PostgresqlServer
    ) -> None:
        database = Database(own_server.url(own_server.make_database()), limits=SHORT)
        assert subjects(database) == []
        children = Path(f"/proc/{own_server.pid}/task/{own_server.pid}/children").read_text().split()
        frozen = [own_server.pid, *map(int, children)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            assert not database.is_up()
            assert time.monotonic() - started < 3.5
            with pytest.raises(Unavailable):
                subjects(database)
            assert time.monotonic() - started < 12
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        assert database.is_up()
        assert subjects(database) == []
        database.close()


class TestUnusable:
    """What an operator is told."""

    def fault(self, database: Database) -> DatabaseUnusable:
        with pytest.raises(DatabaseUnusable) as caught:
            ensure_schema(database)
        assert not database.is_up()
        database.close()
        return caught.value

    def test_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        error = self.fault(Database(f"postgresql://web@/beamhub?host={tmp_path}"))
        assert error.fault == "unreachable"
        assert "Is the server running" in str(error)

    def test_a_database_that_is_not_there(self, postgresql_server: PostgresqlServer) -> None:
        error = self.fault(Database(postgresql_server.url("nowhere")))
        assert error.fault == "refused"
        assert '"nowhere" does not exist' in error.detail

    def test_a_server_that_is_too_old(self, postgresql_url: str) -> None:
        error = self.fault(Database(postgresql_url, limits=Limits(oldest_server=99)))
        assert error.fault == "too_old"

    def test_a_database_that_keeps_no_unicode(self, postgresql_server: PostgresqlServer) -> None:
        with postgresql_server.connect() as connection:
            connection.execute(
                "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII'"
                " LOCALE_PROVIDER libc LOCALE 'C'"
            )
        assert self.fault(Database(postgresql_server.url("ascii"))).fault == "encoding"
        postgresql_server.drop_database("ascii")

    def test_a_password_comes_from_its_file_and_stands_nowhere_else(
        self,
        postgresql_server: PostgresqlServer,
        postgresql_url: str,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with postgresql_server.connect() as connection:
            for command in ("DROP ROLE IF EXISTS web", "CREATE ROLE web LOGIN SUPERUSER PASSWORD {}"):
                connection.execute(sql.SQL(command).format(sql.Literal("hunter2-secret")))  # type: ignore[arg-type]
        file = tmp_path / "password"
        file.write_text("hunter2-secret\n")
        database = Database(postgresql_url.replace("postgres@", "web@"), file)
        assert subjects(database) == []
        file.write_text("hunter2-wrong\n")
        database.close()
        error = self.fault(database)
        assert error.fault == "refused"
        with pytest.raises(Unavailable) as caught:
            subjects(database)
        shown = f"{error} {error!r} {caught.value} {database.engine!r} {database.url!r} {caplog.text}"
        assert "hunter2" not in shown
        file.unlink()
        assert self.fault(database).fault == "password_file"

    def test_an_error_repeats_no_value(self, database: Database) -> None:
        with pytest.raises(DBAPIError) as caught, database.writing() as session:
            row = {"account": "k" * 41, "proposal": "hunter2", "lost_at": NOW}
            session.execute(insert(LostEntitlementRow), [row])
        assert "hunter2" not in str(caught.value)
