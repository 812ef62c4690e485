"""Items of the PaNOSC search API, made from rows for one reader."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from sqlalchemy import String, case, func, not_, or_, select

from beamhub_catalogue.guards import Guard
from beamhub_catalogue.models import DatasetRow, FileRow, MemberRow, ParameterRow, ProposalRow
from beamhub_catalogue.people import ANONYMOUS
from beamhub_catalogue.queries import Catalogue, plain_number
from beamhub_catalogue.search_filter import FilterInvalid, Group, Include
from beamhub_catalogue.search_sql import Entity, Field, compile_where
from beamhub_catalogue.texts import constant

Item = dict[str, Any]
MAX_CHILDREN = 5_000
PANET = "http://purl.org/pan-science/PaNET/"
"""What comes before the id in a term. Source: PaNET ontology, see `beamhub_core.techniques`."""


class Vocabulary:
    """The entities of the API as one reader may ask for them."""

    def __init__(self, catalogue: Catalogue) -> None:
        public = Guard(ANONYMOUS, catalogue.policy, catalogue.now)
        self.reads = catalogue.guard.reads()
        self.is_public = public.reads()
        self.created = func.coalesce(DatasetRow.start, DatasetRow.harvested_at, type_=DatasetRow.start.type)
        self.dataset = Entity(
            "Dataset",
            {
                "pid": Field(DatasetRow.pid, "text"),
                "title": Field(DatasetRow.title, "text"),
                "isPublic": Field(case((self.is_public, True), else_=False), "bool"),
                "creationDate": Field(self.created, "date"),
                "size": Field(DatasetRow.size_bytes, "number", only_where=self.reads),
            },
            (DatasetRow.title,),
        )
        open_now = (ProposalRow.opens_at.is_not(None)) & (ProposalRow.opens_at <= catalogue.now)
        open_now = open_now & not_(ProposalRow.withdrawn)
        self.document = Entity(
            "Document",
            {
                "pid": Field(ProposalRow.id, "text"),
                "title": Field(ProposalRow.title, "text"),
                "type": Field(constant("proposal"), "text"),
                "isPublic": Field(case((open_now, True), else_=False), "bool"),
                "startDate": Field(ProposalRow.start, "day"),
                "endDate": Field(ProposalRow.end, "day"),
                "releaseDate": Field(ProposalRow.opens_at, "date"),
            },
            (ProposalRow.title,),
        )
        facility = constant(catalogue.facility)
        self.instrument = Entity(
            "Instrument",
            {
                "pid": Field(DatasetRow.instrument, "text"),
                "name": Field(DatasetRow.instrument, "text"),
                "facility": Field(facility, "text"),
            },
            (DatasetRow.instrument, facility),
        )
        self.technique = Entity(
            "Technique",
            {
                "pid": Field(DatasetRow.technique, "text"),
                "name": Field(DatasetRow.technique_label, "text"),
                "panetId": Field(func.replace(DatasetRow.technique, PANET, "", type_=String()), "text"),
            },
            (DatasetRow.technique_label,),
        )
        self.sample = Entity("Sample", {"name": Field(DatasetRow.sample, "text")}, (DatasetRow.sample,))
        self.file = Entity(
            "File",
            {
                "name": Field(FileRow.name, "text"),
                "path": Field(FileRow.path, "text"),
                "size": Field(FileRow.size_bytes, "number"),
            },
            (FileRow.name,),
        )
        self.parameter = Entity(
            "Parameter",
            {
                "name": Field(ParameterRow.name, "text"),
                "value": Field(ParameterRow.number, "either", word=ParameterRow.word),
                "unit": Field(ParameterRow.unit, "text"),
            },
            (ParameterRow.name,),
        )


def dataset_condition(include: Include, words: Vocabulary) -> Any:
    """What an include demands of its dataset: nothing without a `where`, else a match in the reader's sight.

    Raises
    ------
    FilterInvalid
        For a relation that a dataset has not.
    """
    where = include.where
    if include.relation in ("files", "parameters"):
        child: Any = FileRow if include.relation == "files" else ParameterRow
        entity = words.file if include.relation == "files" else words.parameter
        matching = select(child.id).where(child.dataset_id == DatasetRow.id, compile_where(where, entity))
        return None if where is None else words.reads & matching.correlate(DatasetRow).exists()
    found: Any
    if include.relation == "samples":
        found = words.reads & DatasetRow.sample.is_not(None) & compile_where(where, words.sample)
    elif include.relation == "techniques":
        found = compile_where(where, words.technique)
    elif include.relation == "instrument":
        found = (DatasetRow.instrument != "") & compile_where(where, words.instrument)
    elif include.relation == "documents":
        found = ProposalRow.id.is_not(None) & compile_where(where, words.document)
    else:
        known = "documents, techniques, instrument, files, parameters, samples"
        raise FilterInvalid(include.place, f"a Dataset has no such relation; it has {known}")
    return None if where is None else found


class DatasetItems:
    """Makes items of datasets, with what was included."""

    def __init__(self, catalogue: Catalogue, words: Vocabulary) -> None:
        self._catalogue, self._words = catalogue, words

    def build(
        self, rows: Sequence[tuple[DatasetRow, bool, bool]], includes: tuple[Include, ...]
    ) -> list[Item]:
        """One item for each (dataset, readable, public)."""
        items = [self._item(*row) for row in rows]
        for relation in dict.fromkeys(include.relation for include in includes):
            wheres = [i.where for i in includes if i.relation == relation]
            limits = [i.limit for i in includes if i.relation == relation and i.limit]
            related = self._related(relation, rows, wheres)
            for item, (row, *_) in zip(items, rows, strict=True):
                found = related.get(row.id, [])[: min(limits, default=None)]
                if relation == "instrument":
                    item |= {"instrument": found[0]} if found else {}
                else:
                    item[relation] = found
        return items

    def files_of(self, row: DatasetRow, where: Group | None) -> list[Item]:
        """The files of a dataset that the reader may read."""
        return self._related("files", [(row, True, False)], [where]).get(row.id, [])

    def _item(self, row: DatasetRow, readable: bool, public: bool) -> Item:
        item: Item = {
            "pid": row.pid,
            "title": row.title,
            "isPublic": bool(public),
            "creationDate": _instant(row.start or row.harvested_at),
        }
        return item | ({"size": row.size_bytes} if readable else {})

    def _related(
        self, relation: str, rows: Sequence[tuple[DatasetRow, bool, bool]], wheres: list[Group | None]
    ) -> dict[int, list[Item]]:
        readable = [row for row, may_read, _ in rows if may_read]
        if relation == "techniques":
            return {row.id: [_technique(row)] for row, *_ in rows}
        if relation == "instrument":
            facility = self._catalogue.facility
            return {row.id: [_instrument(row.instrument, facility)] for row, *_ in rows if row.instrument}
        if relation == "documents":
            return {row.id: self._documents(row.proposal) for row, *_ in rows}
        if relation == "samples":
            return {row.id: [{"name": row.sample}] for row in readable if row.sample}
        entity = self._words.file if relation == "files" else self._words.parameter
        child: Any = FileRow if relation == "files" else ParameterRow
        wanted = or_(*(compile_where(where, entity) for where in wheres))
        query = select(child).where(child.dataset_id.in_([row.id for row in readable]), wanted)
        children = self._catalogue.session.scalars(query.order_by(child.id).limit(MAX_CHILDREN)).all()
        found: dict[int, list[Item]] = defaultdict(list)
        pids = {row.id: row.pid for row in readable}
        for one in children:
            pid = pids[one.dataset_id]
            found[one.dataset_id].append(_file(one, pid) if relation == "files" else _parameter(one, pid))
        return found

    def _documents(self, proposal: str) -> list[Item]:
        row = self._catalogue.judge.proposal_row(proposal)
        return [document_item(row, self._catalogue)] if row is not None else []


def document_item(row: ProposalRow, catalogue: Catalogue) -> Item:
    """A proposal as a document."""
    rules = catalogue.policy.classes.get(row.embargo_class or "")
    is_open = row.opens_at is not None and row.opens_at <= catalogue.now
    item: Item = {
        "pid": row.id,
        "isPublic": is_open and not row.withdrawn,
        "type": "proposal",
        "title": row.title,
        "startDate": _day(row.start),
        "endDate": _day(row.end),
        "releaseDate": _instant(row.opens_at),
        "license": rules.license if rules else None,
    }
    return {name: value for name, value in item.items() if value is not None}


def instrument_item(name: str, facility: str) -> Item:
    """An instrument."""
    return _instrument(name, facility)


def member_items(proposal: str, catalogue: Catalogue) -> list[Item]:
    """A proposal's people, by name only."""
    rows = catalogue.session.scalars(
        select(MemberRow)
        .where(MemberRow.proposal == proposal, MemberRow.removed_at.is_(None), MemberRow.name != "")
        .order_by(MemberRow.id)
    )
    by_name = {row.name: row.role for row in rows}
    return [{"role": role, "person": {"fullName": name}} for name, role in by_name.items()]


def _technique(row: DatasetRow) -> Item:
    return {"pid": row.technique or row.technique_label, "name": row.technique_label} | (
        {"panetId": row.technique.replace(PANET, "")} if row.technique else {}
    )


def _instrument(name: str, facility: str) -> Item:
    return {"pid": name, "name": name, "facility": facility}


def _child_id(*words: str) -> str:
    """An id made of what the reader sees; a row's number would tell how many rows the reader does not."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:24]


def _file(row: FileRow, pid: str) -> Item:
    return {
        "id": _child_id(pid, row.pool, row.path),
        "name": row.name,
        "path": row.path,
        "size": row.size_bytes,
    }


def _parameter(row: ParameterRow, pid: str) -> Item:
    value = plain_number(row.number) if row.number is not None else row.word
    unit = {"unit": row.unit} if row.unit else {}
    return {"id": _child_id(pid, row.name), "name": row.name, "value": value} | unit


def _instant(when: datetime | None) -> str | None:
    if when is None:
        return None
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _day(day: date | None) -> str | None:
    return _instant(datetime.combine(day, time.min, tzinfo=UTC)) if day else None
