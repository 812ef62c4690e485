"""What the sweeper sees of container sessions: the labels."""

from __future__ import annotations

import time
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_spawners.docker_host import DockerHost
from beamhub_spawners.docker_render import LABEL
from beamhub_spawners.docker_spawner import DockerSessionSpawner, end_container, find_containers, shared_host
from beamhub_spawners.sweeper import Found, Inventory


class DockerView:
    """Containers of this facility on its hosts."""

    def __init__(self, config: FacilityConfig) -> None:
        self._config = config

    async def look(self) -> Inventory:
        """Every container with this facility's label."""
        found, is_complete = await self._containers()
        return Inventory(
            tuple(
                Found(
                    plan_id=container["Labels"].get(f"{LABEL}plan-id", ""),
                    backend_id=f"container:{container['Id']}",
                    is_running=container["State"] in ("running", "paused", "restarting"),
                    age_s=time.time() - int(container["Created"]),
                    token_digest=container["Labels"].get(f"{LABEL}token-digest"),
                )
                for _, container in found
            ),
            is_complete,
        )

    async def end(self, found: Found) -> None:
        """Stop and remove the container."""
        containers, _ = await self._containers()
        for host, container in containers:
            if f"container:{container['Id']}" == found.backend_id:
                await end_container(host, container, self._config.sessions.state_folder, now=False)

    async def _containers(self) -> tuple[list[tuple[DockerHost, dict[str, Any]]], bool]:
        labels = {f"{LABEL}facility": self._config.short_name}
        return await find_containers(
            self._config, labels, lambda place: shared_host(DockerSessionSpawner._hosts, place)
        )
