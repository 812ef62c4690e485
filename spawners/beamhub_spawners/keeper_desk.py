"""What the storage keeper of a Kubernetes place answers: how its storage is, folders of plans, homes.

It is an agent without an engine. It mounts homes, scratch and the place's pools where the facility's
configuration says that they are, so it sees what the nodes see, and the hub needs no storage at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from beamhub_core.clock import Clock
from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import PlaceConfig
from beamhub_core.pool_health import PoolState, pool_states
from beamhub_core.rights import Refused
from beamhub_core.word import Word
from beamhub_spawners.agent_create import check_plan
from beamhub_spawners.agent_folders import Folders
from beamhub_spawners.agent_reply import Reply, json_reply
from beamhub_spawners.agent_routes import Asked, NotAdmitted
from beamhub_spawners.web_client import WebClient


class StorageInventory(Word):
    """The storage of a place as its keeper sees it now."""

    place: str
    pools: dict[str, PoolState]


@dataclass(slots=True)
class KeeperDesk:
    """Answers four kinds of requests; all others need an engine, and are refused.

    It makes nothing that a stored plan of its place does not name, whatever the caller asks.
    """

    config: FacilityConfig
    place: PlaceConfig
    web: WebClient
    clock: Clock
    folders: Folders

    async def answer(self, asked: Asked, body: bytes) -> Reply:
        """Answer an admissible request; what came with it is not read.

        Raises
        ------
        NotAdmitted
            If it needs an engine, or names a plan of which nothing may be made here now.
        Unavailable
            When web is silent.
        """
        handlers: Mapping[str, Callable[[Asked], Awaitable[Reply]]] = {
            "ping": self._ping,
            "inventory": self._inventory,
            "folders": self._make_folders,
            "home": self._home,
        }
        if asked.route not in handlers:
            raise NotAdmitted(403, "not admitted: a storage keeper has no engine")
        return await handlers[asked.route](asked)

    async def _ping(self, asked: Asked) -> Reply:
        return Reply(200, b"OK", is_json=False)

    async def _inventory(self, asked: Asked) -> Reply:
        pools = [pool for pool in self.config.pools if pool.name in self.place.pools]
        states = await asyncio.to_thread(pool_states, pools)
        return json_reply(StorageInventory(place=self.place.name, pools=states).model_dump(mode="json"))

    async def _make_folders(self, asked: Asked) -> Reply:
        plan_id = asked.parts["plan"]
        async with self.folders.lock_of(plan_id):
            try:
                stored = await self.web.session(plan_id)
            except Refused:
                raise NotAdmitted(403, "web knows no such plan") from None
            plan = check_plan(stored, place=self.place.name, backend="kubernetes", now=self.clock())
            await self.folders.make(plan)
        return Reply(204)

    async def _home(self, asked: Asked) -> Reply:
        said = await self.folders.home_of(asked.parts["account"])
        return json_reply(said.model_dump(mode="json"))
