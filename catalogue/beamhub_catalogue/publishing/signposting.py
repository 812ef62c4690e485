"""Typed links of a landing page, in the header and as a linkset.

Source: Signposting, FAIR profile level 1 and 2; RFC 8288 (Link header), RFC 9264 (linkset).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from beamhub_catalogue.publishing.forms import FORMS, LINKSET
from beamhub_catalogue.publishing.record import Record, files_url

MAX_HEADER_LINKS = 40
"""Links of one kind; those that are more stand in the linkset alone."""
_UNSAFE = frozenset('<>"\\')


@dataclass(frozen=True, slots=True)
class Link:
    """A link away from the landing page."""

    relation: str
    target: str
    media_type: str | None = None
    profile: str | None = None


def links_of(record: Record) -> list[Link]:
    """All links of a landing page; items only of what the reader may have."""
    links = [Link("cite-as", record.identifier)]
    links += [
        Link("describedby", f"{record.url}/{form.name}", form.media_type.partition(";")[0], form.profile)
        for form in FORMS
    ]
    links += [Link("author", one.orcid_url) for one in record.creators if one.orcid_url]
    if record.license_url:
        links.append(Link("license", record.license_url))
    links.append(Link("type", "https://schema.org/AboutPage"))
    links.append(
        Link("type", "https://schema.org/Dataset" if record.is_dataset else "https://schema.org/Collection")
    )
    links += [Link("collection", one.url) for one in record.relations if one.relation == "IsPartOf"]
    if record.access == "open" and record.is_dataset:
        links.append(Link("item", files_url(record), "application/json"))
    links += [Link("item", one.url) for one in record.relations if one.relation == "HasPart"]
    links += [
        Link("successor-version", one.url)
        for one in record.relations
        if one.relation == "IsPreviousVersionOf"
    ]
    return links


def link_header(record: Record) -> str:
    """The value of the Link header; what does not fit stands in the linkset, which it names."""
    counted: dict[str, int] = defaultdict(int)
    kept = [Link("linkset", f"{record.url}/linkset.json", LINKSET)]
    for link in links_of(record):
        counted[link.relation] += 1
        if counted[link.relation] <= MAX_HEADER_LINKS:
            kept.append(link)
    return ", ".join(_written(link) for link in kept if not _UNSAFE.intersection(link.target))


def linkset(record: Record) -> dict[str, Any]:
    """All links as a linkset document."""
    targets: dict[str, list[dict[str, str]]] = defaultdict(list)
    for link in links_of(record):
        item = {"href": link.target}
        item |= {"type": link.media_type} if link.media_type else {}
        item |= {"profile": link.profile} if link.profile else {}
        targets[link.relation].append(item)
    return {"linkset": [{"anchor": record.url, **targets}]}


def _written(link: Link) -> str:
    kind = f' ; type="{link.media_type}"' if link.media_type else ""
    profile = f' ; profile="{link.profile}"' if link.profile else ""
    return f'<{link.target}> ; rel="{link.relation}"{kind}{profile}'
