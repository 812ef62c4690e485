"""How FAIR a record is by what its landing page gives to programs, without asking anybody outside.

Modelled on F-UJI 3.5.1 with its metrics v0.8: 17 metrics, 26 points.
What F-UJI asks of registries (whether the DOI resolves, whether re3data knows the repository) is not asked
here: a DOI counts as persistent, and standards count where they are named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from beamhub_catalogue.publishing.datacite import datacite_attributes
from beamhub_catalogue.publishing.dcat import dcat
from beamhub_catalogue.publishing.record import HDF5_MEDIA_TYPE, PANET, Record
from beamhub_catalogue.publishing.schema_org import schema_org
from beamhub_catalogue.publishing.signposting import links_of

OPEN_FORMATS = frozenset({HDF5_MEDIA_TYPE})
CORE = ("creator", "name", "publisher", "datePublished", "description", "keywords", "identifier")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: the points that the record has of it, and what these are for."""

    name: str
    points: int
    out_of: int
    words: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a program finds at a landing page."""

    record: Record
    embedded: Mapping[str, Any]
    negotiated: Mapping[str, Any]
    linked: Mapping[str, Any]
    relations: frozenset[str]


_Check = Callable[[_Seen], tuple[bool, ...]]


def assess(record: Record, catalogue_url: str) -> tuple[Metric, ...]:
    """Every metric of a record."""
    seen = _Seen(
        record,
        schema_org(record, catalogue_url=catalogue_url) if record.ours else {},
        datacite_attributes(record) if record.ours else {},
        dcat(record, catalogue_url=catalogue_url) if record.ours else {},
        frozenset(link.relation for link in links_of(record)) if record.ours else frozenset(),
    )
    return tuple(Metric(name, sum(check(seen)), out_of, words) for name, out_of, words, check in _METRICS)


def _unique(seen: _Seen) -> tuple[bool, ...]:
    return (seen.record.identifier.startswith("http"),)


def _persistent(seen: _Seen) -> tuple[bool, ...]:
    return (seen.record.doi is not None,)


def _core(seen: _Seen) -> tuple[bool, ...]:
    found = [bool(seen.embedded.get(name)) for name in CORE]
    return any(found), all(found)


def _data_link(seen: _Seen) -> tuple[bool, ...]:
    return (bool(seen.embedded.get("distribution")) and "item" in seen.relations,)


def _search_engines(seen: _Seen) -> tuple[bool, ...]:
    return bool(seen.embedded), bool(seen.negotiated)


def _access_info(seen: _Seen) -> tuple[bool, ...]:
    return ("conditionsOfAccess" in seen.embedded and bool(seen.negotiated.get("rightsList")),)


def _retrievable(seen: _Seen) -> tuple[bool, ...]:
    return seen.record.url.startswith("http"), bool(seen.embedded.get("distribution"))


def _protocol(seen: _Seen) -> tuple[bool, ...]:
    files = seen.embedded.get("distribution") or [{}]
    return seen.record.url.startswith("http"), str(files[0].get("contentUrl", "")).startswith("http")


def _secure_protocol(seen: _Seen) -> tuple[bool, ...]:
    files = seen.embedded.get("distribution") or [{}]
    return seen.record.url.startswith("https:"), str(files[0].get("contentUrl", "")).startswith("https:")


def _structured(seen: _Seen) -> tuple[bool, ...]:
    return "@context" in seen.embedded, "@context" in seen.linked


def _vocabularies(seen: _Seen) -> tuple[bool, ...]:
    subjects = seen.negotiated.get("subjects", [])
    known = any(str(one.get("valueUri", "")).startswith(PANET) for one in subjects)
    return bool(seen.linked.get("@context")), known


def _related(seen: _Seen) -> tuple[bool, ...]:
    related = seen.negotiated.get("relatedIdentifiers", [])
    return bool(related), any(one.get("relatedIdentifier", "").startswith(("http", "10.")) for one in related)


def _content(seen: _Seen) -> tuple[bool, ...]:
    files = seen.embedded.get("distribution") or [{}]
    described = all(one.get("encodingFormat") and one.get("contentSize") for one in files)
    return bool(seen.negotiated.get("types")), bool(seen.embedded.get("variableMeasured")) and described


def _license(seen: _Seen) -> tuple[bool, ...]:
    return (bool(seen.embedded.get("license")),)


def _provenance(seen: _Seen) -> tuple[bool, ...]:
    return ("prov:wasGeneratedBy" in seen.linked and bool(seen.negotiated.get("dates")),)


def _community(seen: _Seen) -> tuple[bool, ...]:
    return (seen.negotiated.get("schemaVersion") is not None and "nexusformat" in str(seen.embedded),)


def _open_format(seen: _Seen) -> tuple[bool, ...]:
    return (bool(OPEN_FORMATS.intersection(seen.negotiated.get("formats", ()))),)


_METRICS: tuple[tuple[str, int, str, _Check], ...] = (
    ("FsF-F1-01", 1, "has a globally unique identifier", _unique),
    ("FsF-F1-02", 1, "has a persistent identifier", _persistent),
    ("FsF-F2-01", 2, "has core metadata, and all that a citation needs", _core),
    ("FsF-F3-01", 1, "says where its data is", _data_link),
    ("FsF-F4-01", 2, "can be found by search engines and by negotiation", _search_engines),
    ("FsF-A1-01", 1, "says who may have the data", _access_info),
    ("FsF-A1-02", 2, "has an address for its metadata, and one for its data", _retrievable),
    ("FsF-A1.1-01", 2, "is had over a standard protocol, as is its data", _protocol),
    ("FsF-A1.2-01", 2, "is had over a protocol that can ask for a login, as is its data", _secure_protocol),
    ("FsF-I1-01", 2, "is linked data, in the page and by negotiation", _structured),
    ("FsF-I2-01", 2, "uses vocabularies by their namespaces, also one of the field", _vocabularies),
    ("FsF-I3-01", 2, "names related things, by addresses of theirs", _related),
    ("FsF-R1-01", 2, "says what the data is: type, size, format, what was measured", _content),
    ("FsF-R1.1-01", 1, "names its licence", _license),
    ("FsF-R1.2-01", 1, "says how it was made, in PROV's terms", _provenance),
    ("FsF-R1.3-01", 1, "follows standards of its community", _community),
    ("FsF-R1.3-02", 1, "is in an open file format", _open_format),
)
MAXIMUM = sum(out_of for _, out_of, _, _ in _METRICS)
