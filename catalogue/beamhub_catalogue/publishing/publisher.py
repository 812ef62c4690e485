"""Gives datestamps: notices what of the public's view of the catalogue changed, and when.

What the public sees of a record changes with its files, its proposal, the policy, the team and the clock
alone. So the tables are compared with what was told: a cheap fingerprint of each record's surroundings finds
the candidates, and a digest of what is told decides.

No change may fall between two harvests. A harvester that asks at second R is told what is as old as R, and
comes again with `from` R: so nothing may get a datestamp up to R once R was told. `publishing_since` is set
in a transaction of its own, and each datestamp is the second after the clock's, read after that. Who asks
before sees no state and asks in a second before the datestamps; who asks later sees the state, and is told
only what is as old as it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import case, exists, func, not_, or_, select, update
from sqlalchemy.orm import Session

from beamhub_catalogue.desk import Desk
from beamhub_catalogue.models import (
    DatasetRow,
    InputRow,
    MemberRow,
    OaiRecordRow,
    OaiStateRow,
    ProposalRow,
    PublicationDatasetRow,
    PublicationRow,
)
from beamhub_catalogue.publishing.datacite import datacite_attributes
from beamhub_catalogue.publishing.oai_sets import technique_id
from beamhub_catalogue.publishing.places import PublicPlaces
from beamhub_catalogue.publishing.record import Record
from beamhub_catalogue.publishing.record_building import RecordBuilder
from beamhub_catalogue.publishing.sources import is_own
from beamhub_catalogue.texts import among

SLICE = 400
HOLD = timedelta(minutes=5)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Told:
    """What the public is to be told of one thing: nothing where `record` is None."""

    kind: str
    pid: str
    seen: str
    record: Record | None

    @property
    def digest(self) -> str:
        """Changes with what is told, and with nothing else."""
        if self.record is None:
            return ""
        return fingerprint(json.dumps(datacite_attributes(self.record), sort_keys=True, default=str))


class Publisher:
    """Brings `oai_records` up to date; one at a time among all processes."""

    def __init__(self, desk: Desk, places: PublicPlaces) -> None:
        self._desk, self._places = desk, places
        self._holder = secrets.token_hex(16)

    def publish(self) -> int:
        """Note what changed since the last time; how many records got a new datestamp."""
        self._desk.rules.refresh()
        now = self._desk.clock()
        with self._desk.database.reading() as session:
            summary = _summary(session, now)
            state = session.get(OaiStateRow, 1)
            if state is not None and state.summary == summary and state.publishing_since is None:
                return 0
        if not self._claim():
            return 0
        n_changed, finished = 0, False
        try:
            n_changed = sum(self._tell(told) for told in self._all_told())
            finished = True
        finally:
            self._release(summary if finished else "")
        return n_changed

    def _claim(self) -> bool:
        now = self._desk.clock()
        with self._desk.database.writing() as session:
            state = session.get(OaiStateRow, 1)
            if state is None:
                state = OaiStateRow(id=1, summary="")
                session.add(state)
            if state.held_until is not None and state.held_until > now and state.holder != self._holder:
                return False
            state.holder, state.held_until = self._holder, now + HOLD
            # One that died has left its beginning, which counts on: what it wrote may be younger.
            state.publishing_since = state.publishing_since or now.astimezone(UTC).replace(microsecond=0)
        return True

    def _release(self, summary: str) -> None:
        mine = update(OaiStateRow).where(OaiStateRow.id == 1, OaiStateRow.holder == self._holder)
        with self._desk.database.writing() as session:
            session.execute(mine.values(holder=None, held_until=None, publishing_since=None, summary=summary))

    def _all_told(self) -> Iterator[list[Told]]:
        with self._desk.database.reading() as session:
            around = _Around.read(session)
        last = 0
        while True:
            last, told = self._datasets_behind(last, around)
            yield told
            if last == 0:
                break
        after = ""
        while True:
            after, told = self._documents_behind(after, around)
            yield told
            if not after:
                break
        yield from self._gone()

    def _datasets_behind(self, last: int, around: _Around) -> tuple[int, list[Told]]:
        """What is to be told of the next datasets whose surroundings changed; 0 behind the last of them."""
        with self._desk.reading(None) as catalogue:
            session = catalogue.session
            rows = session.execute(
                select(
                    DatasetRow.id,
                    DatasetRow.pid,
                    DatasetRow.proposal,
                    DatasetRow.changed_at,
                    DatasetRow.doi,
                    ProposalRow.changed_at.label("proposal_changed_at"),
                    case((catalogue.guard.knows(), True), else_=False).label("known"),
                    case((catalogue.guard.reads(), True), else_=False).label("readable"),
                )
                .outerjoin(ProposalRow, ProposalRow.id == DatasetRow.proposal)
                .where(DatasetRow.id > last, is_own(self._desk.config))
                .order_by(DatasetRow.id)
                .limit(SLICE)
            ).all()
            seen = {row.pid: fingerprint(tuple(row), around.of_dataset(row.id, row.proposal)) for row in rows}
            known = {row.pid for row in rows if row.known}
            changed = _changed(session, "dataset", seen, known)
            builder = RecordBuilder(catalogue, self._desk.config, self._places)
            records = builder.datasets([pid for pid in changed if pid in known])
        told = [Told("dataset", pid, seen[pid], _shown(records.get(pid))) for pid in changed]
        return (rows[-1].id if len(rows) == SLICE else 0), told

    def _documents_behind(self, after: str, around: _Around) -> tuple[str, list[Told]]:
        with self._desk.reading(None) as catalogue:
            session = catalogue.session
            query = catalogue.guard.proposals(ProposalRow.id, ProposalRow.changed_at, ProposalRow.opens_at)
            rows = session.execute(
                query.where(ProposalRow.id > after).order_by(ProposalRow.id).limit(SLICE)
            ).all()
            seen = {
                row.id: fingerprint(
                    tuple(row),
                    around.of_document(row.id),
                    bool(row.opens_at and row.opens_at <= catalogue.now),
                )
                for row in rows
                if row.id in around.parts
            }
            changed = _changed(session, "document", seen, set(seen))
            builder = RecordBuilder(catalogue, self._desk.config, self._places)
            records = builder.documents(changed)
        told = [Told("document", pid, seen[pid], _shown(records.get(pid))) for pid in changed]
        return (rows[-1].id if len(rows) == SLICE else ""), told

    def _gone(self) -> Iterator[list[Told]]:
        """What was told of and is not there any more, or is no longer the public's to know."""
        with self._desk.reading(None) as catalogue:
            datasets = catalogue.guard.datasets(DatasetRow.pid).where(is_own(self._desk.config))
            documents = catalogue.guard.proposals(ProposalRow.id)
            gone = or_(
                (OaiRecordRow.kind == "dataset") & not_(_exists(datasets, DatasetRow.pid)),
                (OaiRecordRow.kind == "document") & not_(_exists(documents, ProposalRow.id)),
            )
            query = select(OaiRecordRow.kind, OaiRecordRow.pid).where(OaiRecordRow.deleted.is_(False), gone)
            rows = catalogue.session.execute(query).all()
        told = [Told(kind, pid, "", None) for kind, pid in rows]
        for i in range(0, len(told), SLICE):
            yield told[i : i + SLICE]

    def _tell(self, told: Sequence[Told]) -> int:
        """Write one slice; how many records got a new datestamp."""
        if not told:
            return 0
        n_changed = 0
        with self._desk.database.writing() as session:
            now = self._desk.clock()
            held = session.get(OaiStateRow, 1)
            if held is None or held.holder != self._holder:
                raise PublishingTaken
            held.held_until = now + HOLD
            newest = session.scalar(select(func.max(OaiRecordRow.datestamp)))
            stamp = now.astimezone(UTC).replace(microsecond=0) + SECOND
            stamp = max(stamp, newest) if newest is not None else stamp
            rows = _rows_of(session, told)
            for one in told:
                n_changed += _write(session, rows.get((one.kind, one.pid)), one, stamp)
        return n_changed


