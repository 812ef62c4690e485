"""The sessions table: plans as they were stored, and how far each session has come."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal, cast

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.admission import check_admitted, proposal_shares
from beamhub_catalogue.models import SessionMountRow, SessionProposalRow, SessionRow
from beamhub_catalogue.ticket_queue import drop_ticket
from beamhub_catalogue.views import SessionView
from beamhub_core.config.storage import SessionsConfig
from beamhub_core.errors import BeamhubError
from beamhub_core.long_job import JobReport
from beamhub_core.placement_words import placement_words
from beamhub_core.session import (
    LIVE_STATES,
    SessionPlan,
    SessionRecord,
    SessionState,
    SessionUpdate,
    StoredSession,
)

FINAL_STATES: tuple[SessionState, ...] = ("ended", "failed")
MAX_ENDED_SHOWN = 20
_NEXT: dict[SessionState, tuple[SessionState, ...]] = {
    # `unknown` is a session that nobody can see just now: it may turn out to run.
    "planned": ("starting", "running", "unknown", "stopping", "ended", "failed"),
    "starting": ("running", "unknown", "stopping", "ended", "failed"),
    "running": ("unknown", "stopping", "ended", "failed"),
    "unknown": ("running", "stopping", "ended", "failed"),
    "stopping": ("ended", "failed"),
    "ended": (),
    "failed": (),
}


class PlanConflict(BeamhubError):
    """Another plan is stored under this id."""

    def __init__(self, plan_id: str) -> None:
        super().__init__(plan_id)
        self.plan_id = plan_id

    def __str__(self) -> str:
        return f"Another plan is stored under the id {self.plan_id}. A plan is never changed; make a new one."


def store_plan(
    session: Session, plan: SessionPlan, plan_hash: str, config: SessionsConfig, now: datetime
) -> Literal["new", "same"]:
    """Keep a plan before anything is made from it; keeping the same plan twice is keeping it once.

    With the plan its room in the place is taken, and its ticket in the queue is used up.

    Raises
    ------
    PlanConflict
        If another plan has this id.
    Refused
        If the person, its proposals or its place have no room for it (`check_admitted`).
    """
    row = session.get(SessionRow, plan.id)
    if row is not None:
        if row.plan_hash != plan_hash:
            raise PlanConflict(plan.id)
        return "same"
    check_admitted(session, plan, config, now)
    drop_ticket(session, plan.account, plan.server_name)
    session.add(
        SessionRow(
            plan_id=plan.id,
            plan_hash=plan_hash,
            plan=plan.model_dump(mode="json"),
            account=plan.account,
            server_name=plan.server_name,
            state="planned",
            created_at=now,
            expires_at=plan.expires_at,
            last_seen=now,
            place=plan.place.name,
            cpu=plan.limits.cpu,
            memory_gib=plan.limits.memory_gib,
            gpus=plan.limits.gpus,
            phases={"planned": now.isoformat()},
            prepared_until=_prepared_until(plan, config, now),
            proposals=[
                SessionProposalRow(proposal=name, share=share)
                for name, share in proposal_shares(plan).items()
            ],
            mounts=[
                SessionMountRow(pool=mount.pool, path=mount.path, mode=mount.mode, pid=mount.pid)
                for mount in plan.mounts
                if mount.purpose in ("raw", "processed")
            ],
        )
    )
    return "new"


def _prepared_until(plan: SessionPlan, config: SessionsConfig, now: datetime) -> datetime | None:
    """When a session that was started before anybody opened it is stopped again, unless somebody does."""
    if not plan.is_prepared or config.pre_start is None:
        return None
    return now + timedelta(minutes=config.pre_start.unused_min)


def update_session(row: SessionRow, update: SessionUpdate, now: datetime) -> bool:
    """Advance the mutable side; a state that would go back, and anything after the end, changes nothing.

    Returns whether the state changed. The end forgets the token's digest: the token opens nothing more.
    """
    before = cast(SessionState, row.state)
    if before in FINAL_STATES:
        return False
    row.last_seen = now
    for name in ("token_digest", "backend_id", "url", "reason"):
        value = getattr(update, name)
        if value is not None:
            setattr(row, name, value)
    if update.phases_s is not None:
        seconds = (row.phases or {}).get("seconds", {})
        row.phases = (row.phases or {}) | {"seconds": seconds | dict(update.phases_s)}
    if update.state is None or update.state == before or update.state not in _NEXT[before]:
        return False
    row.state = update.state
    row.phases = (row.phases or {}) | {update.state: now.isoformat()}
    if update.state in FINAL_STATES:
        row.token_digest, row.ended_at = None, now
    return True


def stored_session(row: SessionRow) -> StoredSession:
    """A row as the word that travels."""
    record = SessionRecord(
        plan_id=row.plan_id,
        plan_hash=row.plan_hash,
        account=row.account,
        server_name=row.server_name,
        state=cast(SessionState, row.state),
        token_digest=row.token_digest,
        backend_id=row.backend_id,
        url=row.url,
        reason=row.reason,
        created_at=row.created_at,
        last_seen=row.last_seen,
        expires_at=row.expires_at,
    )
    return StoredSession(plan=SessionPlan.model_validate(row.plan), record=record)


def live_sessions(session: Session) -> list[SessionRow]:
    """Every session that has not ended or failed, oldest first."""
    query = select(SessionRow).where(SessionRow.state.in_(LIVE_STATES))
    return list(session.scalars(query.order_by(SessionRow.created_at, SessionRow.plan_id)))


def session_of_token(session: Session, token_digest: str) -> SessionRow | None:
    """The live session whose server holds the token with this digest."""
    query = select(SessionRow).where(
        SessionRow.token_digest == token_digest, SessionRow.state.in_(LIVE_STATES)
    )
    rows = session.scalars(query.limit(2)).all()
    return rows[0] if len(rows) == 1 else None


def sessions_of(session: Session, account: str) -> tuple[SessionView, ...]:
    """An account's sessions: live ones first, then the latest that ended; each newest first."""
    mine = select(SessionRow).where(SessionRow.account == account)
    newest = (SessionRow.created_at.desc(), SessionRow.plan_id)
    live = session.scalars(mine.where(SessionRow.state.in_(LIVE_STATES)).order_by(*newest)).all()
    ended = session.scalars(
        mine.where(SessionRow.state.in_(FINAL_STATES)).order_by(*newest).limit(MAX_ENDED_SHOWN)
    ).all()
    return tuple(_view(row) for row in (*live, *ended))


def _view(row: SessionRow) -> SessionView:
    plan = SessionPlan.model_validate(row.plan)
    return SessionView(
        plan_id=row.plan_id,
        server_name=row.server_name,
        state=cast(SessionState, row.state),
        live=row.state in LIVE_STATES,
        place=plan.place.name,
        backend=plan.place.backend,
        profile=plan.profile,
        environment=plan.environment,
        template=plan.template.name if plan.template else None,
        url=row.url,
        reason=row.reason,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_seen=row.last_seen,
        datasets=plan.datasets,
        because=plan.explain.because,
        why=placement_words(plan.explain),
        idle_stop_at=row.idle_stop_at,
        prepared_until=row.prepared_until,
        jobs=_jobs(row),
    )


def _jobs(row: SessionRow) -> tuple[JobReport, ...]:
    """Its long jobs as it told of them; one of another version's shape is left out."""
    found = []
    for told in row.jobs or ():
        with suppress(ValidationError):
            found.append(JobReport.model_validate(told))
    return tuple(found)
