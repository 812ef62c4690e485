"""What a host has now, as its agent tells the hub: storage, images, sessions, memory, graphics processors."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_core.pool_health import PoolState, pool_states
from beamhub_core.word import Word
from beamhub_spawners.agent_create import Facility
from beamhub_spawners.agent_images import ImageKeeper
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.docker_render import RUNNING, engine_is_recursive, free_gpus
from beamhub_spawners.inventory import HostStorage

MAX_DETAIL = 200
MEMORY_FILE = Path("/proc/meminfo")


class ImageOnHost(Word):
    """How far a host is with one image."""

    state: str
    detail: str = ""
    ids: tuple[str, ...] = ()


class HostInventory(Word):
    """A host as its agent knows it now."""

    place: str
    engine_version: str
    recursive_read_only: bool
    pools: dict[str, PoolState]
    images: dict[str, ImageOnHost]
    n_sessions: int
    memory_free_bytes: int | None
    gpus: tuple[str, ...]
    gpus_free: tuple[str, ...]

    def storage(self) -> HostStorage:
        """What of it placement takes."""
        return HostStorage(
            pools=self.pools,
            images=tuple(name for name, image in self.images.items() if image.state == "present"),
            image_faults={
                name: image_fault_words(image)
                for name, image in self.images.items()
                if image.state in ("failed", "missing")
            },
            recursive_read_only=self.recursive_read_only,
        )


def image_fault_words(image: ImageOnHost) -> str:
    """Why a host has not an image, for a person: one line of bounded length."""
    detail = " ".join(image.detail.split())[:MAX_DETAIL] or "its agent does not say why"
    return f"could not be pulled: {detail}" if image.state == "failed" else f"it {detail}"


async def host_inventory(
    config: FacilityConfig,
    facility: Facility,
    keeper: ImageKeeper,
    containers: list[dict[str, Any]],
    version: str,
) -> HostInventory:
    """The inventory of this host.

    Parameters
    ----------
    containers:
        This facility's containers, as the engine lists them.
    version:
        The engine's version.
    """
    wanted = next(place.pools for place in config.sessions.places if place.name == facility.place_name)
    pools = [pool for pool in config.pools if pool.name in wanted]
    return HostInventory(
        place=facility.place_name,
        engine_version=version,
        recursive_read_only=engine_is_recursive(version),
        pools=await asyncio.to_thread(pool_states, pools),
        images={name: ImageOnHost.model_validate(one) for name, one in keeper.report().items()},
        n_sessions=sum(
            container.get("State") in RUNNING and f"{LABEL}role" not in (container.get("Labels") or {})
            for container in containers
        ),
        memory_free_bytes=free_memory_bytes(MEMORY_FILE),
        gpus=facility.place.gpu_devices,
        gpus_free=free_gpus(facility.place, containers),
    )


def free_memory_bytes(file: Path) -> int | None:
    """Memory that new processes can have without swapping (`MemAvailable`); None where unknown."""
    try:
        for line in file.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
