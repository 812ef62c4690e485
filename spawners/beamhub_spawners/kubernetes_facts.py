"""What is known of a Kubernetes place now: its nodes from the cluster's view, its storage from its keeper."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.config.storage import PlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_core.pool_health import PoolState
from beamhub_spawners.host_homes import HomeOnHost
from beamhub_spawners.inventory import HostStorage
from beamhub_spawners.kubernetes_cluster import ApiRefused, Cluster, shared_cluster
from beamhub_spawners.kubernetes_inventory import Taken, healthy_pools, storage_of, taken_of
from beamhub_spawners.kubernetes_keeper import ask_home, ask_pools
from beamhub_spawners.kubernetes_pod import Pod

NOTHING_KNOWN = HomeOnHost(homes={})
"""Of a place without a keeper: the hub mounts no homes, so the session itself finds out."""

_counted: WeakKeyDictionary[Cluster, tuple[int, Taken]] = WeakKeyDictionary()


async def ask_kubernetes_place(place: PlaceConfig, config: FacilityConfig) -> HostStorage | None:
    """What a place gives now; None for one that is none of Kubernetes.

    Raises
    ------
    Unavailable
        When the cluster's view is not fresh, or the place's keeper does not answer.
    """
    kubernetes = place.kubernetes
    if kubernetes is None:
        return None
    cluster = shared_cluster(kubernetes)
    try:
        nodes, pods, pools = await asyncio.gather(
            cluster.nodes(), cluster.all_pods(), _pools(place, kubernetes, config)
        )
    except ApiRefused as refused:
        raise Unavailable("cluster", f"HTTP {refused.status}") from refused
    if nodes is None:  # then the scheduler finds out, and says so
        return HostStorage(pools=pools)
    return storage_of(place, config, nodes, _taken(cluster, pods.values()), pools)


def _taken(cluster: Cluster, pods: Iterable[Pod]) -> Taken:
    """What the pods take of each node; counted once for all places of a cluster while nothing changes."""
    turn, taken = _counted.get(cluster, (-1, {}))
    if turn != cluster.turn:
        taken = taken_of(pod.fields for pod in pods)
        _counted[cluster] = (cluster.turn, taken)
    return taken


async def ask_kubernetes_home(place: KubernetesPlaceConfig, account: str) -> HomeOnHost:
    """What is known of an account's home in a place.

    Raises
    ------
    Unavailable
        When its keeper does not answer.
    """
    return NOTHING_KNOWN if place.keeper_url is None else await ask_home(place, account)


async def _pools(
    place: PlaceConfig, kubernetes: KubernetesPlaceConfig, config: FacilityConfig
) -> dict[str, PoolState]:
    if kubernetes.keeper_url is None:
        return healthy_pools(place, config, utc_now)
    return await ask_pools(kubernetes)
