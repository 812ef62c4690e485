"""The tables: proposals and people, datasets and products, sessions, audit, and what harvest saw.

Types are those that SQLite and PostgreSQL share. The first migration is made from these classes; a test
holds both together.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant, stored in UTC: SQLite has no zones, so a naive value is refused, never guessed."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; ValueError for a naive datetime."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From UTC, aware."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


RowId = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """All tables of the web service."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: JSON(), list[Any]: JSON()}


class ProposalRow(Base):
    """A proposal as the user offices know it, with what today's policy makes of it.

    `opens_at` and `metadata_public` are computed by `beamhub_core.policy` whenever user office or policy
    change, so that guards can be SQL. `policy_class` is None where user offices contradict each other.
    """

    __tablename__ = "proposals"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    title: Mapped[str] = mapped_column(Text)
    policy_class: Mapped[str | None] = mapped_column(String(80))
    instrument: Mapped[str] = mapped_column(String(200))
    start: Mapped[date | None]
    end: Mapped[date | None]
    withdrawn: Mapped[bool] = mapped_column(default=False)
    opens_at: Mapped[datetime | None]
    metadata_public: Mapped[bool] = mapped_column(default=False)


class MemberRow(Base):
    """A membership row of a user office; any one of its identities joins it to a person.

    A row that the office removed keeps `removed_at`: it then ends the same right from other sources.
    """

    __tablename__ = "members"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    proposal: Mapped[str] = mapped_column(String(200), index=True)
    issuer: Mapped[str | None] = mapped_column(String(512))
    subject: Mapped[str | None] = mapped_column(String(512))
    orcid: Mapped[str | None] = mapped_column(String(19), index=True)
    facility_account: Mapped[str | None] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(20))
    since: Mapped[datetime | None]
    until: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "issuer", "subject"),)


class PrincipalRow(Base):
    """A person as the hub last said; `removed_at` is set when the hub ended the account's rights."""

    __tablename__ = "principals"

    account: Mapped[str] = mapped_column(String(40), primary_key=True)
    body: Mapped[dict[str, Any]]
    checked_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class LostEntitlementRow(Base):
    """An account once had an entitlement for a proposal and has it no more."""

    __tablename__ = "lost_entitlements"

    account: Mapped[str] = mapped_column(String(40), primary_key=True)
    proposal: Mapped[str] = mapped_column(String(200), primary_key=True)
    lost_at: Mapped[datetime]


class DatasetRow(Base):
    """A raw dataset or a product; `file` and `folder` are relative to the pool.

    `pool` is 'home' for a product in its maker's home, and `private_to` then names the maker's account.
    """

    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    pid: Mapped[str] = mapped_column(String(300), unique=True)
    kind: Mapped[str] = mapped_column(String(10), index=True)
    proposal: Mapped[str] = mapped_column(String(200), index=True)
    title: Mapped[str] = mapped_column(Text)
    technique: Mapped[str] = mapped_column(String(200), index=True)
    technique_label: Mapped[str] = mapped_column(String(200))
    instrument: Mapped[str] = mapped_column(String(200), index=True)
    sample: Mapped[str | None] = mapped_column(Text)
    start: Mapped[datetime | None] = mapped_column(index=True)
    end: Mapped[datetime | None]
    pool: Mapped[str] = mapped_column(String(80))
    folder: Mapped[str] = mapped_column(Text)
    file: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    link_closure: Mapped[list[Any]]
    missing_links: Mapped[list[Any]]
    has_preview: Mapped[bool] = mapped_column(default=False)
    private_to: Mapped[str | None] = mapped_column(String(40))
    withdrawn: Mapped[bool] = mapped_column(default=False)
    product: Mapped[dict[str, Any] | None]
    harvested_at: Mapped[datetime]

    files: Mapped[list[FileRow]] = relationship(cascade="all, delete-orphan", order_by="FileRow.path")
    parameters: Mapped[list[ParameterRow]] = relationship(
        cascade="all, delete-orphan", order_by="ParameterRow.name"
    )

    __table_args__ = (Index(None, "pool", "file"),)


class FileRow(Base):
    """A file of a dataset, relative to its pool."""

    __tablename__ = "dataset_files"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    pool: Mapped[str] = mapped_column(String(80))
    path: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index(None, "pool", "path"),)


class ParameterRow(Base):
    """A named number (with unit) or word from the header."""

    __tablename__ = "dataset_parameters"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(120), index=True)
    number: Mapped[float | None]
    word: Mapped[str | None] = mapped_column(Text)
    unit: Mapped[str | None] = mapped_column(String(60))


class InputRow(Base):
    """A product was made from a dataset."""

    __tablename__ = "product_inputs"

    product_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    input_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True, index=True)


class GovernorRow(Base):
    """Every dataset whose policy a product stands under: its inputs, and theirs, without end."""

    __tablename__ = "product_governors"

    product_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    governor_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True, index=True)


class SessionRow(Base):
    """A stored plan and the mutable side of its session."""

    __tablename__ = "sessions"

    plan_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    plan_hash: Mapped[str] = mapped_column(String(64))
    plan: Mapped[dict[str, Any]]
    account: Mapped[str] = mapped_column(String(80), index=True)
    server_name: Mapped[str] = mapped_column(String(80))
    state: Mapped[str] = mapped_column(String(12), index=True)
    token_digest: Mapped[str | None] = mapped_column(String(64), index=True)
    backend_id: Mapped[str | None] = mapped_column(Text)
    url: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    last_seen: Mapped[datetime]


class AuditRow(Base):
    """Something that somebody will want to know later; appended, never changed."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(40))
    account: Mapped[str | None] = mapped_column(String(80), index=True)
    subject: Mapped[str] = mapped_column(Text)
    detail: Mapped[dict[str, Any]]


class SeenFileRow(Base):
    """What harvest made of a file when it last looked, so that an unchanged file is not read again.

    `waits_for` are files, or datasets as "pid:...", that were missing: when one appears, it is read again.
    """

    __tablename__ = "seen_files"

    pool: Mapped[str] = mapped_column(String(80), primary_key=True)
    path: Mapped[str] = mapped_column(String(1024), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    modified_ns: Mapped[int] = mapped_column(BigInteger)
    inode: Mapped[int] = mapped_column(BigInteger)
    outcome: Mapped[str] = mapped_column(String(20), index=True)
    reason: Mapped[str | None] = mapped_column(Text)
    pid: Mapped[str | None] = mapped_column(String(300))
    waits_for: Mapped[list[Any]]
    seen_at: Mapped[datetime]


class SourceRow(Base):
    """A file that rules depend on (user office, policy): what it last said well, and since when."""

    __tablename__ = "sources"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text)
    good: Mapped[dict[str, Any] | None]
    read_at: Mapped[datetime | None]
    problems: Mapped[list[Any]]
