"""The metadata file of an RO-Crate 1.2 of a record, with each process run as Process Run Crate says.

The crate is detached: its files are those of the record, named by where they are found, and none is in it.
Source: RO-Crate Metadata Specification 1.2.0; Process Run Crate 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from beamhub_catalogue.publishing.record import HDF5_MEDIA_TYPE, Contributor, Record

Item = dict[str, Any]
CONTEXT = "https://w3id.org/ro/crate/1.2/context"
PROFILE = "https://w3id.org/ro/crate/1.2"
PROCESS_RUN = "https://w3id.org/ro/wfrun/process/0.5"


def ro_crate(record: Record) -> Item:
    """The content of `ro-crate-metadata.json`."""
    entities: dict[str, Item] = {}
    for entity in _entities(record):
        entities.setdefault(entity["@id"], entity)
    return {"@context": CONTEXT, "@graph": list(entities.values())}


def _entities(record: Record) -> Iterator[Item]:
    root = record.identifier
    yield {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": {"@id": root},
        "conformsTo": [{"@id": PROFILE}],
    }
    files = [_file(record, i) for i in range(len(record.files))]
    parts = [{"@id": one["@id"]} for one in files]
    parts += [{"@id": one.url} for one in record.relations if one.relation == "HasPart"]
    action = f"{record.url}#made"
    yield {
        name: value
        for name, value in {
            "@id": root,
            "@type": "Dataset",
            "identifier": [record.identifier, record.pid],
            "url": record.url,
            "name": record.title,
            "description": record.description,
            "datePublished": record.issued.isoformat(),
            "license": {"@id": record.license_url} if record.license_url else _conditions(record),
            "author": [{"@id": _person_id(record, i)} for i in range(len(record.creators))],
            "publisher": {"@id": record.publisher_ror or f"{record.url}#publisher"},
            "version": record.version,
            "hasPart": parts,
            "mentions": {"@id": action} if record.is_dataset else None,
            "conformsTo": {"@id": PROCESS_RUN} if record.making else None,
        }.items()
        if value not in (None, [])
    }
    yield from files
    if record.license_url:
        yield {"@id": record.license_url, "@type": "CreativeWork", "name": record.license}
    for i, person in enumerate(record.creators):
        yield _person(person, _person_id(record, i))
        for place in person.affiliations:
            yield {
                "@id": place.ror or _affiliation_id(place.name),
                "@type": "Organization",
                "name": place.name,
            }
    publisher_id = record.publisher_ror or f"{record.url}#publisher"
    yield {"@id": publisher_id, "@type": "Organization", "name": record.publisher}
    for one in record.relations:
        if one.relation in ("HasPart", "IsDerivedFrom"):
            yield {"@id": one.url, "@type": "Dataset", "name": one.title or one.url}
    if record.is_dataset:
        yield from _process(record, action, root)


def _process(record: Record, action: str, root: str) -> Iterator[Item]:
    """What made it: software, from other datasets, or an instrument."""
    making = record.making
    ended = making.made_at if making else (record.ended or record.created)
    inputs = [{"@id": one.url} for one in record.relations if one.relation == "IsDerivedFrom"]
    tools = [f"{action}-{quote(name)}" for name, _ in making.software] if making else [f"{action}-instrument"]
    run: Item = {
        "@id": action,
        "@type": "CreateAction",
        "name": "Reduction" if making else "Measurement",
        "instrument": [{"@id": tool} for tool in tools],
        "object": inputs,
        "result": {"@id": root},
        "endTime": ended.isoformat(timespec="seconds"),
        "agent": [{"@id": _person_id(record, i)} for i in range(len(record.creators))],
    }
    if making is None:
        run["startTime"] = record.created.isoformat(timespec="seconds")
    yield {name: value for name, value in run.items() if value != []}
    if making is None:
        name = record.instrument or "unknown instrument"
        yield {"@id": tools[0], "@type": "Thing", "name": name}
        return
    for tool, (name, version) in zip(tools, making.software, strict=True):
        yield {"@id": tool, "@type": "SoftwareApplication", "name": name, "softwareVersion": version}


def _file(record: Record, index: int) -> Item:
    one = record.files[index]
    item: Item = {
        "@id": f"{record.url}#{quote(one.path)}",
        "@type": "File",
        "name": one.name,
        "contentSize": str(one.size_bytes),
        "encodingFormat": HDF5_MEDIA_TYPE,
        "url": record.url,
    }
    return item | ({"sha256": one.sha256} if one.sha256 else {})


def _conditions(record: Record) -> str:
    return "No licence is granted yet." if record.access != "open" else "No licence was chosen."


def _person_id(record: Record, index: int) -> str:
    return record.creators[index].orcid_url or f"{record.url}#person-{index + 1}"


def _person(person: Contributor, name: str) -> Item:
    item: Item = {"@id": name, "@type": "Person", "name": person.name}
    if person.given_name and person.family_name:
        item |= {"givenName": person.given_name, "familyName": person.family_name}
    places = [{"@id": place.ror or _affiliation_id(place.name)} for place in person.affiliations]
    return item | ({"affiliation": places} if places else {})


def _affiliation_id(name: str) -> str:
    return f"#affiliation-{quote(name)}"
