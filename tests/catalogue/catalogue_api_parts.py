"""The internal API of a small facility, as its callers speak to it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from beamhub_catalogue import CatalogueService
from beamhub_core.identity import Principal
from beamhub_core.session import SessionPlan
from beamhub_core.word import Word, digest
from catalogue.catalogue_parts import COLIN, INES, OSCAR, SAM, TOKENS, Facility, session_plan, write_master
from postgresql_server import databases

RAW, OPEN, HIDDEN = "test:MA-2:scan1", "test:OP-1:scan1", "test:TO-3:scan1"
NOBODY = "u-" + "a" * 26
SESSION_TOKEN = "session-token-0123456789abcdef"


def write_data(facility: Facility) -> None:
    """One dataset of each proposal: open (OP-1), embargoed (MA-2) and not to be known by others (TO-3)."""
    for proposal in ("OP-1", "MA-2", "TO-3"):
        write_master(
            facility.pool / proposal / "raw/scan1/scan1.h5", experiment_identifier=proposal, title=proposal
        )


def prepare_with_data(folder: Path) -> Path:
    """A facility whose data is catalogued already, to be copied for each test by `copy_of`."""
    facility = Facility(folder)
    facility.prepare()
    write_data(facility)
    service = facility.service()
    assert len(service.harvester.scan().harvested) == 3
    service.stop()
    return folder


def copy_of(prepared: Path, folder: Path) -> Facility:
    """A facility of its own with the prepared data and catalogue, in which all paths are relative."""
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    databases.copy(prepared, folder)
    return Facility(folder)


class Api:
    """A caller of the internal API; every method returns the answer as it came."""

    def __init__(self, client: AsyncClient, portal: BlockingPortal) -> None:
        self.client, self.portal = client, portal

    def ask(
        self, method: str, path: str, body: Any = None, token: str | None = TOKENS["hub"], **more: Any
    ) -> Response:
        """One request below `/internal`; a word is sent as its JSON."""
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if isinstance(body, Word):
            body = body.model_dump(mode="json")
        if body is not None:
            more["json"] = body
        request = partial(self.client.request, method, f"/internal{path}", headers=headers, **more)
        return self.portal.call(request)

    def push(self, *people: Principal) -> None:
        """What the hub does at a login."""
        for who in people:
            assert self.ask("PUT", f"/principals/{who.account}", who).status_code == 204

    def grants(self, who: Principal, *pids: str) -> Response:
        """What may this person touch of these datasets?"""
        return self.ask("POST", "/grants", {"account": who.account, "datasets": list(pids)})

    def store(self, plan: SessionPlan) -> Response:
        """Store a plan with its own hash."""
        return self.ask(
            "PUT", f"/sessions/{plan.id}", {"plan": plan.model_dump(mode="json"), "plan_hash": digest(plan)}
        )

    def update(self, plan: SessionPlan, **changes: str) -> Response:
        """Advance a session."""
        return self.ask("POST", f"/sessions/{plan.id}/update", changes)

    def record(self, plan: SessionPlan) -> dict[str, Any]:
        """The mutable side of a stored session."""
        answer = self.ask("GET", f"/sessions/{plan.id}")
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()["record"]
        return found

    def running(self, plan: SessionPlan, token: str = SESSION_TOKEN) -> SessionPlan:
        """A session that runs, with its server's token."""
        assert self.store(plan).status_code == 201
        token_digest = hashlib.sha256(token.encode()).hexdigest()
        assert self.update(plan, state="running", token_digest=token_digest).status_code == 204
        return plan

    def product(self, path: Path | str, token: str | None = SESSION_TOKEN) -> Response:
        """A session says that it wrote a file."""
        return self.ask("POST", "/products", {"path": str(path)}, token)


@contextmanager
def open_api(service: CatalogueService) -> Iterator[Api]:
    """The internal API of a catalogue, without the portal around it; a failure is a 500, as for a caller."""
    app = FastAPI()
    app.include_router(service.internal_router())
    transport = ASGITransport(app, raise_app_exceptions=False)
    # One loop for all requests: with a loop for each, the threads that work for it would be started anew.
    with start_blocking_portal() as portal:
        client = AsyncClient(transport=transport, base_url="http://web")
        yield Api(client, portal)
        portal.call(client.aclose)


@dataclass
class Stocked:
    """A facility with data, its catalogue and its internal API."""

    facility: Facility
    service: CatalogueService
    api: Api


@contextmanager
def serve(facility: Facility) -> Iterator[Stocked]:
    """The catalogue of a facility with its internal API, and everybody logged in."""
    service = facility.service()
    try:
        with open_api(service) as api:
            api.push(INES, OSCAR, COLIN, SAM)
            yield Stocked(facility, service, api)
    finally:
        service.stop()


def open_stocked(prepared: Path, folder: Path) -> AbstractContextManager[Stocked]:
    """A copy of the prepared facility, served."""
    return serve(copy_of(prepared, folder))


def mount_of(facility: Facility, folder: str, *, pid: str | None = None) -> dict[str, Any]:
    """A read-only mount of a folder of the pool."""
    place = str(facility.pool / folder)
    return {
        "pool": "pool",
        "path": folder,
        "source": place,
        "target": place,
        "mode": "ro",
        "purpose": "raw",
        "pid": pid,
        "proposal": folder.split("/")[0],
    }


def plan_with(facility: Facility, who: Principal, *mounts: dict[str, Any], **changes: Any) -> SessionPlan:
    """A plan with these mounts beside its home's; the processed folder only when asked for."""
    plan = session_plan(facility, who, **({"processed": None} | changes))
    words = plan.model_dump(mode="json")
    return SessionPlan.model_validate(words | {"mounts": [*words["mounts"], *mounts]})
