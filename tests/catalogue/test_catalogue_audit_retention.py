"""What retention removes of the audit, and that the chain stays sound."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from beamhub_catalogue.account_erasure import erase
from beamhub_catalogue.audit import Context, record
from beamhub_catalogue.audit_chain import Mark, verify
from beamhub_catalogue.audit_retention import months_before, prune
from beamhub_catalogue.database import Database
from beamhub_catalogue.models import (
    AuditActorRow,
    AuditCheckpointRow,
    AuditProposalRow,
    AuditRow,
    Base,
    SessionRow,
)
from beamhub_core.config.catalogue import AuditConfig
from catalogue.catalogue_api_parts import OPEN, Stocked
from catalogue.catalogue_parts import INES, NOW, OSCAR, session_plan

YEAR = AuditConfig()


def aged(days: list[int]) -> Database:
    """A chain whose entries were written so many days before now."""
    database = Database("sqlite://")
    Base.metadata.create_all(database.engine)
    with database.writing() as session:
        for number, ago in enumerate(days):
            context = Context(
                about=INES.account if number % 2 else OSCAR.account, proposals=[f"P{number % 3}"]
            )
            record(session, "account_ended", "", NOW - timedelta(days=ago), context=context)
    return database


def sound(database: Database, expect: Mark | None = None) -> bool:
    with database.reading() as session:
        return verify(session, expect).fault is None


def left(database: Database) -> list[int]:
    """The entries that stand, but for those of the pruning itself."""
    with database.reading() as session:
        query = select(AuditRow.seq).where(AuditRow.kind == "account_ended").order_by(AuditRow.seq)
        return list(session.scalars(query))


AGES = st.lists(st.integers(0, 800), min_size=1, max_size=12)


@given(days=AGES.map(lambda ages: [*sorted(ages, reverse=True), 0]))
def test_pruning_removes_what_is_past_its_time_alone_and_keeps_the_chain(days: list[int]) -> None:
    database = aged(days)
    head = Mark(*_head(database))
    while prune(database, YEAR, NOW).is_more:
        assert sound(database, head)
    assert sound(database, head)
    limit, standing = months_before(NOW, 12), left(database)
    assert standing == [i for i, ago in enumerate(days, 1) if NOW - timedelta(days=ago) >= limit]
    with database.reading() as session:
        assert (session.scalar(select(func.min(AuditProposalRow.seq))) or 10**9) >= min(standing)
        known = set(session.scalars(select(AuditActorRow.actor)))
        spoken = {a for pair in session.execute(select(AuditRow.actor, AuditRow.about)) for a in pair if a}
        assert known == spoken
    database.close()


def _head(database: Database) -> tuple[int, str]:
    with database.reading() as session:
        row = session.scalars(select(AuditRow).order_by(AuditRow.seq.desc()).limit(1)).one()
        return row.seq, row.digest


@given(ahead=st.integers(1, 100_000))
def test_a_clock_that_jumps_ahead_removes_nothing_by_itself(ahead: int) -> None:
    database = aged([300, 200, 100, 0])
    assert prune(database, YEAR, NOW + timedelta(days=ahead)).n_entries == 0
    database.close()


def test_a_clock_that_jumps_ahead_while_something_is_written_costs_two_months_at_most() -> None:
    database = aged([300, 200, 100, 0, -4000])
    assert prune(database, YEAR, NOW + timedelta(days=4000)).n_entries == 1
    assert prune(database, YEAR, NOW).n_entries == 0
    assert sound(database)
    database.close()


def test_an_entry_from_a_wrong_clock_does_not_hold_up_retention_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("beamhub_catalogue.audit_retention.BATCH", 3)
    database = aged([720, 710, -4000, 700, 690, 680, 10, 0])
    while prune(database, YEAR, NOW).is_more:
        assert sound(database)
    assert left(database) == [7, 8]
    database.close()


def test_a_front_that_was_cut_off_without_a_pruning_is_found() -> None:
    database = aged([700, 690, 10, 0])
    prune(database, YEAR, NOW)
    assert left(database) == [3, 4]
    with database.writing() as session:
        session.execute(update(AuditCheckpointRow).values(n_entries=1))
    assert not sound(database)
    database.close()


def test_pruning_and_erasure_together_leave_a_chain_that_verifies() -> None:
    database = aged([700, 690, 10, 0])
    erase(database, INES.account, NOW, "root")
    assert sound(database)
    prune(database, YEAR, NOW)
    assert sound(database)
    database.close()


def test_ended_sessions_go_with_their_retention_and_live_ones_never(stocked: Stocked) -> None:
    plans = [session_plan(stocked.facility, INES, number=n) for n in (1, 2)]
    for plan in plans:
        assert stocked.api.store(plan).status_code == 201
    stocked.api.update(plans[0], state="ended")
    later = NOW + timedelta(days=500)
    stocked.facility.clock.now = later
    stocked.api.grants(OSCAR, OPEN)
    assert prune(stocked.service.database, YEAR, later).n_sessions == 1
    with stocked.service.database.reading() as session:
        assert list(session.scalars(select(SessionRow.plan_id))) == [plans[1].id]
    assert sound(stocked.service.database)


def test_the_service_prunes_when_it_starts(stocked: Stocked) -> None:
    later = NOW + timedelta(days=500)
    stocked.facility.clock.now = stocked.facility.wall_clock.now = later
    stocked.api.grants(OSCAR, OPEN)
    again = stocked.facility.service()
    again._prune_daily()
    again._prune_daily()
    again.stop()
    with stocked.service.database.reading() as session:
        kinds = list(session.scalars(select(AuditRow.kind).order_by(AuditRow.seq)))
    assert kinds == ["decision", "prune"]
