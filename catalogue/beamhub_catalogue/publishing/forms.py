"""The forms in which a landing page gives its metadata, and which of them a client asked for.

Source: RFC 9110, section 12.5.1 (Accept); DataCite content negotiation; RFC 9264 (linkset).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lxml import etree

from beamhub_catalogue.publishing import citations
from beamhub_catalogue.publishing.datacite import datacite_attributes
from beamhub_catalogue.publishing.datacite_xml import datacite_xml
from beamhub_catalogue.publishing.dcat import dcat
from beamhub_catalogue.publishing.record import Record
from beamhub_catalogue.publishing.ro_crate import PROFILE, ro_crate
from beamhub_catalogue.publishing.schema_org import schema_org

HTML = "text/html"
MAX_RANGES = 30
_Write = Callable[[Record, str], str]


@dataclass(frozen=True, slots=True)
class Form:
    """One form: its name in addresses, its media type, and how it is written."""

    name: str
    media_type: str
    write: _Write
    profile: str | None = None
    """The schema that it follows, as Signposting names it."""


def _json(make: Callable[[Record, str], Any]) -> _Write:
    def write(record: Record, catalogue_url: str) -> str:
        return json.dumps(make(record, catalogue_url), ensure_ascii=False)

    return write


def _datacite_document(record: Record, _: str) -> str:
    return str(etree.tostring(datacite_xml(record), encoding="unicode"))


FORMS: tuple[Form, ...] = (
    Form(
        "schema-org.jsonld",
        "application/ld+json",
        _json(lambda record, url: schema_org(record, catalogue_url=url)),
        "https://schema.org",
    ),
    Form(
        "datacite.json",
        "application/vnd.datacite.datacite+json",
        _json(lambda record, _: datacite_attributes(record)),
        "http://datacite.org/schema/kernel-4",
    ),
    Form(
        "datacite.xml",
        "application/vnd.datacite.datacite+xml",
        _datacite_document,
        "http://datacite.org/schema/kernel-4",
    ),
    Form(
        "dcat.jsonld",
        'application/ld+json;profile="http://www.w3.org/ns/dcat#"',
        _json(lambda record, url: dcat(record, catalogue_url=url)),
        "http://www.w3.org/ns/dcat#",
    ),
    Form(
        "ro-crate-metadata.json",
        f'application/ld+json;profile="{PROFILE}"',
        _json(lambda record, _: ro_crate(record)),
        PROFILE,
    ),
    Form("citation.bib", "application/x-bibtex", lambda record, _: citations.bibtex(record)),
    Form("citation.ris", "application/x-research-info-systems", lambda record, _: citations.ris(record)),
    Form(
        "citation.csl.json",
        "application/vnd.citationstyles.csl+json",
        lambda record, _: citations.csl_text(record),
    ),
    Form("citation.txt", "text/x-bibliography", lambda record, _: citations.apa(record)),
)
BY_NAME = {form.name: form for form in FORMS}
LINKSET = "application/linkset+json"


def chosen_form(accept: str) -> Form | None:
    """The form that a client likes best; None for the page, also where nothing of ours fits.

    A client that takes anything gets the page: browsers say so, and so do those who did not choose.
    """
    ranges = [_parse_range(text) for text in accept.split(",")[:MAX_RANGES]]
    best: Form | None = None
    best_weight = max(
        (weight for kind, _, weight in ranges if kind in (HTML, "application/xhtml+xml")), default=0
    )
    for form in FORMS:
        weight = max((weight for kind, profile, weight in ranges if _fits(form, kind, profile)), default=0.0)
        if weight > best_weight:
            best, best_weight = form, weight
    return best


def _fits(form: Form, kind: str, profile: str | None) -> bool:
    plain, _, parameters = form.media_type.partition(";")
    if kind != plain:
        return False
    return profile == form.profile if profile is not None else not parameters


def _parse_range(text: str) -> tuple[str, str | None, float]:
    kind, *parameters = text.split(";")
    weight, profile = 1.0, None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "q":
            try:
                weight = min(max(float(value), 0.0), 1.0)
            except ValueError:
                weight = 0.0
        elif name.strip().lower() == "profile":
            profile = value
    return kind.strip().lower(), profile, weight if weight == weight else 0.0
