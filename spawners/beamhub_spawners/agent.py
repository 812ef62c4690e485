"""An agent or a storage keeper as a process: its parts from the configuration, its life to a signal."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from beamhub_core.config import FacilityConfig, read_config
from beamhub_core.config.agent import AgentConfig, read_agent_config
from beamhub_core.errors import ConfigInvalid
from beamhub_spawners.agent_create import Facility
from beamhub_spawners.agent_desk import Desk
from beamhub_spawners.agent_engine import Engine
from beamhub_spawners.agent_folders import Folders
from beamhub_spawners.agent_images import ImageKeeper, images_of
from beamhub_spawners.agent_inventory import host_inventory
from beamhub_spawners.agent_server import AgentMetrics, AgentServer
from beamhub_spawners.keeper_desk import KeeperDesk
from beamhub_spawners.platform import clock_of
from beamhub_spawners.web_client import WebClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """An agent that serves: its server, and what it keeps of images; a storage keeper keeps none."""

    server: AgentServer
    keeper: ImageKeeper | None


@asynccontextmanager
async def serving_agent(config: AgentConfig, facility_config: FacilityConfig) -> AsyncIterator[RunningAgent]:
    """An agent, or a storage keeper, that listens until the block ends.

    Raises
    ------
    ConfigInvalid
        If the facility has no such place.
    OSError
        If a certificate, key or token cannot be read, or a port is taken.
    """
    serving = _serving_keeper if config.engine == "none" else _serving_engine
    async with serving(config, facility_config) as agent:
        yield agent


@asynccontextmanager
async def _serving_keeper(
    config: AgentConfig, facility_config: FacilityConfig
) -> AsyncIterator[RunningAgent]:
    place = next((one for one in facility_config.sessions.places if one.name == config.place), None)
    if place is None or place.kubernetes is None:
        names = [one.name for one in facility_config.sessions.places if one.kubernetes is not None]
        raise _no_place("kubernetes", config, names)
    token = config.web_token_file.read_text(encoding="utf-8").strip()
    web = WebClient(config.web_url or facility_config.web.internal_url, token)
    folders = Folders(facility_config)
    desk = KeeperDesk(facility_config, place, web, clock_of(facility_config), folders)
    server = AgentServer(config, desk, AgentMetrics())
    server.listen()
    try:
        yield RunningAgent(server, None)
    finally:
        await server.close()
        folders.close()
        await web.close()


@asynccontextmanager
async def _serving_engine(
    config: AgentConfig, facility_config: FacilityConfig
) -> AsyncIterator[RunningAgent]:
    facility = facility_of(config, facility_config)
    engine = Engine(config.engine_socket, config.limits.engine_s, config.limits.stream_s)
    token = config.web_token_file.read_text(encoding="utf-8").strip()
    web = WebClient(config.web_url or facility_config.web.internal_url, token)
    metrics = AgentMetrics()
    images = images_of(facility_config, config.place, config.images)
    keeper = ImageKeeper(engine, images, config.pull, config.warm_up_s, metrics.show_images)

    folders = Folders(facility_config)

    async def inventory() -> dict[str, object]:
        found = await desk.own_containers()
        version = str((await engine.version()).get("Version", ""))
        return (await host_inventory(facility_config, facility, keeper, found, version)).model_dump(
            mode="json"
        )

    desk = Desk(
        config=facility_config,
        facility=facility,
        engine=engine,
        web=web,
        clock=clock_of(facility_config),
        inventory=inventory,
        images=frozenset(images),
        folders=folders,
    )
    server = AgentServer(config, desk, metrics)
    server.listen()
    keeping = asyncio.create_task(keeper.run())
    try:
        yield RunningAgent(server, keeper)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await server.close()
        folders.close()
        await engine.close()
        await web.close()


def facility_of(config: AgentConfig, facility_config: FacilityConfig) -> Facility:
    """Whose agent this is, and of which place."""
    for place in facility_config.sessions.places:
        if place.name == config.place and place.docker is not None:
            return Facility(
                short_name=facility_config.short_name,
                place_name=place.name,
                place=place.docker,
                extra_variables=frozenset(config.extra_variables),
            )
    names = [place.name for place in facility_config.sessions.places if place.docker is not None]
    raise _no_place("docker", config, names)


def _no_place(backend: str, config: AgentConfig, names: list[str]) -> ConfigInvalid:
    there = ", ".join(names) or "none"
    problem = f"place: no {backend} place is called {config.place!r} (there: {there})"
    return ConfigInvalid(str(config.facility_file), (problem,))


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    config = read_agent_config(arguments.config)
    try:
        asyncio.run(_serve(config, read_config(config.facility_file)))
    except OSError as error:
        # It names the file or address, never what a file holds.
        sys.stderr.write(f"beamhub: the agent cannot serve: {error}\n")
        return 1
    return 0


async def _serve(config: AgentConfig, facility_config: FacilityConfig) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with serving_agent(config, facility_config) as agent:
        log.info("the agent of place %s serves on %s:%d", config.place, config.listen.host, agent.server.port)
        await stopped.wait()
