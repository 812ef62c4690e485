"""JSON in the search API's own shape, with relations nested as `include` returns them, as told records.

Unknown keys are let pass: what an API of another version adds does no harm. `isPublic` opens nothing: who may
read is the policy's matter. That of a dataset may only refuse it a place in a proposal that is open here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from pydantic import ValidationError

from beamhub_catalogue.told import ToldDataset, ToldDocument, ToldInstrument

MAX_PROBLEM = 300
KINDS = ("instruments", "documents", "datasets")
PROPOSAL = "proposal"


@dataclass(slots=True)
class ToldItems:
    """What a JSON object tells, and what of it is wrong: (place, reason)."""

    instruments: list[ToldInstrument] = field(default_factory=list)
    documents: list[ToldDocument] = field(default_factory=list)
    datasets: list[ToldDataset] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def read_items(told: Any) -> ToldItems:
    """The items of `{"instruments": [...], "documents": [...], "datasets": [...]}`, each judged by itself."""
    items = ToldItems()
    if not isinstance(told, dict) or not any(kind in told for kind in KINDS):
        items.problems.append(("", f"is no JSON object with {', '.join(KINDS)}"))
        return items
    for kind in KINDS:
        entries = told.get(kind, [])
        if not isinstance(entries, list):
            items.problems.append((kind, "is no list"))
            continue
        for number, entry in enumerate(entries):
            _take(items, kind, f"{kind}[{number}]", entry)
    return items


def dataset_of(entry: dict[str, Any], source_id: str | None = None) -> ToldDataset:
    """A dataset of the API.

    Raises
    ------
    ValidationError
        For a value that is none of the field's.
    ValueError
        If it names no proposal.
    """
    documents = _objects(entry, "documents")
    proposals = [d.get("pid") for d in documents if d.get("type", PROPOSAL) == PROPOSAL]
    proposals += [entry[key] for key in ("documentId", "proposal") if isinstance(entry.get(key), str)]
    if not proposals:
        raise ValueError("names no proposal: a document of type 'proposal' belongs in its 'documents'")
    instrument = entry.get("instrument")
    return ToldDataset.model_validate(
        {
            "source_id": source_id or entry.get("pid"),
            "pid": entry.get("pid"),
            "proposal": proposals[0],
            "title": entry.get("title"),
            "description": entry.get("description") or "",
            "keywords": entry.get("keywords") or (),
            "instrument": instrument.get("name", "") if isinstance(instrument, dict) else "",
            "start": _instant(entry.get("creationDate")),
            "size_bytes": entry.get("size") or 0,
            "doi": entry.get("doi"),
            "license": entry.get("license"),
            "closed_until": date.max if entry.get("isPublic") is False else None,
            "techniques": [_technique(one) for one in _objects(entry, "techniques")],
            "samples": [_known(one, "pid", "name", "description") for one in _objects(entry, "samples")],
            "parameters": [_known(one, "name", "value", "unit") for one in _objects(entry, "parameters")],
            "files": [_file(one) for one in _objects(entry, "files")],
            "people": [_person(one) for one in _objects(entry, "members")],
        }
    )


def document_of(entry: dict[str, Any]) -> ToldDocument:
    """A document of the API; errors as those of `dataset_of`."""
    return ToldDocument.model_validate(
        _known(entry, "pid", "type", "title", "summary", "doi", "license", "keywords")
        | {
            "released_at": _instant(entry.get("releaseDate")),
            "datasets": [one.get("pid") for one in _objects(entry, "datasets")],
        }
    )


def problem_text(error: ValueError) -> str:
    """The first problem of a record, in a line."""
    if not isinstance(error, ValidationError):
        return str(error)[:MAX_PROBLEM]
    first = error.errors(include_url=False, include_context=False)[0]
    rest = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:MAX_PROBLEM] + rest


def _take(items: ToldItems, kind: str, place: str, entry: Any) -> None:
    if not isinstance(entry, dict):
        items.problems.append((place, "is no JSON object"))
        return
    named = entry.get("pid") or entry.get("name")
    try:
        if kind == "datasets":
            items.datasets.append(dataset_of(entry))
        elif kind == "documents":
            items.documents.append(document_of(entry))
        else:
            items.instruments.append(ToldInstrument.model_validate(_known(entry, "name", "pid", "facility")))
    except ValueError as error:
        items.problems.append((f"{place} {named!r:.100}", problem_text(error)))


def _objects(entry: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = entry.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{name}: is no list of JSON objects")
    return value


def _known(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: entry[name] for name in names if entry.get(name) is not None}


def _technique(entry: dict[str, Any]) -> dict[str, Any]:
    return {"pid": entry.get("panetId") or entry.get("pid") or "", "label": entry.get("name")}


def _file(entry: dict[str, Any]) -> dict[str, Any]:
    return _known(entry, "name", "path", "checksum") | {"size_bytes": entry.get("size") or 0}


def _person(entry: dict[str, Any]) -> dict[str, Any]:
    person = entry.get("person")
    person = person if isinstance(person, dict) else {}
    affiliation = entry.get("affiliation")
    affiliation = affiliation if isinstance(affiliation, dict) else {}
    return {
        "name": person.get("fullName"),
        "orcid": person.get("orcid"),
        "first_name": person.get("firstName"),
        "last_name": person.get("lastName"),
        "role": entry.get("role"),
        "affiliation": affiliation.get("name"),
    }


def _instant(text: Any) -> datetime | None:
    """An instant; a text that is none is refused."""
    if text is None:
        return None
    if not isinstance(text, str) or len(text) > 60:
        raise ValueError("a date is no text")
    return datetime.fromisoformat(text.strip())
