"""What the agents of the Docker places say of their hosts, for placement."""

from __future__ import annotations

import asyncio

from docker.errors import APIError
from pydantic import ValidationError

from beamhub_core.config import FacilityConfig
from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_spawners.agent_inventory import HostInventory
from beamhub_spawners.docker_containers import shared_host


async def read_host_inventories(config: FacilityConfig) -> dict[str, HostInventory | None]:
    """Each place that has an agent with its host's inventory; None while it does not answer or fails."""
    asked = {
        place.name: place.docker
        for place in config.sessions.places
        if place.docker is not None and not place.docker.unsafe_direct_socket
    }
    said = await asyncio.gather(*(_read(place) for place in asked.values()))
    return dict(zip(asked, said, strict=True))


async def _read(place: DockerPlaceConfig) -> HostInventory | None:
    try:
        said = await shared_host(place).call("host_inventory", limit_s=place.look_timeout_s)
        return HostInventory.model_validate(said)
    except (Unavailable, APIError, ValidationError):
        return None
