"""What the sweeper sees of container sessions: the labels."""

from __future__ import annotations

import time

from docker.errors import APIError

from beamhub_core.config import FacilityConfig
from beamhub_core.errors import Unavailable
from beamhub_spawners.docker_containers import Look, end_container, look_everywhere
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.docker_render import RUNNING
from beamhub_spawners.sweeper import Found, Inventory


class DockerView:
    """Containers of this facility on its hosts."""

    def __init__(self, config: FacilityConfig) -> None:
        self._config = config

    async def look(self) -> Inventory:
        """Every container with this facility's label, and which places are silent."""
        look = await self._look()
        return Inventory(
            tuple(
                Found(
                    plan_id=one.labels.get(f"{LABEL}plan-id", ""),
                    backend_id=f"container:{one.fields['Id']}",
                    is_running=one.fields["State"] in RUNNING,
                    age_s=time.time() - int(one.fields["Created"]),
                    token_digest=one.labels.get(f"{LABEL}token-digest"),
                )
                for one in look.seen
            ),
            silent=look.silent,
        )

    async def end(self, found: Found) -> None:
        """Stop and remove the container.

        Raises
        ------
        Unavailable
            When its host failed or does not answer.
        """
        for one in (await self._look()).seen:
            if f"container:{one.fields['Id']}" == found.backend_id:
                try:
                    await end_container(one, self._config.sessions.state_folder, now=False)
                except APIError as error:
                    raise Unavailable("container", f"HTTP {error.status_code}") from error

    async def _look(self) -> Look:
        return await look_everywhere(self._config, {f"{LABEL}facility": self._config.short_name})
