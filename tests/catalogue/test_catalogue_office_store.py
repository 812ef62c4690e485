"""User offices in the tables: differences are written, removals leave marks, contradictions stay closed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.models import Base, InstrumentRow, MemberRow, ProposalRow, SourceRow, StaffRow
from beamhub_catalogue.office_tables import apply_changes, member_changes, staff_changes, store_proposals
from beamhub_catalogue.offices import MAX_PROBLEMS, UserOffices, merge_proposals, office_states
from beamhub_catalogue.sources import MemberEntry, ProposalEntry, StaffEntry
from beamhub_core.config.catalogue import CsvOfficeConfig
from catalogue.catalogue_parts import ISSUER, NOW
from catalogue.test_catalogue_office_csv import CsvSource
from contracts.membership_source_contract import member, proposal, staff

log = logging.getLogger(__name__)

PARIS = ZoneInfo("Europe/Paris")
OFFICE = "user_office:office"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database."""
    made = Database(f"sqlite:///{tmp_path / 'web.sqlite'}")
    ensure_schema(made)
    yield made
    made.close()


def entry(subject: str, place: str = "MA-2", **fields: Any) -> MemberEntry:
    told: dict[str, Any] = {"role": "member", "since": None, "until": None, "name": subject} | fields
    return MemberEntry(place, ISSUER, subject, None, None, **told)


def scientist(subject: str, instrument: str = "bl09") -> StaffEntry:
    return StaffEntry(instrument, ISSUER, subject, None, None, subject, None, None)


def told(id: str, policy_class: str | None = "standard", **fields: Any) -> ProposalEntry:
    return ProposalEntry(id, "Title", policy_class, "bl09", None, None, **fields)


