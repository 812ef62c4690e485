"""Answers of the OAI-PMH provider as XML trees. Source: OAI-PMH 2.0, sections 3.2 and 4, OAI-PMH.xsd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lxml import etree

from beamhub_catalogue.publishing.datacite import COAR_TYPES, SCHEMA_VERSION
from beamhub_catalogue.publishing.datacite_xml import SCHEMA_LOCATION, XSI, datacite_xml
from beamhub_catalogue.publishing.dublin_core import OAI_DC, dublin_core_xml
from beamhub_catalogue.publishing.oai_arguments import OaiError
from beamhub_catalogue.publishing.record import Record
from beamhub_catalogue.publishing.xml_text import Element, add

OAI = "http://www.openarchives.org/OAI/2.0/"
OAI_DATACITE = "http://schema.datacite.org/oai/oai-1.1/"
OAI_IDENTIFIER = "http://www.openarchives.org/OAI/2.0/oai-identifier"
_OAI_LOCATION = f"{OAI} http://www.openarchives.org/OAI/2.0/OAI-PMH.xsd"
FORMATS: Mapping[str, tuple[str, str]] = {
    "oai_dc": ("http://www.openarchives.org/OAI/2.0/oai_dc.xsd", OAI_DC),
    "oai_datacite": ("http://schema.datacite.org/oai/oai-1.1/oai.xsd", OAI_DATACITE),
    "datacite": (SCHEMA_LOCATION, SCHEMA_VERSION),
    "oai_openairedata": (SCHEMA_LOCATION, SCHEMA_VERSION),
}
"""Prefix to schema and namespace. OpenAIRE's profile for data archives is DataCite with demands upon it."""


@dataclass(frozen=True, slots=True)
class Header:
    """What every list says of a record."""

    identifier: str
    datestamp: datetime
    sets: tuple[str, ...]
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Resumption:
    """The end of a page: `token` is empty on the last one."""

    token: str
    total: int
    cursor: int
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Repository:
    """What Identify says."""

    name: str
    base_url: str
    admin_email: str
    earliest: datetime
    namespace: str | None
    sample_identifier: str


def utc_second(moment: datetime) -> str:
    """An instant as UTCdatetime, to the second."""
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def envelope(base_url: str, arguments: Mapping[str, str], answered_at: datetime) -> Element:
    """The root of an answer, with the request that it answers; no arguments where these were wrong."""
    root = etree.Element(_tag("OAI-PMH"), nsmap={None: OAI, "xsi": XSI})
    root.set(f"{{{XSI}}}schemaLocation", _OAI_LOCATION)
    add(root, _tag("responseDate"), utc_second(answered_at))
    add(root, _tag("request"), base_url, **arguments)
    return root


def written(root: Element) -> bytes:
    """A tree as a document."""
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))


def add_error(root: Element, error: OaiError) -> None:
    """The error that is the whole answer."""
    add(root, _tag("error"), error.reason, code=error.code)


def add_identify(root: Element, repository: Repository) -> None:
    """What the repository is."""
    verb = add(root, _tag("Identify"))
    for name, text in (
        ("repositoryName", repository.name),
        ("baseURL", repository.base_url),
        ("protocolVersion", "2.0"),
        ("adminEmail", repository.admin_email),
        ("earliestDatestamp", utc_second(repository.earliest)),
        ("deletedRecord", "persistent"),
        ("granularity", "YYYY-MM-DDThh:mm:ssZ"),
    ):
        add(verb, _tag(name), text)
    if repository.namespace is None:
        return
    described = etree.SubElement(
        add(verb, _tag("description")), f"{{{OAI_IDENTIFIER}}}oai-identifier", nsmap={None: OAI_IDENTIFIER}
    )
    location = f"{OAI_IDENTIFIER} http://www.openarchives.org/OAI/2.0/oai-identifier.xsd"
    described.set(f"{{{XSI}}}schemaLocation", location)
    for name, text in (
        ("scheme", "oai"),
        ("repositoryIdentifier", repository.namespace),
        ("delimiter", ":"),
        ("sampleIdentifier", repository.sample_identifier),
    ):
        add(described, f"{{{OAI_IDENTIFIER}}}{name}", text)


def add_formats(root: Element, prefixes: Sequence[str]) -> None:
    """The formats that there are."""
    verb = add(root, _tag("ListMetadataFormats"))
    for prefix in prefixes:
        one = add(verb, _tag("metadataFormat"))
        add(one, _tag("metadataPrefix"), prefix)
        add(one, _tag("schema"), FORMATS[prefix][0])
        add(one, _tag("metadataNamespace"), FORMATS[prefix][1])


def add_sets(root: Element, sets: Sequence[tuple[str, str]]) -> None:
    """The sets that there are: specification and name."""
    verb = add(root, _tag("ListSets"))
    for spec, name in sets:
        one = add(verb, _tag("set"))
        add(one, _tag("setSpec"), spec)
        add(one, _tag("setName"), name)


def add_header(parent: Element, header: Header) -> None:
    """The header of a record."""
    one = add(parent, _tag("header"), None, status="deleted" if header.deleted else None)
    add(one, _tag("identifier"), header.identifier)
    add(one, _tag("datestamp"), utc_second(header.datestamp))
    for spec in header.sets:
        add(one, _tag("setSpec"), spec)


def add_record(parent: Element, header: Header, record: Record | None, prefix: str) -> None:
    """A record with its metadata; None of a deleted one."""
    one = add(parent, _tag("record"))
    add_header(one, header)
    if record is not None:
        add(one, _tag("metadata")).append(_metadata(record, prefix))


def add_resumption(parent: Element, resumption: Resumption) -> None:
    """What ends a page of a list."""
    one = add(
        parent,
        _tag("resumptionToken"),
        resumption.token or None,
        expirationDate=utc_second(resumption.expires) if resumption.expires and resumption.token else None,
    )
    one.set("completeListSize", str(resumption.total))
    one.set("cursor", str(resumption.cursor))


def verb_element(root: Element, verb: str) -> Element:
    """The element that holds the answer to a verb."""
    return add(root, _tag(verb))


def _metadata(record: Record, prefix: str) -> Element:
    if prefix == "oai_dc":
        return dublin_core_xml(record)
    if prefix == "oai_openairedata":
        return datacite_xml(record, resource_type=COAR_TYPES["dataset" if record.is_dataset else "document"])
    if prefix != "oai_datacite":
        return datacite_xml(record)
    root = etree.Element(f"{{{OAI_DATACITE}}}oai_datacite", nsmap={None: OAI_DATACITE, "xsi": XSI})
    root.set(f"{{{XSI}}}schemaLocation", f"{OAI_DATACITE} http://schema.datacite.org/oai/oai-1.1/oai.xsd")
    add(root, f"{{{OAI_DATACITE}}}schemaVersion", "4.5")
    add(root, f"{{{OAI_DATACITE}}}datacentreSymbol", record.publisher)
    add(root, f"{{{OAI_DATACITE}}}payload").append(datacite_xml(record))
    return root


def _tag(name: str) -> str:
    return f"{{{OAI}}}{name}"
