"""The places as they are now: configured, and asked."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import PlaceConfig, PoolConfig
from beamhub_core.session import Place, StoredSession

POOL_TIMEOUT_S = 3.0
MAX_TEMPLATE_BYTES = 10_000_000


async def read_places(config: FacilityConfig, live: Iterable[StoredSession]) -> tuple[Place, ...]:
    """Every configured place with its healthy pools and the number of live sessions."""
    live = tuple(live)
    healthy = await read_healthy_pools(config.pools)
    return tuple(_place(place, healthy, live) for place in config.sessions.places)


async def read_healthy_pools(pools: Iterable[PoolConfig]) -> frozenset[str]:
    """Names of the pools whose root folder this host can list within the time limit.

    Asked in a child process, because a hung file server would block the thread that asks it for good.
    A pool that is seen only from other hosts must have a root here too; its own hosts are asked
    by the agent in a later increment.
    """
    pools = tuple(pools)
    answers = await asyncio.gather(*(_lists(pool.root) for pool in pools))
    return frozenset(pool.name for pool, answers_now in zip(pools, answers, strict=True) if answers_now)


async def _lists(folder: Path) -> bool:
    code = "import os, sys; next(os.scandir(sys.argv[1]), None)"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        "-c",
        code,
        str(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        return await asyncio.wait_for(process.wait(), POOL_TIMEOUT_S) == 0
    except TimeoutError:
        # In uninterruptible sleep it dies only when the server answers again: do not wait for it.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return False


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


def _place(place: PlaceConfig, healthy: frozenset[str], live: tuple[StoredSession, ...]) -> Place:
    limits = [stored.plan.limits for stored in live if stored.plan.place.name == place.name]
    used_gib = sum(one.memory_gib for one in limits)
    return Place(
        name=place.name,
        backend=place.backend,
        pools=place.pools,
        healthy_pools=tuple(pool for pool in place.pools if pool in healthy),
        capacity=place.capacity,
        running=len(limits),
        gpus=place.gpus,
        gpus_used=sum(one.gpus for one in limits),
        memory_free_gib=None if place.memory_gib is None else place.memory_gib - used_gib,
        link_costs=dict(place.link_costs),
    )
