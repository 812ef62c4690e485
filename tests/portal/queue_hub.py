"""A real hub on a real web service: plans, room and queue are real, a server is a listening socket.

What it does not prove: that a server's process or container starts; the spawners' own tests do.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from beamhub_catalogue.service import CatalogueService
from beamhub_core.config import FacilityConfig, read_config
from beamhub_core.identity import Principal
from beamhub_portal import build_app
from portal.portal_parts import (
    Clock,
    serving,
    write_facility,
    write_scans,
)  # the folder of these tests, not the room
from portal.real_jupyterhub import PARTS, running_jupyterhub

OPERATOR = "operator-token-0123456789abcdef"
HUB_CONFIG = (
    PARTS
    + """
from pathlib import Path
from beamhub_core.config import read_config
from beamhub_hub.timed_proxy import RouteTimes
from beamhub_spawners.platform import Platform, build_web_client, clock_of
from beamhub_spawners.session_spawner import PlanSpawnerMixin

facility = read_config(Path({facility!r}))
sockets = {{}}

class SocketSession(PlanSpawnerMixin, Spawner):
    platform = Platform(config=facility, clock=clock_of(facility), web=build_web_client(facility))
    def key(self): return (self.user.name, self.name)
    async def launch(self, plan):
        sockets[self.key()] = (plan.id, await asyncio.start_server(answer, "127.0.0.1", 0))
    async def is_running(self): return self.key() in sockets
    async def find_url(self):
        if self.key() not in sockets:
            return None
        return "http://127.0.0.1:%d" % sockets[self.key()][1].sockets[0].getsockname()[1]
    async def find_plan_id(self): return sockets[self.key()][0] if self.key() in sockets else None
    async def backend_id(self): return None
    async def exit_reason(self): return "it ended"
    async def end(self, *, now):
        if self.key() in sockets:
            sockets.pop(self.key())[1].close()

class TimedNoProxy(RouteTimes, NoProxy):
    pass

c.JupyterHub.proxy_class = TimedNoProxy
c.JupyterHub.spawner_class = SocketSession
c.Authenticator.enable_auth_state = True
c.Spawner.consecutive_failure_limit = 2
c.JupyterHub.services = [
    {{"name": "web", "api_token": {token!r}}},
    {{"name": "operator", "api_token": {operator!r}}},
]
c.JupyterHub.load_roles = [
    {{"name": "web", "services": ["web"], "scopes": ["read:servers", "start:servers", "delete:servers"]}},
    {{"name": "operator", "services": ["operator"],
      "scopes": ["admin:users", "admin:auth_state", "admin:servers", "read:metrics"]}},
]
"""
)


@dataclass
class QueueHub:
    """Both processes, and an operator who may start and stop everybody's servers."""

    config: FacilityConfig
    service: CatalogueService
    public: str
    api_url: str
    log: Path

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """A call of the hub's API by the operator."""
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        return httpx.request(method, f"{self.api_url}{path}", json=body, headers=headers, timeout=60)

    def introduce(self, principal: Principal) -> None:
        """What a login does: the hub has the person's identity, and web is told."""
        assert self.call("POST", f"/users/{principal.account}").status_code == 201
        self.tell(principal)

    def tell(self, principal: Principal) -> None:
        """What a refresh does: hub and web know what the provider says of the person now."""
        token = self.config.web.clients[0].token_file.read_text().strip()
        answer = httpx.put(
            f"{self.public}/internal/principals/{principal.account}",
            content=principal.model_dump_json(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        assert answer.status_code == 204, answer.text
        state = {"auth_state": {"principal": principal.model_dump(mode="json")}}
        assert self.call("PATCH", f"/users/{principal.account}", state).status_code == 200

    def start(self, principal: Principal, name: str = "s", options: Any = None) -> httpx.Response:
        """Ask for somebody's server."""
        body = {"user_options": options if options is not None else {}}
        return self.call("POST", f"/users/{principal.account}/servers/{name}", body)

    def stop(self, principal: Principal, name: str = "s") -> None:
        """Stop somebody's server."""
        answer = self.call("DELETE", f"/users/{principal.account}/servers/{name}")
        assert answer.status_code in (202, 204), answer.text


@contextmanager
def running_queue_hub(folder: Path, *, capacity: int, **sessions: Any) -> Iterator[QueueHub]:
    """A hub and a web service with one place of so many sessions, until the block ends."""
    with socket.socket() as listener, socket.socket() as probe:
        listener.bind(("127.0.0.1", 0))
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        public, hub = f"http://127.0.0.1:{listener.getsockname()[1]}", f"http://127.0.0.1:{port}"
        config = _write(folder, public, f"{hub}/hub/api", capacity, sessions)
        write_scans(folder / "pool")
        service = CatalogueService(config, Clock())
        service.harvester.scan()
        text = HUB_CONFIG.format(
            facility=str(folder / "facility.yaml"),
            cookie=str(folder / "cookie"),
            port=port,
            public=public,
            token=config.web.hub_service_token_file.read_text().strip(),
            operator=OPERATOR,
        )
        crypt = {"JUPYTERHUB_CRYPT_KEY": "ab" * 32}
        with (
            serving(build_app(config, service), listener),
            running_jupyterhub(folder, text, port, environment=crypt) as log,
        ):
            yield QueueHub(config, service, public, f"{hub}/hub/api", log)


def _write(
    folder: Path, public: str, api_url: str, capacity: int, sessions: dict[str, Any]
) -> FacilityConfig:
    write_facility(folder, public, api_url)
    path = folder / "facility.yaml"
    facts = yaml.safe_load(path.read_text())
    facts["web"]["internal_url"] = public
    facts["web"]["clients"][0]["scopes"] += ["grants:read", "plans:read", "sessions:recheck"]
    facts["sessions"]["places"][0]["capacity"] = capacity
    facts["sessions"] |= {"queue": {"look_interval_s": 1.0}} | sessions
    path.write_text(yaml.safe_dump(facts, sort_keys=False))
    for template in facts["sessions"]["templates"]:
        file = folder / template["file"]
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
    return read_config(path)
