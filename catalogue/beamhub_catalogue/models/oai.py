"""Tables of the OAI-PMH provider: what the public was told, when that last changed, and what is gone."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from beamhub_catalogue.models.base import Base, RowId


class OaiRecordRow(Base):
    """A record that harvesters know, also one that was deleted: its row stays for ever.

    `kind` is 'dataset' or 'document'. Instrument, technique and year are the sets that it is in, or was in
    when it was deleted. `seen` is the state of the tables that `digest`, of what is told, was made from.
    `registered` is the digest of what DataCite was told last of the record with this `doi`.
    """

    __tablename__ = "oai_records"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    pid: Mapped[str] = mapped_column(String(300))
    datestamp: Mapped[datetime]
    deleted: Mapped[bool]
    instrument: Mapped[str] = mapped_column(String(200), default="")
    technique: Mapped[str] = mapped_column(String(200), default="")
    year: Mapped[int | None]
    seen: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(32))
    doi: Mapped[str | None] = mapped_column(String(300))
    registered: Mapped[str | None] = mapped_column(String(32))

    __table_args__ = (
        Index(None, "kind", "pid", unique=True),
        # One page costs the same wherever it lies: each set is read in the order of its own index.
        Index(None, "datestamp", "id"),
        Index(None, "kind", "datestamp", "id"),
        Index(None, "instrument", "datestamp", "id"),
        Index(None, "technique", "datestamp", "id"),
        Index(None, "year", "datestamp", "id"),
    )


class OaiStateRow(Base):
    """The one row that says who gives datestamps now, and what the catalogue was when it was last done.

    Nothing that gets a datestamp after `publishing_since` has one at or before it: until it is None again,
    harvesters are told only what is as old.
    """

    __tablename__ = "oai_state"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    publishing_since: Mapped[datetime | None]
    holder: Mapped[str | None] = mapped_column(String(32))
    held_until: Mapped[datetime | None]
    summary: Mapped[str] = mapped_column(String(32), default="")
