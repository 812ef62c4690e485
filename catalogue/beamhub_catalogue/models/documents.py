"""Tables of what is published: authors and their affiliations, publications, and what outlives a record."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from beamhub_catalogue.models.base import Base, RowId


class AffiliationRow(Base):
    """An organisation that authors name; `ror` is its identifier, https://ror.org/..."""

    __tablename__ = "affiliations"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    ror: Mapped[str | None] = mapped_column(String(40), unique=True)
    address: Mapped[str | None] = mapped_column(Text)
    city: Mapped[str | None] = mapped_column(String(120))
    country: Mapped[str | None] = mapped_column(String(120))


class AuthorRow(Base):
    """A person whom a record names as its author; no account, and no right comes of it."""

    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    full_name: Mapped[str] = mapped_column(Text)
    first_name: Mapped[str | None] = mapped_column(Text)
    last_name: Mapped[str | None] = mapped_column(Text)
    orcid: Mapped[str | None] = mapped_column(String(19), unique=True)
    researcher_id: Mapped[str | None] = mapped_column(String(80))


class AuthorshipRow(Base):
    """A place in the author list of a dataset, or of a document by its pid; never of both."""

    __tablename__ = "authorships"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    document: Mapped[str | None] = mapped_column(String(300), index=True)
    position: Mapped[int]
    role: Mapped[str] = mapped_column(String(60))
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"), index=True)
    affiliation_id: Mapped[int | None] = mapped_column(ForeignKey("affiliations.id"), index=True)

    author: Mapped[AuthorRow] = relationship()
    affiliation: Mapped[AffiliationRow | None] = relationship()


class PublicationRow(Base):
    """A document that is no proposal: an article, a thesis, a report. Known to who knows a dataset of it."""

    __tablename__ = "publications"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    pid: Mapped[str] = mapped_column(String(300), unique=True)
    type: Mapped[str] = mapped_column(String(60), default="publication")
    title: Mapped[str] = mapped_column(Text)
    summary: Mapped[str] = mapped_column(Text, default="")
    doi: Mapped[str | None] = mapped_column(String(300), index=True)
    license: Mapped[str | None] = mapped_column(String(120))
    keywords: Mapped[list[Any]] = mapped_column(default=list)
    publisher: Mapped[str | None] = mapped_column(String(300))
    publication_year: Mapped[int | None]
    released_at: Mapped[datetime | None]
    source: Mapped[str] = mapped_column(String(80))
    changed_at: Mapped[datetime] = mapped_column(index=True)

    datasets: Mapped[list[PublicationDatasetRow]] = relationship(cascade="all, delete-orphan")


class PublicationDatasetRow(Base):
    """A publication rests on a dataset."""

    __tablename__ = "publication_datasets"

    publication_id: Mapped[int] = mapped_column(
        ForeignKey("publications.id", ondelete="CASCADE"), primary_key=True
    )
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class DocumentParameterRow(Base):
    """A named number or word of a document; columns as those of a dataset's parameter."""

    __tablename__ = "document_parameters"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    document: Mapped[str] = mapped_column(String(300), index=True)
    name: Mapped[str] = mapped_column(String(120))
    number: Mapped[float | None]
    word: Mapped[str | None] = mapped_column(Text)
    unit: Mapped[str | None] = mapped_column(String(60))
    si_number: Mapped[float | None]
    dimension: Mapped[str | None] = mapped_column(String(40))

    __table_args__ = (Index(None, "name", "dimension", "si_number"),)


class DatasetCountRow(Base):
    """How many plain datasets of a proposal have a value; see `beamhub_catalogue.counts`."""

    __tablename__ = "dataset_counts"

    proposal: Mapped[str] = mapped_column(String(200), primary_key=True)
    facet: Mapped[str] = mapped_column(String(20), primary_key=True)
    value: Mapped[str] = mapped_column(String(200), primary_key=True)
    label: Mapped[str] = mapped_column(String(200))
    n: Mapped[int]


class StaleCountRow(Base):
    """A proposal of which a dataset changed since it was counted; written by triggers."""

    __tablename__ = "stale_counts"

    proposal: Mapped[str] = mapped_column(String(200), primary_key=True)


class AdapterCursorRow(Base):
    """How far a source of datasets was read: what its adapter says to itself to go on from there."""

    __tablename__ = "adapter_cursors"

    source: Mapped[str] = mapped_column(String(80), primary_key=True)
    cursor: Mapped[dict[str, Any]]
    read_at: Mapped[datetime]
    problems: Mapped[list[Any]] = mapped_column(default=list)
