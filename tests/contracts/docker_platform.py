"""A platform of real processes on a real Docker engine, with an agent before it."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_spawners.docker_containers import close_hosts
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.docker_render import RUNNING
from contracts.agent_parts import free_port, hub_tls
from contracts.docker_parts import BASE_IMAGE, NETWORK_BLOCK, SOCKET_FILE
from contracts.real_platform import (
    RealPlatform,
    SessionObject,
    facts_of,
    running_agent_process,
    serving_web,
    write_hub_config,
    write_platform,
)

PLACE = "docker"


@dataclass
class DockerPlatform(RealPlatform):
    """Sessions as containers of this machine's engine."""

    engine: Any = None

    def objects(self) -> list[SessionObject]:
        """This facility's containers."""
        return [
            SessionObject(
                f"container {one['Labels'][f'{LABEL}plan-id']} ({one['State']})",
                one["Labels"][f"{LABEL}plan-id"],
                f"{one['Labels'][f'{LABEL}account']}/{one['Labels'][f'{LABEL}server']}",
                one["State"] in RUNNING,
            )
            for one in self.containers()
        ]

    def remains(self, plan_ids: set[str]) -> list[str]:
        """Networks."""
        return [
            f"network {one['Name']}"
            for one in self.networks()
            if one["Labels"][f"{LABEL}plan-id"] not in plan_ids
        ]

    def containers(self) -> list[dict[str, Any]]:
        """This facility's containers, running or not."""
        wanted = f"{LABEL}facility={self.config.short_name}"
        found: list[dict[str, Any]] = self.engine.containers(all=True, filters={"label": wanted})
        return found

    def networks(self) -> list[dict[str, Any]]:
        """This facility's networks of sessions."""
        wanted = f"{LABEL}facility={self.config.short_name}"
        found: list[dict[str, Any]] = self.engine.networks(filters={"label": wanted})
        return found

    def address(self, account: str) -> str:
        """Where a person's container listens."""
        wanted = f"{LABEL}account={account}"
        [container] = self.engine.containers(filters={"label": wanted})
        [network] = container["NetworkSettings"]["Networks"].values()
        return f"{network['IPAddress']}:8888"

    def remove_all(self) -> None:
        """Remove containers and networks."""
        for container in self.containers():
            self.engine.remove_container(container["Id"], force=True, v=True)
        for network in self.networks():
            self.engine.remove_network(network["Id"])

    async def close_views(self) -> None:
        """The clients of the engines."""
        close_hosts()


@contextmanager
def running_docker_platform(
    engine: Any, *, images: dict[str, str] | None = None, capacity: int = 100, **sessions: Any
) -> Iterator[DockerPlatform]:
    """A platform whose every part runs; nothing of it outlives the block.

    Parameters
    ----------
    images:
        Environments by name; the base image as `lab` when absent.
    """
    with tempfile.TemporaryDirectory(prefix="beamhub-docker-") as name, socket.socket() as listener:
        folder = Path(name)
        folder.chmod(0o755)  # sessions pass it to their homes and data
        listener.bind(("127.0.0.1", 0))
        public, port, agent_port = f"http://127.0.0.1:{listener.getsockname()[1]}", free_port(), free_port()
        sessions = {"images": images or {"lab": BASE_IMAGE}, "capacity": capacity, **sessions}
        config = _write(folder, public, (port, agent_port), sessions)
        write_hub_config(folder, config, public, port)
        api_url = f"http://127.0.0.1:{port}/hub/api"
        with serving_web(config, listener) as service, running_agent_process(folder, agent_port):
            platform = DockerPlatform(
                config, service, public, api_url, folder / "hub.log", folder, engine=engine
            )
            with platform.running():
                yield platform


def _write(folder: Path, public: str, ports: tuple[int, int], sessions: dict[str, Any]) -> FacilityConfig:
    hub_port, agent_port = ports
    facts = facts_of(folder, public, hub_port)
    images, capacity = sessions.pop("images"), sessions.pop("capacity")
    facts["sessions"] |= sessions
    docker = {
        "url": f"https://127.0.0.1:{agent_port}",
        "tls": hub_tls(folder),
        "network_block": NETWORK_BLOCK,
        "hub_api_url": f"http://beamhub-host:{hub_port}/hub/api",
    }
    place = {"name": PLACE, "backend": "docker", "pools": ["pool"], "capacity": capacity, "docker": docker}
    return write_platform(folder, facts, place, images, port=agent_port, socket_file=SOCKET_FILE, pull=False)
