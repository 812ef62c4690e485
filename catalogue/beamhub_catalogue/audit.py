"""What happened, for those who will ask: rows that are appended and never changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy.orm import Session

from beamhub_catalogue.models import AuditRow

AuditKind = Literal[
    "login", "account_ended", "decision", "plan", "state", "product", "recheck", "act", "act_revoked"
]


def record(
    session: Session,
    kind: AuditKind,
    subject: str,
    at: datetime,
    *,
    account: str | None = None,
    **detail: Any,
) -> None:
    """Append one row in the transaction of what it tells; never a token, a claim set or a file's content."""
    session.add(AuditRow(at=at, kind=kind, account=account, subject=subject[:2000], detail=detail))
