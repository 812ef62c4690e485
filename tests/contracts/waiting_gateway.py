"""A gateway whose clusters are promises: `python -m contracts.waiting_gateway --config facility.yaml`.

Server, database, limits and sessions are the real ones; `WaitingRunner` starts nothing. Each part waits
as long as a start takes, and one loop speaks for all schedulers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
from aiohttp import web

from beamhub_core.config import read_config
from beamhub_core.session import SessionPlan
from beamhub_spawners.dask_backend import PlanBackend
from beamhub_spawners.dask_gateway import build_gateway
from beamhub_spawners.dask_render import DaskPart
from beamhub_spawners.dask_runner import FoundPart, PartAddress, Secrets

HOST = "127.0.0.1"
START_S = (0.3, 1.5)
BEAT_S = 1.0


@dataclass
class Cluster:
    """A scheduler that is none: how many workers it was told to have, and those that came."""

    token: str
    count: int = 0
    workers: set[str] = field(default_factory=set)
    beats: asyncio.Task[None] | None = None


class WaitingRunner:
    """Waits where others start; see `Runner`. All of it belongs to the gateway's loop."""

    knows_schedulers = True

    def __init__(self, gateway_url: str) -> None:
        self._gateway_url = gateway_url
        self._clusters: dict[str, Cluster] = {}
        self._parts: dict[tuple[str, str], FoundPart] = {}
        self._page: web.AppRunner | None = None
        self._port = 0
        self._opening = asyncio.Lock()
        self._random = random.Random(9)  # noqa: S311 - how long a start takes

    async def start(self, plan: SessionPlan, part: DaskPart, secrets: Secrets, scheduler: str) -> None:
        """The part is there after a while."""
        async with self._opening:
            if self._page is None:
                await self._listen()
        await asyncio.sleep(self._random.uniform(*START_S))
        found = FoundPart(plan.id, part.cluster, part.name, plan.place.name, is_running=True, age_s=0.0)
        self._parts[part.cluster, part.name] = found
        cluster = self._clusters.setdefault(part.cluster, Cluster(secrets.token))
        if part.role == "worker":
            cluster.workers.add(part.name)
        else:
            cluster.beats = asyncio.create_task(self._beat(part.cluster, cluster))

    async def end(self, found: FoundPart) -> None:
        """The part is gone."""
        self._parts.pop((found.cluster, found.name), None)
        cluster = self._clusters.get(found.cluster)
        if cluster is not None:
            cluster.workers.discard(found.name)
            if found.name == found.cluster and cluster.beats is not None:
                cluster.beats.cancel()

    async def look(self) -> tuple[FoundPart, ...]:
        """Every part that waited to its end."""
        return tuple(self._parts.values())

    async def is_alive(self, found: FoundPart) -> bool:
        """Whether it has not ended."""
        return (found.cluster, found.name) in self._parts

    async def address(self, found: FoundPart) -> PartAddress | None:
        """Where this process answers for the scheduler."""
        return PartAddress(HOST, (1, self._port))

    async def close(self) -> None:
        """End the heartbeats and the page."""
        for cluster in self._clusters.values():
            if cluster.beats is not None:
                cluster.beats.cancel()
        if self._page is not None:
            await self._page.cleanup()

    async def _listen(self) -> None:
        app = web.Application()
        app.add_routes([web.post("/api/comm", self._told)])
        self._page = web.AppRunner(app, access_log=None)
        await self._page.setup()
        await web.TCPSite(self._page, HOST, 0).start()
        self._port = self._page.addresses[0][1]

    async def _told(self, request: web.Request) -> web.Response:
        """A wish for a size, as the gateway passes it to a scheduler, whom its token names."""
        token = request.headers["Authorization"].partition(" ")[2]
        wish = await request.json()
        for cluster in self._clusters.values():
            if cluster.token == token and wish["op"] == "scale":
                cluster.count = wish["count"]
        return web.Response()

    async def _beat(self, name: str, cluster: Cluster) -> None:
        beat = {
            "scheduler_address": f"tls://{HOST}:1",
            "api_address": f"http://{HOST}:{self._port}",
            "dashboard_address": "",
            "closing_workers": [],
            "closed_workers": [],
        }
        url = f"{self._gateway_url}/api/v1/clusters/{name}/heartbeat"
        headers = {"Authorization": f"token {cluster.token}"}
        async with aiohttp.ClientSession(headers=headers) as client:
            while True:
                said = {**beat, "count": cluster.count, "active_workers": sorted(cluster.workers)}
                with contextlib.suppress(aiohttp.ClientError):
                    await (await client.post(url, json=said)).release()
                await asyncio.sleep(BEAT_S)


def main() -> None:
    """Serve until SIGTERM, as the real one does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    config = read_config(parser.parse_args().config)
    app = build_gateway(config)
    gateway = PlanBackend.platform.gateway
    runner = WaitingRunner(f"http://{HOST}:{gateway.internal_port}")
    PlanBackend.platform = replace(PlanBackend.platform, runner=runner)
    app.start()


if __name__ == "__main__":
    main()
