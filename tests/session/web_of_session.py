"""A real web service on loopback with one running session, for servers that speak to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import SessionRow
from beamhub_core.config.storage import SessionsConfig
from beamhub_core.session import SessionPlan
from catalogue.catalogue_api_parts import open_api
from catalogue.catalogue_parts import INES, Facility, session_plan

TOKEN = "session-token-0123456789abcdef"


@dataclass(frozen=True)
class SessionWeb:
    """The service, its address, and the plan of its one session."""

    service: CatalogueService
    url: str
    plan: SessionPlan

    @property
    def environment(self) -> dict[str, str]:
        """What the spawner gives the session's server."""
        return {"BEAMHUB_WEB_URL": self.url, "JUPYTERHUB_API_TOKEN": TOKEN}

    def row(self) -> SessionRow:
        """The session as web keeps it."""
        with self.service.database.reading() as session:
            found = session.get(SessionRow, self.plan.id)
            assert found is not None
            session.expunge(found)
            return found


@contextmanager
def serve_session(folder: Path, profile: dict[str, Any], left: timedelta) -> Iterator[SessionWeb]:
    """Web with a session that has so much time left."""
    folder.mkdir()
    facility = Facility(folder)
    facility.prepare()
    now = datetime.now(UTC)
    facility.clock.now = facility.wall_clock.now = now
    config = facility.config()
    facts = config.sessions.model_dump(mode="json")
    facts["profiles"] = [facts["profiles"][0] | profile]
    sessions = SessionsConfig.model_validate(facts | {"pre_start": {}})
    service = CatalogueService(config.model_copy(update={"sessions": sessions}))
    with open_api(service) as api:
        api.push(INES.model_copy(update={"checked_at": now}))
        plan = session_plan(facility, INES, processed=None, created_at=now, expires_at=now + left)
        api.running(plan, TOKEN)
    app = FastAPI()
    app.include_router(service.internal_router())
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline and thread.is_alive()
            thread.join(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield SessionWeb(service, f"http://127.0.0.1:{port}", plan)
    finally:
        server.should_exit = True
        thread.join(20)
        service.stop()
