"""What the agents of the Docker places say of their hosts, for placement and for plans."""

from __future__ import annotations

from docker.errors import APIError
from pydantic import ValidationError

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.config.storage import PlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_spawners.agent_inventory import HostInventory
from beamhub_spawners.docker_containers import shared_host
from beamhub_spawners.host_homes import HomeOnHost
from beamhub_spawners.inventory import HostStorage


async def ask_docker_host(place: PlaceConfig) -> HostStorage | None:
    """What the agent of a place says of its host; None for one without an agent.

    Raises
    ------
    Unavailable
        If the agent does not answer in time, fails, or says something else.
    """
    docker = place.docker
    if docker is None or docker.unsafe_direct_socket:
        return None
    try:
        said = await shared_host(docker).call("host_inventory", limit_s=docker.look_timeout_s)
        return HostInventory.model_validate(said).storage()
    except (APIError, ValidationError) as error:
        raise Unavailable("agent", type(error).__name__) from error


async def ask_docker_home(place: DockerPlaceConfig, account: str) -> HomeOnHost | None:
    """What the agent of a place says of an account's home; None for a place without an agent.

    Raises
    ------
    Unavailable
        If the agent does not answer in time, fails, or says something else.
    """
    if place.unsafe_direct_socket:
        return None
    try:
        said = await shared_host(place).call("home_of", account, limit_s=place.timeout_s)
        return HomeOnHost.model_validate(said)
    except (APIError, ValidationError) as error:
        raise Unavailable("agent", type(error).__name__) from error
