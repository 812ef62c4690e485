"""From a session plan to the pod that the API server is asked for. Pure.

The manifest goes there as it is: KubeSpawner passes its own settings through `str.format`, so a brace in a
dataset's path would fail or read attributes. Kubernetes itself expands `$(NAME)` in environment variables,
so a dollar sign is doubled there, which its expansion turns back into one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig, VolumeConfig
from beamhub_core.session import Mount, SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.container_start import RUN_FOLDER, SESSION_INFO_VARIABLE
from beamhub_spawners.kubernetes_pod import CONTAINER, NAME, PORT, PREFIX, pod_name, server_labels
from beamhub_spawners.person_mounts import person_root
from beamhub_spawners.session_environment import token_digest
from beamhub_spawners.session_view import ENFORCED, session_info

GRACE_S = 5
SHM_SHARE = 0.25
MEMORY_FOLDERS = {"tmp": "/tmp", "run": str(RUN_FOLDER), "shm": "/dev/shm"}  # noqa: S108 - the pod's own
LOST_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""What the cluster marks a node with that does not report."""


@dataclass(frozen=True, slots=True)
class PodContent:
    """What tells pods of one plan apart: the session's own and those of its clusters.

    Parameters
    ----------
    labels, annotations:
        Besides those that every pod of a plan has.
    command:
        In place of the image's own, with its arguments; empty for the image's.
    ports:
        Where it listens, by name.
    owner:
        Name and uid of the pod that it goes with.
    """

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    variables: Mapping[str, str]
    ports: Mapping[str, int]
    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    owner: tuple[str, str] | None = None


def pod_manifest(
    plan: SessionPlan,
    place: KubernetesPlaceConfig,
    *,
    config: FacilityConfig,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """The session's pod of a plan, as the body of a `POST` to the API server.

    Parameters
    ----------
    environment:
        What the server gets besides what the plan says; holds the server's hub token.

    Raises
    ------
    ValueError
        If the plan has no numeric identity, or root's, or mounts what has no volume in the place.
    """
    info = session_info(plan, enforced=enforced(place))
    content = PodContent(
        name=pod_name(plan.id),
        labels=server_labels(config, plan.account, plan.server_name),
        annotations={
            f"{PREFIX}account": plan.account,
            f"{PREFIX}server": plan.server_name,
            f"{PREFIX}token-digest": token_digest(environment["JUPYTERHUB_API_TOKEN"]),
            f"{PREFIX}expires": plan.expires_at.isoformat(),
            f"{PREFIX}trace": plan.trace_id,
        },
        variables={
            **environment,
            **plan.environment_variables,
            "HOME": info.home,
            SESSION_INFO_VARIABLE: info.model_dump_json(),
        },
        ports={"http": PORT},
    )
    return plan_pod(plan, digest(plan), place, config, content)


def plan_pod(
    plan: SessionPlan,
    plan_hash: str,
    place: KubernetesPlaceConfig,
    config: FacilityConfig,
    content: PodContent,
) -> dict[str, Any]:
    """A pod with the identity, image, mounts and limits of a plan.

    Parameters
    ----------
    plan_hash:
        The digest of the plan as web has it; a part of a cluster comes with the plan's limits cut to its own.

    Raises
    ------
    ValueError
        If the plan has no numeric identity, or root's, or mounts what has no volume in the place.
    """
    if not plan.uid or not plan.gid:
        raise ValueError(f"plan {plan.id} has no numeric identity to run a pod with")
    metadata: dict[str, Any] = {
        "name": content.name,
        "namespace": place.namespace,
        "labels": {
            NAME: "beamhub",
            **place.pod_labels,
            **content.labels,
            f"{PREFIX}plan-id": plan.id,
        },
        "annotations": {
            f"{PREFIX}place": plan.place.name,
            f"{PREFIX}plan-hash": plan_hash,
            **content.annotations,
        },
    }
    if content.owner is not None:
        name, uid = content.owner
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": _spec(plan, place, config, content),
    }


