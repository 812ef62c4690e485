"""Core-seconds and GiB-seconds of clusters, from the times of their parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_spawners.dask_usage import PartTime, Usage, usage_by_session

TIMES = st.integers(0, 10_000).map(float)


@st.composite
def part_times(draw: st.DrawFn) -> PartTime:
    started_s = draw(TIMES)
    lasted_s = draw(st.none() | st.integers(0, 5_000).map(float))
    return PartTime(
        plan_id=draw(st.sampled_from("ab")),
        cpu=float(draw(st.integers(1, 8))),
        memory_gib=float(draw(st.integers(1, 64))),
        started_s=started_s,
        ended_s=None if lasted_s is None else started_s + lasted_s,
    )


def test_a_worker_of_two_cores_for_a_minute_used_120_core_seconds() -> None:
    worker = PartTime("a", cpu=2, memory_gib=8, started_s=100, ended_s=160)
    assert usage_by_session([worker], now_s=1000) == {"a": Usage(120, 480)}


@given(parts=st.lists(part_times()), earlier_s=TIMES, later_s=TIMES)
def test_usage_never_shrinks_with_time(parts: list[PartTime], earlier_s: float, later_s: float) -> None:
    before = usage_by_session(parts, now_s=min(earlier_s, later_s))
    after = usage_by_session(parts, now_s=max(earlier_s, later_s))
    for plan_id, used in before.items():
        assert 0 <= used.core_s <= after[plan_id].core_s
        assert 0 <= used.memory_gib_s <= after[plan_id].memory_gib_s


@given(part=part_times(), cut_s=TIMES, now_s=TIMES)
def test_a_part_that_was_replaced_costs_what_one_part_would(
    part: PartTime, cut_s: float, now_s: float
) -> None:
    end_s = part.ended_s if part.ended_s is not None else now_s
    cut = min(max(cut_s, part.started_s), max(end_s, part.started_s))
    halves = [replace(part, ended_s=cut), replace(part, started_s=cut)]
    whole = usage_by_session([part], now_s=now_s)[part.plan_id]
    assert usage_by_session(halves, now_s=now_s)[part.plan_id].core_s == pytest.approx(whole.core_s)


@given(parts=st.lists(part_times()), now_s=TIMES)
def test_each_session_pays_for_its_own_parts_only(parts: list[PartTime], now_s: float) -> None:
    together = usage_by_session(parts, now_s=now_s)
    for plan_id in "ab":
        alone = usage_by_session([one for one in parts if one.plan_id == plan_id], now_s=now_s)
        assert together.get(plan_id) == alone.get(plan_id)
