"""The containers of a facility on its Docker hosts: found, made and ended; each host by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import APIError

from beamhub_core.config import FacilityConfig
from beamhub_core.config.docker_place import DockerPlaceConfig, PeerConfig
from beamhub_core.errors import Unavailable
from beamhub_core.session import SessionPlan
from beamhub_spawners.docker_host import DockerHost, same_host
from beamhub_spawners.docker_network import (
    LABEL,
    free_subnets,
    gateway_of,
    network_fields,
    network_name,
    subnets_of,
)
from beamhub_spawners.refusal import StartFailed
from beamhub_spawners.session_log import keep_log

GRACE_S = 5
LOG_LINES = 200
MAX_SUBNETS_TRIED = 32
GONE = (404, 409)  # 409: being removed already

_hosts: dict[str, DockerHost] = {}
"""The hosts of this process: places of one host share its client, threads and pauses."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A container with the host that it is on; `fields` as `GET /containers/json` has them."""

    host: DockerHost
    fields: Mapping[str, Any]

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return self.fields.get("Labels") or {}


@dataclass(frozen=True, slots=True)
class Look:
    """What the hosts showed, and the places whose host did not answer, with its seconds of silence."""

    seen: tuple[Seen, ...]
    silent: Mapping[str, float]


def shared_host(place: DockerPlaceConfig) -> DockerHost:
    """The one object of a host in this process."""
    return _hosts.setdefault(same_host(place), DockerHost(place))


def close_hosts() -> None:
    """Give the connections and threads of all hosts back."""
    for host in _hosts.values():
        host.close()
    _hosts.clear()


async def looks(config: FacilityConfig, labels: Mapping[str, str]) -> AsyncGenerator[Look, None]:
    """What each host shows of the containers with some labels, in the order in which they answer.

    A host that does not answer, or answers that it failed, is silent: of its containers nothing is known.
    """
    places: dict[DockerHost, list[str]] = {}
    for place in config.sessions.places:
        if place.docker is not None:
            places.setdefault(shared_host(place.docker), []).append(place.name)
    asked = [asyncio.ensure_future(_look(host, tuple(names), labels)) for host, names in places.items()]
    try:
        for answer in asyncio.as_completed(asked):
            yield await answer
    finally:
        for one in asked:
            one.cancel()


async def look_everywhere(config: FacilityConfig, labels: Mapping[str, str]) -> Look:
    """What all hosts show together."""
    seen: list[Seen] = []
    silent: dict[str, float] = {}
    async for look in looks(config, labels):
        seen.extend(look.seen)
        silent.update(look.silent)
    return Look(tuple(seen), silent)


async def _look(host: DockerHost, places: tuple[str, ...], labels: Mapping[str, str]) -> Look:
    try:
        found = await host.containers(labels)
    except (Unavailable, APIError):
        return Look((), dict.fromkeys(places, host.silent_s))
    return Look(tuple(Seen(host, fields) for fields in found), {})


async def end_container(seen: Seen, log_folder: Path, *, now: bool) -> None:
    """Stop and remove a container and its network; what it said last stays in a file. Gone already is fine.

    Raises
    ------
    APIError, Unavailable
        When the host failed or did not answer: then the container may still run.
    """
    host, container_id = seen.host, seen.fields["Id"]
    plan_id = seen.labels.get(f"{LABEL}plan-id", "unknown")
    try:
        await host.call("stop", container_id, timeout=0 if now else GRACE_S)
        said = await host.call("logs", container_id, tail=LOG_LINES)
        keep_log(log_folder, plan_id, said)
        await host.call("remove_container", container_id, v=True, force=True)
    except APIError as error:
        if error.status_code not in GONE:
            raise
    await remove_network(host, plan_id)


async def make_network(host: DockerHost, plan: SessionPlan, place: DockerPlaceConfig, facility: str) -> str:
    """Make the network of a session and join its peers; returns the host's address in it.

    Raises
    ------
    StartFailed
        If the block has no free addresses, or a peer is not there.
    APIError, Unavailable
        What the engine refused, or its silence.
    """
    block = place.network_block
    if block is None:
        raise ValueError("a shared network is not made")
    known = await host.call("networks")
    # Peers of another facility or of the host itself: whatever its networks take is taken.
    candidates = free_subnets(block, subnets_of(known), plan_id=plan.id)
    for _, subnet in zip(range(MAX_SUBNETS_TRIED), candidates, strict=False):
        try:
            await host.call("create_network_of", network_fields(plan, place, subnet, facility=facility))
        except APIError as error:
            if not is_overlap(error):
                raise
            continue  # taken since, or by a route of the host that no network shows
        await _join_peers(host, plan, place)
        return gateway_of(subnet)
    raise StartFailed("The session", f"no addresses are left for its network in {block}")


def is_overlap(error: APIError) -> bool:
    """Whether the engine refused a subnet because something has it."""
    said = str(error.explanation).lower()
    return error.status_code in (400, 403, 500) and ("overlap" in said or "conflicts with network" in said)


async def _join_peers(host: DockerHost, plan: SessionPlan, place: DockerPlaceConfig) -> None:
    for peer in place.peers:
        if not await join_peer(host, plan.id, peer):
            raise StartFailed("The session", f"the platform's container {peer.container} is gone")


async def join_peer(host: DockerHost, plan_id: str, peer: PeerConfig) -> bool:
    """Whether one of the platform's containers is in a session's network now; False where it is gone.

    Raises
    ------
    APIError, Unavailable
        What the engine refused, or its silence.
    """
    try:
        await host.call(
            "connect_container_to_network", peer.container, network_name(plan_id), aliases=[peer.alias]
        )
    except APIError as error:
        if error.status_code == 404:
            return False
        if error.status_code != 403 or "already exists in network" not in str(error.explanation):
            raise
    return True


async def remove_network(host: DockerHost, plan_id: str) -> None:
    """Remove the network of a session, whoever is still in it; one that is not there is fine."""
    if host.place.network_block is None:
        return
    name = network_name(plan_id)
    for peer in host.place.peers:
        await _unless_gone(host, "disconnect_container_from_network", peer.container, name, force=True)
    await _unless_gone(host, "remove_network", name)


async def _unless_gone(host: DockerHost, method: str, *arguments: Any, **named: Any) -> None:
    try:
        await host.call(method, *arguments, **named)
    except APIError as error:
        # 403 of a disconnect: it is not connected.
        said = str(error.explanation)
        if error.status_code not in (*GONE, 403) and "is not connected" not in said:
            raise


def newest(seen: Iterable[Seen]) -> Seen | None:
    """The container that was made last."""
    order: Callable[[Seen], int] = lambda one: int(one.fields["Created"])  # noqa: E731
    return max(seen, key=order, default=None)
