"""The database: one schema from migrations and models, safe for many threads and several processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError

from beamhub_catalogue.database import MIGRATIONS, Database, ensure_schema
from beamhub_catalogue.models import Base, FileRow, LostEntitlementRow, UtcDateTime
from catalogue.catalogue_parts import NOW, Facility, note, subjects, write_master

PORTALS = {"portal_visits"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with its tables."""
    made = Database(f"sqlite:///{tmp_path / 'web' / 'web.sqlite'}")
    ensure_schema(made)
    yield made
    made.close()


class TestSchema:
    """Migrations and models."""

    def test_the_migrations_make_the_tables_of_the_models(self, database: Database) -> None:
        with database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            differences = compare_metadata(context, Base.metadata)
        mine = [d for d in differences if not _is_of_the_portal(d)]
        assert mine == []

    def test_there_is_one_newest_migration_and_the_database_is_there(self, database: Database) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        (head,) = ScriptDirectory.from_config(config).get_heads()
        with database.engine.connect() as connection:
            assert MigrationContext.configure(connection).get_current_heads() == (head,)

    def test_every_instant_is_kept_in_utc_and_every_constraint_has_a_name(self) -> None:
        for table in Base.metadata.tables.values():
            for column in table.columns:
                assert isinstance(column.type, UtcDateTime) or "DateTime" not in type(column.type).__name__
            assert all(constraint.name for constraint in table.constraints), table.name

    def test_a_second_look_changes_nothing_and_keeps_the_rows(self, database: Database) -> None:
        with database.writing() as session:
            session.add(note("before"))
        ensure_schema(database)
        assert subjects(database) == ["before"]

    def test_processes_that_start_together_make_one_schema(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'web.sqlite'}"
        code = (
            "import sys; from beamhub_catalogue.database import Database, ensure_schema\n"
            "database = Database(sys.argv[1]); ensure_schema(database); database.close()"
        )
        started = [
            subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        ends = [(process.communicate(timeout=60)[1], process.returncode) for process in started]
        assert [code for _, code in ends] == [0, 0, 0], ends
        engine = create_engine(url)
        assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
        engine.dispose()

    def test_a_folder_with_odd_letters_is_no_hindrance(self, tmp_path: Path) -> None:
        made = Database(f"sqlite:///{tmp_path / 'a b' / '100% é' / 'web.sqlite'}")
        ensure_schema(made)
        assert made.is_up()
        made.close()


def _is_of_the_portal(difference: object) -> bool:
    named = [difference] if isinstance(difference, tuple) else difference
    assert isinstance(named, list)
    return all(getattr(d[1], "name", None) in PORTALS for d in named)


class TestSqlite:
    """What SQLite is told."""

    def test_it_writes_ahead_and_keeps_foreign_keys(self, database: Database) -> None:
        with database.reading() as session:
            pragmas = {
                name: session.execute(text(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "foreign_keys", "synchronous")
            }
        assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2}
        orphan = FileRow(dataset_id=999, pool="pool", path="a/b", name="b", size_bytes=1)
        with pytest.raises(IntegrityError, match="FOREIGN KEY"), database.writing() as session:
            session.add(orphan)

    def test_letter_case_counts_in_like_and_lower_knows_all_letters(self, database: Database) -> None:
        with database.reading() as session:
            row = session.execute(text("SELECT 'A' LIKE 'a', lower('ÄÖ'), lower(NULL), lower(1)")).one()
        assert tuple(row) == (0, "äö", None, 1)

    def test_a_reader_sees_one_state_while_another_writes(self, database: Database) -> None:
        with database.reading() as looking:
            assert list(looking.scalars(select(LostEntitlementRow.account))) == []
            with database.writing() as session:
                session.add(note("meanwhile"))
            assert list(looking.scalars(select(LostEntitlementRow.account))) == []
        assert subjects(database) == ["meanwhile"]

    def test_what_fails_half_way_leaves_nothing(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError), database.writing() as session:
            session.add(note("half"))
            session.flush()
            raise ZeroDivisionError
        assert subjects(database) == []

    def test_what_is_read_is_not_kept_when_it_is_changed(self, database: Database) -> None:
        with database.reading() as session:
            session.add(note("stray"))
            session.flush()
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

    def test_a_second_process_waits_for_the_lock_and_then_writes(self, database: Database) -> None:
        code = (
            "import sys; from sqlalchemy import text\n"
            "from beamhub_catalogue.database import Database\n"
            "database = Database(sys.argv[1]); print('ready', flush=True)\n"
            "with database.writing() as session:\n"
            '    session.execute(text("INSERT INTO lost_entitlements (account, proposal, lost_at)'
            " VALUES ('second', 'test', '2026-01-01')\"))\n"
            "database.close()"
        )
        address = database.url.render_as_string()
        with database.writing() as session:
            session.add(note("first"))
            session.flush()
            command = [sys.executable, "-c", code, address]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert subjects(database) == ["first", "second"]

    def test_a_database_that_is_no_database_is_down(self, tmp_path: Path) -> None:
        (tmp_path / "web.sqlite").write_text("no database at all" * 100)
        made = Database(f"sqlite:///{tmp_path / 'web.sqlite'}")
        assert not made.is_up()
        made.close()


def test_two_catalogues_on_one_database_scan_one_after_the_other(facility: Facility) -> None:
    for i in range(4):
        write_master(facility.pool / f"OP-1/raw/s{i}.h5", experiment_identifier="OP-1")
    one, other = facility.service(), facility.service()
    reports = []
    threads = [threading.Thread(target=lambda s=s: reports.append(s.harvester.scan())) for s in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(report.harvested) for report in reports) == [0, 4]
    assert one.search(None).total == other.search(None).total == 4
    one.stop()
    other.stop()


@given(
    when=st.datetimes(
        datetime.min + timedelta(days=1),  # noqa: DTZ901  # hypothesis takes naive bounds
        datetime.max - timedelta(days=1),  # noqa: DTZ901
        timezones=st.timezones() | st.just(UTC),
    )
)
def test_an_instant_comes_back_as_it_went(when: datetime) -> None:
    database = Database("sqlite://")
    Base.metadata.create_all(database.engine)
    with database.writing() as session:
        session.add(LostEntitlementRow(account="a", proposal="p", lost_at=when))
    with database.reading() as session:
        back = session.scalars(select(LostEntitlementRow.lost_at)).one()
    database.close()
    assert back == when.astimezone(UTC)
    assert back.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="has no time zone"), database.writing() as session:
        session.add(LostEntitlementRow(account="a", proposal="p", lost_at=NOW.replace(tzinfo=None)))


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    made = Database(f"sqlite:///{tmp_path / 'web' / 'web.sqlite'}")
    (tmp_path / "web").rmdir()
    with pytest.raises(OperationalError, match="unable to open"), made.reading() as session:
        session.execute(text("SELECT 1"))
    made.close()


def test_a_connection_that_is_given_back_after_the_end_is_closed(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'web.sqlite'}")
    held = database.engine.connect()
    own = held.connection.dbapi_connection
    assert own is not None
    database.close()
    assert held.execute(text("SELECT 1")).scalar() == 1
    held.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        own.execute("SELECT 1")
