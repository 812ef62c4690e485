"""Metadata in the DataCite schema 4: as JSON attributes and, made of these, as XML.

Source: DataCite Metadata Schema 4.5, https://doi.org/10.14454/g8e5-6293; vocabularies of access: COAR Access
Rights 1.0. Version 4.5 is the latest that the `datacite` library can check.
"""

from __future__ import annotations

from typing import Any

from beamhub_catalogue.publishing.record import HDF5_MEDIA_TYPE, PANET, AccessState, Contributor, Record

SCHEMA_VERSION = "http://datacite.org/schema/kernel-4"
COAR_ACCESS: dict[AccessState, tuple[str, str]] = {
    "open": ("open access", "http://purl.org/coar/access_right/c_abf2"),
    "embargoed": ("embargoed access", "http://purl.org/coar/access_right/c_f1cf"),
    "closed": ("restricted access", "http://purl.org/coar/access_right/c_16ec"),
    "withdrawn": ("metadata only access", "http://purl.org/coar/access_right/c_14cb"),
}
COAR_TYPES = {
    "dataset": "http://purl.org/coar/resource_type/c_ddb1",
    "document": "http://purl.org/coar/resource_type/c_1843",
}
"""Source: COAR Resource Types 3.0, 'dataset' and 'other'."""
ROLES = {"pi": "ProjectLeader", "local_contact": "ContactPerson"}
"""What else a creator was; a member is a creator alone."""

Attributes = dict[str, Any]


def datacite_attributes(record: Record) -> Attributes:
    """The attributes of a record, as the REST API and `application/vnd.datacite.datacite+json` have them."""
    attributes: Attributes = {
        "types": {
            "resourceTypeGeneral": "Dataset" if record.is_dataset else "Collection",
            "resourceType": {"raw": "Raw data", "product": "Processed data", "proposal": "Experiment"}[
                record.kind
            ],
        },
        "creators": [_name(one) for one in record.creators] or [_team(record)],
        "titles": [{"title": record.title}],
        "publisher": _publisher(record),
        "publicationYear": str(record.issued.year),
        "language": "en",
        "subjects": _subjects(record),
        "contributors": _contributors(record),
        "dates": _dates(record),
        "alternateIdentifiers": [
            {"alternateIdentifier": record.pid, "alternateIdentifierType": "Local identifier"}
        ],
        "relatedIdentifiers": _relations(record),
        "sizes": [f"{record.size_bytes} bytes"] if record.size_bytes is not None else [],
        "formats": [HDF5_MEDIA_TYPE] if record.is_dataset else [],
        "rightsList": _rights(record),
        "descriptions": _descriptions(record),
        "schemaVersion": SCHEMA_VERSION,
    }
    if record.doi:
        attributes |= {"doi": record.doi, "prefix": record.doi.split("/")[0]}
        attributes["suffix"] = record.doi.partition("/")[2]
    if record.version:
        attributes["version"] = record.version
    return {name: value for name, value in attributes.items() if value not in ([], None)}


def _name(person: Contributor) -> Attributes:
    name: Attributes = {"name": person.name, "nameType": "Personal"}
    if person.family_name:
        name |= {"familyName": person.family_name}
        name["name"] = person.family_name
        if person.given_name:
            name |= {"name": f"{person.family_name}, {person.given_name}", "givenName": person.given_name}
    if person.orcid_url:
        identifier = {"nameIdentifier": person.orcid_url, "nameIdentifierScheme": "ORCID"}
        name["nameIdentifiers"] = [identifier | {"schemeUri": "https://orcid.org"}]
    places = [
        {"name": place.name}
        | (
            {
                "affiliationIdentifier": place.ror,
                "affiliationIdentifierScheme": "ROR",
                "schemeUri": "https://ror.org",
            }
            if place.ror
            else {}
        )
        for place in person.affiliations
    ]
    return name | ({"affiliation": places} if places else {})


