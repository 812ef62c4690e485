"""The front page, which is the search, and the dataset pages."""

from __future__ import annotations

from typing import get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from beamhub_catalogue.views import DatasetKind, DatasetView, SearchFilters, SearchPage
from beamhub_core.rights import Refusal
from beamhub_portal.landing_routes import GONE, landing_of_dataset
from beamhub_portal.portal import Portal
from beamhub_portal.template_choice import fitting_templates

PAGE_SIZE = 20
MAX_QUERY_LENGTH = 200
MAX_PAGE = 10_000


def search_router(portal: Portal) -> APIRouter:
    """`/`, `/datasets/{pid}` and its preview."""
    router = APIRouter()

    @router.get("/")
    def search(request: Request) -> Response:
        visitor = portal.visitors.of(request)
        principal = visitor.principal if visitor is not None else None
        text, filters, number = _read_query(request)
        found = portal.service.search(principal, text, filters, number, PAGE_SIZE)
        return portal.pages.answer(
            request,
            "search.html",
            visitor,
            text=text,
            filters=filters,
            found=found,
            narrowed=bool(text) or filters != SearchFilters(),
            page_links=_page_links(text, filters, found),
        )

    @router.api_route("/datasets/{pid}", methods=["GET", "HEAD"])
    def dataset(request: Request, pid: str) -> Response:
        visitor = portal.visitors.of(request)
        principal = visitor.principal if visitor is not None else None
        view = portal.service.dataset_page(principal, pid)
        if isinstance(view, Refusal):
            return portal.pages.refusal(request, visitor, view)
        landing = landing_of_dataset(portal, request, pid)
        if landing is None:  # hidden since the line before: as if it never was
            raise HTTPException(404)
        form = landing.negotiated(request)
        if form is not None:
            return form
        page = portal.pages.answer(
            request,
            "dataset.html",
            visitor,
            status=GONE if view.embargo.state == "withdrawn" else 200,
            dataset=view,
            landing=landing,
            open_address=_open_address(portal, view),
            step_up_address=portal.pages.step_up_address(request, view.step_up),
            may_read_audit=portal.service.is_investigator(principal, view.proposal),
        )
        page.headers.update(landing.headers)
        return page

    @router.get("/datasets/{pid}/preview.png")
    def preview(request: Request, pid: str) -> Response:
        visitor = portal.visitors.of(request)
        png = portal.service.preview_png(visitor.principal if visitor is not None else None, pid)
        if png is None:
            return Response(status_code=404)
        return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=60"})

    return router


def _open_address(portal: Portal, view: DatasetView) -> str:
    query = {"pid": view.pid}
    fitting = fitting_templates(portal.config, view.technique)
    if fitting:
        query["template"] = fitting[0].name
    return f"{portal.pages.addresses.page('open')}?{urlencode(query)}"


def _read_query(request: Request) -> tuple[str, SearchFilters, int]:
    """Text, filters and page of a search address; what does not fit is left out, never an error."""
    query = request.query_params

    def given(name: str) -> str | None:
        return _clean(query.get(name, "")) or None

    kind: DatasetKind | None = next((one for one in get_args(DatasetKind) if one == query.get("kind")), None)
    number = query.get("page", "1")
    filters = SearchFilters(
        technique=given("technique"),
        instrument=given("instrument"),
        proposal=given("proposal"),
        kind=kind,
        readable_only=query.get("readable") == "1",
    )
    page = int(number) if number.isascii() and number.isdigit() and len(number) <= 6 else 1
    return _clean(query.get("q", "")), filters, max(1, min(page, MAX_PAGE))


def _clean(text: str) -> str:
    return "".join(sign for sign in text[:MAX_QUERY_LENGTH] if sign.isprintable()).strip()


def _page_links(text: str, filters: SearchFilters, found: SearchPage) -> tuple[str | None, str | None]:
    """Addresses of the page before and the page after this one, None where there is none."""
    base = {
        "q": text,
        "technique": filters.technique,
        "instrument": filters.instrument,
        "proposal": filters.proposal,
        "kind": filters.kind,
        "readable": "1" if filters.readable_only else None,
    }
    kept = {name: value for name, value in base.items() if value}

    def link(number: int) -> str | None:
        if not 1 <= number <= found.n_pages:
            return None
        return "?" + urlencode({**kept, "page": str(number)})

    return link(found.page - 1), link(found.page + 1)
