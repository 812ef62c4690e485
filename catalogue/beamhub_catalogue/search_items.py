"""Items of the PaNOSC search API, made from rows that the reader may know of."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time
from typing import Any

from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.panet import PANET
from beamhub_catalogue.queries import plain_number
from beamhub_catalogue.search_filter import Include
from beamhub_catalogue.search_sql import asked_unit
from beamhub_catalogue.units import find_unit

Item = dict[str, Any]


def dataset_item(row: Any) -> Item:
    """A dataset; its size only for who may read it."""
    dataset: DatasetRow = row.DatasetRow
    item: Item = {
        "pid": dataset.pid,
        "title": dataset.title,
        "isPublic": bool(row.is_public),
        "creationDate": _instant(dataset.start or dataset.harvested_at),
    }
    told = {"doi": dataset.doi, "keywords": dataset.keywords or None, "license": dataset.license}
    item |= {name: value for name, value in told.items() if value is not None}
    return item | ({"size": dataset.size_bytes} if row.reads else {})


def document_item(row: Any) -> Item:
    """A proposal or a publication."""
    item: Item = {
        "pid": row.pid,
        "isPublic": bool(row.is_public),
        "type": row.type,
        "title": row.title,
        "summary": row.summary or None,
        "doi": row.doi,
        "startDate": _day(row.start),
        "endDate": _day(row.end),
        "releaseDate": _instant(row.released_at),
        "license": row.license,
        "keywords": row.keywords or None,
    }
    return {name: value for name, value in item.items() if value is not None}


def instrument_item(name: str, facility: str, pid: str | None = None) -> Item:
    """An instrument."""
    return {"pid": pid or name, "name": name, "facility": facility}


def technique_item(row: Any) -> Item:
    """A technique: a PaNET term, or what the file called it."""
    told = {"pid": row.pid or row.label, "name": row.label}
    return told | ({"panetId": row.pid.removeprefix(PANET)} if row.pid else {})


def sample_item(row: Any) -> Item:
    """A sample."""
    told = {"pid": row.pid, "name": row.name, "description": row.description or None}
    return {name: value for name, value in told.items() if value is not None}


def member_item(row: Any) -> Item:
    """A person's place in a document or dataset."""
    item: Item = {
        "id": _child_id(str(row.owner), row.role, row.full_name, str(row.position)),
        "role": row.role,
    }
    item["person"] = person_item(row)
    affiliation = affiliation_item(row)
    return item | ({"affiliation": affiliation} if affiliation else {})


def person_item(row: Any) -> Item:
    """A person, without any address."""
    names = {"fullName": row.full_name, "firstName": row.first_name, "lastName": row.last_name}
    told = {"id": row.orcid or _child_id(row.full_name)} | names
    told |= {"orcid": row.orcid, "researcherId": row.researcher_id}
    return {name: value for name, value in told.items() if value is not None}


def affiliation_item(row: Any) -> Item:
    """An organisation; empty where none is named."""
    if row.affiliation is None:
        return {}
    told = {"id": row.ror or _child_id(row.affiliation), "name": row.affiliation, "address": row.address}
    told |= {"city": row.city, "country": row.country, "pid": row.ror}
    return {name: value for name, value in told.items() if value is not None}


def file_item(row: Any) -> Item:
    """A file."""
    told = {
        "id": _child_id(row.dataset_pid, row.pool, row.path),
        "name": row.name,
        "path": row.path,
        "size": row.size_bytes,
    }
    return told | ({"checksum": row.checksum} if row.checksum else {})


def parameter_item(row: Any, include: Include | None) -> Item:
    """A parameter, in the unit that the condition asked for; then with what it was before."""
    value = plain_number(row.number) if row.number is not None else row.word
    item: Item = {"id": _child_id(str(row.owner), row.name), "name": row.name, "value": value}
    unit = row.unit or ""
    asked = asked_unit(include.where) if include else None
    target = find_unit(asked) if asked is not None and asked != unit else None
    if asked is not None and target is not None and target.dimension == row.dimension:
        converted = {"value": float(f"{target.from_si(row.si_number):.12g}"), "unit": asked}
        return item | converted | {"originalValue": value, "originalUnit": unit}
    return item | ({"unit": unit} if unit else {})


def _child_id(*words: str) -> str:
    """An id made of what the reader sees; a row's number would tell how many rows the reader does not."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:24]


def _instant(when: datetime | None) -> str | None:
    if when is None:
        return None
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _day(day: date | None) -> str | None:
    return _instant(datetime.combine(day, time.min, tzinfo=UTC)) if day else None
