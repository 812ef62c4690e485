"""What other catalogues tell, written into ours: in batches, each record whole or not at all.

No record opens anything: proposals come from user offices only, a record never moves to another proposal, and
a source that keeps a dataset closed keeps its proposal closed (`ProposalRow.not_before`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.orm import Session

from beamhub_catalogue.acts import is_withdrawn
from beamhub_catalogue.authors import Author, set_authors
from beamhub_catalogue.grants import ELSEWHERE
from beamhub_catalogue.models import (
    ActRow,
    AuthorshipRow,
    DatasetRow,
    FileRow,
    InstrumentRow,
    ParameterRow,
    ProposalRow,
    PublicationDatasetRow,
    PublicationRow,
    SampleRow,
    TechniqueRow,
)
from beamhub_catalogue.panet import PANET, labels
from beamhub_catalogue.texts import among
from beamhub_catalogue.told import Gone, ToldDataset, ToldDocument, ToldInstrument
from beamhub_catalogue.units import in_si
from beamhub_core.config.facility import FacilityConfig

INGEST = "ingest"
"""The source of what an operator loads from a file."""
UNKNOWN_TECHNIQUE = ("", "unknown technique")


@dataclass(slots=True)
class StoreReport:
    """What became of some records; `refused` are names with reasons."""

    stored: list[str] = field(default_factory=list)
    n_unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    proposals: set[str] = field(default_factory=set)
    """Whose embargo may have changed."""


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells: a source by name. An authority's embargoes hold here too."""

    config: FacilityConfig
    name: str = INGEST
    is_authority: bool = False

    def pid_of(self, record: ToldDataset) -> str:
        """What a dataset is known by here."""
        return record.pid or f"{self.config.short_name}:{self.name}:{record.source_id}"[:300]


def store_datasets(
    session: Session, teller: Teller, records: Sequence[ToldDataset], now: datetime
) -> StoreReport:
    """Write datasets; those that are as they were are not touched."""
    report = StoreReport()
    held = _held(session, teller, records)
    open_here = _open_proposals(session, records, now)
    fresh: dict[str, ToldDataset] = {}
    changed: dict[int, ToldDataset] = {}
    told = set[str]()
    for record in records:
        pid = teller.pid_of(record)
        row = held.get(record.source_id) or held.get(PID + pid)
        reason = "is told twice at once" if pid in told else _objection(row, teller, record, pid)
        if reason is None and not teller.is_authority and record.proposal in open_here:
            reason = _closed_elsewhere(record, now)
        told.add(pid)
        if reason is not None:
            report.refused.append((pid, reason))
        elif row is None:
            fresh[pid] = record
        elif row.told_digest == record.told_digest and not (row.withdrawn and row.tombstone):
            report.n_unchanged += 1
        else:
            changed[row.id] = record
            if row.embargo_until != _embargo(teller, record):
                report.proposals.add(record.proposal)
    ids = _insert(session, teller, fresh, now)
    _update(session, teller, changed, now)
    _write_children(session, {**changed, **ids})
    report.stored = [teller.pid_of(record) for record in (*fresh.values(), *changed.values())]
    report.proposals |= {r.proposal for r in fresh.values() if _embargo(teller, r) is not None}
    return report


def remove_datasets(session: Session, teller: Teller, gone: Iterable[Gone], now: datetime) -> list[str]:
    """Turn datasets that their source no longer has into tombstones; their pids."""
    wanted = [one.source_id for one in gone]
    rows = session.scalars(
        select(DatasetRow).where(
            DatasetRow.source == teller.name,
            among(session, DatasetRow.source_id, wanted),
            DatasetRow.tombstone.is_(None),
        )
    ).all()
    for row in rows:
        row.withdrawn, row.has_preview, row.changed_at = True, False, now
        row.tombstone = f"The catalogue {teller.name!r} no longer has it."
    return [row.pid for row in rows]


def store_documents(
    session: Session, documents: Sequence[ToldDocument], teller: Teller, now: datetime
) -> StoreReport:
    """Describe proposals that a user office knows, and keep publications."""
    report = StoreReport()
    for told in documents:
        if told.type == "proposal":
            row = session.get(ProposalRow, told.pid)
            if row is None:
                report.refused.append((told.pid, "no user office knows this proposal"))
                continue
            facts = (told.summary, told.doi, list(told.keywords))
            if (row.summary, row.doi, row.keywords) == facts:
                report.n_unchanged += 1
                continue
            row.summary, row.doi, row.keywords = facts
            row.changed_at = now
        elif not _store_publication(session, told, teller, now):
            report.n_unchanged += 1
            continue
        report.stored.append(told.pid)
    return report


