"""What harvesters are told, in the order of datestamps: one page costs the same wherever it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, and_, false, func, literal, select, true, tuple_
from sqlalchemy.orm import Session

from beamhub_catalogue.models import OaiRecordRow, OaiStateRow
from beamhub_catalogue.publishing.oai_sets import (
    KINDS,
    OPENAIRE_DATA,
    SetChoice,
    encoded,
    parse_set,
)
from beamhub_catalogue.texts import is_storable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_SETS = 5_000


@dataclass(frozen=True, slots=True)
class Span:
    """The records that a list is made of; both ends belong to it."""

    set_spec: str | None
    since: datetime | None
    until: datetime


class Listing:
    """The told records of one snapshot."""

    def __init__(self, session: Session, facility: str) -> None:
        self._session, self._facility = session, facility

    def horizon(self, asked_at: datetime) -> datetime:
        """The last second whose records are all there and will get no more.

        `asked_at` has to be from before the snapshot was taken; see `publisher`.
        """
        second = asked_at.astimezone(UTC).replace(microsecond=0)
        state = self._session.get(OaiStateRow, 1)
        since = state.publishing_since if state is not None else None
        return min(second, since) if since is not None else second

    def earliest(self) -> datetime:
        """A lower bound of all datestamps."""
        found: datetime | None = self._session.scalar(select(func.min(OaiRecordRow.datestamp)))
        return found or EPOCH

    def count(self, span: Span) -> int:
        """How many records a list has."""
        query = select(func.count()).select_from(OaiRecordRow).where(self._within(span))
        return self._session.scalar(query) or 0

    def page(
        self, span: Span, limit: int, after: tuple[datetime, int] | None = None
    ) -> Sequence[OaiRecordRow]:
        """The records behind a place, oldest change first."""
        query = select(OaiRecordRow).where(self._within(span))
        if after is not None:
            place = tuple_(OaiRecordRow.datestamp, OaiRecordRow.id)
            bound = tuple_(literal(after[0], OaiRecordRow.datestamp.type), literal(after[1]))
            query = query.where(place > bound)
        query = query.order_by(OaiRecordRow.datestamp, OaiRecordRow.id).limit(limit)
        return self._session.scalars(query).all()

    def find(self, kind: str, pid: str) -> OaiRecordRow | None:
        """One record; None for what nobody was ever told of."""
        if not is_storable(pid):
            return None
        query = select(OaiRecordRow).where(OaiRecordRow.kind == kind, OaiRecordRow.pid == pid)
        return self._session.scalar(query)

    def sets(self) -> list[tuple[str, str]]:
        """The sets that hold a record, with their names."""
        found = [("facility", KINDS["facility"]), (f"facility:{encoded(self._facility)}", self._facility)]
        found.append((OPENAIRE_DATA, "Datasets for OpenAIRE"))
        for kind, column in (
            ("instrument", OaiRecordRow.instrument),
            ("technique", OaiRecordRow.technique),
            ("year", OaiRecordRow.year),
        ):
            query = select(column).where(OaiRecordRow.deleted.is_(False)).distinct().order_by(column)
            values = [
                str(one) for one in self._session.scalars(query.limit(MAX_SETS)) if one not in ("", None)
            ]
            if values:
                found.append((kind, KINDS[kind]))
                found += [(f"{kind}:{encoded(value)}", value) for value in values]
        return found

    def _within(self, span: Span) -> ColumnElement[bool]:
        conditions = [OaiRecordRow.datestamp <= span.until]
        if span.since is not None:
            conditions.append(OaiRecordRow.datestamp >= span.since)
        if span.set_spec is not None:
            choice = parse_set(span.set_spec)
            conditions.append(false() if choice is None else self._in_set(choice))
        return and_(*conditions)

    def _in_set(self, choice: SetChoice) -> ColumnElement[bool]:
        value = choice.value
        if choice.kind == OPENAIRE_DATA:
            return OaiRecordRow.kind == "dataset"
        if choice.kind == "facility":
            return true() if value in (None, self._facility) else false()
        if choice.kind == "year":
            return OaiRecordRow.year.is_not(None) if value is None else OaiRecordRow.year == int(value)
        column = OaiRecordRow.instrument if choice.kind == "instrument" else OaiRecordRow.technique
        if value is None:
            return column != ""
        return column == value if is_storable(value) else false()
