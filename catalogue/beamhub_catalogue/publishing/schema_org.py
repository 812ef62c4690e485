"""A record as schema.org's Dataset in JSON-LD, for search engines and for F-UJI.

Source: schema.org 28, Dataset; Google's structured data guide for datasets.
"""

from __future__ import annotations

import json
from typing import Any

from beamhub_catalogue.publishing.record import HDF5_MEDIA_TYPE, Contributor, Record, files_url

Item = dict[str, Any]
_INERT = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def schema_org(record: Record, *, catalogue_url: str) -> Item:
    """The description of a record."""
    publisher: Item = {"@type": "Organization", "name": record.publisher}
    if record.publisher_ror:
        publisher |= {"@id": record.publisher_ror, "identifier": record.publisher_ror}
    item: Item = {
        "@context": "https://schema.org/",
        "@type": "Dataset" if record.is_dataset else "Collection",
        "@id": record.identifier,
        "identifier": [_identifier(record), record.pid],
        "url": record.url,
        "name": record.title,
        "description": record.description,
        "creator": [_person(one) for one in record.creators]
        or [{"@type": "Organization", "name": f"Team of proposal {record.proposal}"}],
        "publisher": publisher,
        "provider": publisher,
        "datePublished": record.issued.isoformat(),
        "dateCreated": record.created.isoformat(timespec="seconds"),
        "inLanguage": "en",
        "isAccessibleForFree": record.access == "open",
        "conditionsOfAccess": _conditions(record),
        "license": record.license_url,
        "version": record.version,
        "keywords": _keywords(record),
        "includedInDataCatalog": {"@type": "DataCatalog", "name": record.facility, "url": catalogue_url},
        **_relations(record),
    }
    if record.is_dataset:
        item |= _of_dataset(record)
    return {name: value for name, value in item.items() if value not in (None, [], "")}


def script_text(item: Item) -> str:
    """JSON that no HTML parser can leave: nothing in it can end a script or begin a tag."""
    return json.dumps(item, ensure_ascii=False).translate(_INERT)


def _identifier(record: Record) -> Item:
    value = f"doi:{record.doi}" if record.doi else record.url
    kind = "DOI" if record.doi else "URL"
    return {"@type": "PropertyValue", "propertyID": kind, "value": value, "url": record.identifier}


def _person(person: Contributor) -> Item:
    item: Item = {"@type": "Person", "name": person.name}
    if person.orcid_url:
        item |= {"@id": person.orcid_url, "identifier": person.orcid_url}
    if person.given_name and person.family_name:
        item |= {"givenName": person.given_name, "familyName": person.family_name}
    places = [
        {"@type": "Organization", "name": place.name} | ({"@id": place.ror} if place.ror else {})
        for place in person.affiliations
    ]
    return item | ({"affiliation": places} if places else {})


def _conditions(record: Record) -> str:
    if record.access == "embargoed":
        return f"embargoed access until {record.issued.isoformat()}"
    return {"open": "open access", "closed": "restricted access", "withdrawn": "metadata only access"}[
        record.access
    ]


def _keywords(record: Record) -> list[Any]:
    words: list[Any] = list(record.keywords)
    if record.technique_label:
        term: Item = {"@type": "DefinedTerm", "name": record.technique_label}
        if record.technique:
            term |= {
                "@id": record.technique,
                "inDefinedTermSet": "http://purl.org/pan-science/PaNET/PaNET.owl",
            }
        words.insert(0, term)
    return words


def _of_dataset(record: Record) -> Item:
    item: Item = {
        "temporalCoverage": _span(record),
        "measurementTechnique": record.technique or record.technique_label,
        "variableMeasured": [
            {"@type": "PropertyValue", "name": one.name, "value": one.value}
            | ({"unitText": one.unit} if one.unit else {})
            for one in record.parameters
        ],
        "encodingFormat": HDF5_MEDIA_TYPE,
        "conformsTo": "https://www.nexusformat.org/",
        "size": f"{record.size_bytes} B" if record.size_bytes is not None else None,
    }
    if record.access == "open" and record.full:
        item["distribution"] = _distribution(record, files_url(record))
    return item


def _distribution(record: Record, address: str) -> list[Item]:
    total = record.size_bytes
    whole = {"@type": "DataDownload", "name": record.title, "contentUrl": address}
    whole |= {"encodingFormat": HDF5_MEDIA_TYPE} | (
        {"contentSize": f"{total} B"} if total is not None else {}
    )
    files = [
        {
            "@type": "DataDownload",
            "name": one.name,
            "contentUrl": address,
            "encodingFormat": HDF5_MEDIA_TYPE,
            "contentSize": f"{one.size_bytes} B",
        }
        | ({"sha256": one.sha256} if one.sha256 else {})
        for one in record.files
    ]
    return files or [whole]


def _span(record: Record) -> str:
    start = record.created.isoformat(timespec="seconds")
    return f"{start}/{record.ended.isoformat(timespec='seconds')}" if record.ended else start


_RELATIONS = {
    "IsDerivedFrom": "isBasedOn",
    "IsPartOf": "isPartOf",
    "HasPart": "hasPart",
    "IsCitedBy": "subjectOf",
}


def _relations(record: Record) -> Item:
    found: Item = {}
    for one in record.relations:
        name = _RELATIONS.get(one.relation)
        if name is not None:
            kind = {"Dataset": "Dataset", "Collection": "Collection"}.get(
                one.general_type, "ScholarlyArticle"
            )
            linked = {"@type": kind, "@id": one.url, "url": one.url} | (
                {"name": one.title} if one.title else {}
            )
            found.setdefault(name, []).append(linked)
    if record.making is not None:
        words = [f"{name} {version}" for name, version in record.making.software]
        found["creditText"] = f"Made with {', '.join(words)}"
    return found
