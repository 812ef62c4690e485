"""Tables of data: instruments and pools, datasets and products, and what harvest saw."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from beamhub_catalogue.models.base import Base, RowId
from beamhub_catalogue.models.documents import AuthorshipRow

FILES = "files"
"""The source of what harvest finds in the pools."""


def _harvested_at(context: Any) -> datetime:
    """A dataset that is new changed when it was harvested."""
    harvested_at: datetime = context.get_current_parameters()["harvested_at"]
    return harvested_at


class InstrumentRow(Base):
    """An instrument that a user office or a file named.

    `pid` is its persistent identifier where it has one; an empty `facility` is this one.
    """

    __tablename__ = "instruments"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    source: Mapped[str] = mapped_column(String(80))
    first_seen: Mapped[datetime]
    pid: Mapped[str | None] = mapped_column(String(300))
    facility: Mapped[str] = mapped_column(String(200), default="")


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
    `technique` and `sample` are the first of `techniques` and `samples`, which are written together with them
    by `set_techniques` and `set_samples`. `source` is the adapter that told of it ('files' is harvest) and
    `source_id` its name there; `told_digest` is of what it told, and `embargo_until` the day to which it
    keeps the data closed, the last of all days where it names none. `changed_at` is the last change of what
    is told of the dataset itself; what is told also changes with its proposal. `tombstone` says why the data
    of a withdrawn dataset is gone.
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
    changed_at: Mapped[datetime] = mapped_column(default=_harvested_at, index=True)
    source: Mapped[str] = mapped_column(String(80), default=FILES)
    source_id: Mapped[str | None] = mapped_column(String(300))
    told_digest: Mapped[str | None] = mapped_column(String(64))
    embargo_until: Mapped[date | None]
    description: Mapped[str] = mapped_column(Text, default="")
    keywords: Mapped[list[Any]] = mapped_column(default=list)
    lifecycle: Mapped[str] = mapped_column(String(12), default="online")
    doi: Mapped[str | None] = mapped_column(String(300), index=True, unique=True)
    doi_state: Mapped[str | None] = mapped_column(String(12))
    publisher: Mapped[str | None] = mapped_column(String(300))
    publication_year: Mapped[int | None]
    license: Mapped[str | None] = mapped_column(String(120))
    version: Mapped[str | None] = mapped_column(String(40))
    replaced_by: Mapped[str | None] = mapped_column(String(300))
    tombstone: Mapped[str | None] = mapped_column(Text)

    files: Mapped[list[FileRow]] = relationship(cascade="all, delete-orphan", order_by="FileRow.path")
    parameters: Mapped[list[ParameterRow]] = relationship(
        cascade="all, delete-orphan", order_by="ParameterRow.name"
    )
    techniques: Mapped[list[TechniqueRow]] = relationship(
        cascade="all, delete-orphan", order_by="TechniqueRow.position"
    )
    samples: Mapped[list[SampleRow]] = relationship(
        cascade="all, delete-orphan", order_by="SampleRow.position"
    )
    authorships: Mapped[list[AuthorshipRow]] = relationship(
        cascade="all, delete-orphan", order_by="AuthorshipRow.position"
    )

    __table_args__ = (
        Index(None, "pool", "file"),
        Index(None, "source", "source_id", unique=True),
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
        Index(
            "ix_datasets_special",
            "proposal",
            sqlite_where=text("kind <> 'raw' OR private_to IS NOT NULL OR withdrawn"),
            postgresql_where=text("kind <> 'raw' OR private_to IS NOT NULL OR withdrawn"),
        ),
    )

    def set_techniques(self, *techniques: tuple[str, str]) -> None:
        """Give the dataset its techniques, each a PaNET term (or nothing) and a label; the first leads."""
        named = techniques or (("", "unknown technique"),)
        self.technique, self.technique_label = named[0]
        distinct = dict.fromkeys(named)
        self.techniques = [
            TechniqueRow(position=i, pid=pid, label=label) for i, (pid, label) in enumerate(distinct)
        ]

    def set_samples(self, *samples: SampleRow) -> None:
        """Give the dataset its samples; the first leads."""
        self.sample = samples[0].name if samples else None
        for position, sample in enumerate(samples):
            sample.position = position
        self.samples = list(samples)


class TechniqueRow(Base):
    """A technique of a dataset: a PaNET term, or an empty `pid` and what the file calls it."""

    __tablename__ = "dataset_techniques"

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    pid: Mapped[str] = mapped_column(String(200))
    label: Mapped[str] = mapped_column(String(200))

    __table_args__ = (Index(None, "pid", "dataset_id"),)


class SampleRow(Base):
    """A sample of a dataset."""

    __tablename__ = "dataset_samples"

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    pid: Mapped[str | None] = mapped_column(String(300))
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text, default="")


class FileRow(Base):
    """A file of a dataset, relative to its pool; `checksum` is written as "sha256:..." where it is known."""

    __tablename__ = "dataset_files"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    pool: Mapped[str] = mapped_column(String(80))
    path: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    checksum: Mapped[str | None] = mapped_column(String(160))

    __table_args__ = (Index(None, "pool", "path"),)


class ParameterRow(Base):
    """A named number (with unit) or word from the header.

    `number` and `unit` are as they were told. `si_number` is the same in the SI unit of `dimension`, an empty
    dimension that of a plain number; both are None for a word, and for a unit that we do not know.
    """

    __tablename__ = "dataset_parameters"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(120))
    number: Mapped[float | None]
    word: Mapped[str | None] = mapped_column(Text)
    unit: Mapped[str | None] = mapped_column(String(60))
    si_number: Mapped[float | None]
    dimension: Mapped[str | None] = mapped_column(String(40))

    __table_args__ = (Index(None, "name", "dimension", "si_number"),)


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
