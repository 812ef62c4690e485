"""When a session may be stopped because nothing happens in it: the laws of the pure decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from beamhub_catalogue.idle_time import FRESH, IdleRule, IdleState, after_keep, after_report, may_stop
from beamhub_core.session_life import SessionReport

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RULE = IdleRule(timedelta(hours=2), timedelta(minutes=15))
BUSY = st.lists(st.sampled_from(("kernel", "terminal", "program")), max_size=3).map(tuple)
STEPS = st.lists(
    st.tuples(
        st.floats(0, 4000),  # seconds since the last step
        st.sampled_from(("report", "echo", "keep", "silence")),
        st.floats(0, 20_000),  # how long nothing happened
        BUSY,
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from(("running", "unknown")))
def test_a_stop_needs_a_confirmed_warning_its_whole_time_and_a_fresh_idle_report(
    steps: list[tuple[float, str, float, tuple[str, ...]]], known: str
) -> None:
    state, now = IdleState(), NOW
    told: dict[datetime, datetime] = {}  # each stop with the instant at which its warning was confirmed
    for seconds, kind, idle_s, busy in steps:
        now += timedelta(seconds=seconds)
        before = state
        if kind == "keep":
            state = after_keep(state, now)
        elif kind != "silence":
            told_of = before.stop_at if kind == "echo" else None
            report = SessionReport(idle_s=idle_s, busy_with=busy, told_of=told_of)
            state = after_report(before, report, RULE, now)
            if state.is_told and state.stop_at is not None:
                told.setdefault(state.stop_at, before.reported_at or now)
        if may_stop(state, now, is_running=known == "running"):
            assert known == "running"
            assert state.stop_at is not None and state.reported_at is not None
            assert state.active_at is not None
            assert now >= state.stop_at
            assert state.stop_at - told[state.stop_at] >= RULE.warning - timedelta(microseconds=1)
            assert now - state.reported_at <= FRESH
            assert state.reported_at >= state.stop_at  # it was asked again before it is stopped
            assert state.reported_at - state.active_at >= RULE.limit


@given(st.floats(0, 1e6), BUSY.filter(bool), st.timedeltas(timedelta(0), timedelta(days=3)))
def test_a_busy_session_is_never_idle(idle_s: float, busy: tuple[str, ...], later: timedelta) -> None:
    warned = IdleState(NOW, NOW - timedelta(hours=5), NOW, is_told=True)
    report = SessionReport.model_validate({"idle_s": idle_s, "busy_with": busy, "told_of": NOW})
    state = after_report(warned, report, RULE, NOW + later)
    assert state.stop_at is None
    assert not may_stop(state, NOW + later, is_running=True)


@given(st.floats(0, 1e8))
def test_a_profile_without_a_limit_stops_nobody(idle_s: float) -> None:
    warned = IdleState(NOW, NOW - timedelta(hours=5), NOW, is_told=True)
    assert after_report(warned, SessionReport(idle_s=idle_s), None, NOW).stop_at is None


def test_a_silent_session_is_not_stopped_for_idleness() -> None:
    stop_at = NOW + RULE.warning
    warned = IdleState(NOW, NOW - timedelta(hours=5), stop_at, is_told=True)
    for minutes in (0, 15, 16, 600):
        assert not may_stop(warned, NOW + timedelta(minutes=minutes), is_running=True)
    late = after_report(warned, SessionReport(idle_s=1e5), RULE, NOW + timedelta(hours=10))
    assert may_stop(late, NOW + timedelta(hours=10), is_running=True)
    back = after_report(warned, SessionReport(idle_s=0), RULE, NOW + timedelta(hours=10))
    assert not may_stop(back, NOW + timedelta(hours=10), is_running=True)


def test_the_machines_clock_going_back_stops_nobody() -> None:
    stop_at = NOW + RULE.warning
    warned = IdleState(stop_at, NOW - timedelta(hours=5), stop_at, is_told=True)
    assert may_stop(warned, stop_at, is_running=True)
    assert not may_stop(warned, stop_at - timedelta(seconds=1), is_running=True)