class Written:
    """Counts the rows that statements write."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            self.n += max(cursor.rowcount, 0)


@pytest.fixture
def written(database: Database) -> Written:
    """Counts what is written from now on."""
    made = Written()
    event.listen(database.engine, "after_cursor_execute", made)
    return made


def keep(database: Database, *members: MemberEntry, at: int = 0) -> None:
    with database.writing() as session:
        changes = member_changes(session, OFFICE, members, PARIS)
        apply_changes(session, OFFICE, changes, NOW + timedelta(hours=at))


def rows_of(database: Database, table: type[MemberRow] | type[StaffRow] = MemberRow) -> set[Any]:
    with database.reading() as session:
        return {(row.subject, row.removed_at) for row in session.scalars(select(table))}


class TestPeople:
    """Members and staff."""

    def test_only_rows_that_changed_are_written(self, database: Database, written: Written) -> None:
        keep(database, *(entry(f"s{i}") for i in range(300)))
        written.n = 0
        keep(database, *(entry(f"s{i}") for i in range(300)))
        assert written.n == 0
        keep(database, *(entry(f"s{i}", role="pi" if i == 7 else "member") for i in range(299)))
        assert written.n == 3  # one row anew in place of another, and one mark

    def test_a_row_that_is_gone_leaves_a_mark_of_when_it_went_until_it_is_back(
        self, database: Database
    ) -> None:
        keep(database, entry("ines"), entry("nina"))
        keep(database, entry("ines"), at=1)
        keep(database, entry("ines"), at=2)
        assert rows_of(database) == {("ines", None), ("nina", NOW + timedelta(hours=1))}
        keep(database, entry("ines"), entry("nina"), at=3)
        assert rows_of(database) == {("ines", None), ("nina", None)}

    def test_one_of_two_rows_of_a_person_that_goes_leaves_no_mark(self, database: Database) -> None:
        keep(database, entry("ines"), entry("ines", role="pi"))
        keep(database, entry("ines", role="pi"), at=1)
        with database.reading() as session:
            assert [(r.role, r.removed_at) for r in session.scalars(select(MemberRow))] == [("pi", None)]

    def test_staff_leave_marks_as_members_do(self, database: Database) -> None:
        for at, people in enumerate(([scientist("sam"), scientist("kim")], [scientist("sam")])):
            with database.writing() as session:
                changes = staff_changes(session, OFFICE, people, PARIS)
                apply_changes(session, OFFICE, changes, NOW + timedelta(hours=at))
        assert rows_of(database, StaffRow) == {("sam", None), ("kim", NOW + timedelta(hours=1))}

    def test_the_rows_of_another_office_are_left_alone(self, database: Database) -> None:
        keep(database, entry("ines"))
        with database.writing() as session:
            changes = member_changes(session, "user_office:second", [entry("ines")], PARIS)
            apply_changes(session, "user_office:second", changes, NOW)
        keep(database)
        with database.reading() as session:
            found = {(r.source, r.removed_at) for r in session.scalars(select(MemberRow))}
        assert found == {(OFFICE, NOW), ("user_office:second", None)}

    def test_a_day_in_a_night_that_changes_the_clock_is_no_change(
        self, database: Database, written: Written
    ) -> None:
        nights = (date(2026, 3, 28), date(2026, 3, 29), date(2026, 10, 25), date(2028, 2, 29))
        people = [entry(f"s{i}", since=day, until=day) for i, day in enumerate(nights)]
        keep(database, *people)
        written.n = 0
        keep(database, *people)
        assert written.n == 0
        with database.reading() as session:
            lengths = [(r.until - r.since) for r in session.scalars(select(MemberRow).order_by(MemberRow.id))]
        assert lengths == [timedelta(hours=hours) for hours in (24, 23, 25, 24)]

    people = st.builds(
        entry,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["MA-2", "OP-1"]),
        role=st.sampled_from(["pi", "member"]),
        until=st.sampled_from([None, date(2026, 3, 29)]),
    )

    @given(states=st.lists(st.lists(people, max_size=6), min_size=1, max_size=5))
    def test_whatever_came_before_the_tables_hold_the_last_state_and_marks_of_who_is_gone(
        self, states: list[list[MemberEntry]]
    ) -> None:
        database = Database("sqlite://")
        Base.metadata.create_all(database.engine)
        for at, state in enumerate(states):
            keep(database, *state, at=at)
        last = {(m.proposal, m.subject, m.role, m.until is None) for m in states[-1]}
        present = {(m.proposal, m.subject) for m in states[-1]}
        ever = {(m.proposal, m.subject) for state in states for m in state}
        with database.reading() as session:
            rows = session.scalars(select(MemberRow)).all()
        standing = [(r.proposal, r.subject, r.role, r.until is None) for r in rows if r.removed_at is None]
        assert sorted(standing) == sorted(last)  # type: ignore[type-var]  # no subject here is None
        assert {(r.proposal, r.subject) for r in rows if r.removed_at is not None} == ever - present
        database.close()


class TestProposals:
    """One table from the tales of many offices."""

    def test_what_the_policy_made_of_a_proposal_stays_when_the_office_changes_a_word(
        self, database: Database
    ) -> None:
        with database.writing() as session:
            store_proposals(session, {"MA-2": (OFFICE, told("MA-2"))}, NOW)
        with database.writing() as session:
            row = session.get_one(ProposalRow, "MA-2")
            row.withdrawn, row.opens_at = True, NOW
        with database.writing() as session:
            store_proposals(session, {"MA-2": (OFFICE, told("MA-2", access_route="long-term"))}, NOW)
        with database.reading() as session:
            row = session.get_one(ProposalRow, "MA-2")
        assert (row.access_route, row.withdrawn, row.opens_at) == ("long-term", True, NOW)

    @pytest.mark.parametrize(
        "other",
        [
            told("MA-2", "open"),
            told("MA-2", None),
            told("MA-2", access_route="industry"),
            ProposalEntry("MA-2", "Title", "standard", "bl10", None, None),
            ProposalEntry("MA-2", "Title", "standard", "bl09", None, date(2020, 1, 1)),
        ],
    )
    def test_offices_that_differ_close_a_proposal_and_are_both_named(self, other: ProposalEntry) -> None:
        merged, shared, problems = merge_proposals({"a": {"MA-2": told("MA-2")}, "b": {"MA-2": other}})
        assert merged["MA-2"][1].policy_class is None
        assert (shared["a"], shared["b"]) == ({"MA-2": told("MA-2")}, {"MA-2": other})
        assert [p["reason"] for p in problems["b"]] == [
            "MA-2 is told differently by a and b: it stays closed"
        ]

    def test_offices_that_agree_but_for_the_title_leave_it_open(self) -> None:
        other = ProposalEntry("MA-2", "Another title", "standard", "bl09", None, None)
        merged, _, problems = merge_proposals({"a": {"MA-2": told("MA-2")}, "b": {"MA-2": other}})
        assert merged["MA-2"] == ("a", told("MA-2"))
        assert problems == {}


class Two:
    """Two CSV offices in one database."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.database = database
        self.sources = {}
        configs = []
        for name in ("office", "second"):
            (folder / name).mkdir()
            self.sources[name] = source = CsvSource(folder / name)
            source.tell()
            files = {"proposals": source.proposals, "members": source.members, "staff": source.staff}
            told = {"name": name, "kind": "csv"} | files
            configs.append(CsvOfficeConfig.model_validate(told))
        self.offices = UserOffices(tuple(configs))

    def store(self, at: int = 0, zone: ZoneInfo = PARIS) -> None:
        news = self.offices.read(self.database, self.offices.fingerprints())
        with self.database.writing() as session:
            self.offices.store(session, news, zone, NOW + timedelta(hours=at))

    def tell(self, name: Literal["office", "second"], policy_class: str, at: int = 0) -> None:
        self.sources[name].tell([proposal(**{"class": policy_class})], [member()])
        self.store(at)

    def policy_class(self) -> str | None:
        with self.database.reading() as session:
            return session.get_one(ProposalRow, "MA-2").policy_class

    def ask(self, question: Any) -> Any:
        with self.database.reading() as session:
            return question(session)


