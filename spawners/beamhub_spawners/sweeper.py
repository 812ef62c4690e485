"""Make the sessions table and what really runs agree, once a minute.

Three faults leave them apart: a hub killed inside a start or a stop, a process that died unseen, and a web
service that was away when it should have been told. Each pass repairs what it can see; what it cannot see
(a silent host) it leaves alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from beamhub_core.config import FacilityConfig
from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_core.session import LIVE_STATES, SessionUpdate, StoredSession
from beamhub_spawners.platform import clock_of
from beamhub_spawners.start_metrics import SWEPT_WHAT, count_sessions, count_sweep
from beamhub_spawners.web_client import WebClient

log = logging.getLogger(__name__)

# A start may take this long from its row to its process, and from its process to its row's next state.
SETTLE = timedelta(seconds=90)


@dataclass(frozen=True, slots=True)
class Found:
    """A process or container of a session, as its backend shows it.

    `age_s` is by the machine's own clock: the platform's may be shifted. `unknown_s` counts seconds since
    when nobody can tell whether it still runs; `reason` says in plain words why it ended.
    """

    plan_id: str
    backend_id: str
    is_running: bool
    age_s: float
    url: str | None = None
    token_digest: str | None = None
    unknown_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What all backends show; `silent` has the places that do not answer, with their seconds of silence."""

    found: tuple[Found, ...]
    silent: Mapping[str, float] = field(default_factory=dict)


class BackendView(Protocol):
    """What a backend lets the sweeper see and end."""

    async def look(self) -> Inventory:
        """Everything of this facility that exists now."""
        ...

    async def end(self, found: Found) -> None:
        """End one, and remove its files."""
        ...

    async def tidy(self) -> None:
        """Remove what a cut-off start or stop left that is no session itself; what cannot be is left."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What one pass does: plan ids of rows without a process, and processes by what becomes of them.

    `unknown` are rows whose place, or machine in it, has been silent for too long: nobody can tell whether
    they run.
    """

    lost: tuple[str, ...]
    adopted: tuple[Found, ...]
    orphans: tuple[Found, ...]
    expired: tuple[Found, ...]
    unknown: tuple[str, ...] = ()


def decide(
    live: Sequence[StoredSession],
    inventory: Inventory,
    *,
    now: datetime,
    unknown_limit_s: float = 120.0,
    settle: timedelta = SETTLE,
) -> Decision:
    """Compare the live rows with what exists. Pure.

    Parameters
    ----------
    live:
        Rows that are neither ended nor failed. Read *before* the inventory, so that what started in
        between has a process and no row here: such a young one is left alone.
    inventory:
        What exists. A row of a silent place is never lost; one of a place that answered may be.
    unknown_limit_s:
        Seconds of a place's silence after which its rows say `unknown`.
    settle:
        What is younger is left alone: its start or stop may be under way.
    """
    rows = {stored.plan.id: stored for stored in live}
    running = {found.plan_id: found for found in inventory.found if found.is_running}
    lost = [
        plan_id
        for plan_id, stored in rows.items()
        if stored.plan.place.name not in inventory.silent
        and plan_id not in running
        and now - stored.plan.created_at > settle
    ]
    unknown = [
        plan_id
        for plan_id, stored in rows.items()
        if _unknown_s(running.get(plan_id), inventory.silent.get(stored.plan.place.name, 0.0))
        > unknown_limit_s
        and stored.record.state in ("planned", "starting", "running")
    ]
    adopted = [
        found
        for plan_id, found in running.items()
        if plan_id in rows
        and rows[plan_id].record.state in ("planned", "starting", "unknown")
        and now - rows[plan_id].plan.created_at > settle
        and found.token_digest is not None
        and found.unknown_s == 0
    ]
    orphans = [
        found
        for found in inventory.found
        if (found.plan_id not in rows or (not found.is_running and found.plan_id in lost))
        and found.age_s > settle.total_seconds()
    ]
    expired = [found for plan_id, found in running.items() if plan_id in rows and rows[plan_id].ends_at < now]
    return Decision(tuple(lost), tuple(adopted), tuple(orphans), tuple(expired), tuple(unknown))


def _unknown_s(running: Found | None, silent_s: float) -> float:
    """For how long nobody can tell whether a session runs: its place is silent, or the machine in it."""
    return silent_s if running is None else running.unknown_s


async def sweep_once(config: FacilityConfig, web_client: WebClient, settle: timedelta = SETTLE) -> Decision:
    """One pass: close rows without a process, adopt processes whose start was cut off, end orphans.

    An orphan is ended only when web has its row and the row says ended or failed. One that web does not
    know is spared and logged: a plan is stored before anything is made from it, so it is web that lost
    something, and a fault of web must not end a notebook. A session past its plan's end is only reported,
    in `expired`: the hub stops it, as its own server.

    Raises
    ------
    Unavailable
        If web does not answer; then nothing is ended, because every process would look like an orphan.
    """
    view = _view(config, settle)
    live = await web_client.live_sessions()
    count_sessions(live)
    inventory = await view.look()
    limit_s = config.sessions.unknown_limit_s
    decision = decide(live, inventory, now=clock_of(config)(), unknown_limit_s=limit_s, settle=settle)
    reasons = {found.plan_id: found.reason for found in inventory.found if found.reason}
    for plan_id in decision.lost:
        reason = reasons.get(plan_id, "its process is gone")
        await _tell(web_client, plan_id, SessionUpdate(state="ended", reason=reason))
    for plan_id in decision.unknown:
        await _tell(
            web_client,
            plan_id,
            SessionUpdate(state="unknown", reason="the machine that it is on does not answer"),
        )
    for found in decision.adopted:
        update = SessionUpdate(
            state="running", token_digest=found.token_digest, backend_id=found.backend_id, url=found.url
        )
        await _tell(web_client, found.plan_id, update)
    for found in decision.orphans:
        await _end_orphan(web_client, view, found)
    await view.tidy()
    count_sweep({what: len(getattr(decision, what)) for what in SWEPT_WHAT})
    return decision


async def _end_orphan(web_client: WebClient, view: BackendView, found: Found) -> None:
    facts = {"plan_id": found.plan_id, "backend_id": found.backend_id}
    try:
        stored = await web_client.session(found.plan_id)
        if stored.record.state in LIVE_STATES:
            return  # it came to life since the rows were read
        log.warning("ending a session whose row is closed", extra=facts)
        await view.end(found)
    except Refused:
        log.warning("a session runs that web does not know; it is left alone", extra=facts)
    except (Unavailable, OSError) as error:
        log.warning("an orphan could not be ended; the next pass tries again: %s", error, extra=facts)


async def _tell(web_client: WebClient, plan_id: str, update: SessionUpdate) -> None:
    try:
        await web_client.update_session(plan_id, update)
    except (Unavailable, Refused) as error:
        log.warning("web was not told of session %s: %s", plan_id, error)


def _view(config: FacilityConfig, settle: timedelta) -> BackendView:
    if config.sessions.places[0].backend == "local":
        from beamhub_spawners.local_view import LocalView

        return LocalView(config)
    if config.sessions.places[0].backend == "kubernetes":
        from beamhub_spawners.kubernetes_view import KubernetesView  # needs the kubernetes packages

        return KubernetesView(config, settle)
    from beamhub_spawners.docker_view import DockerView  # needs the docker packages

    return DockerView(config, settle)
