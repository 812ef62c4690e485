"""What the nodes of a Kubernetes place give now, for placement. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from beamhub_core.clock import Clock
from beamhub_core.config import FacilityConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig, TolerationConfig
from beamhub_core.config.storage import PlaceConfig
from beamhub_core.pool_health import PoolState
from beamhub_spawners.inventory import HostStorage
from beamhub_spawners.kubernetes_objects import NodeSeen, Raw, TaintSeen, requests_of

GIB = 2**30
NAMED_AT_MOST = 50
"""Images that a node names by default. Source: kubelet, nodeStatusMaxImages."""
NOT_THERE = "it is on none of the nodes, and they do not fetch images"
Taken = Mapping[str, Mapping[str, float]]
"""Amounts by node and resource."""
KEEPS_OUT = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """What one node still has for sessions."""

    cpu: float
    memory_bytes: float
    pods: float
    gpus: float


def storage_of(
    place: PlaceConfig,
    config: FacilityConfig,
    nodes: Iterable[NodeSeen],
    taken: Taken,
    pools: Mapping[str, PoolState],
) -> HostStorage:
    """What a place has: whether its nodes take sessions, their room, images and what they can. Pure.

    Parameters
    ----------
    nodes:
        All nodes of the cluster.
    taken:
        What the sessions' pods take of each node (`taken_of`). What else runs on the nodes is not seen from
        the sessions' namespace; the scheduler has the last word.
    pools:
        How the place's storage is, as its keeper says.
    """
    kubernetes = _kubernetes(place)
    own = [node for node in nodes if has_labels(node, kubernetes.node_labels)]
    usable = [node for node in own if node_fault(node, kubernetes) is None]
    rooms = rooms_of(usable, taken, kubernetes)
    with_gpus = [node for node in usable if has_labels(node, kubernetes.gpu_node_labels)]
    references = sorted({environment.image for environment in config.sessions.environments})
    present = {image for image in references if any(has_image(node, image) for node in usable)}
    return HostStorage(
        pools=dict(pools),
        images=tuple(sorted(present)),
        fault=place_fault(own, kubernetes),
        image_faults=_image_faults(usable, present, references, kubernetes),
        gpus=int(sum(node.allocatable.get(kubernetes.gpu_resource, 0) for node in with_gpus)),
        gpus_free=int(max((rooms[node.name].gpus for node in with_gpus), default=0)),
        memory_free_gib=_memory_free_gib(rooms.values(), config, kubernetes),
    )


def healthy_pools(place: PlaceConfig, config: FacilityConfig, clock: Clock) -> dict[str, PoolState]:
    """The pools of a place without a keeper: taken for healthy, since nobody looks."""
    return {
        pool.name: PoolState(
            pool=pool.name, is_readable=True, is_writable=pool.takes_writes, checked_at=clock()
        )
        for pool in config.pools
        if pool.name in place.pools
    }


def has_labels(node: NodeSeen, wanted: Mapping[str, str]) -> bool:
    """Whether a node has all of some labels."""
    return all(node.labels.get(key) == value for key, value in wanted.items())


def node_fault(node: NodeSeen, kubernetes: KubernetesPlaceConfig) -> str | None:
    """Why a node takes no sessions now, in words for people; None when it takes some."""
    if not node.is_ready:
        return "does not answer"
    if node.is_cordoned:
        return "is cordoned (closed to new sessions)"
    for taint in node.taints:
        if taint.effect in KEEPS_OUT and not any(tolerates(one, taint) for one in kubernetes.tolerations):
            return f"is set apart (taint {taint.key})"
    if kubernetes.supplemental_groups == "strict" and not node.is_strict:
        return "cannot keep an image's groups out"
    if kubernetes.recursive_read_only and not node.is_recursive:
        return "cannot make what is mounted below a read-only mount read-only"
    return None


def tolerates(toleration: TolerationConfig, taint: TaintSeen) -> bool:
    """Whether a toleration of the place covers a taint."""
    return (
        toleration.key == taint.key
        and toleration.effect in (None, taint.effect)
        and toleration.value in (None, taint.value)
    )


def place_fault(own: Sequence[NodeSeen], kubernetes: KubernetesPlaceConfig) -> str | None:
    """Why none of the place's nodes takes a session; None when one does."""
    if not own:
        return "no node of the cluster has its labels"
    faults = Counter(fault for fault in (node_fault(node, kubernetes) for node in own) if fault is not None)
    if faults.total() < len(own):
        return None
    if len(own) == 1:
        return f"its node {next(iter(faults))}"
    told = ", ".join(f"{n} {fault}" for fault, n in sorted(faults.items()))
    return f"none of its {len(own)} nodes takes sessions: {told}"


