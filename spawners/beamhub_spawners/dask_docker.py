"""Parts of clusters as containers beside the session's own, through the agent of its host."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from docker.errors import APIError

from beamhub_core.config import FacilityConfig
from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.dask_render import (
    API_PORT,
    SCHEDULER_PORT,
    DaskPart,
    PartGround,
    part_container,
    part_container_name,
    read_part,
)
from beamhub_spawners.dask_runner import FoundPart, PartAddress, PartNotStarted, Secrets, gateway_of
from beamhub_spawners.docker_containers import (
    GONE,
    close_hosts,
    look_everywhere,
    remove_network,
    shared_host,
)
from beamhub_spawners.docker_host import DockerHost
from beamhub_spawners.docker_images import refusal_in_words
from beamhub_spawners.docker_network import LABEL, gateway_of_network, network_name
from beamhub_spawners.docker_render import RUNNING, Ground, engine_is_recursive
from beamhub_spawners.session_log import keep_log

STOP_S = 3
LOG_LINES = 200
OF_THE_SESSION = (f"{LABEL}facility", f"{LABEL}plan-id")
SHARED_BRIDGE = "bridge"
"""The engine's default network, in which containers do not know each other by name."""


class DockerRunner:
    """Clusters on Docker hosts: each part on the host of its session's plan."""

    knows_schedulers = True

    def __init__(self, config: FacilityConfig) -> None:
        self._config, self._gateway = config, gateway_of(config)

    async def start(self, plan: SessionPlan, part: DaskPart, secrets: Secrets, scheduler: str) -> None:
        """Create the part's container from the plan and start it.

        Its address of the scheduler is the scheduler's name in the session's network, whatever else is said.
        """
        place = self._place(plan.place.name)
        host = shared_host(place)
        try:
            where = PartGround(
                self._config.short_name, self._gateway, place, await self._ground(host, plan, place)
            )
            body = part_container(plan, part, where, token=secrets.token)
            container = await self._created(host, plan, part_container_name(plan.id, part), body)
            await host.call("start", container)
        except ValueError as error:
            raise PartNotStarted(part.role, str(error)) from error
        except APIError as error:
            raise PartNotStarted(part.role, refusal_in_words(error)) from error

    async def end(self, found: FoundPart) -> None:
        """Stop and remove the container; what it said last stays in a file of the gateway's.

        With the last container of a session goes its network, which its own end could not remove.
        """
        place = self._known_place(found.place)
        if place is None:
            return
        host, labels = shared_host(place), self._labels(found)
        try:
            for one in await host.containers(labels):
                await host.call("stop", one["Id"], timeout=STOP_S)
                said = await host.call("logs", one["Id"], tail=LOG_LINES)
                keep_log(self._gateway.state_folder / "logs", f"{found.cluster}-{found.name}", said)
                await host.call("remove_container", one["Id"], v=True, force=True)
            if not await host.containers({name: labels[name] for name in OF_THE_SESSION}):
                await remove_network(host, found.plan_id)
        except APIError as error:
            if error.status_code not in GONE:
                raise Unavailable("container", f"HTTP {error.status_code}") from error

    async def look(self) -> tuple[FoundPart, ...]:
        """Every container of a cluster's part on the hosts that answer."""
        seen = await look_everywhere(self._config, {f"{LABEL}facility": self._config.short_name})
        found = (self._found(one.host, one.fields, one.labels) for one in seen.seen)
        return tuple(one for one in found if one is not None)

    async def is_alive(self, found: FoundPart) -> bool:
        """Whether the container runs; unknown counts as running."""
        place = self._known_place(found.place)
        if place is None:
            return False
        try:
            containers = await shared_host(place).containers(self._labels(found))
        except (APIError, Unavailable):
            return True
        return any(one["State"] in RUNNING for one in containers)

    async def address(self, found: FoundPart) -> PartAddress | None:
        """The container's address in the session's network, and the ports that were rendered."""
        place = self._known_place(found.place)
        try:
            containers = [] if place is None else await shared_host(place).containers(self._labels(found))
        except APIError as error:
            raise Unavailable("container", f"HTTP {error.status_code}") from error
        for one in containers:
            for network in ((one.get("NetworkSettings") or {}).get("Networks") or {}).values():
                if one["State"] == "running" and network.get("IPAddress"):
                    return PartAddress(network["IPAddress"], (SCHEDULER_PORT, API_PORT))
        return None

    def close(self) -> None:
        """Close the hosts' clients; containers go on."""
        close_hosts()

    # -- parts -----------------------------------------------------------------------------------------

    async def _ground(self, host: DockerHost, plan: SessionPlan, place: DockerPlaceConfig) -> Ground:
        recursive = engine_is_recursive(await host.engine_version())
        if place.network_block is None:
            if place.network == SHARED_BRIDGE:
                raise ValueError("clusters need networks of the sessions' own on this host (network_block)")
            return Ground(place.network, recursive_read_only=recursive)
        for network in await host.call("networks"):
            if network.get("Name") == network_name(plan.id):
                return Ground(network_name(plan.id), gateway_of_network(network), (), recursive)
        raise ValueError("its session's network is gone")

    async def _created(self, host: DockerHost, plan: SessionPlan, name: str, body: Mapping[str, Any]) -> str:
        """The id of the part's container; one of that name serves only when made from this very plan."""
        try:
            made = await host.call("create_container_from_config", dict(body), name)
            return str(made["Id"])
        except APIError as error:
            if error.status_code != 409:
                raise
        known = await host.call("inspect_container", name)
        if known["Config"]["Labels"].get(f"{LABEL}plan-hash") != digest(plan):
            raise ValueError("a container of its name was made from another plan")
        return str(known["Id"])

    def _found(
        self, host: DockerHost, fields: Mapping[str, Any], labels: Mapping[str, str]
    ) -> FoundPart | None:
        try:
            part = read_part(labels)
        except ValueError:
            return None
        if part is None:
            return None
        age_s = time.time() - int(fields["Created"])
        place = next(
            one.name
            for one in self._config.sessions.places
            if one.docker is not None and shared_host(one.docker) is host
        )
        plan_id = labels.get(f"{LABEL}plan-id", "")
        return FoundPart(plan_id, part.cluster, part.name, place, fields["State"] in RUNNING, age_s)

    def _labels(self, found: FoundPart) -> dict[str, str]:
        return {
            f"{LABEL}facility": self._config.short_name,
            f"{LABEL}plan-id": found.plan_id,
            f"{LABEL}cluster": found.cluster,
            f"{LABEL}part": found.name,
        }

    def _place(self, name: str) -> DockerPlaceConfig:
        place = self._known_place(name)
        if place is None:
            raise ValueError(f"the place {name} has no Docker host")
        return place

    def _known_place(self, name: str) -> DockerPlaceConfig | None:
        return next((one.docker for one in self._config.sessions.places if one.name == name), None)