def store_instruments(session: Session, instruments: Sequence[ToldInstrument], now: datetime) -> StoreReport:
    """Keep instruments by name."""
    report = StoreReport()
    for told in instruments:
        row = session.get(InstrumentRow, told.name)
        if row is not None and (row.pid, row.facility) == (told.pid, told.facility):
            report.n_unchanged += 1
            continue
        if row is None:
            row = InstrumentRow(name=told.name, source=INGEST, first_seen=now)
            session.add(row)
        row.pid, row.facility = told.pid, told.facility
        report.stored.append(told.name)
    return report


PID = "pid:"


def _held(session: Session, teller: Teller, records: Sequence[ToldDataset]) -> dict[str, Row[Any]]:
    """What there is of these records: by source id, and by pid behind `PID`."""
    columns = [
        getattr(DatasetRow, name)
        for name in (
            "id", "pid", "source", "source_id", "proposal", "told_digest", "embargo_until", "withdrawn",
            "tombstone",
        )
    ]  # fmt: skip
    mine = DatasetRow.source == teller.name
    by_id = select(*columns).where(mine, among(session, DatasetRow.source_id, (r.source_id for r in records)))
    by_pid = select(*columns).where(among(session, DatasetRow.pid, (teller.pid_of(r) for r in records)))
    found = {row.source_id: row for row in session.execute(by_id)}
    return found | {PID + row.pid: row for row in session.execute(by_pid)}


def _objection(row: Row[Any] | None, teller: Teller, record: ToldDataset, pid: str) -> str | None:
    """Why a record must not replace what is there."""
    if row is None:
        return None
    if row.source != teller.name or row.source_id != record.source_id:
        return f"is here already, told by {row.source!r}"
    if row.proposal != record.proposal:
        return f"belongs to {row.proposal!r} here; a dataset never moves to another proposal"
    return f"is known here as {row.pid!r}" if row.pid != pid else None


def _open_proposals(session: Session, records: Sequence[ToldDataset], now: datetime) -> set[str]:
    """Of the records' proposals, those that are open here."""
    named = among(session, ProposalRow.id, {record.proposal for record in records})
    return set(session.scalars(select(ProposalRow.id).where(named, ProposalRow.opens_at <= now)))


def _closed_elsewhere(record: ToldDataset, now: datetime) -> str | None:
    """What is wrong with a record for an open proposal: a product may rest on closed data, say."""
    if record.closed_until is None or record.closed_until < now.date():
        return None
    return f"is not public where it comes from, but its proposal {record.proposal!r} is open here"


def _embargo(teller: Teller, record: ToldDataset) -> date | None:
    return record.closed_until if teller.is_authority else None


def _facts(teller: Teller, record: ToldDataset, now: datetime) -> dict[str, Any]:
    """The columns of a dataset."""
    pool, folder = _place(teller.config, record)
    technique, label = _techniques(record)[0]
    return {
        "title": record.title,
        "technique": technique,
        "technique_label": label,
        "instrument": record.instrument,
        "sample": record.samples[0].name if record.samples else None,
        "start": record.start,
        "end": record.end,
        "pool": pool,
        "folder": folder,
        "file": folder,
        "size_bytes": record.size_bytes,
        "description": record.description,
        "keywords": list(record.keywords),
        "doi": record.doi,
        "license": record.license,
        "harvested_at": now,
        "changed_at": now,
        "told_digest": record.told_digest,
        "embargo_until": _embargo(teller, record),
        "tombstone": None,
    }


def _place(config: FacilityConfig, record: ToldDataset) -> tuple[str, str]:
    """Where a dataset lies in our pools: below its own proposal's folder, or nowhere."""
    if record.folder is not None and ".." not in PurePosixPath(record.folder).parts:
        for pool in config.pools:
            for root in (pool.root.resolve(), pool.target):
                named = Path(record.folder)
                if named.is_relative_to(root):
                    inside = named.relative_to(root)
                    if len(inside.parts) > 1 and inside.parts[0] == record.proposal:
                        return pool.name, inside.as_posix()
    return ELSEWHERE, ""


def _techniques(record: ToldDataset) -> list[tuple[str, str]]:
    """PaNET terms and labels; a pid that is no term of PaNET is left out and its label kept."""
    found: dict[tuple[str, str], None] = {}
    for told in record.techniques:
        term = told.pid.rpartition("/")[2]
        found[PANET + term if PANET + term in labels() else "", told.label] = None
    return list(found) or [UNKNOWN_TECHNIQUE]


