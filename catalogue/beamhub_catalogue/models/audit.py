"""Tables of the audit: the chained entries, whom they speak of, and where the chain begins and ends."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from beamhub_catalogue.models.base import Base, RowId


class AuditRow(Base):
    """Something that somebody will want to know later; appended, never changed, removed from the front only.

    `actor` did it and `about` is whom it happened to, both as pseudonyms of `audit_actors`. `digest` covers
    every other column, `previous` is the digest of the entry before. See `beamhub_catalogue.audit_chain`.
    """

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(40))
    actor_kind: Mapped[str] = mapped_column(String(10))
    actor: Mapped[str | None] = mapped_column(String(32))
    about: Mapped[str | None] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(Text)
    detail: Mapped[dict[str, Any]]
    proposals: Mapped[list[Any]]
    reference: Mapped[str | None] = mapped_column(String(140), unique=True)
    previous: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))

    __table_args__ = (Index(None, "actor", "seq"), Index(None, "about", "seq"), Index(None, "kind", "seq"))


class AuditProposalRow(Base):
    """An entry touches a proposal: the index by which its principal investigator reads."""

    __tablename__ = "audit_proposals"

    proposal: Mapped[str] = mapped_column(String(200), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, index=True)


class AuditActorRow(Base):
    """Whom a pseudonym stands for.

    `actor` is computed from the other three, so that it cannot be given to somebody else unseen. Erasure
    empties `name` and `salt`, after which nobody can compute it, and keeps the entry that tells of it.
    """

    __tablename__ = "audit_actors"

    actor: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str | None] = mapped_column(String(200))
    salt: Mapped[str | None] = mapped_column(String(64))
    erased_by: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (Index(None, "kind", "name", unique=True),)


class AuditHeadRow(Base):
    """The end of the chain: one row, locked while an entry is appended."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime | None]


class AuditCheckpointRow(Base):
    """Entries up to `seq` were removed at their retention; the entry `told_in` of the chain says the same."""

    __tablename__ = "audit_checkpoints"

    seq: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(64))
    n_entries: Mapped[int]
    removed_at: Mapped[datetime]
    told_in: Mapped[int] = mapped_column(BigInteger)
