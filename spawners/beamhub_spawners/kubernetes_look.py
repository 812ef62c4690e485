"""The pods of a hub on all clusters of its places; each cluster by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from beamhub_core.config import FacilityConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_spawners.kubernetes_cluster import ApiRefused, Cluster, shared_cluster
from beamhub_spawners.kubernetes_pod import Pod
from beamhub_spawners.refusal import StartFailed


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod with the cluster that it is on."""

    cluster: Cluster
    pod: Pod


@dataclass(frozen=True, slots=True)
class Look:
    """What the clusters showed, and the places whose cluster is silent, with its seconds of silence."""

    seen: tuple[Seen, ...]
    silent: Mapping[str, float]


async def look_everywhere(config: FacilityConfig, labels: Mapping[str, str]) -> Look:
    """The pods with some labels. A cluster that does not answer is silent: of its pods nothing is known."""
    places: dict[Cluster, list[str]] = {}
    for place in config.sessions.places:
        if place.kubernetes is not None:
            places.setdefault(shared_cluster(place.kubernetes), []).append(place.name)
    looks = await asyncio.gather(*(_look(cluster, names, labels) for cluster, names in places.items()))
    silent = {name: seconds for look in looks for name, seconds in look.silent.items()}
    return Look(tuple(one for look in looks for one in look.seen), silent)


async def _look(cluster: Cluster, places: list[str], labels: Mapping[str, str]) -> Look:
    try:
        found = await cluster.pods(labels)
    except (Unavailable, ApiRefused):
        return Look((), dict.fromkeys(places, cluster.silent_s))
    return Look(tuple(Seen(cluster, pod) for pod in found), {})


def kubernetes_place(config: FacilityConfig, name: str) -> KubernetesPlaceConfig:
    """Which nodes and volumes a place is.

    Raises
    ------
    StartFailed
        If it is on no cluster.
    """
    for place in config.sessions.places:
        if place.name == name and place.kubernetes is not None:
            return place.kubernetes
    raise StartFailed("The session", f"the place {name} has no cluster")
