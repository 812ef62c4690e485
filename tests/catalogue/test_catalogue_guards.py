"""Lists, counts, single datasets and the policy itself give one answer, for every reader at every instant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import DatasetRow, LostEntitlementRow
from beamhub_catalogue.search_answers import Answers
from beamhub_catalogue.search_filter import SearchFilter
from beamhub_catalogue.views import DatasetView, SearchFilters
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import (  # the folder of these tests, not the room
    CLASSES,
    ISSUER,
    NOW,
    Facility,
    person,
)
from catalogue.catalogue_reader_parts import Made, member_row, proposal_row, put  # likewise

PARIS = ZoneInfo("Europe/Paris")
ASSURANCE = "https://refeds.org/assurance/IAP/high"
RULES: dict[str, Any] = CLASSES | {
    "vetted": {"embargo_months": 36, "metadata": "public", "required_assurance": [ASSURANCE]},
    "sealed": {"embargo_months": "never", "metadata": "public"},
}
NAMES = ("P-0", "P-1", "P-2")
UNKNOWN = "X-9"  # a proposal with data that no user office knows
SECOND = timedelta(seconds=1)
SETTLED = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Proposal:
    """A proposal of the example."""

    name: str
    policy_class: str | None
    end: date | None
    withdrawn: bool


@dataclass(frozen=True)
class Row:
    """A user office's row; `by` is the identity that names the person."""

    proposal: str
    by: str
    role: str
    since: datetime | None
    until: datetime | None
    removed: bool


@dataclass(frozen=True)
class Case:
    """A facility, a reader and an instant."""

    proposals: tuple[Proposal, ...]
    rows: tuple[Row, ...]
    datasets: tuple[Made, ...]
    readers: dict[str, Principal | None]
    entitled: frozenset[str]
    lost: frozenset[str]
    now: datetime


PERSON = person("nadia", orcid="0000-0002-1825-0097").model_copy(update={"facility_account": "nadia9"})
IDENTITIES: dict[str, dict[str, str]] = {
    "subject": {"issuer": ISSUER, "subject": "nadia"},
    "orcid": {"orcid": "0000-0002-1825-0097"},
    "account": {"facility_account": "nadia9"},
    "issuer of another": {"issuer": "https://other.example", "subject": "nadia"},
}


def first_open_instant(proposal: Proposal) -> datetime | None:
    """The policy's text: the midnight that ends the last day of the embargo, at the facility."""
    months = RULES.get(proposal.policy_class or "", {}).get("embargo_months", "never")
    if proposal.end is None or months == "never":
        return None
    assert months % 12 == 0
    year = proposal.end.year + months // 12
    leapless = proposal.end.day - 1 if (proposal.end.month, proposal.end.day) == (2, 29) else None
    last = proposal.end.replace(year=year, day=leapless or proposal.end.day) if months else proposal.end
    return datetime.combine(last + timedelta(days=1), time.min, tzinfo=PARIS)


