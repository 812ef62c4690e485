"""The real web app over the facility of secrets, and one caller for each identity."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from httpx import Response

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import StaffRow
from beamhub_core.config import FacilityConfig
from beamhub_core.config.services import WebClientConfig
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_portal import build_app
from catalogue.catalogue_parts import ISSUER, Facility, session_plan
from leaks.leak_world import (
    ANNOUNCED,
    CLOCKS,
    CLOSING,
    EARLY,
    GONE,
    GONE_HIDDEN,
    MIDNIGHT,
    MIXED,
    OPEN,
    OWNER,
    PEOPLE,
    PRIVATE,
    Secret,
    write_made,
    write_world,
)
from portal.hub_double import ACCESS, HubDouble, RunningHub

BASE = "/services/web"
HUB_TOKEN = "hub-token-" + "0123456789abcdef" * 3
SCOPES = (
    "principals:write",
    "grants:read",
    "plans:read",
    "plans:write",
    "sessions:recheck",
    "acts:write",
    "harvest:write",
)


class Heard(logging.Handler):
    """Every line that is logged at INFO or above, with its facts."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.known = set(vars(logging.makeLogRecord({})))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line as a log file would hold it."""
        facts = {name: value for name, value in vars(record).items() if name not in self.known}
        error = str(record.exc_info[1]) if record.exc_info else ""
        self.lines.append(f"{record.name}: {record.getMessage()} {facts} {error}")


@dataclass
class Caller:
    """One identity: its cookies and its token; all answers are its own."""

    name: str
    cookies: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    xsrf: str = "0" * 64


@dataclass
class House:
    """The app, its callers and what it logs."""

    facility: Facility
    service: CatalogueService
    app: FastAPI
    hub: HubDouble
    portal: BlockingPortal
    """Into the one event loop; a loop for each request would start threads anew for each."""
    heard: Heard
    callers: dict[str, Caller] = field(default_factory=dict)
    n_requests: int = 0
    combinations: set[tuple[str, str, str, int]] = field(default_factory=set)
    """Method, route, identity and clock of whatever was asked."""

    def at(self, clock: int) -> None:
        """Set the policy's clock."""
        self.facility.clock.now = CLOCKS[clock]

    def ask(
        self,
        caller: Caller,
        method: str,
        path: str,
        *,
        form: dict[str, str] | None = None,
        body: Any = None,
        token: str | None = None,
    ) -> Response:
        """One request of an identity, by its cookies and what is added; no redirect followed."""
        self.n_requests += 1
        headers = {"host": "web"}
        if caller.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in caller.cookies.items())
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        content = b""
        if form:
            content, headers["content-type"] = urlencode(form).encode(), "application/x-www-form-urlencoded"
        elif body is not None:
            content, headers["content-type"] = json.dumps(body).encode(), "application/json"
        headers["content-length"] = str(len(content))
        return self.portal.call(call, self.app, method, path, headers, content)

    def internal(self, method: str, path: str, body: Any = None, token: str = HUB_TOKEN) -> Response:
        """One request of the hub."""
        return self.ask(Caller("hub"), method, f"/internal{path}", body=body, token=token)