class PublishingTaken(Exception):
    """Another process publishes by now; this one was too slow."""


def _write(session: Session, row: OaiRecordRow | None, told: Told, stamp: datetime) -> bool:
    """Note one thing; whether the public is told something new of it."""
    record = told.record
    if row is None:
        if record is None:
            return False  # nobody was ever told: nobody needs to hear that it is gone
        row = OaiRecordRow(kind=told.kind, pid=told.pid, deleted=True, digest="", seen="", datestamp=stamp)
        session.add(row)
    row.seen = told.seen
    if record is None:
        changed, row.deleted, row.digest = not row.deleted, True, ""
    else:
        changed = row.deleted or row.digest != told.digest
        row.deleted, row.digest = False, told.digest
        row.instrument, row.technique = record.instrument, technique_id(record.technique)
        row.year = record.created.astimezone(UTC).year
        row.doi = record.doi
    if changed:
        row.datestamp = stamp
    return changed


def fingerprint(*facts: Any) -> str:
    """A short word that changes with the facts."""
    return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def _shown(record: Record | None) -> Record | None:
    """What of a record harvesters may have: nothing of one that was withdrawn."""
    return None if record is None or record.access == "withdrawn" else record


def _exists(known: Any, column: Any) -> Any:
    return exists(known.where(column == OaiRecordRow.pid).correlate(OaiRecordRow))


