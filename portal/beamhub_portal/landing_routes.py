"""What programs read of landing pages: metadata in every form, typed links, the site's map.

A page is made by its own route; `Landing` gives it what search engines and reference managers look for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from lxml import etree
from starlette.exceptions import HTTPException

from beamhub_catalogue.publishing import citations
from beamhub_catalogue.publishing.forms import BY_NAME, LINKSET, Form, chosen_form
from beamhub_catalogue.publishing.record import Record
from beamhub_catalogue.publishing.schema_org import schema_org, script_text
from beamhub_catalogue.publishing.signposting import link_header, linkset
from beamhub_catalogue.publishing.xml_text import add
from beamhub_portal.portal import Portal

SITEMAP = "http://www.sitemaps.org/schemas/sitemap/0.9"
LINKSET_NAME = "linkset.json"
MAX_SITEMAP = 10_000
GONE = 410


@dataclass(frozen=True, slots=True)
class Landing:
    """What a landing page holds for programs, beside what people read."""

    record: Record
    catalogue_url: str

    @property
    def json_ld(self) -> str:
        """schema.org's description, which no title can leave; empty where another catalogue describes it."""
        if not self.record.ours:
            return ""
        return script_text(schema_org(self.record, catalogue_url=self.catalogue_url))

    @property
    def apa(self) -> str:
        """The citation in words."""
        return citations.apa(self.record)

    @property
    def bibtex(self) -> str:
        """The citation for BibTeX."""
        return citations.bibtex(self.record)

    @property
    def successors(self) -> tuple[tuple[str, str], ...]:
        """Newer versions: address and title."""
        newer = (one for one in self.record.relations if one.relation == "IsPreviousVersionOf")
        return tuple((one.url, one.title) for one in newer)

    @property
    def headers(self) -> dict[str, str]:
        """Typed links; the answer depends on what was asked for and on who asks."""
        links = {"Link": link_header(self.record)} if self.record.ours else {}
        return {"Vary": "Accept, Cookie"} | links

    def negotiated(self, request: Request) -> Response | None:
        """The form that a client asked for in place of the page."""
        form = chosen_form(request.headers.get("accept", ""))
        return self.written(form) if form is not None and self.record.ours else None

    def written(self, form: Form) -> Response:
        """The record in one form."""
        text = form.write(self.record, self.catalogue_url)
        kind = form.media_type if "json" in form.media_type else f"{form.media_type}; charset=utf-8"
        return Response(text, media_type=kind, headers=self.headers)

    def named(self, name: str) -> Response:
        """What lies below the page under a name; raises 404 for a name that is none."""
        if not self.record.ours:
            raise HTTPException(404)
        if name == LINKSET_NAME:
            return Response(json.dumps(linkset(self.record)), media_type=LINKSET)
        form = BY_NAME.get(name)
        if form is None:
            raise HTTPException(404)
        return self.written(form)


def landing_of_dataset(portal: Portal, request: Request, pid: str) -> Landing | None:
    """What programs may know of a dataset; None where the visitor may not know of it."""
    visitor = portal.visitors.of(request)
    principal = visitor.principal if visitor is not None else None
    record = portal.service.publication.dataset(principal, pid)
    return Landing(record, f"{portal.service.publication.places.base_url}/") if record is not None else None


def landing_of_document(portal: Portal, request: Request, proposal: str) -> Landing | None:
    """What programs may know of a proposal's document; None where the visitor may not know of it."""
    visitor = portal.visitors.of(request)
    principal = visitor.principal if visitor is not None else None
    record = portal.service.publication.document(principal, proposal)
    return Landing(record, f"{portal.service.publication.places.base_url}/") if record is not None else None


def landing_router(portal: Portal) -> APIRouter:
    """Forms of datasets and documents, a document's page, and the site's map."""
    router = APIRouter()

    @router.api_route("/datasets/{pid}/{name}", methods=["GET", "HEAD"])
    def dataset_form(request: Request, pid: str, name: str) -> Response:
        landing = landing_of_dataset(portal, request, pid)
        if landing is None:
            raise HTTPException(404)
        return landing.named(name)

    @router.api_route("/documents/{proposal}", methods=["GET", "HEAD"])
    def document(request: Request, proposal: str) -> Response:
        landing = landing_of_document(portal, request, proposal)
        if landing is None:
            raise HTTPException(404)
        form = landing.negotiated(request)
        if form is not None:
            return form
        visitor = portal.visitors.of(request)
        withdrawn = landing.record.access == "withdrawn"
        page = portal.pages.answer(
            request,
            "document.html",
            visitor,
            landing=landing,
            record=landing.record,
            status=GONE if withdrawn else 200,
        )
        page.headers.update(landing.headers)
        return page

    @router.api_route("/documents/{proposal}/{name}", methods=["GET", "HEAD"])
    def document_form(request: Request, proposal: str, name: str) -> Response:
        landing = landing_of_document(portal, request, proposal)
        if landing is None:
            raise HTTPException(404)
        return landing.named(name)

    @router.get("/sitemap.xml")
    def sitemap_index() -> Response:
        base = portal.service.publication.places.base_url
        pages = [f"{base}/sitemap/{i + 1}.xml" for i in range(portal.service.publication.n_sitemaps())]
        return _sitemap("sitemapindex", "sitemap", pages)

    @router.get("/sitemap/{number}.xml")
    def sitemap(number: int) -> Response:
        if not 1 <= number <= MAX_SITEMAP:
            raise HTTPException(404)
        return _sitemap("urlset", "url", portal.service.publication.landing_pages(number))

    @router.get("/robots.txt")
    def robots() -> Response:
        base = portal.service.publication.places.base_url
        closed = ("login", "open", "sessions", "audit")
        lines = ["User-agent: *", *(f"Disallow: {portal.pages.addresses.page(one)}" for one in closed)]
        return Response("\n".join([*lines, f"Sitemap: {base}/sitemap.xml", ""]), media_type="text/plain")

    return router


def _sitemap(root_name: str, item_name: str, addresses: list[str]) -> Response:
    """Source: the sitemaps protocol 0.9."""
    root = etree.Element(f"{{{SITEMAP}}}{root_name}", nsmap={None: SITEMAP})
    for address in addresses:
        add(add(root, f"{{{SITEMAP}}}{item_name}"), f"{{{SITEMAP}}}loc", address)
    return Response(
        etree.tostring(root, xml_declaration=True, encoding="UTF-8"), media_type="application/xml"
    )
