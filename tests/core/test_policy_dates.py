"""The days that embargoes turn on: extensions, releases, short months, odd nights, the calendar's ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beamhub_core.policy import (
    RAW,
    ProposalFacts,
    allowed_extensions,
    decide,
    ends_at,
    opens_at,
    start_of_day,
)
from beamhub_core.policy_document import PolicyDocument

SECOND = timedelta(seconds=1)
ZONES = ("UTC", "Europe/Paris", "Africa/Cairo", "Asia/Beirut", "Pacific/Apia", "Pacific/Kiritimati")
"""Beirut and Cairo have days that begin at 01:00; Apia had no 30 December 2011."""
DAYS = st.dates(date(1990, 1, 1), date(2060, 12, 31)) | st.sampled_from(
    [date(2024, 2, 29), date(2023, 3, 25), date(2023, 10, 28), date(2011, 12, 29), date(2011, 12, 30)]
)
ANY_DAY = DAYS | st.dates()
STEPS = st.lists(st.integers(1, 24), max_size=3).map(tuple)


def document(zone: str = "Europe/Paris", **rules: Any) -> PolicyDocument:
    words = {"embargo_months": 36, "metadata": "public"} | rules
    return PolicyDocument.model_validate({"version": "d", "timezone": zone, "classes": {"c": words}})


@given(ANY_DAY, STEPS, STEPS, st.integers(0, 60), st.sampled_from(ZONES))
def test_an_extension_never_opens_earlier_and_never_by_more_than_its_step(
    ended: date, granted: tuple[int, ...], steps: tuple[int, ...], months: int, zone: str
) -> None:
    policy = document(zone, embargo_months=months, extension_months=steps)
    facts = ProposalFacts("P", "c", ended)
    openings = [
        opens_at(replace(facts, extension_months=granted[:n]), policy) for n in range(len(granted) + 1)
    ]
    for before, after in pairwise(openings):
        assert after is None or (before is not None and before <= after)
    most = document(zone, embargo_months=months + sum(steps))
    latest = opens_at(facts, most)
    assert latest is None or (openings[-1] is not None and openings[-1] <= latest)
    allowed = allowed_extensions(granted, policy.classes["c"])
    assert len(allowed) == min(len(granted), len(steps))
    assert all(a == min(g, s) for a, g, s in zip(allowed, granted, steps, strict=False))


@given(ANY_DAY, ANY_DAY, STEPS, st.sampled_from(ZONES))
def test_an_early_release_never_opens_later(
    ended: date, released: date, steps: tuple[int, ...], zone: str
) -> None:
    policy = document(zone, extension_months=steps)
    facts = ProposalFacts("P", "c", ended, extension_months=steps)
    without, opening = opens_at(facts, policy), opens_at(replace(facts, released_on=released), policy)
    assert opening is not None
    assert without is None or opening <= without
    assert opening == start_of_day(released, policy) or opening == without


@given(ANY_DAY | st.none(), ANY_DAY | st.none(), st.sampled_from(ZONES))
def test_never_is_never(ended: date | None, released: date | None, zone: str) -> None:
    policy = document(zone, embargo_months="never")
    for name in ("c", "unheard-of", None):
        facts = ProposalFacts("P", name, ended, released_on=released)
        assert opens_at(facts, policy) is None
        assert not decide(None, [], facts, RAW, policy, datetime(9999, 12, 1, tzinfo=UTC)).may_read


@given(DAYS, st.integers(0, 60), st.sampled_from(ZONES), st.integers(-3 * 86400, 3 * 86400))
@example(date(2023, 3, 25), 0, "Asia/Beirut", 0)
@example(date(2026, 4, 23), 0, "Africa/Cairo", -1)
@example(date(2011, 12, 29), 0, "Pacific/Apia", 0)
def test_data_is_open_on_every_day_after_the_embargos_last_and_on_none_before(
    ended: date, months: int, zone: str, offset_s: int
) -> None:
    policy = document(zone, embargo_months=months)
    facts = ProposalFacts("P", "c", ended)
    opening = opens_at(facts, policy)
    assert opening is not None
    now = opening.astimezone(UTC) + offset_s * SECOND
    open_now = decide(None, [], facts, RAW, policy, now).may_read
    last = last_day(ended, months)
    assert open_now == (now.astimezone(ZoneInfo(zone)).date() > last)


def last_day(ended: date, months: int) -> date:
    year, month = divmod(ended.month - 1 + months, 12)
    for day in range(ended.day, 0, -1):
        try:
            return date(ended.year + year, month + 1, day)
        except ValueError:
            continue
    raise AssertionError("every month has a first day")


@pytest.mark.parametrize(
    ("ended", "months", "opens"),
    [
        (date(2024, 2, 29), 12, date(2025, 3, 1)),
        (date(2024, 2, 29), 48, date(2028, 3, 1)),
        (date(2023, 2, 28), 12, date(2024, 2, 29)),
        (date(2021, 8, 31), 30, date(2024, 3, 1)),
        (date(2024, 12, 31), 0, date(2025, 1, 1)),
    ],
)
def test_embargoes_over_leap_days(ended: date, months: int, opens: date) -> None:
    opening = opens_at(ProposalFacts("P", "c", ended), document(embargo_months=months))
    assert opening is not None
    assert opening.date() == opens


def test_extensions_are_added_in_one_sum() -> None:
    # 31 August + 36 + 6 months is the last of February, not the last of August's month of February + ...
    policy = document(extension_months=[6])
    facts = ProposalFacts("P", "c", date(2020, 8, 31), extension_months=(6,))
    opening = opens_at(facts, policy)
    assert opening is not None
    assert opening.date() == date(2024, 3, 1)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("ended", [date.min, date(1, 1, 2), date(9999, 12, 30), date.max])
def test_the_calendars_ends_are_no_failure(ended: date, zone: str) -> None:
    policy = document(zone, embargo_months=0)
    facts = ProposalFacts("P", "c", ended)
    opening, end = opens_at(facts, policy), ends_at(facts, policy)
    assert (opening is None) == (end is None) == (ended == date.max)
    for now in (datetime(1, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)):
        made = decide(None, [], facts, RAW, policy, now)
        assert made.may_read == (opening is not None and opening <= now)
    if opening is not None:
        opening.astimezone(UTC)  # a table keeps it so


@pytest.mark.parametrize("released", [date.min, date(1, 1, 2), date.max])
@pytest.mark.parametrize("zone", ZONES)
def test_an_early_release_at_the_calendars_end_is_no_failure(released: date, zone: str) -> None:
    facts = ProposalFacts("P", "c", None, released_on=released)
    opening = opens_at(facts, document(zone))
    assert opening is not None
    opening.astimezone(UTC)
