"""Lists, counts, single datasets and the policy itself give one answer, for every reader at every instant."""

from __future__ import annotations

import os
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import ActRow, DatasetRow, LostEntitlementRow, StaffRow
from beamhub_catalogue.search_answers import Answers
from beamhub_catalogue.search_filter import SearchFilter
from beamhub_catalogue.views import DatasetView, SearchFilters
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import Facility  # the folder of these tests, not the room
from catalogue.catalogue_reader_parts import SOURCE, Made, member_row, proposal_row, put  # likewise
from catalogue.policy_oracle import Answer, Oracle
from catalogue.policy_world import CHECKED, DOCUMENT, Proposal, Row, World, build_world

SECOND = timedelta(seconds=1)
N_CASES = int(os.environ.get("BEAMHUB_POLICY_CASES", "20000"))
"""Cases of the test that compares the engine with the oracle in bulk; `make soak` asks for 100,000."""
SETTLED = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def settle(facility: Facility, service: CatalogueService, world: World) -> None:
    """Put a world into the tables."""
    facility.write_document(DOCUMENT | {"timezone": world.zone})
    assert service.rules.refresh().version == DOCUMENT["version"]
    rows = [
        proposal_row(
            p.name, p.word, p.end, instrument=p.instrument, start=p.start, access_route=p.route or ""
        )
        for p in world.proposals.values()
    ]
    members: list[Any] = [member_row(r.proposal, str(r.role), **_columns(r)) for r in world.rows] + [
        StaffRow(source=SOURCE, instrument=r.instrument, name="Somebody", **_columns(r)) for r in world.staff
    ]
    accounts = {who.subject: who.account for who in world.people.values() if who}
    members += [
        LostEntitlementRow(account=accounts[subject], proposal=name, lost_at=CHECKED)
        for subject, name in world.lost
    ]
    members += [act for p in world.proposals.values() for act in _acts(p)]
    made = [Made(d.pid, d.proposal, d.inputs, d.withdrawn, d.private_to) for d in world.datasets]
    put(service, rows, members, made)


def _columns(row: Row) -> dict[str, Any]:
    none = dict.fromkeys(("issuer", "subject", "orcid", "facility_account"))
    removed = CHECKED if row.removed else None
    return none | dict(row.identity) | {"since": row.since, "until": row.until, "removed_at": removed}


def _acts(p: Proposal) -> list[ActRow]:
    told: list[dict[str, Any]] = [{"kind": "extension", "months": months} for months in p.extensions]
    told += [{"kind": "early_release", "day": p.released}] if p.released else []
    told += [{"kind": "support_consent", "until": p.support_until}] if p.support_until else []
    told += [{"kind": "withdrawal"}] if p.withdrawn else []
    # One that was revoked, and counts no more.
    told += [{"kind": "withdrawal", "revoked_at": CHECKED, "revoked_by": "operator"}]
    return [
        ActRow(
            id=f"{p.name}-{i}",
            proposal=p.name,
            reason="test",
            made_by="operator",
            made_at=CHECKED + i * SECOND,
            **act,
        )
        for i, act in enumerate(told)
    ]


def in_lists(service: CatalogueService, who: Principal | None) -> tuple[set[str], set[str]]:
    """What the portal lists, and what of it may be read; totals and marks checked on the way."""
    everything = service.search(who, page_size=100)
    readable = service.search(who, "", SearchFilters(readable_only=True), page_size=100)
    assert (everything.total, readable.total) == (len(everything.hits), len(readable.hits))
    marked = {hit.pid for hit in everything.hits if hit.may_read}
    assert marked == {hit.pid for hit in readable.hits}
    return {hit.pid for hit in everything.hits}, marked


def in_api(service: CatalogueService, who: Principal | None) -> tuple[set[str], set[str]]:
    """What the search API lists, and of what it tells the size."""
    with service.desk.reading(who) as catalogue:
        answers = Answers(catalogue)
        items = answers.datasets(SearchFilter())
        assert answers.count_datasets(None) == len(items)
        public = answers.datasets(SearchFilter(order=(("isPublic", True),)))
    assert {i["pid"] for i in public} == {i["pid"] for i in items}
    return {i["pid"] for i in items}, {i["pid"] for i in items if "size" in i}


