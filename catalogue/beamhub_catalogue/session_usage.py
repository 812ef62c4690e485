"""What sessions have used: their notebooks by the clock, their clusters as the gateway told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.models import SessionRow
from beamhub_core.session_usage import UsageReport

By = Literal["account", "proposal"]
NO_PROPOSAL = "-"


@dataclass(frozen=True, slots=True)
class SessionUsage:
    """What one session, or several, used: cores and GiB, each by the second, held or busy."""

    notebook_core_s: float = 0.0
    notebook_memory_gib_s: float = 0.0
    cluster_core_s: float = 0.0
    cluster_memory_gib_s: float = 0.0

    def __add__(self, other: SessionUsage) -> SessionUsage:
        return SessionUsage(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def scaled(self, share: float) -> SessionUsage:
        """A part of it."""
        return SessionUsage(*(getattr(self, name) * share for name in self.__slots__))


def keep_usage(session: Session, report: UsageReport) -> int:
    """Keep what clusters used; how many sessions are known.

    A sum only grows: an older report that comes late changes nothing, and the same one twice counts once.
    """
    told = {one.plan_id: one for one in report.sessions}
    rows = session.scalars(select(SessionRow).where(SessionRow.plan_id.in_(told))).all()
    for row in rows:
        one = told[row.plan_id]
        row.cluster_core_s = max(row.cluster_core_s, one.core_s)
        row.cluster_memory_gib_s = max(row.cluster_memory_gib_s, one.memory_gib_s)
    return len(rows)


def usage_of(row: SessionRow, now: datetime) -> SessionUsage:
    """What a session used until now: room is taken from the moment at which its plan was stored."""
    until = min(now, row.expires_at) if row.ended_at is None else row.ended_at
    seconds = max(0.0, (until - row.created_at).total_seconds())
    return SessionUsage(
        row.cpu * seconds, row.memory_gib * seconds, row.cluster_core_s, row.cluster_memory_gib_s
    )


def usage_by(rows: Iterable[SessionRow], by: By, now: datetime) -> dict[str, SessionUsage]:
    """Sums over sessions, by account or by proposal; of several proposals each has its share."""
    sums: dict[str, SessionUsage] = defaultdict(SessionUsage)
    for row in rows:
        used = usage_of(row, now)
        if by == "account":
            sums[row.account] += used
            continue
        for one in row.proposals:
            sums[one.proposal] += used.scaled(one.share)
        if not row.proposals:
            sums[NO_PROPOSAL] += used
    return dict(sums)