def _rows_of(session: Session, told: Iterable[Told]) -> Mapping[tuple[str, str], OaiRecordRow]:
    names = [one.pid for one in told]
    query = select(OaiRecordRow).where(among(session, OaiRecordRow.pid, names))
    return {(row.kind, row.pid): row for row in session.scalars(query)}


def _changed(session: Session, kind: str, seen: Mapping[str, str], known: set[str]) -> list[str]:
    """The names whose surroundings are not as they were when they were last told of."""
    query = select(OaiRecordRow.pid, OaiRecordRow.seen).where(OaiRecordRow.kind == kind)
    told = session.execute(query.where(among(session, OaiRecordRow.pid, list(seen))))
    before = {row.pid: row.seen for row in told}
    return [pid for pid, now in seen.items() if before.get(pid) != now and (pid in before or pid in known)]


@dataclass(frozen=True, slots=True)
class _Around:
    """What records tell of besides their own rows, as fingerprints."""

    teams: Mapping[str, str]
    parts: Mapping[str, str]
    papers: Mapping[int, str]
    products: Mapping[int, str]

    def of_dataset(self, row: int, proposal: str) -> tuple[str | None, ...]:
        """What surrounds a dataset."""
        return self.teams.get(proposal), self.papers.get(row), self.products.get(row)

    def of_document(self, proposal: str) -> tuple[str | None, ...]:
        """What surrounds a proposal's document."""
        return self.teams.get(proposal), self.parts.get(proposal)

    @classmethod
    def read(cls, session: Session) -> _Around:
        """All of it, as of now."""
        people: dict[str, list[Any]] = {}
        members = select(MemberRow.proposal, MemberRow.name, MemberRow.role, MemberRow.orcid, MemberRow.id)
        for row in session.execute(members.where(MemberRow.removed_at.is_(None)).order_by(MemberRow.id)):
            people.setdefault(row.proposal, []).append(tuple(row))
        parts = select(
            DatasetRow.proposal, func.count(), func.max(DatasetRow.id), func.max(DatasetRow.changed_at)
        ).group_by(DatasetRow.proposal)
        papers = (
            select(PublicationDatasetRow.dataset_id, func.count(), func.max(PublicationRow.changed_at))
            .join(PublicationRow, PublicationRow.id == PublicationDatasetRow.publication_id)
            .group_by(PublicationDatasetRow.dataset_id)
        )
        products = select(InputRow.input_id, func.count(), func.max(InputRow.product_id)).group_by(
            InputRow.input_id
        )
        return cls(
            {proposal: fingerprint(rows) for proposal, rows in people.items()},
            *({row[0]: fingerprint(*row) for row in session.execute(q)} for q in (parts, papers, products)),
        )


def _summary(session: Session, now: datetime) -> str:
    """Changes whenever something may have changed of what the public is told."""
    counted = (
        select(func.count(), func.max(DatasetRow.id), func.max(DatasetRow.changed_at)),
        select(func.count(), func.max(ProposalRow.changed_at)).select_from(ProposalRow),
        select(func.count()).select_from(ProposalRow).where(ProposalRow.opens_at <= now),
        select(func.count(), func.max(PublicationRow.changed_at)).select_from(PublicationRow),
        select(func.count(), func.max(InputRow.product_id)).select_from(InputRow),
    )
    members = select(MemberRow.proposal, MemberRow.name, MemberRow.role, MemberRow.orcid).where(
        MemberRow.removed_at.is_(None)
    )
    people = fingerprint([tuple(row) for row in session.execute(members.order_by(MemberRow.id))])
    return fingerprint(people, *(tuple(session.execute(query).one()) for query in counted))
