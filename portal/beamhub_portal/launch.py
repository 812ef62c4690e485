"""How far the start of one server has come, in three kinds of answer: yes, no, cannot tell."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from beamhub_catalogue.session_queue import TicketView
from beamhub_catalogue.views import SessionView
from beamhub_core.errors import Unavailable
from beamhub_core.queue import wait_in_words
from beamhub_portal.guards import new_reference
from beamhub_portal.hub_client import Progress, read_failure
from beamhub_portal.portal import Portal
from beamhub_portal.template_choice import has_desktop
from beamhub_portal.visitor import Visitor

log = logging.getLogger(__name__)

LaunchWord = Literal["starting", "queued", "ready", "stopping", "failed", "stopped", "unknown"]
FRESH = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Launch:
    """What the launch page shows."""

    state: LaunchWord
    percent: int = 0
    messages: tuple[str, ...] = ()
    reason: str | None = None
    reference: str | None = None
    target: str | None = None
    """Where to go when the server is ready."""
    position: int | None = None
    """Place in the queue, 1 being the next."""
    usual_wait: str | None = None
    ends: datetime | None = None
    """When the place in the queue ends."""

    @property
    def final(self) -> bool:
        """Nothing more will happen by itself."""
        return self.state in ("ready", "failed", "stopped")


def read_launch(portal: Portal, visitor: Visitor, name: str) -> Launch:
    """The state of a server's start now; `unknown` when the hub does not say."""
    try:
        server = portal.hub.server(visitor.token, visitor.account, name)
        if server is not None and server.ready:
            return Launch("ready", 100, target=_target(portal, visitor, name))
        if server is not None and server.pending == "stop":
            return Launch("stopping")
        progress = portal.hub.progress(visitor.token, visitor.account, name) if server is not None else None
    except Unavailable:
        return Launch("unknown", reason="The hub gives no answer now. What runs keeps running.")
    ticket = portal.service.queue.ticket(visitor.account, name)
    if ticket is not None and (server is None or server.pending is None):
        return _queued(ticket)
    if progress is not None and progress.failed is not None:
        return _failed(progress, _latest(portal, visitor, name), visitor)
    if server is not None and server.pending is not None:
        return Launch("starting", progress.percent if progress else 0, progress.messages if progress else ())
    latest = _latest(portal, visitor, name)
    if latest is not None and latest.state == "failed":
        return _failed(Progress(100, (), ""), latest, visitor)
    return Launch("stopped")


def _target(portal: Portal, visitor: Visitor, name: str) -> str:
    """The notebook; for an environment with a desktop and a session without a template, that."""
    addresses = portal.pages.addresses
    mine = (one for one in portal.service.sessions_of(visitor.account) if one.server_name == name)
    view = next((one for one in mine if one.live), None)
    if view is not None and view.template is None and has_desktop(portal.config, view.environment):
        return addresses.desktop(visitor.account, name)
    return addresses.notebook(visitor.account, name)


def _queued(ticket: TicketView) -> Launch:
    if ticket.reason is not None:
        signed = read_failure(ticket.reason)
        reason, reference = (signed.reason, signed.reference) if signed else (ticket.reason, None)
        return Launch("failed", 100, (), reason, reference or new_reference())
    return Launch(
        "queued",
        position=ticket.position,
        usual_wait=wait_in_words(ticket.usual_wait_s),
        ends=ticket.expires_at,
    )


def _latest(portal: Portal, visitor: Visitor, name: str) -> SessionView | None:
    recent = portal.wall_clock() - FRESH
    rows = (one for one in portal.service.sessions_of(visitor.account) if one.server_name == name)
    fresh = [one for one in rows if one.created_at > recent]
    return max(fresh, key=lambda one: one.created_at, default=None)


def _failed(progress: Progress, latest: SessionView | None, visitor: Visitor) -> Launch:
    """Only words that our own processes chose for people are repeated; any other text goes to the log."""
    signed = read_failure(progress.failed or "")
    if signed is not None:
        return Launch("failed", 100, progress.messages, signed.reason, signed.reference)
    reference = new_reference()
    log.warning(
        "start failed [reference %s]",
        reference,
        extra={"account": visitor.account, "hub_message": (progress.failed or "")[:300]},
    )
    reason = latest.reason if latest is not None and latest.state == "failed" else None
    return Launch("failed", 100, progress.messages, reason, reference)
