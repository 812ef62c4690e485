"""Acts upon proposals in the tables: told once, folded into the rules, revoked but never changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.models import ActRow
from beamhub_core.acts import ProposalAct
from beamhub_core.errors import BeamhubError


class ActNotAllowed(BeamhubError):
    """The policy does not allow an act, or the person may not make it."""

    exit_code = 4

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class ActConflict(BeamhubError):
    """Another act was told under this id."""

    def __init__(self, act: str) -> None:
        super().__init__(act)
        self.act = act

    def __str__(self) -> str:
        return (
            f"Another act stands under the id {self.act}. An act is never changed: revoke it, make a new one."
        )


def standing_acts(session: Session, proposal: str | None = None) -> Mapping[str, Sequence[ActRow]]:
    """The acts that were not revoked, by proposal, in the order in which they were made."""
    query = select(ActRow).where(ActRow.revoked_at.is_(None))
    if proposal is not None:
        query = query.where(ActRow.proposal == proposal)
    found: dict[str, list[ActRow]] = defaultdict(list)
    for row in session.scalars(query.order_by(ActRow.made_at, ActRow.id)):
        found[row.proposal].append(row)
    return found


def keep_act(session: Session, act: ProposalAct, made_by: str, now: datetime) -> bool:
    """Append an act; False where it was told before.

    Raises
    ------
    ActConflict
        If another act stands under its id.
    """
    row = session.get(ActRow, act.id)
    if row is not None:
        if told(row) != act:
            raise ActConflict(act.id)
        return False
    session.add(ActRow(**act.model_dump(), made_by=made_by, made_at=now))
    return True


def is_withdrawn(session: Session, pid: str) -> bool:
    """Whether a withdrawal of one dataset stands."""
    standing = select(ActRow.id).where(
        ActRow.pid == pid, ActRow.kind == "withdrawal", ActRow.revoked_at.is_(None)
    )
    return session.scalar(standing.limit(1)) is not None


def told(row: ActRow) -> ProposalAct:
    """The act of a row."""
    return ProposalAct.model_validate({name: getattr(row, name) for name in ProposalAct.model_fields})