def _insert(
    session: Session, teller: Teller, fresh: dict[str, ToldDataset], now: datetime
) -> dict[int, ToldDataset]:
    if not fresh:
        return {}
    withdrawn = {pid: is_withdrawn(session, pid) for pid in fresh} if _has_acts(session, fresh) else {}
    rows = [
        _facts(teller, record, now)
        | {
            "pid": pid,
            "kind": "raw",
            "proposal": record.proposal,
            "source": teller.name,
            "source_id": record.source_id,
            "withdrawn": withdrawn.get(pid, False),
            "has_preview": False,
            "link_closure": [],
            "missing_links": [],
            "product": None,
            "lifecycle": "online",
        }
        for pid, record in fresh.items()
    ]
    statement = insert(DatasetRow).returning(DatasetRow.id, sort_by_parameter_order=True)
    return dict(zip(session.scalars(statement, rows), fresh.values(), strict=True))


def _has_acts(session: Session, fresh: dict[str, ToldDataset]) -> bool:
    """Whether anybody ever withdrew one of these datasets."""
    return session.scalar(select(ActRow.id).where(among(session, ActRow.pid, fresh)).limit(1)) is not None


def _update(session: Session, teller: Teller, changed: dict[int, ToldDataset], now: datetime) -> None:
    if not changed:
        return
    rows = [
        _facts(teller, record, now) | {"id": i, "withdrawn": is_withdrawn(session, teller.pid_of(record))}
        for i, record in changed.items()
    ]
    session.execute(update(DatasetRow), rows)
    ids = list(changed)
    for table in (FileRow, ParameterRow, TechniqueRow, SampleRow, AuthorshipRow):
        for start in range(0, len(ids), 500):
            session.execute(delete(table).where(table.dataset_id.in_(ids[start : start + 500])))


def _write_children(session: Session, records: dict[int, ToldDataset]) -> None:
    """All that hangs on some datasets that have nothing yet."""
    files, parameters, techniques, samples = [], [], [], []
    for i, record in records.items():
        for f in record.files:
            file = {"name": f.name, "path": f.path or f.name, "size_bytes": f.size_bytes}
            files.append(file | {"dataset_id": i, "pool": ELSEWHERE, "checksum": f.checksum})
        for p in record.parameters:
            number = p.value if isinstance(p.value, float) else None
            si_number, dimension = in_si(number, p.unit) or (None, None)
            word = p.value if isinstance(p.value, str) else None
            row = {"dataset_id": i, "name": p.name, "number": number, "word": word, "unit": p.unit}
            parameters.append(row | {"si_number": si_number, "dimension": dimension})
        for n, (pid, label) in enumerate(_techniques(record)):
            techniques.append({"dataset_id": i, "position": n, "pid": pid, "label": label})
        for n, s in enumerate(record.samples):
            about = {"pid": s.pid, "name": s.name, "description": s.description}
            samples.append(about | {"dataset_id": i, "position": n})
    for table, rows in (
        (FileRow, files),
        (ParameterRow, parameters),
        (TechniqueRow, techniques),
        (SampleRow, samples),
    ):
        if rows:
            session.execute(insert(table), rows)
    _write_authors(session, records)


def _write_authors(session: Session, records: dict[int, ToldDataset]) -> None:
    for i, record in records.items():
        if record.people:
            people = [
                Author(p.name, p.orcid, p.role, p.affiliation, p.first_name, p.last_name)
                for p in record.people
            ]
            set_authors(session, session.get_one(DatasetRow, i), people)


def _store_publication(session: Session, told: ToldDocument, teller: Teller, now: datetime) -> bool:
    row = session.scalar(select(PublicationRow).where(PublicationRow.pid == told.pid))
    ids = set(session.scalars(select(DatasetRow.id).where(among(session, DatasetRow.pid, told.datasets))))
    facts = {
        "type": told.type,
        "title": told.title,
        "summary": told.summary,
        "doi": told.doi,
        "license": told.license,
        "keywords": list(told.keywords),
        "released_at": told.released_at,
    }
    if row is not None:
        same = all(getattr(row, name) == value for name, value in facts.items())
        if same and {link.dataset_id for link in row.datasets} >= ids:
            return False
    else:
        row = PublicationRow(pid=told.pid, source=teller.name)
        session.add(row)
    for name, value in facts.items():
        setattr(row, name, value)
    row.changed_at = now
    there = {link.dataset_id for link in row.datasets}
    row.datasets += [PublicationDatasetRow(dataset_id=i) for i in sorted(ids - there)]
    session.flush()
    return True


def n_of_source(session: Session, source: str) -> int:
    """How many datasets of a source stand."""
    mine = select(func.count()).select_from(DatasetRow).where(DatasetRow.source == source)
    return session.scalar(mine.where(DatasetRow.tombstone.is_(None))) or 0
