"""Metadata in unqualified Dublin Core, as every OAI-PMH provider has to give it.

Source: OAI-PMH 2.0, section 5 and its oai_dc.xsd; the words of access from the info:eu-repo vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from beamhub_catalogue.publishing.datacite_xml import XSI
from beamhub_catalogue.publishing.record import HDF5_MEDIA_TYPE, AccessState, Record
from beamhub_catalogue.publishing.xml_text import Element, add

OAI_DC = "http://www.openarchives.org/OAI/2.0/oai_dc/"
DC = "http://purl.org/dc/elements/1.1/"
ACCESS: dict[AccessState, str] = {
    "open": "info:eu-repo/semantics/openAccess",
    "embargoed": "info:eu-repo/semantics/embargoedAccess",
    "closed": "info:eu-repo/semantics/restrictedAccess",
    "withdrawn": "info:eu-repo/semantics/closedAccess",
}


def dublin_core_xml(record: Record) -> Element:
    """The `oai_dc:dc` element of a record."""
    root = etree.Element(f"{{{OAI_DC}}}dc", nsmap={"oai_dc": OAI_DC, "dc": DC, "xsi": XSI})
    root.set(f"{{{XSI}}}schemaLocation", f"{OAI_DC} http://www.openarchives.org/OAI/2.0/oai_dc.xsd")
    for name, text in _elements(record):
        add(root, f"{{{DC}}}{name}", text)
    return root


def _elements(record: Record) -> Iterator[tuple[str, str]]:
    yield "title", record.title
    for person in record.creators:
        yield "creator", person.name
    if not record.creators:
        yield "creator", f"Team of proposal {record.proposal}"
    for word in (record.technique_label, record.technique, *record.keywords):
        if word:
            yield "subject", word
    yield "description", record.description
    yield "publisher", record.publisher
    yield "date", record.issued.isoformat()
    if record.access == "embargoed":
        yield "date", f"info:eu-repo/date/embargoEnd/{record.issued.isoformat()}"
    yield "type", "Dataset" if record.is_dataset else "Collection"
    if record.is_dataset:
        yield "format", HDF5_MEDIA_TYPE
    yield "identifier", record.identifier
    if record.doi:
        yield "identifier", record.url
    yield "identifier", record.pid
    for one in record.relations:
        yield ("source" if one.relation == "IsDerivedFrom" else "relation"), one.url
    yield "rights", ACCESS[record.access]
    if record.license_url:
        yield "rights", record.license_url