async def call(app: FastAPI, method: str, target: str, headers: dict[str, str], content: bytes) -> Response:
    """One request to an application, without the cost of a client: there are ten thousand of them."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("web", 80),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)  # type: ignore[arg-type]  # ASGI's messages are mutable mappings
    body = b"".join(message.get("body", b"") for message in sent)
    return Response(sent[0]["status"], headers=sent[0]["headers"], content=body)


@contextmanager
def open_house(folder: Path) -> Iterator[House]:
    """The app with everything harvested and everybody logged in; nothing of it outlives the block."""
    facility = Facility(folder)
    facility.clock.now = MIDNIGHT - timedelta(hours=1)
    write_world(facility)
    hub = HubDouble(callback="http://web/", client_secret="")
    running = RunningHub(hub)
    config = _config(facility, hub.api_url)
    service = CatalogueService(config, facility.clock, facility.wall_clock)
    heard = Heard()
    try:
        app = build_app(config, service, wall_clock=facility.wall_clock, user_cache_s=3600)
        with start_blocking_portal() as portal:
            logging.getLogger().addHandler(heard)
            house = House(facility, service, app, hub, portal, heard)
            _fill(house)
            yield house
            app.state.portal.hub.close()
            app.state.portal.visits.close()
    finally:
        logging.getLogger().removeHandler(heard)
        service.stop()
        running.stop()


def _config(facility: Facility, hub_api_url: str) -> FacilityConfig:
    secrets = facility.folder / "secrets"
    (secrets / "hub").write_text(HUB_TOKEN + "\n")
    (secrets / "web").write_text("web-secret-" * 6 + "\n")
    facility.changes = {"publication": {"admin_email": "data@facility.example"}}
    config = facility.config()
    client = WebClientConfig(name="hub", token_file=secrets / "hub", scopes=SCOPES)
    web = config.web.model_copy(
        update={
            "hub_api_url": hub_api_url,
            "cookie_secret_file": secrets / "web",
            "hub_service_token_file": secrets / "web",
            "clients": (client,),
        }
    )
    return config.model_copy(update={"web": web})


def _fill(house: House) -> None:
    portal = house.app.state.portal
    for name, who in PEOPLE.items():
        caller = house.callers[name] = Caller(name)
        if who is None:
            continue
        answer = house.internal("PUT", f"/principals/{who.account}", who.model_dump(mode="json"))
        assert answer.status_code == 204, answer.text
        caller.token = house.hub.token_for(who.account, ACCESS)
        visit = portal.visits.begin(who.account, caller.token)
        caller.cookies = {portal.visitors.cookie_name: visit}
        caller.xsrf = portal.keys.xsrf_token(hashlib.sha256(visit.encode()).hexdigest())
    with house.service.database.writing() as session:
        session.add(
            StaffRow(
                source="user_office:office",
                instrument=CLOSING.told["instrument"],
                issuer=ISSUER,
                subject="scientist",
                name="",
                until=MIDNIGHT,
            )
        )
    pool = house.facility.pool
    assert house.service.harvester.scan().harvested
    for secret, inputs in ((MIXED, (OPEN, CLOSING)), (EARLY, (ANNOUNCED,))):
        write_made(pool / secret.proposal / "processed" / f"{secret.kept['file']}.h5", secret, inputs)
    assert len(house.service.harvester.scan().harvested) == 2
    assert house.service.publication.publish()
    for secret in (MIXED, EARLY):
        secret.pid = house.service.search(OWNER, secret.told["title"]).hits[0].pid
    _keep_private(house)
    for number, secret in enumerate((GONE, GONE_HIDDEN)):
        act = {"id": f"{number:032x}", "proposal": secret.proposal, "kind": "withdrawal", "reason": "why"}
        assert house.internal("PUT", f"/acts/{act['id']}", {"act": act}).status_code == 201
    house.heard.lines.clear()


def _keep_private(house: House) -> None:
    """A product in the owner's home, told by a session of the owner that has ended since."""
    home = house.facility.folder / "homes" / OWNER.account
    path = write_made(home / f"{PRIVATE.kept['file']}.h5", PRIVATE, (OPEN,))
    plan = stored_session(house, "owner", 1)
    answer = house.internal("POST", "/products", {"path": str(path)}, token=session_token("owner", 1))
    assert answer.status_code == 201, answer.text
    PRIVATE.pid = answer.json()["pid"]
    assert house.internal("POST", f"/sessions/{plan.id}/update", {"state": "ended"}).status_code == 204


def session_token(name: str, number: int) -> str:
    """The token of a session's server."""
    return f"session-token-{name}-{number:04d}-0123456789"


def stored_session(house: House, name: str, number: int, *datasets: Secret) -> SessionPlan:
    """A running session of a person, planned with some datasets."""
    who = PEOPLE[name]
    assert who is not None
    planned = [
        {
            "pid": one.pid,
            "title": one.told["title"],
            "proposal": one.proposal,
            "technique": "",
            "instrument": "",
            "file": f"/{one.told.get('stem', 'x')}",
        }
        for one in datasets
    ]
    plan = session_plan(house.facility, who, processed=None, number=number, datasets=planned)
    body = {"plan": plan.model_dump(mode="json"), "plan_hash": digest(plan)}
    assert house.internal("PUT", f"/sessions/{plan.id}", body).status_code == 201
    token_digest = hashlib.sha256(session_token(name, number).encode()).hexdigest()
    update = {"state": "running", "token_digest": token_digest}
    assert house.internal("POST", f"/sessions/{plan.id}/update", update).status_code == 204
    return plan