def _team(record: Record) -> Attributes:
    return {"name": f"Team of proposal {record.proposal}", "nameType": "Organizational"}


def _publisher(record: Record) -> Attributes:
    publisher: Attributes = {"name": record.publisher}
    if record.publisher_ror:
        publisher |= {
            "publisherIdentifier": record.publisher_ror,
            "publisherIdentifierScheme": "ROR",
            "schemeUri": "https://ror.org",
        }
    return publisher


def _subjects(record: Record) -> list[Attributes]:
    subjects: list[Attributes] = []
    if record.technique_label:
        subject: Attributes = {"subject": record.technique_label}
        if record.technique.startswith(PANET):
            subject |= {"subjectScheme": "PaNET", "schemeUri": PANET, "valueUri": record.technique}
        subjects.append(subject)
    return subjects + [{"subject": word} for word in record.keywords]


def _contributors(record: Record) -> list[Attributes]:
    host: Attributes = {"name": record.publisher, "nameType": "Organizational"}
    if record.publisher_ror:
        identifier = {"nameIdentifier": record.publisher_ror, "nameIdentifierScheme": "ROR"}
        host["nameIdentifiers"] = [identifier | {"schemeUri": "https://ror.org"}]
    people = [
        _name(one) | {"contributorType": ROLES[one.role]} for one in record.creators if one.role in ROLES
    ]
    return [*people, host | {"contributorType": "HostingInstitution"}]


def _dates(record: Record) -> list[Attributes]:
    start = _instant(record.created)
    collected = start if record.ended is None else f"{start}/{_instant(record.ended)}"
    kind = "Created" if record.kind == "product" else "Collected"
    dates = [
        {"date": collected, "dateType": kind},
        {"date": record.issued.isoformat(), "dateType": "Issued"},
    ]
    if record.access == "embargoed":
        # OpenAIRE guidelines for data archives: an embargo is two dates.
        dates.append({"date": record.created.date().isoformat(), "dateType": "Accepted"})
    if record.available is not None and record.access != "withdrawn":
        dates.append({"date": record.available.date().isoformat(), "dateType": "Available"})
    if record.access == "withdrawn":
        dates.append({"date": record.issued.isoformat(), "dateType": "Withdrawn"})
    return dates


def _relations(record: Record) -> list[Attributes]:
    relations = [
        {
            "relatedIdentifier": one.identifier,
            "relatedIdentifierType": "DOI" if one.is_doi else "URL",
            "relationType": one.relation,
            "resourceTypeGeneral": one.general_type,
        }
        for one in record.relations
    ]
    return list({(one["relationType"], one["relatedIdentifier"]): one for one in relations}.values())


def _rights(record: Record) -> list[Attributes]:
    words, address = COAR_ACCESS[record.access]
    rights: list[Attributes] = [{"rights": words, "rightsUri": address}]
    if record.license:
        rights.append(
            {
                "rights": record.license,
                "rightsUri": record.license_url,
                "rightsIdentifier": record.license,
                "rightsIdentifierScheme": "SPDX",
                "schemeUri": "https://spdx.org/licenses/",
            }
        )
    return rights


def _descriptions(record: Record) -> list[Attributes]:
    descriptions = [{"description": record.description, "descriptionType": "Abstract"}]
    technical = [f"instrument: {record.instrument}"] if record.instrument else []
    technical += [f"sample: {record.sample}"] if record.sample else []
    technical += [f"{one.name}: {one.value}{' ' + one.unit if one.unit else ''}" for one in record.parameters]
    if technical:
        descriptions.append({"description": "; ".join(technical), "descriptionType": "TechnicalInfo"})
    if record.making is not None:
        software = ", ".join(f"{name} {version}" for name, version in record.making.software)
        text = f"Made with {software or 'unknown software'}; container image {record.making.image}."
        descriptions.append({"description": text, "descriptionType": "Methods"})
    return descriptions


def _instant(moment: Any) -> str:
    return str(moment.isoformat(timespec="seconds"))
