"""`GET /metrics` of the web service, for a scraper with a token of `web.clients`."""

from __future__ import annotations

import logging
from datetime import datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from beamhub_catalogue.callers import check_scope, read_clients
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.idle_time import FRESH
from beamhub_catalogue.metrics import OTHER, CountedInDatabase, Counts
from beamhub_catalogue.models import SessionRow
from beamhub_catalogue.offices import office_states
from beamhub_catalogue.ticket_queue import waiting_tickets
from beamhub_core.errors import Unavailable
from beamhub_core.session import LIVE_STATES

log = logging.getLogger(__name__)

SCOPE = "metrics:read"


def metrics_router(desk: Desk) -> APIRouter:
    """The route; without a client that has the scope, nobody reads it."""
    router = APIRouter()
    clients = read_clients(desk.config.web.clients)
    desk.metrics.registry.register(CountedInDatabase(lambda: count_all(desk)))

    @router.get("/metrics")
    def metrics(request: Request) -> Response:
        check_scope(request, clients, SCOPE)
        return Response(
            desk.metrics.text(), media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"}
        )

    return router


def count_all(desk: Desk) -> Counts | None:
    """What the database holds now; None when it does not answer."""
    now, wall_now = desk.clock(), desk.wall_clock()
    places = {place.name: float(place.capacity) for place in desk.config.sessions.places}
    try:
        with desk.database.reading() as session:
            live = SessionRow.state.in_(LIVE_STATES)
            total = select(SessionRow.state, SessionRow.place, func.count()).where(live)
            states = {(one, two): n for one, two, n in session.execute(total.group_by("state", "place"))}
            per_place = select(SessionRow.place, func.count()).where(live).group_by(SessionRow.place)
            conditions = {
                "prepared": SessionRow.prepared_until.is_not(None),
                "idle": SessionRow.idle_stop_at.is_not(None),
                "silent": (SessionRow.state == "running") & (SessionRow.reported_at < wall_now - FRESH),
            }
            some: Counts = {
                name: {(place,): float(n) for place, n in session.execute(per_place.where(condition))}
                for name, condition in conditions.items()
            }
            cores = select(SessionRow.place, func.sum(SessionRow.cluster_core_s)).group_by(SessionRow.place)
            used: dict[tuple[str, ...], float] = {(place,): float(n) for place, n in session.execute(cores)}
            waiting = waiting_tickets(session, now)
            ages: dict[tuple[str, ...], float] = {
                (office.name,): (now - office.read_at).total_seconds()
                for office in office_states(session)
                if office.read_at is not None
            }
    except (SQLAlchemyError, Unavailable) as error:
        log.warning("metrics without the database", extra={"reason": type(error).__name__})
        return None
    found: Counts = {f"beamhub_web_{name}_sessions": _known(some[name], places) for name in some}
    found["beamhub_web_sessions"] = {(state, place): 0.0 for state in LIVE_STATES for place in places}
    for (state, place), n in states.items():
        key = (state, place if place in places else OTHER)
        found["beamhub_web_sessions"][key] = found["beamhub_web_sessions"].get(key, 0.0) + n
    found["beamhub_web_place_capacity"] = {(name,): capacity for name, capacity in places.items()}
    found["beamhub_web_queue_waiting"] = {(): float(len(waiting))}
    found["beamhub_web_queue_oldest_wait_seconds"] = {
        (): max((_since(ticket.joined_at, now) for ticket in waiting), default=0.0)
    }
    found["beamhub_web_cluster_core_seconds"] = _known(used, places)
    found["beamhub_web_user_office_age_seconds"] = ages
    return found


def _since(then: datetime, now: datetime) -> float:
    return max(0.0, (now - then).total_seconds())


def _known(counted: dict[tuple[str, ...], float], places: dict[str, float]) -> dict[tuple[str, ...], float]:
    """By configured place; sessions of places that are configured no more are counted together."""
    found: dict[tuple[str, ...], float] = {(name,): 0.0 for name in places}
    for (place,), n in counted.items():
        key = (place if place in places else OTHER,)
        found[key] = found.get(key, 0.0) + n
    return found
