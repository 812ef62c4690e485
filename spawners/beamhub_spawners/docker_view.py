"""What the sweeper sees of container sessions: the labels."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from docker.errors import APIError

from beamhub_core.config import FacilityConfig
from beamhub_core.errors import Unavailable
from beamhub_spawners.docker_containers import (
    Look,
    end_container,
    join_peer,
    look_everywhere,
    remove_network,
    shared_host,
)
from beamhub_spawners.docker_host import DockerHost
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.docker_render import RUNNING
from beamhub_spawners.sweeper import SETTLE, Found, Inventory

log = logging.getLogger(__name__)


class DockerView:
    """Containers of this facility on its hosts."""

    def __init__(self, config: FacilityConfig, settle: timedelta = SETTLE) -> None:
        self._config, self._settle = config, settle

    async def look(self) -> Inventory:
        """Every container with this facility's label, and which places are silent."""
        look = await self._look()
        return Inventory(
            tuple(
                Found(
                    plan_id=one.labels.get(f"{LABEL}plan-id", ""),
                    backend_id=f"container:{one.fields['Id']}",
                    is_running=one.fields["State"] in RUNNING,
                    age_s=time.time() - int(one.fields["Created"]),
                    token_digest=one.labels.get(f"{LABEL}token-digest"),
                )
                for one in look.seen
                if f"{LABEL}role" not in one.labels  # of a cluster: the gateway's, see `tidy`
            ),
            silent=look.silent,
        )

    async def end(self, found: Found) -> None:
        """Stop and remove the container.

        Raises
        ------
        Unavailable
            When its host failed or does not answer.
        """
        for one in (await self._look()).seen:
            if f"container:{one.fields['Id']}" == found.backend_id:
                try:
                    await end_container(one, self._config.sessions.state_folder, now=False)
                except APIError as error:
                    raise Unavailable("container", f"HTTP {error.status_code}") from error

    async def tidy(self) -> None:
        """Remove what sessions without a container left; bring the platform's own into others' networks.

        Parts of clusters go first, then networks. A container of the platform that was made anew, as by an
        upgrade, is in no session's network.
        """
        look = await self._tidy_clusters(await self._look())
        for place in self._config.sessions.places:
            if place.docker is None or place.docker.network_block is None or place.name in look.silent:
                continue
            await self._tidy_host(shared_host(place.docker), look)

    async def _tidy_clusters(self, look: Look) -> Look:
        """End parts that the gateway should have ended with their session; it may be gone for good.

        Returns what is left, so that this very pass removes the networks that they were in.
        """
        sessions = {
            one.labels.get(f"{LABEL}plan-id") for one in look.seen if f"{LABEL}role" not in one.labels
        }
        kept = []
        for one in look.seen:
            is_left = f"{LABEL}role" in one.labels and one.labels.get(f"{LABEL}plan-id") not in sessions
            if not is_left or time.time() - int(one.fields["Created"]) <= self._settle.total_seconds():
                kept.append(one)
                continue
            log.warning("removing a part of a cluster whose session is gone: %s", one.fields["Id"][:12])
            try:
                await one.host.call("remove_container", one.fields["Id"], v=True, force=True)
            except (APIError, Unavailable) as error:
                log.warning("it could not be removed; the next pass tries again: %s", error)
                kept.append(one)
        return Look(tuple(kept), look.silent)

    async def _tidy_host(self, host: DockerHost, look: Look) -> None:
        used = {one.labels.get(f"{LABEL}plan-id") for one in look.seen}
        try:
            for network in await host.call("networks"):
                labels = network.get("Labels") or {}
                plan_id = str(labels.get(f"{LABEL}plan-id") or "")
                is_ours = labels.get(f"{LABEL}facility") == self._config.short_name
                if not is_ours or not plan_id:
                    continue
                if plan_id in used:
                    for peer in host.place.peers:
                        await join_peer(host, plan_id, peer)
                elif _age_s(network) > self._settle.total_seconds():
                    log.warning("removing the network of a session that is gone", extra={"plan_id": plan_id})
                    await remove_network(host, plan_id)
        except (APIError, Unavailable) as error:
            log.warning("networks could not be tidied; the next pass tries again: %s", error)

    async def _look(self) -> Look:
        return await look_everywhere(self._config, {f"{LABEL}facility": self._config.short_name})


def _age_s(network: Mapping[str, Any]) -> float:
    """Seconds since a network was made, by the machine's clock; 0 where nobody can tell."""
    try:
        return time.time() - datetime.fromisoformat(str(network.get("Created"))).timestamp()
    except ValueError:
        return 0.0
