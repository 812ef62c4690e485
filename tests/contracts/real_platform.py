"""A platform of real processes: JupyterHub with our spawner, web, and a backend; a kind of it each engine.

The hub is JupyterHub itself with a login of its own (no provider) and without a proxy: a server is asked at
its own address. Web runs in this process, so that a hub can be killed and started again beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from websockets.sync.client import connect

from beamhub_catalogue.service import CatalogueService
from beamhub_core.config import FacilityConfig, read_config
from beamhub_portal import build_app
from beamhub_spawners.platform import build_web_client
from beamhub_spawners.sweeper import Decision, sweep_once
from contracts.agent_parts import agent_fields, make_agent_files
from kept_processes import kept_processes
from portal.portal_parts import Clock, serving, write_facility, write_scans
from portal.queue_hub import OPERATOR, QueueHub
from portal.real_jupyterhub import PARTS

AGENT_START_S, HUB_START_S = 60.0, 90.0
HUB_CONFIG = (
    PARTS
    + """
from pathlib import Path
from beamhub_core.config import read_config
from beamhub_spawners.wiring_hook import configure_spawner

configure_spawner(c, read_config(Path({facility!r})))
c.JupyterHub.db_url = "sqlite:///{database}"
c.JupyterHub.hub_bind_url = "http://0.0.0.0:{port}"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
c.JupyterHub.concurrent_spawn_limit = 0
c.Authenticator.enable_auth_state = True
c.JupyterHub.services = [
    {{"name": "web", "api_token": {token!r}}},
    {{"name": "operator", "api_token": {operator!r}}},
]
c.JupyterHub.load_roles = [
    {{"name": "server", "scopes": ["users:activity!user", "access:servers!server"]}},
    {{"name": "web", "services": ["web"], "scopes": ["read:servers", "start:servers", "delete:servers"]}},
    {{"name": "operator", "services": ["operator"],
      "scopes": ["admin:users", "admin:auth_state", "admin:servers", "access:servers", "read:metrics"]}},
]
"""
)


@dataclass(frozen=True)
class SessionObject:
    """A container or pod of a session: what it is called, of which plan and server (`account/name`)."""

    name: str
    plan_id: str
    server: str
    is_running: bool


@dataclass
class RealPlatform(QueueHub):
    """The processes, and an operator who may start and stop everybody's servers."""

    folder: Path = field(default_factory=Path)
    hub: subprocess.Popen[bytes] | None = None

    # -- what an engine adds -----------------------------------------------------------------------------

    def objects(self) -> list[SessionObject]:
        """This facility's containers or pods, running or not, but those whose end is under way."""
        raise NotImplementedError

    def remains(self, plan_ids: set[str]) -> list[str]:
        """What else the engine has of sessions, of none of these plans."""
        return []

    def address(self, account: str) -> str:
        """Where a person's server listens, host and port."""
        raise NotImplementedError

    def remove_all(self) -> None:
        """Remove what sessions left on the engine."""
        raise NotImplementedError

    async def close_views(self) -> None:
        """Give back the connections with which a sweep looked."""

    # -- the hub as a process ------------------------------------------------------------------------

    def start_hub(self) -> float:
        """Start the hub; returns the seconds until its API answers."""
        began = time.monotonic()
        with self.log.open("a") as output:
            self.hub = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(self.folder / "jupyterhub_config.py")],
                cwd=self.folder,
                stdout=output,
                stderr=output,
                env={**os.environ, "JUPYTERHUB_CRYPT_KEY": "ab" * 32},
            )
        kept_processes.add(self.hub.pid)
        until = began + HUB_START_S
        while time.monotonic() < until:
            assert self.hub.poll() is None, self.log.read_text()[-3000:]
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.api_url}/").status_code == 200:
                    return time.monotonic() - began
            time.sleep(0.02)
        raise AssertionError(f"the hub does not answer: {self.log.read_text()[-3000:]}")

    def kill_hub(self) -> None:
        """End the hub as a crash does."""
        assert self.hub is not None
        self.hub.send_signal(signal.SIGKILL)
        self.hub.wait()

    # -- what the parts say ----------------------------------------------------------------------------

    def servers(self) -> dict[str, dict[str, Any]]:
        """What the hub says of every server that it counts as active or pending, by account and name."""
        return {
            f"{user['name']}/{name}": server
            for user in self.call("GET", "/users?include_stopped_servers=1&limit=200").json()
            for name, server in user["servers"].items()
            if server["ready"] or server["pending"]
        }

    def settled_servers(self, limit_s: float = 60.0) -> dict[str, dict[str, Any]]:
        """The same, once the hub waits for none any more."""
        until = time.monotonic() + limit_s
        while True:
            servers = self.servers()
            if not any(one["pending"] for one in servers.values()):
                return servers
            assert time.monotonic() < until, servers
            time.sleep(0.1)

    def rows(self) -> dict[str, str]:
        """The live sessions of web: plan to state."""
        return {one.plan.id: one.record.state for one in self.live_sessions()}

    def live_sessions(self) -> list[Any]:
        """The live sessions of web."""
        return list(self._asked(lambda web: web.live_sessions()))

    def sweep(self, **options: Any) -> Decision:
        """One sweep, as the hub makes one each minute."""
        decision: Decision = self._asked(lambda web: sweep_once(self.config, web, **options))
        return decision

    def _asked(self, ask: Any) -> Any:
        async def work() -> Any:
            web = build_web_client(self.config)
            try:
                return await ask(web)
            finally:
                await web.close()
                await self.close_views()

        return asyncio.run(work())

    def await_server(self, account: str, name: str = "s", limit_s: float = 120.0) -> str:
        """The path of a server's URL, once the hub says that it is ready."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            server = self.servers().get(f"{account}/{name}")
            if server is not None and server["ready"]:
                return str(server["url"])
            time.sleep(0.05)
        raise AssertionError(f"{account} has no server: {self.log.read_text()[-3000:]}")

    def kernel(self, account: str) -> Kernel:
        """A new kernel in somebody's server."""
        path = self.await_server(account)
        url = f"http://{self.address(account)}{path}api/kernels"
        answer = httpx.post(url, json={}, headers=BEARER, timeout=60)
        assert answer.status_code == 201, answer.text
        return Kernel(self.address(account), path, answer.json()["id"])

    @contextmanager
    def running(self) -> Iterator[None]:
        """The hub runs; neither it nor a session outlives the block."""
        try:
            self.start_hub()
            yield
        finally:
            if self.hub is not None and self.hub.poll() is None:
                self.kill_hub()
            self.remove_all()


