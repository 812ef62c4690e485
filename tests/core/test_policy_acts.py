"""Acts upon proposals: what each kind says, and what the policy allows of it at an instant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from beamhub_core.acts import ProposalAct, problem_of
from beamhub_core.policy import ProposalFacts, opens_at
from beamhub_core.policy_document import PolicyDocument

ID = "0" * 32
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NEEDED = {"extension": "months", "early_release": "day", "withdrawal": None, "support_consent": "until"}
SAID: dict[str, Any] = {"months": 12, "day": date(2027, 1, 1), "until": NOW + timedelta(days=30)}
POLICY = PolicyDocument.model_validate(
    {
        "version": "a",
        "timezone": "Europe/Paris",
        "classes": {
            "standard": {"embargo_months": 36, "metadata": "public", "extension_months": [12, 6]},
            "short": {"embargo_months": 0, "metadata": "team", "extension_months": [1]}
            | {"roles": {"support": "always"}},
            "sealed": {"embargo_months": "never", "metadata": "team", "roles": {"support": "never"}},
        },
    }
)
DAYS = st.dates(date(2022, 1, 1), date(2031, 12, 31))
INSTANTS = st.integers(0, 10 * 365 * 86400).map(
    lambda s: datetime(2022, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)
PROPOSALS = st.builds(
    ProposalFacts,
    st.just("MA-2"),
    st.sampled_from([*POLICY.classes, "unheard-of", None]),
    st.none() | DAYS,
    extension_months=st.lists(st.sampled_from([1, 6, 12]), max_size=3).map(tuple),
    released_on=st.none() | DAYS,
)
ACTS = st.one_of(
    st.builds(lambda months: act("extension", months=months), st.sampled_from([1, 6, 12, 13, 120])),
    st.builds(lambda day: act("early_release", day=day), DAYS),
    st.builds(lambda until: act("support_consent", until=until), INSTANTS),
    st.builds(lambda: act("withdrawal")),
)


def act(kind: str, **said: Any) -> ProposalAct:
    words = {"id": ID, "proposal": "MA-2", "kind": kind, "reason": "a reason"}
    return ProposalAct.model_validate(words | said)


def after(made: ProposalAct, proposal: ProposalFacts) -> ProposalFacts:
    """The proposal with the act standing, as the catalogue folds acts."""
    if made.kind == "extension" and made.months:
        return replace(proposal, extension_months=(*proposal.extension_months, made.months))
    if made.kind == "early_release" and made.day:
        days = [day for day in (proposal.released_on, made.day) if day is not None]
        return replace(proposal, released_on=min(days))
    return proposal


@given(st.sampled_from([*NEEDED]), st.sets(st.sampled_from([*SAID])), st.booleans())
def test_an_act_says_what_its_kind_needs_and_nothing_else(kind: str, told: set[str], narrowed: bool) -> None:
    said = {name: SAID[name] for name in told} | ({"pid": "t:MA-2:1"} if narrowed else {})
    fits = told == ({NEEDED[kind]} if NEEDED[kind] else set()) and (not narrowed or kind == "withdrawal")
    if fits:
        assert act(kind, **said).kind == kind
    else:
        with pytest.raises(ValidationError, match=r"an act of the kind|only a withdrawal is of one dataset"):
            act(kind, **said)


@pytest.mark.parametrize(
    ("kind", "said", "match"),
    [
        ("extension", {"months": 0}, "months"),
        ("extension", {"months": 121}, "months"),
        ("early_release", {"day": "2023-02-29"}, "day"),
        ("support_consent", {"until": "2027-01-01T00:00:00"}, "no time zone"),
        ("support_consent", {"until": "9999-12-31T23:59:59-12:00"}, "outside of the years"),
        ("support_consent", {"until": "0001-01-01T00:00:00+12:00"}, "outside of the years"),
        ("withdrawal", {"id": "0" * 31}, "id"),
        ("withdrawal", {"id": "A" * 32}, "id"),
        ("withdrawal", {"proposal": "MA-2\0"}, "proposal"),
        ("withdrawal", {"proposal": "p" * 201}, "proposal"),
        ("withdrawal", {"pid": "a\x1bb"}, "pid"),
        ("withdrawal", {"reason": ""}, "reason"),
        ("withdrawal", {"reason": " "}, "reason is empty"),
        ("withdrawal", {"reason": "a\nb"}, "reason"),
        ("withdrawal", {"reason": "r" * 501}, "reason"),
        ("withdrawal", {"made_by": "me"}, "made_by"),
        ("deletion", {}, "kind"),
    ],
)
def test_an_act_out_of_bounds_is_none(kind: str, said: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        act(kind, **said)


@given(ACTS, PROPOSALS, INSTANTS)
@example(act("extension", months=12), ProposalFacts("MA-2", "standard", date(2022, 2, 28)), NOW)
def test_an_allowed_act_moves_the_opening_its_way_and_closes_nothing_that_is_open(
    made: ProposalAct, proposal: ProposalFacts, now: datetime
) -> None:
    if problem_of(made, proposal, POLICY, now) is not None:
        return
    before, then = opens_at(proposal, POLICY), opens_at(after(made, proposal), POLICY)
    if made.kind == "extension":
        assert before is None or (then is not None and now < before < then)
    elif made.kind == "early_release":
        assert then is not None
        assert before is None or now < then < before or (now < before and then < before)
    else:
        assert then == before


@given(ACTS, PROPOSALS, INSTANTS)
def test_an_act_refused_for_its_date_would_have_done_harm_or_nothing(
    made: ProposalAct, proposal: ProposalFacts, now: datetime
) -> None:
    problem = problem_of(made, proposal, POLICY, now)
    opening = opens_at(proposal, POLICY)
    if made.kind in ("extension", "early_release") and opening is not None and opening <= now:
        assert problem is not None
        assert f"open since {opening:%Y-%m-%d}" in problem
    if made.kind == "withdrawal":
        assert problem is None
    if made.kind == "support_consent" and made.until is not None and made.until <= now:
        assert problem is not None


@given(ACTS, PROPOSALS.filter(lambda p: p.policy_class in ("sealed", "unheard-of", None)), INSTANTS)
def test_data_that_never_opens_is_neither_extended_nor_released(
    made: ProposalAct, proposal: ProposalFacts, now: datetime
) -> None:
    if made.kind in ("extension", "early_release"):
        assert problem_of(made, proposal, POLICY, now) is not None


STANDARD = ProposalFacts("MA-2", "standard", date(2025, 10, 9))  # opens on 10 October 2028


@pytest.mark.parametrize(
    ("made", "changes", "problem"),
    [
        (act("extension", months=12), {}, None),
        (act("extension", months=13), {}, "The policy allows 12 months for this extension, not 13."),
        (act("extension", months=6), {"extension_months": (12,)}, None),
        (act("extension", months=7), {"extension_months": (12,)}, "allows 6 months"),
        (act("extension", months=1), {"extension_months": (12, 6)}, "allows 2 extension(s), and 2 stand"),
        (act("extension", months=1), {"policy_class": "unheard-of"}, "allows 0 extension(s)"),
        (act("extension", months=1), {"released_on": date(2027, 1, 1)}, "early release on 2027-01-01 stands"),
        (act("extension", months=1), {"ended": date(2023, 5, 31)}, "open since 2026-06-01"),
        (act("extension", months=1), {"ended": date(2023, 6, 1)}, None),
        (act("extension", months=1), {"released_on": date(2026, 5, 1)}, "open since 2026-05-01"),
        (act("early_release", day=date(2026, 6, 1)), {}, None),
        (act("early_release", day=date(2026, 5, 31)), {}, "first day on which data can be released is 2026-"),
        (act("early_release", day=date(1, 1, 1)), {}, "is past"),
        (act("early_release", day=date(2028, 10, 9)), {}, None),
        (act("early_release", day=date(2028, 10, 10)), {}, "opens on 2028-10-10 already"),
        (act("early_release", day=date.max), {"ended": None}, None),
        (act("early_release", day=date(2027, 1, 1)), {"policy_class": "sealed"}, "never opens"),
        (act("support_consent", until=NOW + timedelta(seconds=1)), {}, None),
        (act("support_consent", until=NOW), {}, "would have ended already"),
        (act("support_consent", until=SAID["until"]), {"policy_class": "short"}, "it is always there"),
        (act("support_consent", until=SAID["until"]), {"policy_class": "sealed"}, "it is never there"),
    ],
)
def test_the_refusal_names_the_policys_limit(
    made: ProposalAct, changes: dict[str, Any], problem: str | None
) -> None:
    found = problem_of(made, replace(STANDARD, **changes), POLICY, NOW)
    assert (found is None) == (problem is None)
    assert problem is None or (found is not None and problem in found)


def test_today_is_the_facilitys_day() -> None:
    late = datetime(2026, 6, 1, 22, 30, tzinfo=UTC)  # 00:30 on 2 June in Paris
    assert problem_of(act("early_release", day=date(2026, 6, 1)), STANDARD, POLICY, late) is not None
    assert problem_of(act("early_release", day=date(2026, 6, 2)), STANDARD, POLICY, late) is None
