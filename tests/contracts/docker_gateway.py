"""A gateway whose clusters are containers: real agent, engine and gateway, and sessions of the base image."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import APIError

from beamhub_core.config import FacilityConfig
from beamhub_core.config.agent import AgentConfig
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.session_options import read_options
from contracts.agent_parts import agent_fields, free_port, hub_tls, make_agent_files, running_agent
from contracts.docker_parts import (
    BASE_IMAGE,
    NETWORK_BLOCK,
    SOCKET_FILE,
    DockerBackend,
    docker_backend,
    docker_facility,
    own_network,
)
from contracts.gateway_parts import GatewayPart, gateway_fields
from contracts.spawner_contract import OPTIONS
from contracts.spawner_parts import make_facility
from contracts.web_stand_in import serving_stand_in

DEADLINE_S = 60.0
SAID = "/tmp/said"  # noqa: S108 - of a container
PROFILE = {"cpu": 2, "memory_gib": 2, "workers": 2}


@dataclass(frozen=True, slots=True)
class DockerGateway:
    """Sessions as containers, and the gateway beside them."""

    sessions: DockerBackend
    gateway: GatewayPart

    def start_session(self, run: Any, server_name: str = "") -> Any:
        """A running session's spawner."""
        spawner = self.sessions.spawner(server_name)
        spawner.request = read_options(OPTIONS)
        run(spawner.start())
        return spawner

    def parts(self, plan_id: str = "") -> list[Any]:
        """Containers of clusters, of one session or of all."""
        return [
            one
            for one in self.sessions.containers()
            if f"{LABEL}role" in one["Labels"] and one["Labels"][f"{LABEL}plan-id"].startswith(plan_id)
        ]

    def workers(self, plan_id: str = "") -> list[str]:
        """Ids of the containers of workers that run."""
        return [
            one["Id"]
            for one in self.parts(plan_id)
            if one["Labels"][f"{LABEL}role"] == "worker" and one["State"] == "running"
        ]

    async def until_gone(self, *, with_networks: bool = False) -> None:
        """Wait until no part is left, nor a session's network if that is asked."""
        async with asyncio.timeout(DEADLINE_S):
            while self.parts() or (with_networks and self.sessions.networks()):
                await asyncio.sleep(0.2)

    @contextmanager
    def running(self, plan_id: str, code: str, *, limit_s: float = 2 * DEADLINE_S) -> Iterator[Any]:
        """What code in a session says first, in JSON; it goes on until the block ends, and is then killed."""
        command = self.begin(plan_id, code)
        until = time.monotonic() + limit_s
        try:
            while (said := self.said(plan_id)) is None:
                assert self.goes_on(command), self.text(plan_id)
                assert time.monotonic() < until, self.text(plan_id)
                time.sleep(0.5)
            yield said
        finally:
            self.kill(plan_id)

    def begin(self, plan_id: str, code: str) -> str:
        """Start code in a session as a notebook's kernel would; returns its command's id."""
        begin = (
            "import os, sys; os.environ['BEAMHUB_SESSION_FILE'] = '/run/beamhub/session.json'\n"
            "open('/tmp/held', 'w').write(str(os.getpid()))\n"
            "sys.stdout = sys.stderr = open(" + repr(SAID) + ", 'w', buffering=1)\n"
        )
        engine = self.sessions.engine
        command = engine.exec_create(f"beamhub-{plan_id}", ["python", "-c", begin + code])
        engine.exec_start(command["Id"], detach=True)
        return str(command["Id"])

    def text(self, plan_id: str) -> str:
        """All that the code has said."""
        engine = self.sessions.engine
        command = engine.exec_create(f"beamhub-{plan_id}", ["cat", SAID])
        return str(engine.exec_start(command["Id"]).decode())

    def said(self, plan_id: str) -> Any:
        """The first line of JSON that it has said; None until there is one."""
        lines = [line for line in self.text(plan_id).splitlines() if line.startswith("{")]
        return json.loads(lines[0]) if lines else None

    def goes_on(self, command: str) -> bool:
        """Whether the code still runs."""
        return bool(self.sessions.engine.exec_inspect(command)["Running"])

    def kill(self, plan_id: str) -> None:
        """End the code as a fault would; fine when the session has ended with all in it."""
        engine, code = self.sessions.engine, "import os; os.kill(int(open('/tmp/held').read()), 9)"
        with contextlib.suppress(APIError):
            engine.exec_start(engine.exec_create(f"beamhub-{plan_id}", ["python", "-c", code])["Id"])


@contextmanager
def docker_gateway(folder: Path, engine: Any, run: Any, **profile: Any) -> Iterator[DockerGateway]:
    """All of it below a folder, until the block ends; `profile` changes what a session may have."""
    make_facility(folder)
    make_agent_files(folder)
    port = free_port()
    with own_network(engine) as (_, address), serving_stand_in(address) as stand_in:
        host = {"url": f"https://127.0.0.1:{port}", "tls": hub_tls(folder), "network_block": NETWORK_BLOCK}
        fields = docker_facility(folder, stand_in, host, image=BASE_IMAGE)
        fields["sessions"]["profiles"][0] |= {**PROFILE, **profile}
        for place in fields["sessions"]["places"]:
            place["capacity"] = 20
        fields["gateway"] = gateway_fields(folder, address)
        agent = agent_fields(folder, place="hall-a", socket_file=SOCKET_FILE)
        agent["listen"]["port"] = port
        facility = FacilityConfig.model_validate(fields)
        gateway = GatewayPart(folder, fields, stand_in)
        with (
            running_agent(AgentConfig.model_validate(agent), facility),
            docker_backend(engine, stand_in, fields, run) as sessions,
        ):
            gateway.start()
            try:
                yield DockerGateway(sessions, gateway)
            finally:
                gateway.stop()