def _spec(
    plan: SessionPlan, place: KubernetesPlaceConfig, config: FacilityConfig, content: PodContent
) -> dict[str, Any]:
    names = _volume_names(plan, place, config)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsUser": plan.uid,
            "runAsGroup": plan.gid,
            "runAsNonRoot": True,
            "supplementalGroups": list(plan.gids),
            "supplementalGroupsPolicy": "Strict" if place.supplemental_groups == "strict" else "Merge",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [*_volumes(plan, names), *_memory_volumes(plan, place)],
        "containers": [_container(plan, place, content, _mounts(plan, place, config, names))],
        "tolerations": _tolerations(place),
    }
    affinity = _affinity(place, has_gpus=plan.limits.gpus > 0)
    if affinity:
        spec["affinity"] = {"nodeAffinity": affinity}
    if place.priority_class is not None:
        spec["priorityClassName"] = place.priority_class
    if place.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in place.image_pull_secrets]
    return spec


def volume_of(mount: Mount, place: KubernetesPlaceConfig, config: FacilityConfig) -> VolumeConfig:
    """The volume of the place that holds a mount's folder.

    Raises
    ------
    ValueError
        If the place has none for it.
    """
    found: VolumeConfig | None
    if mount.purpose == "home":
        homes = config.sessions.homes
        is_unmapped = homes.unmapped_folder is not None and (
            person_root(mount, config.sessions) == homes.unmapped_folder
        )
        found = place.unmapped_homes if is_unmapped else place.homes
    elif mount.purpose == "scratch":
        found = place.scratch
    else:
        found = place.volumes.get(mount.pool)
    if found is None:
        raise ValueError(f"the place has no volume for {mount.purpose} folders of {mount.pool}")
    return found


def escaped(value: str) -> str:
    """The text of an environment variable such that Kubernetes' expansion gives the value back."""
    return value.replace("$", "$$")


