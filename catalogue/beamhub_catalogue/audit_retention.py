"""The end of what is kept: entries and ended sessions past their months, and never more than that."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from beamhub_catalogue.audit import Context, record
from beamhub_catalogue.audit_chain import BATCH
from beamhub_catalogue.database import Database
from beamhub_catalogue.models import (
    AuditActorRow,
    AuditCheckpointRow,
    AuditHeadRow,
    AuditProposalRow,
    AuditRow,
    SessionRow,
)
from beamhub_catalogue.sessions import FINAL_STATES
from beamhub_core.config.catalogue import AuditConfig

MAX_SPAN = timedelta(days=62)
"""Of the chain's own time, what one run removes at most: should a clock be wrong, it costs no more."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed; `is_more` when entries past their time are left for the next run."""

    n_entries: int
    n_sessions: int
    is_more: bool


def prune(database: Database, config: AuditConfig, now: datetime, operator: str | None = None) -> Pruned:
    """Remove what is past its retention, by the clock and by the newest entry, whichever is earlier.

    A clock that jumped ahead removes nothing unless an entry was written meanwhile, and then no more than
    `MAX_SPAN` of the chain a run. Live sessions are never touched.
    """
    with database.writing() as session:
        head = session.get(AuditHeadRow, 1, with_for_update=True)
        if head is None or head.at is None:
            return Pruned(0, 0, is_more=False)
        present = min(now, head.at)
        n_sessions = _prune_sessions(session, months_before(present, config.ended_session_months))
        cutoff = months_before(present, config.security_log_months)
        last, n_entries, is_more = _find_end(session, cutoff)
        context = Context(operator=operator)
        if last is not None:
            _remove(session, last, n_entries, n_sessions, now, context)
        elif n_sessions:
            record(session, "sessions_pruned", "", now, context=context, n_sessions=n_sessions)
        return Pruned(n_entries, n_sessions, is_more)


def months_before(when: datetime, months: int) -> datetime:
    """The same instant of the day, some months earlier; the last day of a month that is shorter."""
    index = when.year * 12 + when.month - 1 - months
    year, month = divmod(index, 12)
    if year < 1:
        return datetime.min.replace(tzinfo=when.tzinfo)
    return when.replace(year=year, month=month + 1, day=min(when.day, monthrange(year, month + 1)[1]))


def _find_end(session: Session, cutoff: datetime) -> tuple[AuditRow | None, int, bool]:
    """The last of the oldest entries that are all past the cutoff, how many, and whether more are.

    An entry counts as no later than the thousand that follow it: one that was written while the clock stood
    ahead would else hold up all behind it.
    """
    batch = _batch_after(session, 0)
    if not batch:
        return None, 0, False
    end, last, n_entries = min(cutoff, batch[0][1] + MAX_SPAN), 0, 0
    while batch:
        following = _batch_after(session, batch[-1][0])
        bound = max((at for _, at in following), default=None)
        for seq, at in batch:
            told = min(at, bound) if bound is not None else at
            if told >= end:
                row = session.get(AuditRow, last) if last else None
                return row, n_entries, bool(last) and told < cutoff
            last, n_entries = seq, n_entries + 1
        batch = following
    return None, 0, False  # the end of the chain is never past its own retention


def _batch_after(session: Session, seq: int) -> list[tuple[int, datetime]]:
    query = select(AuditRow.seq, AuditRow.at).where(AuditRow.seq > seq).order_by(AuditRow.seq).limit(BATCH)
    return [(row.seq, row.at) for row in session.execute(query)]


def _remove(
    session: Session, last: AuditRow, n_entries: int, n_sessions: int, now: datetime, context: Context
) -> None:
    seq, digest = last.seq, last.digest
    told = record(
        session,
        "prune",
        "",
        now,
        context=context,
        through=seq,
        digest=digest,
        n_entries=n_entries,
        n_sessions=n_sessions,
    )
    session.add(
        AuditCheckpointRow(seq=seq, digest=digest, n_entries=n_entries, removed_at=told.at, told_in=told.seq)
    )
    session.flush()
    session.expunge(last)
    session.execute(delete(AuditRow).where(AuditRow.seq <= seq))
    session.execute(delete(AuditProposalRow).where(AuditProposalRow.seq <= seq))
    spoken_of = select(AuditRow.seq).where(
        (AuditRow.actor == AuditActorRow.actor) | (AuditRow.about == AuditActorRow.actor)
    )
    session.execute(delete(AuditActorRow).where(~spoken_of.exists()))


def _prune_sessions(session: Session, cutoff: datetime) -> int:
    past = (SessionRow.state.in_(FINAL_STATES), SessionRow.last_seen < cutoff, SessionRow.expires_at < cutoff)
    n_sessions = session.scalar(select(func.count()).select_from(SessionRow).where(*past)) or 0
    if n_sessions:
        session.execute(delete(SessionRow).where(*past))
    return n_sessions
