"""Tables of what people do: sessions with their plans, shares, logbook."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Double, ForeignKey, Index, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from beamhub_catalogue.models.base import Base, RowId


class SessionRow(Base):
    """A stored plan and the mutable side of its session."""

    __tablename__ = "sessions"

    plan_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    plan_hash: Mapped[str] = mapped_column(String(64))
    plan: Mapped[dict[str, Any]]
    account: Mapped[str] = mapped_column(String(80), index=True)
    server_name: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(12), index=True)
    token_digest: Mapped[str | None] = mapped_column(String(64), index=True)
    backend_id: Mapped[str | None] = mapped_column(Text)
    url: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_seen: Mapped[datetime]
    place: Mapped[str] = mapped_column(String(80), index=True, server_default="")
    cpu: Mapped[float] = mapped_column(Double, server_default="0")
    memory_gib: Mapped[float] = mapped_column(Double, server_default="0")
    gpus: Mapped[int] = mapped_column(server_default="0")
    ended_at: Mapped[datetime | None] = mapped_column(index=True)
    phases: Mapped[dict[str, Any] | None]
    reported_at: Mapped[datetime | None]
    active_at: Mapped[datetime | None]
    idle_stop_at: Mapped[datetime | None]
    idle_told: Mapped[bool] = mapped_column(server_default=false(), default=False)
    prepared_until: Mapped[datetime | None]
    cluster_core_s: Mapped[float] = mapped_column(Double, server_default="0", default=0.0)
    cluster_memory_gib_s: Mapped[float] = mapped_column(Double, server_default="0", default=0.0)
    jobs: Mapped[list[Any] | None]

    proposals: Mapped[list[SessionProposalRow]] = relationship(cascade="all, delete-orphan")
    mounts: Mapped[list[SessionMountRow]] = relationship(
        cascade="all, delete-orphan", order_by="SessionMountRow.id"
    )


class SessionMountRow(Base):
    """A mount of a stored plan whose right has to be looked at again while the session runs."""

    __tablename__ = "session_mounts"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("sessions.plan_id", ondelete="CASCADE"), index=True)
    pool: Mapped[str] = mapped_column(String(80))
    path: Mapped[str] = mapped_column(Text)
    mode: Mapped[str] = mapped_column(String(2))
    pid: Mapped[str | None] = mapped_column(String(300))


class SessionProposalRow(Base):
    """A proposal that a session's processor hours count for, with its share of them."""

    __tablename__ = "session_proposals"

    plan_id: Mapped[str] = mapped_column(ForeignKey("sessions.plan_id", ondelete="CASCADE"), primary_key=True)
    proposal: Mapped[str] = mapped_column(String(200), primary_key=True, index=True)
    share: Mapped[float] = mapped_column(Double)


class QueueTicketRow(Base):
    """A person's place in the queue for one server; the lower `turn`, then the lower id, the sooner."""

    __tablename__ = "queue_tickets"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    account: Mapped[str] = mapped_column(String(40))
    server_name: Mapped[str] = mapped_column(String(255))
    display_name: Mapped[str] = mapped_column(String(255))
    request: Mapped[dict[str, Any]]
    places: Mapped[list[Any]]
    memory_gib: Mapped[float] = mapped_column(Double)
    gpus: Mapped[int]
    turn: Mapped[int]
    joined_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    claimed_at: Mapped[datetime | None]
    n_claims: Mapped[int]
    reason: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (Index(None, "account", "server_name", unique=True),)


class ShareRow(Base):
    """A link by which one person lets others open a dataset or a template; rights stay each reader's own."""

    __tablename__ = "shares"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    key_digest: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(20))
    account: Mapped[str] = mapped_column(String(40), index=True)
    proposal: Mapped[str | None] = mapped_column(String(200), index=True)
    request: Mapped[dict[str, Any]]
    made_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class LogbookRow(Base):
    """A version of an entry of a proposal's logbook; a later version names the one that it replaces."""

    __tablename__ = "logbook_events"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    proposal: Mapped[str] = mapped_column(String(200))
    pid: Mapped[str | None] = mapped_column(String(300), index=True)
    replaces: Mapped[int | None] = mapped_column(ForeignKey("logbook_events.id"), unique=True)
    kind: Mapped[str] = mapped_column(String(20))
    account: Mapped[str | None] = mapped_column(String(40), index=True)
    at: Mapped[datetime]
    title: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    tags: Mapped[list[Any]]

    __table_args__ = (Index(None, "proposal", "at"),)