def taken_of(pods: Iterable[Raw]) -> dict[str, dict[str, float]]:
    """What pods take of each node that they are on, by the node's name; `pods` counts them.

    Pods are in the form that `kept_pod` gives; those that are over take nothing.
    """
    taken: dict[str, dict[str, float]] = {}
    for pod in pods:
        node = (pod.get("spec") or {}).get("nodeName")
        if not node or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            continue
        counted = taken.setdefault(str(node), {"pods": 0.0})
        counted["pods"] += 1
        for name, amount in requests_of(pod).items():
            counted[name] = counted.get(name, 0.0) + amount
    return taken


def rooms_of(
    nodes: Iterable[NodeSeen], taken: Taken, kubernetes: KubernetesPlaceConfig
) -> dict[str, NodeRoom]:
    """What each node has left, by its name."""
    rooms = {}
    for node in nodes:
        used = taken.get(node.name, {})
        left = {
            name: node.allocatable.get(name, 0.0) - used.get(name, 0.0)
            for name in ("cpu", "memory", "pods", kubernetes.gpu_resource)
        }
        gpus = max(0.0, left[kubernetes.gpu_resource])
        rooms[node.name] = NodeRoom(left["cpu"], left["memory"], left["pods"], gpus)
    return rooms


def _memory_free_gib(
    rooms: Iterable[NodeRoom], config: FacilityConfig, kubernetes: KubernetesPlaceConfig
) -> float:
    """The largest session that some node has room for; one without cores or slots has none."""
    least_cpu = min(profile.cpu for profile in config.sessions.profiles) * kubernetes.cpu_request_share
    free = [room.memory_bytes for room in rooms if room.pods >= 1 and room.cpu >= least_cpu]
    return round(max(0.0, max(free, default=0.0)) / GIB / kubernetes.memory_request_share, 3)


def _image_faults(
    usable: Sequence[NodeSeen],
    present: set[str],
    references: Iterable[str],
    kubernetes: KubernetesPlaceConfig,
) -> dict[str, str]:
    is_told_in_full = bool(usable) and all(node.n_images < NAMED_AT_MOST for node in usable)
    if kubernetes.image_pull_policy != "Never" or not is_told_in_full:
        return {}
    return {image: NOT_THERE for image in references if image not in present}


def has_image(node: NodeSeen, reference: str) -> bool:
    """Whether a node names an image, under its full name."""
    return full_name(reference) in node.images or reference in node.images


def full_name(reference: str) -> str:
    """A reference as nodes write it: with its registry, and by digest where it has one."""
    name, separator, digest = reference.partition("@")
    if separator:
        head, slash, tail = name.rpartition("/")
        name = f"{head}{slash}{tail.partition(':')[0]}"
    elif ":" not in name.rpartition("/")[2]:
        name += ":latest"
    first = name.partition("/")[0]
    if "/" not in name:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    return f"{name}{separator}{digest}"


def _kubernetes(place: PlaceConfig) -> KubernetesPlaceConfig:
    if place.kubernetes is None:
        raise ValueError(f"the place {place.name!r} is none of Kubernetes")
    return place.kubernetes
