"""Tables of data: instruments and pools, datasets and products, and what harvest saw."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from beamhub_catalogue.models.base import Base, RowId


class InstrumentRow(Base):
    """An instrument that a user office or a file named."""

    __tablename__ = "instruments"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    first_seen: Mapped[datetime]


class StoragePoolRow(Base):
    """A storage pool as the configuration last described it."""

    __tablename__ = "storage_pools"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    root: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    group_mode: Mapped[str] = mapped_column(String(20))
    configured_at: Mapped[datetime]


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
    start: Mapped[datetime | None]
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

    __table_args__ = (
        Index(None, "pool", "file"),
        # The list that everybody looks at first: newest first, those without a time last.
        Index(None, "start", "pid", postgresql_ops={"start": "DESC NULLS LAST"}),
        Index(
            "ix_datasets_withdrawn",
            "proposal",
            "pool",
            "folder",
            sqlite_where=text("withdrawn = 1"),
            postgresql_where=text("withdrawn"),
        ),
    )


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
