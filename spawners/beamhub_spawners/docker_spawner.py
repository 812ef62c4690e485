"""Sessions as containers on Docker hosts, rendered from the same plan as every other backend."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, nullcontext
from typing import Any

from docker.errors import APIError
from dockerspawner import DockerSpawner

from beamhub_core.config import FacilityConfig
from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.config.storage import PlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.docker_containers import (
    GONE,
    Look,
    end_container,
    look_everywhere,
    looks,
    make_network,
    newest,
    remove_network,
    shared_host,
)
from beamhub_spawners.docker_host import DockerHost
from beamhub_spawners.docker_images import ANOTHER, NOT_THERE, image_fault, refusal_in_words
from beamhub_spawners.docker_inventory import ask_docker_home, ask_docker_host
from beamhub_spawners.docker_network import LABEL, network_name
from beamhub_spawners.docker_render import (
    PORT,
    RUNNING,
    ContainerFields,
    Ground,
    container_fields,
    container_name,
    engine_is_recursive,
    free_gpus,
    server_labels,
)
from beamhub_spawners.host_folders import check_and_ensure_folders, unfit_in_words
from beamhub_spawners.host_homes import HomeOnHost
from beamhub_spawners.inventory import HostStorage
from beamhub_spawners.paths import PathEscapes
from beamhub_spawners.refusal import StartFailed
from beamhub_spawners.session_environment import hub_addresses, session_environment
from beamhub_spawners.session_spawner import PlanSpawnerMixin

SERVER = "The session"


class DockerSessionSpawner(PlanSpawnerMixin, DockerSpawner):  # type: ignore[misc]  # both untyped outside
    """One container per session.

    Of DockerSpawner it keeps the environment and the traits that the hub's pages know; containers are
    made, found and removed here, on whichever host the plan names.
    """

    async def ask_host(self, place: PlaceConfig) -> HostStorage | None:
        """What the place's agent says; this host is looked at for one without."""
        return await ask_docker_host(place)

    async def ask_home(self, place_name: str, account: str) -> HomeOnHost | None:
        """What the place's agent says; the homes of this host are looked at for one without."""
        return await ask_docker_home(docker_place(self.platform.config, place_name), account)

    # -- the backend's part -------------------------------------------------------------------------

    async def launch(self, plan: SessionPlan) -> None:
        """Create the plan's container, with a network of its own where configured, and start it.

        What was made of a start that fails is removed again.
        """
        config = self.platform.config
        place = docker_place(config, plan.place.name)
        host = shared_host(place)
        self.ip, self.port, self.image = "0.0.0.0", PORT, plan.image  # noqa: S104 - of the container's network
        try:
            container_id = await self._made(host, plan, place)
            await host.call("start", container_id)
        except (StartFailed, Unavailable):
            await self._undo(host, plan)
            raise
        except APIError as error:
            self.log.error("the engine refused session %s: %s", plan.id, error.explanation)
            await self._undo(host, plan)
            raise StartFailed(SERVER, refusal_in_words(error)) from error
        self.object_id, self.object_name = container_id, container_name(plan)

    async def is_running(self) -> bool | None:
        """By label on every configured host; None when the one that may have it is silent."""
        silent: set[str] = set()
        async with aclosing(looks(self.platform.config, self._labels())) as answers:
            async for look in answers:
                if any(one.fields["State"] in RUNNING for one in look.seen):
                    return True  # without waiting for a host that hangs
                silent.update(look.silent)
        if self.plan is not None:
            return None if self.plan.place.name in silent else False
        return None if silent else False

    async def find_url(self) -> str | None:
        """The published port, else the container's address in its network."""
        look = await self._look()
        for one in look.seen:
            if one.fields["State"] != "running":
                continue
            for port in one.fields.get("Ports") or ():
                if port.get("PrivatePort") == PORT and port.get("PublicPort"):
                    return f"http://{port['IP']}:{port['PublicPort']}"
            networks = (one.fields.get("NetworkSettings") or {}).get("Networks") or {}
            for network in networks.values():
                if network.get("IPAddress"):
                    return f"http://{network['IPAddress']}:{PORT}"
        return None

    async def find_plan_id(self) -> str | None:
        """From the newest container's label."""
        found = newest((await self._look()).seen)
        return str(found.labels.get(f"{LABEL}plan-id")) if found is not None else None

    async def backend_id(self) -> str | None:
        """The container's id."""
        return f"container:{self.object_id}" if self.object_id else None

    async def exit_reason(self) -> str:
        """The exit code, and whether memory ran out."""
        for one in (await self._look()).seen:
            try:
                state = (await one.host.call("inspect_container", one.fields["Id"]))["State"]
            except (APIError, Unavailable):
                return "its container ended, and its host does not say why"
            if state.get("OOMKilled"):
                return "it used more memory than its profile allows"
            return f"its container ended with status {state.get('ExitCode')}"
        return "its container is gone"

    async def end(self, *, now: bool) -> None:
        """Stop and remove this server's containers, their last lines kept in the state folder."""
        look = await self._look()
        for one in look.seen:
            await end_container(one, self.platform.config.sessions.state_folder, now=now)
        if look.silent:
            raise Unavailable("container", f"no answer of {', '.join(sorted(look.silent))}")
        self.object_id = ""

    # -- parts of a start ------------------------------------------------------------------------------

    async def _folders(self, host: DockerHost, plan: SessionPlan) -> None:
        """Make the plan's folders where they are: by the host's agent, or here for a host without one."""
        if not host.place.unsafe_direct_socket:
            await host.make_folders(plan.id)
            return
        try:
            await asyncio.to_thread(check_and_ensure_folders, plan, self.platform.config)
        except PathEscapes as error:
            self.log.exception("the folders of session %s cannot be made", plan.id)
            raise StartFailed(SERVER, unfit_in_words(error, plan)) from error

    async def _made(self, host: DockerHost, plan: SessionPlan, place: DockerPlaceConfig) -> str:
        """The id of the plan's container, made but not started."""
        config = self.platform.config
        recursive = engine_is_recursive(await host.engine_version())
        checked = asyncio.ensure_future(self._checked_image(host, plan))
        joined = asyncio.ensure_future(self._network(host, plan, place))
        folders = asyncio.ensure_future(self._folders(host, plan))
        # To the end of all, whatever one says: what is made after a failed start was undone would stay.
        await asyncio.gather(checked, joined, folders, return_exceptions=True)
        image, (network, gateway), _ = checked.result(), joined.result(), folders.result()
        # Only graphics processors are counted here; without any, nobody waits for another's create.
        async with host.allocating if plan.limits.gpus else nullcontext():
            gpus = await self._gpus(host, plan)
            fields = container_fields(
                plan,
                place,
                facility=config.short_name,
                environment=self._environment(plan, place),
                ground=Ground(network, gateway, gpus, recursive),
            )
            container_id = await self._created(host, plan, fields)
        known = await host.call("inspect_container", container_id)
        if known["Image"] != image["Id"]:
            raise StartFailed(SERVER, ANOTHER)
        return container_id

    async def _network(
        self, host: DockerHost, plan: SessionPlan, place: DockerPlaceConfig
    ) -> tuple[str, str | None]:
        """The network that the container joins, and the host's address in one of the session's own."""
        if place.network_block is None:
            return place.network, None
        gateway = await make_network(host, plan, place, self.platform.config.short_name)
        return network_name(plan.id), gateway

    async def _checked_image(self, host: DockerHost, plan: SessionPlan) -> dict[str, Any]:
        try:
            image: dict[str, Any] = await host.call("inspect_image", plan.image)
        except APIError as error:
            if error.status_code != 404:
                raise
            raise StartFailed(SERVER, NOT_THERE) from error
        fault = image_fault(plan.image, image)
        if fault is not None:
            raise StartFailed(SERVER, fault)
        return image

    async def _gpus(self, host: DockerHost, plan: SessionPlan) -> tuple[str, ...]:
        if not plan.limits.gpus:
            return ()
        labels = {f"{LABEL}facility": self.platform.config.short_name}
        free = free_gpus(host.place, await host.containers(labels))
        if len(free) < plan.limits.gpus:
            raise StartFailed(SERVER, f"its host has {len(free)} free graphics processors")
        return free[: plan.limits.gpus]

    async def _created(self, host: DockerHost, plan: SessionPlan, fields: ContainerFields) -> str:
        """The id of the plan's container; one of that name serves only when made from this very plan."""
        try:
            created = await host.call("create_container_from_config", fields.body, fields.name)
            return str(created["Id"])
        except APIError as error:
            if error.status_code != 409:
                raise
        known = await host.call("inspect_container", fields.name)
        if known["Config"]["Labels"].get(f"{LABEL}plan-hash") != digest(plan):
            raise StartFailed(SERVER, "a container of its name was made from another plan")
        return str(known["Id"])

    async def _undo(self, host: DockerHost, plan: SessionPlan) -> None:
        """Remove what a start left; what cannot be removed now is the sweeper's."""
        try:
            await host.call("remove_container", container_name(plan), v=True, force=True)
        except APIError as error:
            if error.status_code not in GONE:
                self.log.warning("what session %s left could not be removed: %s", plan.id, error.explanation)
        except Unavailable:
            return
        try:
            await remove_network(host, plan.id)
        except (APIError, Unavailable) as error:
            self.log.warning("the network of session %s could not be removed: %s", plan.id, error)

    def _environment(self, plan: SessionPlan, place: DockerPlaceConfig) -> dict[str, str]:
        return session_environment(
            self.get_env(),
            of_the_facility=frozenset(self.environment),
            of_the_plan=plan.environment_variables,
            of_the_backend=hub_addresses(place.hub_api_url, self.user.escaped_name),
        )

    def _labels(self) -> dict[str, str]:
        return server_labels(self.platform.config.short_name, self.user.name, self.name)

    async def _look(self) -> Look:
        """This server's containers on all hosts."""
        return await look_everywhere(self.platform.config, self._labels())


def docker_place(config: FacilityConfig, name: str) -> DockerPlaceConfig:
    """How to reach the host of a place."""
    for place in config.sessions.places:
        if place.name == name and place.docker is not None:
            return place.docker
    raise StartFailed(SERVER, f"the place {name} has no Docker host")
