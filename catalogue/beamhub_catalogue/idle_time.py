"""When a session in which nothing happens is warned, and when it may be stopped. Pure.

The session itself says how long nothing happened; nobody guesses it from outside. A stop needs all of: a
warning that the session confirmed, the whole time of that warning, and a report that came after it and still
says that nothing happens. A session that is silent, busy or of which nobody can tell is never stopped for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from beamhub_core.session_life import SessionReport

FRESH = timedelta(minutes=3)
"""A report that is older says nothing of now: a session reports about once a minute."""


@dataclass(frozen=True, slots=True)
class IdleRule:
    """After how long a session counts as idle, and how long before its stop it is warned."""

    limit: timedelta
    warning: timedelta


@dataclass(frozen=True, slots=True)
class IdleState:
    """What is known of one session's activity, by web's own clock.

    `stop_at` is when it is to be stopped; `is_told` says that the session confirmed to know that.
    """

    reported_at: datetime | None = None
    active_at: datetime | None = None
    stop_at: datetime | None = None
    is_told: bool = False


def after_report(state: IdleState, report: SessionReport, rule: IdleRule | None, now: datetime) -> IdleState:
    """The state once a report came; `rule` is None where the profile stops nobody."""
    idle_s = 0.0 if report.busy_with else report.idle_s
    active_at = now - timedelta(seconds=idle_s)
    if state.active_at is not None:
        active_at = max(active_at, min(state.active_at, now))
    fresh = IdleState(reported_at=now, active_at=active_at)
    if rule is None or now - active_at < rule.limit:
        return fresh
    if state.stop_at is not None and (state.is_told or report.told_of == state.stop_at):
        return replace(fresh, stop_at=state.stop_at, is_told=True)
    # Not confirmed yet: the time of the warning begins when the session takes it from this answer.
    return replace(fresh, stop_at=now + rule.warning)


def after_keep(state: IdleState, now: datetime) -> IdleState:
    """The state once its person said that it is to go on."""
    return IdleState(reported_at=state.reported_at, active_at=now)


def may_stop(state: IdleState, now: datetime, *, is_running: bool) -> bool:
    """Whether a session may be stopped now because nothing happens in it."""
    if not is_running or state.stop_at is None or state.reported_at is None or not state.is_told:
        return False
    return now >= state.stop_at <= state.reported_at <= now <= state.reported_at + FRESH