def cores(amount: float) -> str:
    """Processor cores in the API's own spelling: '2' or '500m'."""
    milli = max(1, round(amount * 1000))
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def size(n_bytes: float) -> str:
    """Bytes in the API's own spelling: '4Gi' or '1536Mi', rounded down to whole KiB."""
    number = max(1, int(n_bytes) // 1024)
    for suffix in ("Ki", "Mi", "Gi"):
        if number % 1024:
            return f"{number}{suffix}"
        number //= 1024
    return f"{number}Ti"


# -- volumes and mounts ---------------------------------------------------------------------------------


def _key(volume: VolumeConfig) -> tuple[str, str]:
    return ("claim", volume.claim) if volume.claim is not None else ("folder", str(volume.host_path))


def _volume_names(
    plan: SessionPlan, place: KubernetesPlaceConfig, config: FacilityConfig
) -> dict[tuple[str, str], tuple[str, bool]]:
    """Each claim or host folder that the plan needs, once: its name in the pod, and whether it is read-only.

    One pod that names a claim twice waits for its second volume for ever.
    """
    found: dict[tuple[str, str], tuple[str, bool]] = {}
    for mount in plan.mounts:
        key = _key(volume_of(mount, place, config))
        name, is_read_only = found.get(key, (f"volume-{len(found)}", True))
        found[key] = (name, is_read_only and mount.mode == "ro")
    return found


def _volumes(plan: SessionPlan, names: Mapping[tuple[str, str], tuple[str, bool]]) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = []
    for (kind, source), (name, is_read_only) in names.items():
        if kind == "claim":
            claim: dict[str, Any] = {"claimName": source}
            if is_read_only:
                claim["readOnly"] = True
            volumes.append({"name": name, "persistentVolumeClaim": claim})
        else:
            volumes.append({"name": name, "hostPath": {"path": source, "type": "Directory"}})
    return volumes


def _mounts(
    plan: SessionPlan,
    place: KubernetesPlaceConfig,
    config: FacilityConfig,
    names: Mapping[tuple[str, str], tuple[str, bool]],
) -> list[dict[str, Any]]:
    """The plan's folders, parents before what lies below them, and what of the pod is memory."""
    mounts = []
    for mount in sorted(plan.mounts, key=lambda one: PurePosixPath(one.target).parts):
        volume = volume_of(mount, place, config)
        fields: dict[str, Any] = {
            "name": names[_key(volume)][0],
            "mountPath": mount.target,
            "subPath": str(PurePosixPath(volume.sub_path) / mount.path),
        }
        if mount.mode == "ro":
            fields["readOnly"] = True
        if mount.propagation == "host_to_container":
            fields["mountPropagation"] = "HostToContainer"
        elif mount.mode == "ro" and place.recursive_read_only:
            fields["recursiveReadOnly"] = "Enabled"
        mounts.append(fields)
    memory = [{"name": name, "mountPath": path} for name, path in MEMORY_FOLDERS.items()]
    return [*memory, *mounts]


def _memory_volumes(plan: SessionPlan, place: KubernetesPlaceConfig) -> list[dict[str, Any]]:
    """What of a read-only container is writable, besides its mounts: memory, which counts as its own.

    /tmp is at most half of that memory: who fills it reads that it is full, instead of being killed.
    """
    tmp_mib = min(place.tmp_mib, int(plan.limits.memory_gib * 1024 / 2))
    sizes = dict.fromkeys(MEMORY_FOLDERS, size(tmp_mib * 2**20))
    sizes["shm"] = size(plan.limits.memory_gib * 2**30 * SHM_SHARE)
    return [
        {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": limit}} for name, limit in sizes.items()
    ]


# -- the container ----------------------------------------------------------------------------------------


def _container(
    plan: SessionPlan,
    place: KubernetesPlaceConfig,
    content: PodContent,
    mounts: list[dict[str, Any]],
) -> dict[str, Any]:
    variables = content.variables
    own_command = {"command": list(content.command), "args": list(content.arguments)}
    return {
        "name": CONTAINER,
        "image": plan.image,
        "imagePullPolicy": place.image_pull_policy,
        **(own_command if content.command else {}),
        "workingDir": "/",
        "env": [{"name": name, "value": escaped(variables[name])} for name in sorted(variables)],
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in content.ports.items()
        ],
        "resources": _resources(plan, place),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": mounts,
    }


def enforced(place: KubernetesPlaceConfig) -> dict[str, bool]:
    """What a pod of a place promises; nodes and API server enforce it whatever runs inside."""
    return {**ENFORCED, "raw_read_only": place.recursive_read_only}


def _resources(plan: SessionPlan, place: KubernetesPlaceConfig) -> dict[str, Any]:
    limits = plan.limits
    memory = limits.memory_gib * 2**30
    gpus = {place.gpu_resource: str(limits.gpus)} if limits.gpus else {}
    return {
        "limits": {"cpu": cores(limits.cpu), "memory": size(memory), **gpus},
        "requests": {
            "cpu": cores(limits.cpu * place.cpu_request_share),
            "memory": size(memory * place.memory_request_share),
            **gpus,
        },
    }


# -- where it may run -------------------------------------------------------------------------------------


def _affinity(place: KubernetesPlaceConfig, *, has_gpus: bool) -> dict[str, Any]:
    affinity: dict[str, Any] = {}
    labels = {**place.node_labels, **(place.gpu_node_labels if has_gpus else {})}
    if labels:
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {
            "nodeSelectorTerms": [{"matchExpressions": _expressions(labels.items())}]
        }
    if place.preferred_node_labels:
        preferred = {"matchExpressions": _expressions(place.preferred_node_labels.items())}
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = [
            {"weight": 100, "preference": preferred}
        ]
    return affinity


def _expressions(labels: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(labels)]


def _tolerations(place: KubernetesPlaceConfig) -> list[dict[str, Any]]:
    """The place's own, and how long a session outlives that its node reports: its notebook may be well."""
    tolerations = []
    for one in place.tolerations:
        fields: dict[str, Any] = {"key": one.key, "operator": "Exists"}
        if one.value is not None:
            fields.update(operator="Equal", value=one.value)
        if one.effect is not None:
            fields["effect"] = one.effect
        tolerations.append(fields)
    of_lost_nodes = [
        {
            "key": key,
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": int(place.lost_node_s),
        }
        for key in LOST_TAINTS
    ]
    return [*tolerations, *of_lost_nodes]
