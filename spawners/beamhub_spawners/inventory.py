"""The places as they are now: configured, and asked."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import PlaceConfig, PoolConfig
from beamhub_core.errors import Unavailable
from beamhub_core.pool_health import PoolState, pool_states
from beamhub_core.session import Limits, Place, StoredSession
from beamhub_core.word import Word

MAX_TEMPLATE_BYTES = 10_000_000
NO_RECURSION = "demands recursive read-only mounts, which the engine there cannot make (25 and later can)"
NOT_SHOWN = (
    "demands that what is mounted below its folders is seen, and pods do not see it; make each such file "
    "system a pool of its own"
)


class HostStorage(Word):
    """What a host says of itself: how its pools are, and what its engine can do."""

    pools: dict[str, PoolState]
    images: tuple[str, ...] = Field(default=(), description="References of the images that are there.")
    image_faults: dict[str, str] = Field(
        default={}, description="Images that the host cannot have, and why, in plain words."
    )
    recursive_read_only: bool = Field(
        default=False, description="Whether its engine makes mounts below a read-only one read-only, too."
    )
    fault: str | None = Field(default=None, description="Why nothing can be started there now.")
    gpus: int | None = Field(
        default=None, ge=0, description="Graphics processors there are; None where the configuration says."
    )
    gpus_free: int | None = Field(
        default=None, ge=0, description="Of them, those that one session could have; None: by the sessions."
    )
    memory_free_gib: float | None = Field(
        default=None, description="The most memory that one session could have now, GiB; None: not known."
    )


AskHost = Callable[[PlaceConfig], Awaitable[HostStorage | None]]
"""Asks the host of a place; None for a place whose host has nobody to ask, so this host is looked at.

Raises `Unavailable` when it does not answer."""


async def read_places(
    config: FacilityConfig, live: Iterable[StoredSession], ask: AskHost | None = None
) -> tuple[Place, ...]:
    """Every configured place with its pools as they are now and the number of live sessions."""
    live = tuple(live)
    places = config.sessions.places
    said = await asyncio.gather(*(_asked(place, config, ask) for place in places))
    return tuple(
        place_of(place, config.pools, answer, _taken(place, live))
        for place, answer in zip(places, said, strict=True)
    )


async def _asked(place: PlaceConfig, config: FacilityConfig, ask: AskHost | None) -> HostStorage | str:
    """What the host of a place says, or why it says nothing."""
    try:
        said = await ask(place) if ask is not None else None
    except Unavailable as unavailable:
        return f"its host does not answer ({unavailable.reason})"
    if said is not None:
        return said
    pools = [pool for pool in config.pools if pool.name in place.pools]
    # Local sessions are confined by paths, below which mounts count, too.
    return HostStorage(
        pools=await asyncio.to_thread(pool_states, pools), recursive_read_only=place.backend == "local"
    )


def place_of(
    place: PlaceConfig, pools: Iterable[PoolConfig], said: HostStorage | str, taken: Sequence[Limits]
) -> Place:
    """A place from its configuration, what its host said, and what its sessions take. Pure."""
    room = _room(place, said, taken)
    configured = {pool.name: pool for pool in pools}
    states: Mapping[str, PoolState] = {} if isinstance(said, str) else said.pools
    faults: dict[str, str] = {}
    healthy, read_only = [], []
    for name in place.pools:
        state = states.get(name)
        if isinstance(said, str):
            faults[name] = said
        elif state is None:
            faults[name] = "its host says nothing of it"
        elif configured[name].recursive_read_only and not said.recursive_read_only:
            faults[name] = NOT_SHOWN if place.backend == "kubernetes" else NO_RECURSION
        else:
            if state.reason:
                faults[name] = state.reason
            if state.is_readable:
                healthy.append(name)
            if state.is_readable and configured[name].takes_writes and not state.is_writable:
                read_only.append(name)
    return Place(
        name=place.name,
        backend=place.backend,
        pools=place.pools,
        healthy_pools=tuple(healthy),
        read_only_pools=tuple(read_only),
        pool_faults=faults,
        capacity=place.capacity,
        running=len(taken),
        fault=said if isinstance(said, str) else said.fault,
        gpus=room.gpus,
        gpus_used=room.gpus_used,
        memory_free_gib=room.memory_free_gib,
        images=() if isinstance(said, str) else said.images,
        image_faults={} if isinstance(said, str) else said.image_faults,
        link_costs=dict(place.link_costs),
    )


@dataclass(frozen=True, slots=True)
class _Room:
    gpus: int
    gpus_used: int
    memory_free_gib: float | None


def _room(place: PlaceConfig, said: HostStorage | str, taken: Sequence[Limits]) -> _Room:
    """What is free: by the configuration and the sessions, and never more than the hosts themselves have."""
    gpus, used = place.gpus, sum(one.gpus for one in taken)
    free = [] if place.memory_gib is None else [place.memory_gib - sum(one.memory_gib for one in taken)]
    if not isinstance(said, str):
        if said.gpus is not None:
            gpus = min(gpus, said.gpus)
        if said.gpus_free is not None:
            used = max(used, gpus - said.gpus_free)
        if said.memory_free_gib is not None:
            free.append(said.memory_free_gib)
    return _Room(gpus, used, min(free, default=None))


def _taken(place: PlaceConfig, live: Iterable[StoredSession]) -> tuple[Limits, ...]:
    return tuple(stored.plan.limits for stored in live if stored.plan.place.name == place.name)


def read_template_digests(config: FacilityConfig) -> dict[str, str]:
    """SHA-256 of each template's notebook; a missing, outside or oversized file is left out."""
    digests = {}
    folder = config.sessions.templates_folder.resolve()
    for template in config.sessions.templates:
        with contextlib.suppress(OSError):
            file = (folder / template.file).resolve()
            if file.is_relative_to(folder) and file.stat().st_size <= MAX_TEMPLATE_BYTES:
                digests[template.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return digests
