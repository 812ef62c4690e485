"""What user offices say, written into the tables: only what changed, in few statements.

The first state of a large facility has 10^5 rows, the next ones differ from it in a handful; the transaction
holds the write lock of everybody, so that neither may take long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from beamhub_catalogue.models import InstrumentRow, MemberRow, ProposalRow, StaffRow
from beamhub_catalogue.sources import MemberEntry, ProposalEntry, StaffEntry

CHUNK = 500
TOLD = tuple(field.name for field in fields(ProposalEntry))
"""The columns of a proposal that a user office says; what the policy makes of them is not touched here."""

PersonTable = type[MemberRow] | type[StaffRow]


def store_proposals(session: Session, told: dict[str, tuple[str, ProposalEntry]], now: datetime) -> None:
    """Make the table hold these proposals and no more; each comes with the source that says it."""
    columns = [getattr(ProposalRow, name) for name in ("source", *TOLD)]
    held = {row.id: tuple(row) for row in session.execute(select(*columns))}
    for ids in _chunks(held.keys() - told.keys()):
        session.execute(delete(ProposalRow).where(ProposalRow.id.in_(ids)))
    fresh, changed = [], []
    for proposal, (source, entry) in told.items():
        if proposal not in held:
            closed = {"withdrawn": False, "metadata_public": False}
            fresh.append(asdict(entry) | {"source": source, "changed_at": now} | closed)
        elif held[proposal] != (source, *(getattr(entry, name) for name in TOLD)):
            changed.append(asdict(entry) | {"source": source, "changed_at": now})
    if fresh:
        session.execute(insert(ProposalRow), fresh)
    if changed:
        session.execute(update(ProposalRow), changed)


def held_proposals(session: Session, source: str) -> dict[str, ProposalEntry]:
    """The proposals that the table holds from a source."""
    columns = [getattr(ProposalRow, name) for name in TOLD]
    rows = session.execute(select(*columns).where(ProposalRow.source == source))
    return {row.id: ProposalEntry(**row._mapping) for row in rows}


@dataclass(frozen=True, slots=True)
class PeopleChanges:
    """What makes one table of people, members or staff, hold what a source says."""

    table: PersonTable
    gone: list[int]
    removed: list[int]
    fresh: list[tuple[Any, ...]]


def member_changes(
    session: Session, source: str, members: Iterable[MemberEntry], zone: ZoneInfo
) -> PeopleChanges:
    """What changes the members of a source; looking at them takes longer than changing them."""
    since, until = _first_instant(zone), _last_instant(zone)
    told = ((m.proposal, *m.identity, m.name, m.role, since(m.since), until(m.until)) for m in members)
    return _changes(session, MemberRow, source, told)


def staff_changes(
    session: Session, source: str, staff: Iterable[StaffEntry], zone: ZoneInfo
) -> PeopleChanges:
    """What changes the staff of a source."""
    since, until = _first_instant(zone), _last_instant(zone)
    told = ((s.instrument, *s.identity, s.name, since(s.since), until(s.until)) for s in staff)
    return _changes(session, StaffRow, source, told)


def apply_changes(session: Session, source: str, changes: PeopleChanges, now: datetime) -> None:
    """Write changes that were made from the present state; a person who is gone leaves a mark of that."""
    table = changes.table
    for ids in _chunks(changes.gone):
        session.execute(delete(table).where(table.id.in_(ids)))
    for ids in _chunks(changes.removed):
        session.execute(update(table).where(table.id.in_(ids)).values(removed_at=now))
    if changes.fresh:
        names, same = _COLUMNS[table], {"source": source, "removed_at": None}
        session.execute(insert(table), [dict(zip(names, row, strict=True)) | same for row in changes.fresh])


def ensure_instruments(session: Session, source: str, names: Iterable[str], now: datetime) -> None:
    """Make a row for every instrument that has none; none ever goes, for data may come from it."""
    known = set(session.scalars(select(InstrumentRow.name)))
    fresh = [name for name in dict.fromkeys(names) if name and name not in known]
    if fresh:
        rows = [{"name": name, "source": source, "first_seen": now} for name in fresh]
        session.execute(insert(InstrumentRow), rows)


def drop_sources_but(session: Session, labels: Sequence[str]) -> None:
    """Forget the people of sources that are no longer configured: they give no rights, and end none."""
    session.execute(delete(MemberRow).where(MemberRow.source.not_in(labels)))
    session.execute(delete(StaffRow).where(StaffRow.source.not_in(labels)))


_PERSON = ("issuer", "subject", "orcid", "facility_account", "name")
_COLUMNS: dict[PersonTable, tuple[str, ...]] = {
    MemberRow: ("proposal", *_PERSON, "role", "since", "until"),
    StaffRow: ("instrument", *_PERSON, "since", "until"),
}
_N_KEY = 5
"""A place and the identities of a person come first: who has no row with them any more was removed."""


def _changes(
    session: Session, table: PersonTable, source: str, told: Iterable[tuple[Any, ...]]
) -> PeopleChanges:
    fresh = dict.fromkeys(told)
    present = {content[:_N_KEY] for content in fresh}
    columns = [getattr(table, name) for name in ("id", "removed_at", *_COLUMNS[table])]
    gone: list[int] = []
    removed: list[int] = []
    for row_id, removed_at, *content in session.execute(select(*columns).where(table.source == source)):
        key = tuple(content)
        if removed_at is None and key in fresh:
            del fresh[key]
        elif key[:_N_KEY] in present:
            gone.append(row_id)
        elif removed_at is None:
            removed.append(row_id)
    return PeopleChanges(table, gone, removed, list(fresh))


def _chunks(values: Iterable[Any]) -> Iterator[list[Any]]:
    left = iter(values)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


def _first_instant(zone: ZoneInfo) -> Callable[[date | None], datetime | None]:
    """The beginning of a day, in UTC as the tables give it back; a facility's rows share few days."""

    @cache
    def instant(day: date | None) -> datetime | None:
        # The first and the last day that a calendar has mean no bound, and may not exist in UTC.
        if day is None or day == date.min:
            return None
        return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)

    return instant


def _last_instant(zone: ZoneInfo) -> Callable[[date | None], datetime | None]:
    """The end of a day, which is the beginning of the next."""
    first = _first_instant(zone)
    return lambda day: first(day + timedelta(days=1)) if day and day < date.max else None