BEARER = {"Authorization": f"Bearer {OPERATOR}"}


@dataclass(frozen=True)
class Kernel:
    """One kernel of a server; each cell goes over a websocket of its own."""

    address: str
    path: str
    kernel_id: str

    def run(self, code: str, limit_s: float = 60.0) -> str:
        """What a cell prints."""
        session, message = uuid.uuid4().hex, uuid.uuid4().hex
        url = f"ws://{self.address}{self.path}api/kernels/{self.kernel_id}/channels?session_id={session}"
        header = {"msg_id": message, "username": "", "session": session, "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        asked = {
            "header": {**header, "msg_type": "execute_request"},
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": "shell",
        }
        printed, until = "", time.monotonic() + limit_s
        with connect(url, additional_headers=BEARER, proxy=None) as stream:
            stream.send(json.dumps(asked))
            while True:
                said = json.loads(stream.recv(timeout=max(0.1, until - time.monotonic())))
                if said["parent_header"].get("msg_id") != message:
                    continue
                if said["msg_type"] == "stream":
                    printed += said["content"]["text"]
                if said["msg_type"] == "error":
                    raise AssertionError(said["content"]["evalue"])
                if said["msg_type"] == "status" and said["content"]["execution_state"] == "idle":
                    return printed.strip()


@contextmanager
def serving_web(config: FacilityConfig, listener: socket.socket) -> Iterator[CatalogueService]:
    """Web of a facility with one pool, some scans in it; sessions may read them."""
    [pool] = config.pools
    write_scans(pool.root)
    for path in pool.root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    service = CatalogueService(config, Clock())
    try:
        service.harvester.scan()
        with serving(build_app(config, service), listener):
            yield service
    finally:
        service.stop()


def write_hub_config(folder: Path, config: FacilityConfig, public: str, port: int) -> None:
    """The file of a hub that listens at a port of every address."""
    text = HUB_CONFIG.format(
        facility=str(folder / "facility.yaml"),
        cookie=str(folder / "cookie"),
        database=folder / "hub-rows.sqlite",
        port=port,
        public=public,
        token=config.web.hub_service_token_file.read_text().strip(),
        operator=OPERATOR,
    )
    (folder / "jupyterhub_config.py").write_text(text)


def facts_of(folder: Path, public: str, hub_port: int) -> dict[str, Any]:
    """The fields of a facility without places and environments, with the files that they name."""
    write_facility(folder, public, f"http://127.0.0.1:{hub_port}/hub/api")
    make_agent_files(folder)
    facts: dict[str, Any] = yaml.safe_load((folder / "facility.yaml").read_text())
    facts["short_name"] = f"rp{uuid.uuid4().hex[:6]}"  # runs side by side keep off each other's sessions
    facts["web"]["internal_url"] = public
    facts["web"]["clients"][0]["scopes"] += ["grants:read", "plans:read", "sessions:recheck"]
    for name in ("homes", "sessions"):
        (folder / name).mkdir(exist_ok=True, mode=0o755)
    facts["sessions"] |= {
        "homes_folder": str(folder / "homes"),
        "state_folder": str(folder / "sessions"),
        "queue": {"look_interval_s": 1.0},
        "templates": [],
    }
    return facts


def write_platform(
    folder: Path, facts: dict[str, Any], place: dict[str, Any], images: dict[str, str], **agent: Any
) -> FacilityConfig:
    """The files of a facility with one place, and of the place's agent; `agent` are fields of its own."""
    facts["sessions"]["places"] = [place]
    facts["sessions"]["environments"] = [
        {"name": one, "title": one, "image": image} for one, image in images.items()
    ]
    (folder / "facility.yaml").write_text(yaml.safe_dump(facts, sort_keys=False))
    port = agent.pop("port")
    fields = agent_fields(folder, place=place["name"], **agent)
    fields["listen"]["port"] = port
    fields["web_token_file"] = facts["hub"]["web_client_token_file"]
    (folder / "agent.yaml").write_text(yaml.safe_dump(fields))
    return read_config(folder / "facility.yaml")


@contextmanager
def running_agent_process(folder: Path, port: int) -> Iterator[None]:
    """`beamhub agent` as a process, once it listens."""
    log = folder / "agent.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "beamhub_core.command", "agent", "--config", str(folder / "agent.yaml")],
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    kept_processes.add(process.pid)
    try:
        until = time.monotonic() + AGENT_START_S
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)
