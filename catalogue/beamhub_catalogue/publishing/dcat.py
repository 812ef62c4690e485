"""A record as DCAT-AP 3 in JSON-LD. Source: DCAT-AP 3.0.0; access rights from the EU's own list.

A JSON-LD document with a context of its own is RDF already; no RDF library is needed to write it.
"""

from __future__ import annotations

from typing import Any

from beamhub_catalogue.publishing.record import HDF5_MEDIA_TYPE, AccessState, Contributor, Record, files_url

Item = dict[str, Any]
EU_ACCESS: dict[AccessState, str] = {
    "open": "http://publications.europa.eu/resource/authority/access-right/PUBLIC",
    "embargoed": "http://publications.europa.eu/resource/authority/access-right/RESTRICTED",
    "closed": "http://publications.europa.eu/resource/authority/access-right/RESTRICTED",
    "withdrawn": "http://publications.europa.eu/resource/authority/access-right/NON_PUBLIC",
}

CONTEXT: Item = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dct": "http://purl.org/dc/terms/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "prov": "http://www.w3.org/ns/prov#",
    "spdx": "http://spdx.org/rdf/terms#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}


def dcat(record: Record, *, catalogue_url: str) -> Item:
    """The description of a record, with how it was made in PROV's terms."""
    item: Item = {
        "@context": CONTEXT,
        "@id": record.identifier,
        "@type": "dcat:Dataset" if record.is_dataset else "dcat:Catalog",
        "dct:title": _text(record.title),
        "dct:description": _text(record.description),
        "dct:identifier": record.doi or record.pid,
        "dcat:landingPage": {"@id": record.url},
        "dct:creator": [_agent(one) for one in record.creators],
        "dct:publisher": {"@type": "foaf:Agent", "foaf:name": record.publisher}
        | ({"@id": record.publisher_ror} if record.publisher_ror else {}),
        "dct:issued": _typed(record.issued.isoformat(), "date"),
        "dct:created": _typed(record.created.isoformat(timespec="seconds"), "dateTime"),
        "dct:accessRights": {"@id": EU_ACCESS[record.access]},
        "dct:license": _linked(record.license_url),
        "dcat:theme": _linked(record.technique or None),
        "dcat:keyword": [word for word in (record.technique_label, *record.keywords) if word],
        "dcat:version": record.version,
        "dct:isPartOf": _related(record, "IsPartOf"),
        "dct:hasPart": _related(record, "HasPart"),
        "dct:isReferencedBy": _related(record, "IsCitedBy"),
        "prov:wasDerivedFrom": _related(record, "IsDerivedFrom"),
        "dcat:inCatalog": {"@id": catalogue_url},
    }
    if record.is_dataset:
        item["prov:wasGeneratedBy"] = _activity(record)
        item["dct:temporal"] = _period(record)
    if record.access == "open" and record.is_dataset:
        item["dcat:distribution"] = _distribution(record)
    return {name: value for name, value in item.items() if value not in (None, [])}


def _agent(person: Contributor) -> Item:
    agent: Item = {"@type": ["foaf:Agent", "foaf:Person", "prov:Person"], "foaf:name": person.name}
    return agent | ({"@id": person.orcid_url} if person.orcid_url else {})


def _distribution(record: Record) -> Item:
    files: Item = {
        "@type": "dcat:Distribution",
        "dct:title": _text(record.title),
        "dcat:accessURL": {"@id": record.url},
        "dcat:downloadURL": {"@id": files_url(record)},
        "dcat:mediaType": {"@id": f"https://www.iana.org/assignments/media-types/{HDF5_MEDIA_TYPE}"},
        "dct:format": HDF5_MEDIA_TYPE,
        "dct:conformsTo": {"@id": "https://www.nexusformat.org/"},
        "dct:license": _linked(record.license_url),
    }
    if record.size_bytes is not None:
        files["dcat:byteSize"] = _typed(str(record.size_bytes), "nonNegativeInteger")
    if record.making is not None:
        files["spdx:checksum"] = {
            "@type": "spdx:Checksum",
            "spdx:algorithm": {"@id": "spdx:checksumAlgorithm_sha256"},
            "spdx:checksumValue": _typed(record.making.sha256, "hexBinary"),
        }
    return {name: value for name, value in files.items() if value is not None}


def _activity(record: Record) -> Item:
    started = record.making.made_at if record.making else record.created
    activity: Item = {
        "@type": "prov:Activity",
        "prov:startedAtTime": _typed(started.isoformat(timespec="seconds"), "dateTime"),
    }
    if record.ended is not None and record.making is None:
        activity["prov:endedAtTime"] = _typed(record.ended.isoformat(timespec="seconds"), "dateTime")
    if record.making is not None:
        activity["prov:wasAssociatedWith"] = [
            {"@type": ["prov:Agent", "prov:SoftwareAgent"], "foaf:name": f"{name} {version}"}
            for name, version in record.making.software
        ]
    elif record.instrument:
        instrument = {"@type": "prov:Agent", "foaf:name": record.instrument}
        activity["prov:wasAssociatedWith"] = [instrument]
    return activity


def _period(record: Record) -> Item:
    period = {
        "@type": "dct:PeriodOfTime",
        "dcat:startDate": _typed(record.created.isoformat(timespec="seconds"), "dateTime"),
    }
    if record.ended is not None:
        period["dcat:endDate"] = _typed(record.ended.isoformat(timespec="seconds"), "dateTime")
    return period


def _related(record: Record, relation: str) -> list[Item]:
    return [{"@id": one.url} for one in record.relations if one.relation == relation]


def _linked(address: str | None) -> Item | None:
    return {"@id": address} if address else None


def _text(text: str) -> Item:
    return {"@value": text, "@language": "en"}


def _typed(text: str, kind: str) -> Item:
    return {"@value": text, "@type": f"xsd:{kind}"}