@pytest.fixture
def two(tmp_path: Path, database: Database) -> Two:
    return Two(tmp_path, database)


class TestOffices:
    """What is kept of an office that says nothing new, or nothing at all."""

    @pytest.mark.parametrize("silent", ["office", "second"])
    def test_an_office_that_breaks_keeps_its_word_against_another(
        self, two: Two, silent: Literal["office", "second"]
    ) -> None:
        loud: Literal["office", "second"] = "second" if silent == "office" else "office"
        two.tell(silent, "confidential")
        two.tell(loud, "open")
        assert two.policy_class() is None
        two.sources[silent].members.unlink()
        two.tell(loud, "open", at=1)
        assert two.policy_class() is None
        two.sources[loud].tell()
        two.store(at=2)
        assert two.policy_class() == "confidential"

    def test_an_unchanged_office_is_not_read_again(self, two: Two) -> None:
        two.tell("office", "open")
        news = two.offices.read(two.database, two.offices.fingerprints())
        assert [item.outcome for item in news.values()] == [None, None]

    def test_news_that_another_process_overtook_are_compared_again(self, two: Two) -> None:
        two.tell("office", "open")
        two.sources["office"].tell([proposal()], [member(subject="nina")])
        late = two.offices.read(two.database, two.offices.fingerprints())
        two.sources["office"].tell([proposal()], [member(subject="oscar")])
        two.store(at=1)
        with two.database.writing() as session:
            two.offices.store(session, late, PARIS, NOW + timedelta(hours=2))
        hours = {"ines": 1, "oscar": 2}
        marks = {(name, NOW + timedelta(hours=at)) for name, at in hours.items()}
        assert rows_of(two.database) == {("nina", None), *marks}

    def test_an_unchanged_office_is_read_again_for_another_zone(self, two: Two) -> None:
        two.sources["office"].tell([proposal()], [member(until="2026-06-01")])
        two.store()
        ends = lambda session: session.scalar(select(MemberRow.until))  # noqa: E731  # a question of one line
        before = two.ask(ends)
        two.store(zone=ZoneInfo("America/New_York"))
        assert two.ask(ends) - before == timedelta(hours=6)

    def test_every_instrument_that_an_office_names_has_a_row_that_stays(self, two: Two) -> None:
        two.sources["office"].tell([proposal()], [member()], [staff(), staff(instrument="bl10")])
        two.store()
        two.sources["office"].tell()
        two.store(at=1)
        rows = two.ask(lambda s: s.execute(select(InstrumentRow.name, InstrumentRow.first_seen)).all())
        assert dict(map(tuple, rows)) == {"bl09": NOW, "bl10": NOW}

    def test_how_an_office_stands_is_told(self, two: Two) -> None:
        rows = [member(), *(member(role=f"r{i}") for i in range(MAX_PROBLEMS + 50))]
        two.sources["office"].tell([proposal()], rows)
        two.sources["second"].members.unlink()
        two.store()
        office, second = two.ask(office_states)
        assert (office.name, office.kind, office.read_at, office.ok) == ("office", "csv", NOW, True)
        assert office.n_problems == MAX_PROBLEMS + 50
        assert len(two.ask(lambda s: s.get_one(SourceRow, OFFICE)).problems) == MAX_PROBLEMS + 1
        assert (second.read_at, second.checked_at, second.ok, second.n_problems) == (None, None, False, 1)

    def test_an_office_that_breaks_is_told_from_one_that_is_well_and_keeps_its_times(self, two: Two) -> None:
        two.tell("office", "open")
        two.sources["office"].members.unlink()
        two.store(at=1)
        office, _ = two.ask(office_states)
        assert (office.read_at, office.checked_at, office.ok) == (NOW, NOW, False)


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_written_quickly_and_ten_changes_at_once(
    tmp_path: Path, database: Database
) -> None:
    two = Two(tmp_path, database)
    proposals = [proposal(proposal=f"P-{i}") for i in range(10_000)]
    rows = [member(proposal=f"P-{i % 10_000}", subject=f"s{i}", until="2027-12-31") for i in range(100_000)]
    seconds = {}
    for step in ("first", "ten changed", "nothing changed"):
        if step == "ten changed":
            rows = rows[5:] + [member(proposal="P-1", subject=f"new{i}") for i in range(5)]
        two.sources["office"].tell(proposals, rows)
        news = two.offices.read(database, two.offices.fingerprints())
        began = time.monotonic()
        with database.writing() as session:
            two.offices.store(session, news, PARIS, NOW)
        seconds[step] = round(time.monotonic() - began, 2)
    log.warning("user office written", extra={"seconds": seconds})
    with Session(database.engine) as session:
        assert session.scalar(select(func.count()).select_from(MemberRow)) == 100_005
    assert max(seconds.values()) < 30
