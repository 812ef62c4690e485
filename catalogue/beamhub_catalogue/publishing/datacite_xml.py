"""DataCite's attributes as XML; a record without a DOI is identified by its landing page.

Source: DataCite Metadata Schema 4.5, metadata.xsd; for identifiers that are no DOI: OpenAIRE Guidelines for
Data Archives 2.0, property Identifier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lxml import etree

from beamhub_catalogue.publishing.datacite import SCHEMA_VERSION, Attributes, datacite_attributes
from beamhub_catalogue.publishing.record import Record
from beamhub_catalogue.publishing.xml_text import Element, add

SCHEMA_LOCATION = "http://schema.datacite.org/meta/kernel-4.5/metadata.xsd"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
_NAMESPACES: dict[str | None, str] = {None: SCHEMA_VERSION, "xsi": XSI}
_ATTRIBUTE_NAMES = {"schemeUri": "schemeURI", "valueUri": "valueURI", "rightsUri": "rightsURI"}
"""Where XML writes a name otherwise than JSON."""


def datacite_xml(record: Record, resource_type: str | None = None) -> Element:
    """The `resource` element of a record; `resource_type` in place of our own words for what it is."""
    attributes = datacite_attributes(record)
    if resource_type is not None:
        attributes["types"]["resourceType"] = resource_type
    root = etree.Element(_tag("resource"), nsmap=_NAMESPACES)
    root.set(f"{{{XSI}}}schemaLocation", f"{SCHEMA_VERSION} {SCHEMA_LOCATION}")
    identified = (record.doi, "DOI") if record.doi else (record.url, "URL")
    add(root, _tag("identifier"), identified[0], identifierType=identified[1])
    for name, write in _WRITERS.items():
        if name in attributes:
            write(root, attributes[name])
    return root


def _tag(name: str) -> str:
    return f"{{{SCHEMA_VERSION}}}{name}"


def _people(plural: str, singular: str) -> Callable[[Element, Any], None]:
    def write(root: Element, people: list[Attributes]) -> None:
        group = add(root, _tag(plural))
        for person in people:
            one = add(group, _tag(singular), None, contributorType=person.get("contributorType"))
            add(one, _tag(f"{singular}Name"), person["name"], nameType=person.get("nameType"))
            for part in ("givenName", "familyName"):
                if part in person:
                    add(one, _tag(part), person[part])
            for identifier in person.get("nameIdentifiers", ()):
                text, marks = _split(identifier, "nameIdentifier")
                add(one, _tag("nameIdentifier"), text, **marks)
            for place in person.get("affiliation", ()):
                text, marks = _split(place, "name")
                add(one, _tag("affiliation"), text, **marks)

    return write


def _group(plural: str, singular: str, content: str) -> Callable[[Element, Any], None]:
    """A list of objects, each an element whose text is one of its values and whose attributes the others."""

    def write(root: Element, items: list[Attributes]) -> None:
        group = add(root, _tag(plural))
        for item in items:
            text, marks = _split(item, content)
            add(group, _tag(singular), text, **marks)

    return write


def _texts(plural: str, singular: str) -> Callable[[Element, Any], None]:
    def write(root: Element, items: list[str]) -> None:
        group = add(root, _tag(plural))
        for item in items:
            add(group, _tag(singular), item)

    return write


def _one(name: str, content: str | None = None) -> Callable[[Element, Any], None]:
    def write(root: Element, value: Any) -> None:
        text, marks = (value, {}) if content is None else _split(value, content)
        add(root, _tag(name), text, **marks)

    return write


def _split(item: Attributes, content: str) -> tuple[str, dict[str, str]]:
    marks = {_ATTRIBUTE_NAMES.get(name, name): value for name, value in item.items() if name != content}
    return item[content], marks


_WRITERS: dict[str, Callable[[Element, Any], None]] = {
    "creators": _people("creators", "creator"),
    "titles": _group("titles", "title", "title"),
    "publisher": _one("publisher", "name"),
    "publicationYear": _one("publicationYear"),
    "types": _one("resourceType", "resourceType"),
    "subjects": _group("subjects", "subject", "subject"),
    "contributors": _people("contributors", "contributor"),
    "dates": _group("dates", "date", "date"),
    "language": _one("language"),
    "alternateIdentifiers": _group("alternateIdentifiers", "alternateIdentifier", "alternateIdentifier"),
    "relatedIdentifiers": _group("relatedIdentifiers", "relatedIdentifier", "relatedIdentifier"),
    "sizes": _texts("sizes", "size"),
    "formats": _texts("formats", "format"),
    "version": _one("version"),
    "rightsList": _group("rightsList", "rights", "rights"),
    "descriptions": _group("descriptions", "description", "description"),
}