def one_by_one(
    service: CatalogueService, who: Principal | None, pids: list[str]
) -> tuple[set[str], set[str]]:
    """What the pages of single pids show."""
    pages = {pid: service.dataset_page(who, pid) for pid in pids}
    shown = {pid: page for pid, page in pages.items() if isinstance(page, DatasetView)}
    assert all(page.full == page.may_read for page in shown.values())
    return set(shown), {pid for pid, page in shown.items() if page.may_read}


def by_policy(service: CatalogueService, who: Principal | None, pids: list[str]) -> tuple[set[str], set[str]]:
    """What the pure function of the policy decides, on rows that no guard has sifted."""
    known, read = set(), set()
    with service.desk.reading(who) as catalogue:
        for row in catalogue.session.query(DatasetRow).where(DatasetRow.pid.in_(pids)):
            decision = catalogue.judge.on_dataset(row)
            if decision.visibility != "hidden":
                known.add(row.pid)
            if decision.may_read:
                read.add(row.pid)
    return known, read


def told_by(world: World, who: Principal | None, now: datetime) -> dict[str, Answer]:
    """The oracle's answers, by pid."""
    oracle = Oracle(world, who, now)
    return {d.pid: oracle.answer(d) for d in world.datasets}


@SETTLED
@given(rng=st.randoms(use_true_random=False))
def test_lists_counts_single_pids_and_the_policy_agree(
    facility: Facility, service: CatalogueService, rng: random.Random
) -> None:
    world = build_world(rng)
    settle(facility, service, world)
    some = rng.sample(sorted(world.people), k=3)
    for now in world.instants:
        facility.clock.now = now
        for name in some:
            who = world.people[name]
            answers = told_by(world, who, now)
            told = {p for p, a in answers.items() if a[0]}, {p for p, a in answers.items() if a[1]}
            assert by_policy(service, who, sorted(answers)) == told, (name, now, "policy")
            assert in_lists(service, who) == told, (name, now, "lists")
            assert in_api(service, who) == told, (name, now, "search API")
            assert one_by_one(service, who, sorted(answers)) == told, (name, now, "by pid")


def test_engine_and_guards_agree_with_the_oracle_in_many_cases(
    facility: Facility, service: CatalogueService
) -> None:
    rng = random.Random(20260601)  # noqa: S311  # chance, not secrecy
    compared = 0
    seen: set[Answer] = set()
    while compared < N_CASES:
        world = build_world(rng, n_proposals=24, n_datasets=60, n_instants=4)
        settle(facility, service, world)
        for now in world.instants:
            facility.clock.now = now
            for name, who in world.people.items():
                expected = told_by(world, who, now)
                assert answers_of(service, who) == expected, (name, now)
                compared += len(expected)
                seen.update(expected.values())
    assert len(seen) == 5, seen  # hidden, known, read, also mounted, also written to: the worlds hold all


def answers_of(service: CatalogueService, who: Principal | None) -> dict[str, Answer]:
    """What engine and guards say of every dataset, which must be the same where both speak."""
    with service.desk.reading(who) as catalogue:
        rows = catalogue.session.scalars(select(DatasetRow)).all()
        decisions = catalogue.judge.on_datasets(rows)
        known = set(catalogue.session.scalars(catalogue.guard.datasets(DatasetRow.pid)))
        readable = catalogue.guard.datasets(DatasetRow.pid).where(catalogue.guard.reads())
        read = set(catalogue.session.scalars(readable))
    assert known == {pid for pid, d in decisions.items() if d.visibility != "hidden"}
    assert read == {pid for pid, d in decisions.items() if d.may_read}
    return {
        pid: (d.visibility != "hidden", d.may_read, d.may_mount, d.may_write) for pid, d in decisions.items()
    }


def test_data_opens_with_the_second_in_which_its_last_embargoed_day_ends(
    facility: Facility, service: CatalogueService
) -> None:
    facility.write_policy({"quiet": {"embargo_months": 36, "metadata": "team"}})
    put(service, [proposal_row("P-0", "quiet", date(2023, 10, 25))], [], [Made("t:0", "P-0")])
    opening = datetime(2026, 10, 25, 22, tzinfo=UTC) + timedelta(hours=1)  # clocks went back on the 25th
    seen = []
    for facility.clock.now in (opening - SECOND, opening, opening + SECOND):
        known, read = in_lists(service, None)
        seen.append((len(known), len(read)))
    assert seen == [(0, 0), (1, 1), (1, 1)]
