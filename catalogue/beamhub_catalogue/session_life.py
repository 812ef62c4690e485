"""The life of one running session as web keeps it: its reports, its time, and a preparation nobody used."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from beamhub_catalogue.audit import Context, record
from beamhub_catalogue.idle_time import IdleRule, IdleState, after_keep, after_report
from beamhub_catalogue.models import SessionRow
from beamhub_catalogue.recheck import Present, end_of_rights
from beamhub_catalogue.session_time import SHORTEST, extend_session, find_extension, profile_of
from beamhub_core.config.facility import FacilityConfig
from beamhub_core.config.storage import SessionsConfig
from beamhub_core.session_life import SessionNow, SessionReport

SHORTEST_GAP = timedelta(seconds=5)
"""A report that says the same as the last one, sooner than this, is answered and not kept."""


def idle_rule(sessions: SessionsConfig, profile: str) -> IdleRule | None:
    """The rule of a profile as it is configured now; None where nothing is stopped for idleness."""
    found = next((one for one in sessions.profiles if one.name == profile), None)
    if found is None or found.idle_h is None:
        return None
    return IdleRule(timedelta(hours=found.idle_h), timedelta(minutes=sessions.idle.warning_min))


def idle_state(row: SessionRow) -> IdleState:
    """What a row knows of its session's activity."""
    return IdleState(row.reported_at, row.active_at, row.idle_stop_at, row.idle_told)


def take_report(row: SessionRow, report: SessionReport, sessions: SessionsConfig, now: datetime) -> bool:
    """Keep what a session says of itself; whether the first cell was new."""
    before = idle_state(row)
    after = after_report(before, report, idle_rule(sessions, str(row.plan.get("profile"))), now)
    is_new_cell = report.first_cell_ago_s is not None and "first_cell" not in seconds_of(row)
    opened = report.is_used and row.prepared_until is not None
    told = (after.stop_at, after.is_told) != (before.stop_at, before.is_told)
    soon = before.reported_at is not None and now - before.reported_at < SHORTEST_GAP
    if soon and not (told or is_new_cell or opened):
        return False
    _keep(row, after)
    if report.jobs is not None:
        row.jobs = [job.model_dump(mode="json") for job in report.jobs]
    if opened:
        row.prepared_until = None
    if is_new_cell and report.first_cell_ago_s is not None:
        _keep_first_cell(row, now - timedelta(seconds=report.first_cell_ago_s))
    return is_new_cell


def keep_going(row: SessionRow, now: datetime) -> None:
    """The person said that the session is to go on: it is neither idle nor waiting to be opened."""
    _keep(row, after_keep(idle_state(row), now))
    row.prepared_until = None


def seconds_of(row: SessionRow) -> dict[str, Any]:
    """The seconds of each phase of a start, as far as they were told."""
    found = (row.phases or {}).get("seconds", {})
    return found if isinstance(found, dict) else {}


def session_now(session: Session, config: FacilityConfig, present: Present, row: SessionRow) -> SessionNow:
    """How things stand with a session: its end, what can be done about it, and its rights."""
    found = find_extension(session, config, present, row)
    holds, first = end_of_rights(session, config.login, present, row.plan_id)
    may = found.latest - found.expires_at >= SHORTEST
    explain = row.plan.get("explain", {})
    return SessionNow(
        now=present.wall_now,
        expires_at=row.expires_at,
        extends_to=found.latest if may else None,
        why_not="" if may else _why_not(config, row, holds=holds, first=first),
        idle_stop_at=row.idle_stop_at,
        rights_hold=holds,
        right_ends_at=first,
        is_rescue=bool(row.plan.get("is_rescue", False)),
        notes=tuple(explain.get("notes", ())),
    )


def extend_and_record(
    session: Session, config: FacilityConfig, present: Present, row: SessionRow
) -> datetime:
    """Extend a session as far as it may be, and have the audit say so; its new end.

    Raises
    ------
    Refused
        Why it cannot be extended.
    """
    until = extend_session(session, config, present, row)
    keep_going(row, present.wall_now)
    context = Context(about=row.account)
    record(session, "extension", row.plan_id, present.now, context=context, until=until.isoformat())
    return until


def _why_not(config: FacilityConfig, row: SessionRow, *, holds: bool, first: datetime | None) -> str:
    profile = profile_of(config, row)
    if not holds:
        return "A right that this session needs ended, so it cannot be extended and is stopped soon."
    if profile is None or profile.max_lifetime_h is None:
        return "Sessions of this size cannot be extended. Save your work, and start a new one when it ends."
    if first is not None and first - row.expires_at < SHORTEST:
        return "A right that this session needs ends then, so it cannot be extended."
    if row.created_at + timedelta(hours=profile.max_lifetime_h) - row.expires_at < SHORTEST:
        return (
            f"It has reached the {profile.max_lifetime_h:g} hours that a session of this size may have. "
            "Save your work, and start a new one when it ends."
        )
    return "It was extended just now, as far as a new session would go. It can be extended again later."


def _keep(row: SessionRow, state: IdleState) -> None:
    row.reported_at, row.active_at = state.reported_at, state.active_at
    row.idle_stop_at, row.idle_told = state.stop_at, state.is_told


def _keep_first_cell(row: SessionRow, at: datetime) -> None:
    """The phase lasts from the running server to the end of the first cell: a person is part of it."""
    phases = dict(row.phases or {})
    running = phases.get("running")
    if running is None:
        return
    taken = max(0.0, (at - datetime.fromisoformat(running)).total_seconds())
    row.phases = phases | {"seconds": seconds_of(row) | {"first_cell": round(taken, 3)}}
