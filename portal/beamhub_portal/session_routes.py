"""My sessions: what runs, how it starts, and how it is stopped."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from beamhub_catalogue.session_time import SHORTEST
from beamhub_catalogue.views import SessionView
from beamhub_core.errors import Unavailable
from beamhub_core.queue import wait_in_words
from beamhub_portal.hub_client import HubRefused, HubServer
from beamhub_portal.launch import read_launch
from beamhub_portal.portal import LoginNeeded, Portal, SentForm, refuse
from beamhub_portal.template_choice import has_desktop
from beamhub_portal.visitor import Visitor

log = logging.getLogger(__name__)

ServerName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$")]
CardState = Literal["running", "starting", "stopping", "unknown"]
MAX_ENDED = 10


@dataclass(frozen=True, slots=True)
class Card:
    """One server on the page; `view` is None for one that no session plan is known of."""

    name: str
    display_name: str
    state: CardState
    view: SessionView | None
    open_address: str | None
    desktop_address: str | None = None
    latest: datetime | None = None
    """Up to when it may be extended; None where it may not."""


def session_router(portal: Portal) -> APIRouter:
    """`sessions` and what lies below it."""
    router = APIRouter()

    @router.get("/sessions")
    def sessions(request: Request) -> Response:
        visitor = portal.require_visitor(request)
        user = portal.hub.user(visitor.token)
        if user is None:
            raise LoginNeeded
        views = portal.service.sessions_of(visitor.account)
        cards = _cards(portal, visitor, views, user.servers)
        names = {card.name for card in cards}
        ended: dict[str, SessionView] = {}
        for view in views:
            if not view.live and view.server_name not in names:
                ended.setdefault(view.server_name, view)
        return portal.pages.answer(
            request,
            "sessions.html",
            visitor,
            cards=cards,
            ended=tuple(ended.values())[:MAX_ENDED],
            tickets=portal.service.queue.tickets_of(visitor.account),
            wait_in_words=wait_in_words,
            extended=request.query_params.get("done") == "extend",
            left=request.query_params.get("done") == "leave",
            stopped=request.query_params.get("done") == "stop",
        )

    @router.get("/sessions/{name}/launch")
    def launch(request: Request, name: ServerName) -> Response:
        visitor = portal.require_visitor(request)
        titles = next(
            (
                tuple(dataset.title for dataset in view.datasets)
                for view in portal.service.sessions_of(visitor.account)
                if view.server_name == name
            ),
            (),
        )
        return portal.pages.answer(
            request,
            "launch.html",
            visitor,
            name=name,
            titles=titles,
            launch=read_launch(portal, visitor, name),
        )

    @router.get("/sessions/{name}/launch/status")
    def status(request: Request, name: ServerName) -> Response:
        try:
            visitor = portal.require_visitor(request)
            now = read_launch(portal, visitor, name)
        except LoginNeeded:
            return JSONResponse({"state": "login"}, status_code=401)
        except (Unavailable, HubRefused):
            return JSONResponse({"state": "unknown"}, status_code=503)
        return JSONResponse(
            {
                "state": now.state,
                "percent": now.percent,
                "messages": list(now.messages),
                "url": now.target,
                "position": now.position,
                "usual_wait": now.usual_wait,
            }
        )

    _add_forms(router, portal)
    return router


def _add_forms(router: APIRouter, portal: Portal) -> None:
    """What a person does to a session or a place in the queue."""
    page = portal.pages.addresses.page

    @router.post("/sessions/{name}/stop")
    def stop(request: Request, name: ServerName, form: SentForm) -> Response:
        visitor = portal.require_form(request, form)
        try:
            portal.hub.stop(visitor.token, visitor.account, name)
        except HubRefused as refused:
            log.warning("stop refused by the hub", extra={"status": refused.status, "server": name})
            raise refuse(
                "unavailable", "The server could not be stopped now. Look at its state and try again."
            ) from None
        return RedirectResponse(page("sessions") + "?done=stop", status_code=303)

    @router.post("/sessions/{name}/extend")
    def extend(request: Request, name: ServerName, form: SentForm) -> Response:
        visitor = portal.require_form(request, form)
        mine = portal.service.sessions_of(visitor.account)
        found = next((view for view in mine if view.live and view.server_name == name), None)
        if found is None:
            raise refuse("not_found", "This session does not run any more.")
        portal.service.extend_session(visitor.account, found.plan_id)
        return RedirectResponse(page("sessions") + "?done=extend", status_code=303)

    @router.post("/sessions/{name}/leave")
    def leave(request: Request, name: ServerName, form: SentForm) -> Response:
        visitor = portal.require_form(request, form)
        portal.service.queue.leave(visitor.account, name)
        return RedirectResponse(page("sessions") + "?done=leave", status_code=303)


def _cards(
    portal: Portal, visitor: Visitor, views: tuple[SessionView, ...], servers: dict[str, HubServer]
) -> tuple[Card, ...]:
    """A card for each server that runs or may run: the sessions table joined with what the hub says."""
    live: dict[str, SessionView] = {}
    for view in views:
        if view.live:
            live.setdefault(view.server_name, view)
    active = {name for name, server in servers.items() if server.ready or server.pending}
    cards = []
    for name in [*live, *sorted(active - live.keys())]:
        state = _state(servers.get(name))
        found = live.get(name)
        opens = state == "running" and name != ""
        is_desktop = opens and found is not None and has_desktop(portal.config, found.environment)
        cards.append(
            Card(
                name=name,
                display_name=_display_name(servers.get(name), name),
                state=state,
                view=found,
                open_address=portal.pages.addresses.notebook(visitor.account, name) if opens else None,
                desktop_address=portal.pages.addresses.desktop(visitor.account, name) if is_desktop else None,
                latest=_latest_end(portal, found) if opens and found is not None else None,
            )
        )
    return tuple(cards)


def _latest_end(portal: Portal, view: SessionView) -> datetime | None:
    extension = portal.service.extension_of(view.plan_id)
    if extension is None or extension.latest - extension.expires_at < SHORTEST:
        return None
    return extension.latest


def _display_name(server: HubServer | None, name: str) -> str:
    return (server.display_name if server is not None else None) or name or "default server"


def _state(server: HubServer | None) -> CardState:
    """What the hub says; where it and the sessions table disagree, nobody knows."""
    if server is None:
        return "unknown"
    if server.pending == "spawn":
        return "starting"
    if server.pending == "stop":
        return "stopping"
    return "running" if server.ready else "unknown"
