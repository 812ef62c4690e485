"""The phase after a start is ready: the proxy leads to the server. Told to metrics, log and web."""

from __future__ import annotations

import asyncio
from typing import Any

from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_core.session import SessionPlan, SessionUpdate
from beamhub_spawners.start_metrics import observe_route
from beamhub_spawners.web_client import WebClient

_telling: set[asyncio.Future[None]] = set()
"""Keeps what is being told to web from being collected."""


def tell_route(web: WebClient, plan: SessionPlan, seconds: float, log: Any) -> None:
    """Tell that a session's route is set; returns at once, and web's answer changes nothing."""
    phases = observe_route(seconds)
    log.info("session routed: plan=%s trace=%s", plan.id, plan.trace_id)
    task = asyncio.ensure_future(_tell(web, plan.id, phases, log))
    _telling.add(task)
    task.add_done_callback(_telling.discard)


async def _tell(web: WebClient, plan_id: str, phases: dict[str, float], log: Any) -> None:
    try:
        await web.update_session(plan_id, SessionUpdate(phases_s=phases))
    except (Unavailable, Refused) as error:
        log.info("web was not told of the route of session %s: %s", plan_id, error)
