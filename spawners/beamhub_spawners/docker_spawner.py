"""Sessions as containers on Docker hosts, rendered from the same plan as every other backend."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, ClassVar

from docker.errors import APIError
from dockerspawner import DockerSpawner

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import DockerPlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.docker_host import DockerHost
from beamhub_spawners.docker_render import (
    LABEL,
    PORT,
    container_fields,
    container_name,
    server_labels,
)
from beamhub_spawners.host_folders import check_and_ensure_folders, unfit_in_words
from beamhub_spawners.paths import PathEscapes
from beamhub_spawners.refusal import StartFailed
from beamhub_spawners.session_environment import session_environment
from beamhub_spawners.session_spawner import PlanSpawnerMixin

GRACE_S = 5
LOG_LINES = 200


class DockerSessionSpawner(PlanSpawnerMixin, DockerSpawner):  # type: ignore[misc]  # both untyped outside
    """One container per session.

    Of DockerSpawner it keeps the environment and the traits that the hub's pages know; containers are
    made, found and removed here, on whichever host the plan names.
    """

    _hosts: ClassVar[dict[str, DockerHost]] = {}

    # -- the backend's part -------------------------------------------------------------------------

    async def launch(self, plan: SessionPlan) -> None:
        """Create the plan's container and start it."""
        config = self.platform.config
        place = docker_place(config, plan.place.name)
        host = self._host(place)
        self.ip, self.port, self.image = "0.0.0.0", PORT, plan.image  # noqa: S104 - of the container's network
        try:
            await asyncio.to_thread(check_and_ensure_folders, plan, config)
        except PathEscapes as error:
            self.log.exception("the folders of session %s cannot be made", plan.id)
            raise StartFailed("The session", unfit_in_words(error, plan)) from error
        fields = container_fields(
            plan, place, facility=config.short_name, environment=self._environment(plan, place)
        )
        try:
            host_config = await host.call("create_host_config", **fields.host)
            container_id = await self._created(host, plan, {**fields.create, "host_config": host_config})
            await host.call("start", container_id)
        except APIError as error:
            self.log.error("the engine refused session %s: %s", plan.id, error.explanation)
            missing = error.status_code == 404 and "image" in str(error.explanation).lower()
            reason = "its image is not on the host" if missing else "the container engine refused it"
            raise StartFailed("The session", reason) from error
        self.object_id, self.object_name = container_id, container_name(plan)

    async def is_running(self) -> bool | None:
        """By label on every configured host; None when one is silent and no other has it."""
        found, is_complete = await self._containers()
        if any(container["State"] in ("running", "paused", "restarting") for _, container in found):
            return True
        return False if is_complete else None

    async def find_url(self) -> str | None:
        """The container's address in its network."""
        found, _ = await self._containers()
        for _, container in found:
            for network in (container.get("NetworkSettings") or {}).get("Networks", {}).values():
                if container["State"] == "running" and network.get("IPAddress"):
                    return f"http://{network['IPAddress']}:{PORT}"
        return None

    async def find_plan_id(self) -> str | None:
        """From the newest container's label."""
        found, _ = await self._containers()
        newest = max(found, key=lambda item: int(item[1]["Created"]), default=None)
        return str(newest[1]["Labels"].get(f"{LABEL}plan-id")) if newest is not None else None

    async def backend_id(self) -> str | None:
        """The container's id."""
        return f"container:{self.object_id}" if self.object_id else None

    async def exit_reason(self) -> str:
        """The exit code, and whether memory ran out."""
        found, _ = await self._containers()
        for host, container in found:
            state = (await host.call("inspect_container", container["Id"]))["State"]
            if state.get("OOMKilled"):
                return "it used more memory than its profile allows"
            return f"its container ended with status {state.get('ExitCode')}"
        return "its container is gone"

    async def end(self, *, now: bool) -> None:
        """Stop and remove this server's containers, their last lines kept in the state folder."""
        found, is_complete = await self._containers()
        for host, container in found:
            await end_container(host, container, self.platform.config.sessions.state_folder, now=now)
        if not is_complete:
            raise Unavailable("container", "a host does not answer")
        self.object_id = ""

    # -- rendering ------------------------------------------------------------------------------------

    def _environment(self, plan: SessionPlan, place: DockerPlaceConfig) -> dict[str, str]:
        environment = session_environment(
            self.get_env(),
            of_the_facility=frozenset(self.environment),
            of_the_plan=plan.environment_variables,
            of_the_backend={},
        )
        if place.hub_api_url is not None:
            url = place.hub_api_url.rstrip("/")
            environment["JUPYTERHUB_API_URL"] = url
            environment["JUPYTERHUB_ACTIVITY_URL"] = f"{url}/users/{self.user.escaped_name}/activity"
        return environment

    async def _created(self, host: DockerHost, plan: SessionPlan, fields: dict[str, Any]) -> str:
        """The id of the plan's container; one of that name serves only when made from this very plan."""
        try:
            created = await host.call("create_container", **fields)
            return str(created["Id"])
        except APIError as error:
            if error.status_code != 409:
                raise
        known = await host.call("inspect_container", container_name(plan))
        if known["Config"]["Labels"].get(f"{LABEL}plan-hash") != digest(plan):
            raise StartFailed("The session", "a container of its name was made from another plan")
        return str(known["Id"])

    async def _containers(self) -> tuple[list[tuple[DockerHost, dict[str, Any]]], bool]:
        """This server's containers on all hosts, and whether every host answered."""
        labels = server_labels(self.platform.config.short_name, self.user.name, self.name)
        return await find_containers(self.platform.config, labels, self._host)

    def _host(self, place: DockerPlaceConfig) -> DockerHost:
        return shared_host(self._hosts, place)


def shared_host(hosts: dict[str, DockerHost], place: DockerPlaceConfig) -> DockerHost:
    """The one object of a host in this process."""
    if place.url not in hosts:
        hosts[place.url] = DockerHost(place.url, place.timeout_s)
    return hosts[place.url]


def docker_place(config: FacilityConfig, name: str) -> DockerPlaceConfig:
    """How to reach the host of a place."""
    for place in config.sessions.places:
        if place.name == name and place.docker is not None:
            return place.docker
    raise StartFailed("The session", f"the place {name} has no Docker host")


async def find_containers(
    config: FacilityConfig, labels: dict[str, str], host_of: Any
) -> tuple[list[tuple[DockerHost, dict[str, Any]]], bool]:
    """Containers with some labels on every configured host, and whether every host answered."""
    hosts = {place.docker.url: host_of(place.docker) for place in config.sessions.places if place.docker}
    found: list[tuple[DockerHost, dict[str, Any]]] = []
    is_complete = True
    for host in hosts.values():
        try:
            found.extend((host, container) for container in await host.containers(labels))
        except (Unavailable, APIError):
            is_complete = False
    return found, is_complete


async def end_container(host: DockerHost, container: dict[str, Any], log_folder: Path, *, now: bool) -> None:
    """Stop and remove one container; what it said last stays in a file. One that is gone already is fine."""
    try:
        await host.call("stop", container["Id"], timeout=0 if now else GRACE_S)
        said = await host.call("logs", container["Id"], tail=LOG_LINES)
        _keep_log(log_folder / f"{container['Labels'].get(f'{LABEL}plan-id', 'unknown')}.log", said)
        await host.call("remove_container", container["Id"], v=True, force=True)
    except APIError as error:
        if error.status_code not in (404, 409):  # 409: being removed already
            raise


def _keep_log(file: Path, said: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(said)
