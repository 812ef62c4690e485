"""The policy's decision against an independent model, and the dates that embargoes turn on."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beamhub_core.identity import FacilityRole, Principal, account_name
from beamhub_core.policy import DatasetFacts, Decision, ProposalFacts, add_months, decide, opens_at, strictest
from beamhub_core.policy_document import EmbargoClass, PolicyDocument
from beamhub_core.rights import Membership

ISSUER = "https://provider.example"
ZONES = ("UTC", "Europe/Paris", "America/New_York", "Asia/Kathmandu", "Africa/Cairo", "Pacific/Apia")
ASSURANCE = "https://refeds.org/assurance/IAP/medium"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
CLASSES = {
    "open": EmbargoClass(embargo_months=0, metadata="public"),
    "standard": EmbargoClass(embargo_months=36, metadata="public", license="CC-BY-4.0"),
    "confidential": EmbargoClass(embargo_months=12, metadata="team"),
    "assured": EmbargoClass(embargo_months=12, metadata="public", required_assurance=(ASSURANCE,)),
    "proprietary": EmbargoClass(embargo_months="never", metadata="team"),
}


def policy(zone: str = "Europe/Paris") -> PolicyDocument:
    return PolicyDocument(version="t1", timezone=zone, classes=CLASSES)


def person(
    subject: str, *, roles: tuple[FacilityRole, ...] = (), assurance: tuple[str, ...] = ()
) -> Principal:
    return Principal(
        issuer=ISSUER,
        subject=subject,
        account=account_name(ISSUER, subject),
        display_name=subject,
        roles=roles,
        assurance=assurance,
        checked_at=NOON,
    )


def member(who: Principal, proposal: str = "P1", role: str = "member", **days: datetime | None) -> Membership:
    return Membership.model_validate(
        {"proposal": proposal, "account": who.account, "role": role, "source": "user_office:t"} | days
    )


def reads(
    who: Principal | None, *rows: Membership, name: str | None, ended: date | None, now: datetime
) -> Decision:
    return decide(who, rows, ProposalFacts("P1", name, ended), DatasetFacts(), policy(), now)


# The independent model: written from the policy's prose, not from the code.


def last_closed_day(ended: date | None, rules: EmbargoClass | None) -> date | None:
    if rules is None or rules.embargo_months == "never" or ended is None:
        return None
    year, month, day = ended.year, ended.month + rules.embargo_months, ended.day
    while month > 12:
        year, month = year + 1, month - 12
    while True:
        try:
            return date(year, month, day)
        except ValueError:
            day -= 1


def model(
    who: Principal | None,
    rows: list[Membership],
    proposal: ProposalFacts,
    dataset: DatasetFacts,
    zone: str,
    now: datetime,
) -> tuple[str, bool, bool]:
    """(visibility, may read, may write) of one reader."""
    rules = CLASSES.get(proposal.policy_class or "?")
    closed_until = last_closed_day(proposal.ended, rules)
    is_open = closed_until is not None and now.astimezone(ZoneInfo(zone)).date() > closed_until
    mine = []
    scientist = False
    if who is not None:
        scientist = rules is not None and "instrument_scientist" in who.roles  # no class, no role in it
        for row in rows:
            ours = row.account == who.account and row.proposal == proposal.id
            if ours and not (row.since and now < row.since) and not (row.until and now >= row.until):
                mine.append(row.role)
    team_only = rules is None or rules.metadata == "team"
    if not is_open and not mine and not scientist and team_only:
        return "hidden", False, False
    if dataset.private_to is not None and (who is None or who.account != dataset.private_to):
        return "hidden", False, False
    if dataset.withdrawn or proposal.withdrawn:
        return "metadata", False, False
    if not is_open:
        if not mine and not scientist:
            return "metadata", False, False
        needed = rules.required_assurance if rules else ()
        if who is None or not set(needed) <= set(who.assurance):
            return "metadata", False, False
    return "full", True, "pi" in mine or "member" in mine


PEOPLE = (
    None,
    person("ines"),
    person("colin", assurance=(ASSURANCE,)),
    person("sam", roles=("instrument_scientist",)),
    person("tara", roles=("trainer", "admin", "support")),
)
DAYS = st.dates(date(2019, 12, 30), date(2032, 3, 2))
INSTANTS = st.integers(0, 16 * 366 * 86400).map(
    lambda seconds: datetime(2019, 12, 30, tzinfo=UTC) + timedelta(seconds=seconds)
)


@st.composite
def membership_rows(draw: st.DrawFn) -> list[Membership]:
    known = [p for p in PEOPLE if p is not None]
    return draw(
        st.lists(
            st.builds(
                lambda who, proposal, role, since, until: member(
                    who, proposal, role, since=since, until=until
                ),
                st.sampled_from(known),
                st.sampled_from(["P1", "P10", "P"]),
                st.sampled_from(["pi", "member", "local_contact"]),
                st.none() | INSTANTS,
                st.none() | INSTANTS,
            ),
            max_size=4,
        )
    )


PROPOSALS = st.builds(
    ProposalFacts,
    st.just("P1"),
    st.sampled_from([*CLASSES, "unheard-of", None]),
    st.none() | DAYS,
    st.booleans() | st.just(False),
)
DATASETS = st.builds(
    DatasetFacts,
    st.booleans() | st.just(False),
    st.sampled_from([None, None, PEOPLE[1].account if PEOPLE[1] else None]),
)


@given(
    st.sampled_from(PEOPLE),
    membership_rows(),
    PROPOSALS,
    DATASETS,
    st.sampled_from(ZONES),
    INSTANTS,
    st.sampled_from([None, -1, 0, 1]),
)
@example(None, [], ProposalFacts("P1", "confidential", date(2024, 2, 29)), DatasetFacts(), "UTC", NOON, 0)
def test_the_decision_is_that_of_the_independent_model(
    who: Principal | None,
    rows: list[Membership],
    proposal: ProposalFacts,
    dataset: DatasetFacts,
    zone: str,
    now: datetime,
    edge_s: int | None,
) -> None:
    rules = policy(zone)
    edge = opens_at(proposal, rules)
    if edge_s is not None and edge is not None:
        now = edge + timedelta(seconds=edge_s)
    made = decide(who, rows, proposal, dataset, rules, now)
    assert (made.visibility, made.may_read, made.may_write) == model(who, rows, proposal, dataset, zone, now)


@given(st.sampled_from(PEOPLE), membership_rows(), PROPOSALS, DATASETS, INSTANTS)
def test_a_decision_is_consistent_in_itself(
    who: Principal | None,
    rows: list[Membership],
    proposal: ProposalFacts,
    dataset: DatasetFacts,
    now: datetime,
) -> None:
    made = decide(who, rows, proposal, dataset, policy(), now)
    assert made.may_read == (made.visibility == "full") == (made.because is not None)
    assert made.may_read == (made.refusal is None)
    assert made.may_read or (made.reason and not made.may_write)
    if made.until is not None:
        assert made.may_read
        assert made.until > now


@given(membership_rows(), PROPOSALS, INSTANTS)
def test_a_right_holds_until_the_instant_that_the_decision_names(
    rows: list[Membership], proposal: ProposalFacts, now: datetime
) -> None:
    who = PEOPLE[1]
    made = decide(who, rows, proposal, DatasetFacts(), policy(), now)
    if made.until is None:
        return
    before = decide(who, rows, proposal, DatasetFacts(), policy(), made.until - timedelta(seconds=1))
    assert before.may_read


@given(PROPOSALS, INSTANTS, st.timedeltas(timedelta(0), timedelta(days=4000)))
def test_what_an_anonymous_reader_may_read_stays_readable(
    proposal: ProposalFacts, now: datetime, later: timedelta
) -> None:
    first = decide(None, [], proposal, DatasetFacts(), policy(), now)
    after = decide(None, [], proposal, DatasetFacts(), policy(), now + later)
    assert not first.may_read or after.may_read


@given(st.lists(st.tuples(PROPOSALS, DATASETS), min_size=1, max_size=4), membership_rows(), INSTANTS)
def test_a_product_allows_no_more_than_each_of_its_inputs(
    inputs: list[tuple[ProposalFacts, DatasetFacts]], rows: list[Membership], now: datetime
) -> None:
    for who in PEOPLE:
        each = [decide(who, rows, proposal, dataset, policy(), now) for proposal, dataset in inputs]
        made = strictest(each)
        assert made.may_read == all(d.may_read for d in each)
        assert (made.visibility == "hidden") == any(d.visibility == "hidden" for d in each)
        assert not made.may_write


def test_a_product_without_inputs_has_no_policy() -> None:
    with pytest.raises(ValueError, match="without inputs"):
        strictest([])


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2024, 2, 29), 12, date(2025, 2, 28)),
        (date(2024, 2, 29), 48, date(2028, 2, 29)),
        (date(2023, 1, 31), 1, date(2023, 2, 28)),
        (date(2023, 11, 30), 3, date(2024, 2, 29)),
        (date(2023, 12, 15), 1, date(2024, 1, 15)),
        (date(2023, 12, 31), 0, date(2023, 12, 31)),
    ],
)
def test_months_are_added_as_a_calendar_does(day: date, months: int, expected: date) -> None:
    assert add_months(day, months) == expected


@pytest.mark.parametrize("offset_s", [-1, 0, 1])
@pytest.mark.parametrize("zone", ZONES)
def test_an_embargo_ends_with_the_last_second_of_its_last_day(zone: str, offset_s: int) -> None:
    midnight = datetime(2027, 3, 28, tzinfo=ZoneInfo(zone))
    now = midnight.astimezone(UTC) + timedelta(seconds=offset_s)
    facts = ProposalFacts("P1", "standard", date(2024, 3, 27))
    made = decide(None, [], facts, DatasetFacts(), policy(zone), now)
    assert made.may_read == (offset_s >= 0)


def test_a_day_without_midnight_ends_when_the_clock_jumps() -> None:
    # Cairo skips 00:00 to 01:00 on 24 April 2026 (last Friday of April).
    opening = opens_at(ProposalFacts("P1", "open", date(2026, 4, 23)), policy("Africa/Cairo"))
    assert opening is not None
    assert opening.astimezone(UTC) == datetime(2026, 4, 23, 22, tzinfo=UTC)


def test_a_running_proposal_never_opens() -> None:
    made = reads(None, name="open", ended=None, now=datetime(2400, 1, 1, tzinfo=UTC))
    assert (made.state, made.may_read, made.opens_at) == ("metadata_open", False, None)


def test_an_embargo_beyond_the_calendar_never_opens() -> None:
    assert opens_at(ProposalFacts("P1", "standard", date(9998, 1, 1)), policy()) is None


def test_an_unknown_class_is_closed_and_hidden() -> None:
    made = reads(None, name="no-such-class", ended=date(2001, 1, 1), now=NOON)
    assert (made.visibility, made.refusal) == ("hidden", "not_found")


def test_the_outsider_learns_the_end_of_a_public_embargo() -> None:
    made = reads(person("oscar"), name="standard", ended=date(2025, 6, 1), now=NOON)
    assert made.refusal == "embargoed"
    assert "01 June 2028" in made.reason


def test_p1_and_p10_are_different_proposals() -> None:
    who = person("ines")
    made = reads(who, member(who, "P10"), name="confidential", ended=date(2026, 1, 1), now=NOON)
    assert made.visibility == "hidden"


def test_another_accounts_membership_gives_nothing() -> None:
    made = reads(
        person("oscar"), member(person("ines")), name="confidential", ended=date(2026, 1, 1), now=NOON
    )
    assert made.visibility == "hidden"


@pytest.mark.parametrize(("role", "writes"), [("pi", True), ("member", True), ("local_contact", False)])
def test_who_writes_to_the_processed_folder(role: str, writes: bool) -> None:
    who = person("ines")
    made = reads(who, member(who, role=role), name="confidential", ended=date(2026, 1, 1), now=NOON)
    assert (made.may_read, made.may_write) == (True, writes)


@pytest.mark.parametrize(("offset_s", "allowed"), [(-1, True), (0, False), (1, False)])
def test_a_membership_ends_at_its_instant(offset_s: int, allowed: bool) -> None:
    who, end = person("ines"), datetime(2026, 7, 1, tzinfo=UTC)
    row = member(who, until=end)
    now = end + timedelta(seconds=offset_s)
    assert reads(who, row, name="standard", ended=date(2026, 1, 1), now=now).may_read == allowed


def test_the_instrument_scientist_reads_all_and_writes_nothing() -> None:
    sam = person("sam", roles=("instrument_scientist",))
    made = reads(sam, name="confidential", ended=date(2026, 1, 1), now=NOON)
    assert (made.may_read, made.because, made.may_write) == (True, "role", False)


def test_a_low_assurance_is_named_in_the_refusal() -> None:
    who = person("ines")
    made = reads(who, member(who), name="assured", ended=date(2026, 1, 1), now=NOON)
    assert made.refusal == "assurance_too_low"
    assert made.step_up == ()  # no login helps: the provider knows too little of the person
    assert ASSURANCE in made.reason