class Oracle:
    """Who may know of a dataset and who may read it, written from the text of the policy.

    Not open yet: the team and instrument scientists read, if their assurance suffices; others know of it
    where the class says `metadata: public`. Withdrawn: those who may know of it know, nobody reads. In a
    home: for its maker alone. A product: what it and every one of its inputs allow.
    """

    def __init__(self, case: Case, who: Principal | None) -> None:
        self.case, self.who = case, who
        self.proposals = {p.name: p for p in case.proposals}

    def belongs(self, proposal: str) -> bool:
        """A row that holds, or an entitlement; neither counts where the other side ended the right."""
        if self.who is None or self.who.subject != "nadia":
            return False
        rows = [r for r in self.case.rows if r.proposal == proposal and r.by != "issuer of another"]
        standing = [r for r in rows if not r.removed and (r.until is None or r.until > self.case.now)]
        if proposal in self.case.lost or (rows and not standing):
            return False
        begun = any(r.since is None or r.since <= self.case.now for r in standing)
        return begun or (proposal in self.case.entitled and bool(self.who.entitlements))

    def knows_and_reads(self, dataset: Made) -> tuple[bool, bool]:
        """The two answers for one dataset."""
        above = [self.knows_and_reads(self.case.datasets[i]) for i in dataset.inputs]
        knows, reads = self.alone(dataset)
        return knows and all(k for k, _ in above), reads and all(r for _, r in above)

    def alone(self, dataset: Made) -> tuple[bool, bool]:
        """The two answers when its inputs are left aside."""
        proposal = self.proposals.get(dataset.proposal, Proposal(dataset.proposal, None, None, False))
        rules = RULES.get(proposal.policy_class or "", {"metadata": "team"})
        opening = first_open_instant(proposal)
        is_open = opening is not None and self.case.now >= opening
        scientist = self.who is not None and "instrument_scientist" in self.who.roles
        inside = scientist or self.belongs(proposal.name)
        if dataset.private_to not in (None, self.who.account if self.who else None):
            return False, False
        assured = not rules.get("required_assurance") or (self.who is not None and bool(self.who.assurance))
        gone = dataset.withdrawn or proposal.withdrawn
        knows = is_open or inside or rules["metadata"] == "public"
        return knows, not gone and (is_open or (inside and assured))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small facilities at instants around the end of an embargo."""
    ends = st.none() | st.dates(date(2018, 1, 1), date(2027, 12, 31)) | st.just(date(2024, 2, 29))
    kinds = st.sampled_from([*RULES, "no such class", None])
    proposals = tuple(Proposal(name, draw(kinds), draw(ends), draw(st.integers(0, 5)) == 5) for name in NAMES)
    openings = [o for p in proposals if (o := first_open_instant(p)) is not None]
    now = draw(st.sampled_from([*openings, *openings, NOW])) + draw(st.sampled_from([-1, 0, 1])) * SECOND
    now = now.astimezone(UTC)
    every = (*NAMES, UNKNOWN)
    times = st.sampled_from([None, None, *(now + n * SECOND for n in (-86400, 0, 1))])
    row = st.builds(
        Row,
        st.sampled_from(every),
        st.sampled_from(sorted(IDENTITIES)),
        st.sampled_from(["pi", "member", "local_contact"]),
        times,
        times,
        st.sampled_from([False, False, True]),
    )
    entitled = draw(st.frozensets(st.sampled_from(every), max_size=2))
    nadia = person("nadia", *sorted(entitled), orcid=PERSON.orcid)
    nadia = nadia.model_copy(update={"facility_account": PERSON.facility_account})
    readers: dict[str, Principal | None] = {
        "anonymous": None,
        "outsider": person("oscar", "XX-1"),
        "from the user office": PERSON,
        "with entitlements": nadia,
        "assured": nadia.model_copy(update={"assurance": (ASSURANCE,)}),
        "scientist": person("sam", role="instrument_scientist"),
        "trainer": person("tara", role="trainer"),
    }
    some = draw(st.lists(st.sampled_from(sorted(readers)), min_size=3, max_size=3, unique=True))
    return Case(
        proposals,
        tuple(draw(st.lists(row, max_size=4))),
        draw(datasets(every)),
        {name: readers[name] for name in some},
        entitled,
        draw(st.frozensets(st.sampled_from(every), max_size=1)),
        now,
    )


@st.composite
def datasets(draw: st.DrawFn, proposals: tuple[str, ...]) -> tuple[Made, ...]:
    """Raw datasets and products, of raw datasets and of products."""
    made: list[Made] = []
    for number in range(draw(st.integers(2, 7))):
        inputs = draw(st.frozensets(st.integers(0, number - 1), max_size=2)) if number > 1 else frozenset()
        made.append(
            Made(
                f"t:{number}",
                draw(st.sampled_from(proposals)),
                tuple(sorted(inputs)),
                draw(st.integers(0, 6)) == 6,
                PERSON.account if inputs and draw(st.booleans()) else None,
                {"instrument": draw(st.sampled_from(["bl01", "bl02"]))},
            )
        )
    return tuple(made)


def settle(facility: Facility, service: CatalogueService, case: Case) -> None:
    """Put the example into the tables and set the clock."""
    facility.write_policy(RULES, "law")
    facility.clock.now = case.now
    rows = [proposal_row(p.name, p.policy_class, p.end) for p in case.proposals]
    for row, proposal in zip(rows, case.proposals, strict=True):
        row.withdrawn = proposal.withdrawn
    members: list[Any] = [
        member_row(
            r.proposal,
            r.role,
            **IDENTITIES[r.by],
            since=r.since,
            until=r.until,
            removed_at=NOW if r.removed else None,
        )
        for r in case.rows
    ]
    members += [LostEntitlementRow(account=PERSON.account, proposal=p, lost_at=NOW) for p in case.lost]
    put(service, rows, members, case.datasets)


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
@given(case=cases())
def test_lists_counts_single_pids_and_the_policy_agree(
    facility: Facility, service: CatalogueService, case: Case
) -> None:
    settle(facility, service, case)
    pids = [made.pid for made in case.datasets]
    for name, who in case.readers.items():
        oracle = Oracle(case, who)
        answers = [(made.pid, *oracle.knows_and_reads(made)) for made in case.datasets]
        told = {pid for pid, knows, _ in answers if knows}, {pid for pid, _, reads in answers if reads}
        assert by_policy(service, who, pids) == told, (name, "policy")
        assert in_lists(service, who) == told, (name, "lists")
        assert in_api(service, who) == told, (name, "search API")
        assert one_by_one(service, who, pids) == told, (name, "by pid")


def test_data_opens_with_the_second_in_which_its_last_embargoed_day_ends(
    facility: Facility, service: CatalogueService
) -> None:
    proposal = Proposal("P-0", "confidential", date(2023, 10, 25), False)
    case = Case((proposal,), (), (Made("t:0", "P-0"),), {}, frozenset(), frozenset(), NOW)
    opening = datetime(2026, 10, 25, 22, tzinfo=UTC) + timedelta(hours=1)  # clocks went back on the 25th
    seen = []
    for moment in (opening - SECOND, opening, opening + SECOND):
        settle(facility, service, replace(case, now=moment))
        seen.append((len(in_lists(service, None)[0]), len(in_lists(service, None)[1])))
    assert seen == [(0, 0), (1, 1), (1, 1)]
