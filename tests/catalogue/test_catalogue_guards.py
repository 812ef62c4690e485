"""Lists, counts, single datasets and the policy itself give one answer, for every reader at every instant."""

from __future__ import annotations

import os
import random
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.search_answers import Answers
from beamhub_catalogue.search_filter import SearchFilter
from beamhub_catalogue.views import DatasetView, SearchFilters
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import Facility  # the folder of these tests, not the room
from catalogue.catalogue_reader_parts import Made, proposal_row, put  # likewise
from catalogue.policy_building import build_world
from catalogue.policy_cases import compare_many, settle, told_by

pytestmark = pytest.mark.slow

SECOND = timedelta(seconds=1)
N_CASES = int(os.environ.get("BEAMHUB_POLICY_CASES", "30000"))
"""Cases of the test that compares the engine with the oracle in bulk; `make soak` asks for 100,000."""
SETTLED = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


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
    seen = compare_many(facility, service, N_CASES)
    assert sum(seen.values()) >= N_CASES
    assert len(seen) == 5, seen  # hidden, known, read, also mounted, also written to: the worlds hold all


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
