"""From a session plan to what Docker is asked for. Pure.

The body goes to the engine's API as it is: DockerSpawner's own traits pass each string through `str.format`,
so a brace in a dataset's path would fail or read attributes. The agent renders the same plan by the same
function and admits no other body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.session import Mount, SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.container_start import RUN_FOLDER, SESSION_INFO_VARIABLE
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.session_environment import token_digest
from beamhub_spawners.session_view import ENFORCED, session_info

PORT = 8888
PORT_KEY = f"{PORT}/tcp"
HOST_NAME = "beamhub-host"
"""How a session in a network of its own knows its host."""
CPU_PERIOD_US = 100_000
SHM_SHARE = 0.25
RECURSIVE_READ_ONLY_ENGINE = 25
# A session that prints without end fills its own log, not the host's disk.
LOGS = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}
RUNNING = ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True)
class Ground:
    """What a host adds to a plan.

    Parameters
    ----------
    network:
        Name of the network that the container joins.
    gateway:
        The host's address in a network of the session's own, else None.
    gpus:
        The graphics processors that the session gets, as many as its plan says.
    recursive_read_only:
        Whether the engine can make what is mounted below a mount read-only, too (25 and later).
    """

    network: str
    gateway: str | None = None
    gpus: tuple[str, ...] = ()
    recursive_read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerFields:
    """A container to create: its name, and the body of `POST /containers/create`."""

    name: str
    body: dict[str, Any]


def container_name(plan: SessionPlan) -> str:
    """The container's name: from the plan alone, never from a person's or a server's name."""
    return f"beamhub-{plan.id}"


def server_labels(facility: str, account: str, server_name: str) -> dict[str, str]:
    """The labels by which a server's container is found again."""
    return {
        f"{LABEL}facility": facility,
        f"{LABEL}account": account,
        f"{LABEL}server": server_name or "-",  # Docker's filter takes no empty value
    }


def container_fields(
    plan: SessionPlan,
    place: DockerPlaceConfig,
    *,
    facility: str,
    environment: Mapping[str, str],
    ground: Ground,
) -> ContainerFields:
    """The container of a plan.

    Raises
    ------
    ValueError
        If the plan has no numeric identity, or root's, or the ground has not its number of graphics
        processors.
    """
    if not plan.uid or not plan.gid:
        raise ValueError(f"plan {plan.id} has no numeric identity to run a container with")
    if len(set(ground.gpus)) != plan.limits.gpus:
        raise ValueError(f"plan {plan.id} has {plan.limits.gpus} graphics processors, not {ground.gpus}")
    info = session_info(plan, enforced=ENFORCED)
    variables = {
        **environment,
        **plan.environment_variables,
        "HOME": info.home,
        SESSION_INFO_VARIABLE: info.model_dump_json(),
    }
    body = {
        "Image": plan.image,
        "User": f"{plan.uid}:{plan.gid}",  # both: with the uid alone the image's groups would count
        "WorkingDir": "/",
        "Env": [f"{name}={variables[name]}" for name in sorted(variables)],
        "ExposedPorts": {PORT_KEY: {}},
        "Labels": {
            **server_labels(facility, plan.account, plan.server_name),
            f"{LABEL}plan-id": plan.id,
            f"{LABEL}plan-hash": digest(plan),
            f"{LABEL}token-digest": token_digest(environment["JUPYTERHUB_API_TOKEN"]),
            f"{LABEL}expires": plan.expires_at.isoformat(),
            f"{LABEL}gpus": ",".join(ground.gpus),
            f"{LABEL}trace": plan.trace_id or "-",
        },
        "HostConfig": {**session_host_config(plan, place, ground), **_ports(place)},
    }
    return ContainerFields(container_name(plan), body)


def session_host_config(plan: SessionPlan, place: DockerPlaceConfig, ground: Ground) -> dict[str, Any]:
    """What the host gives a container of a plan: mounts, limits, network. A cluster's parts get the same."""
    memory_bytes = int(plan.limits.memory_gib * 2**30)
    fields: dict[str, Any] = {
        "Mounts": [bind_mount(mount, recursive=ground.recursive_read_only) for mount in plan.mounts],
        "ReadonlyRootfs": True,
        "Privileged": False,
        "Tmpfs": _tmpfs(plan, place),
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "GroupAdd": [str(gid) for gid in plan.gids],
        "IpcMode": "private",
        "PidsLimit": plan.limits.pids,
        "Memory": memory_bytes,
        "MemorySwap": memory_bytes,
        "CpuPeriod": CPU_PERIOD_US,
        "CpuQuota": int(plan.limits.cpu * CPU_PERIOD_US),
        "ShmSize": int(memory_bytes * SHM_SHARE),
        "NetworkMode": ground.network,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": LOGS,
    }
    if ground.gateway is not None:
        fields["ExtraHosts"] = [f"{HOST_NAME}:{ground.gateway}"]
    if ground.gpus:
        fields["DeviceRequests"] = [_device_request(place, ground.gpus)]
    return fields


def _ports(place: DockerPlaceConfig) -> dict[str, Any]:
    if place.publish_address is None:
        return {}
    return {"PortBindings": {PORT_KEY: [{"HostIp": str(place.publish_address), "HostPort": ""}]}}


def _device_request(place: DockerPlaceConfig, gpus: tuple[str, ...]) -> dict[str, Any]:
    """Whole graphics processors by name: by number of them, each container would get the same first ones."""
    if place.gpu_driver == "cdi":
        return {"Driver": "cdi", "DeviceIDs": list(gpus)}
    return {"Driver": "nvidia", "DeviceIDs": list(gpus), "Capabilities": [["gpu"]]}


def free_gpus(place: DockerPlaceConfig, containers: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The configured graphics processors that no container of a list holds; a stopped one holds none."""
    taken = {
        gpu
        for container in containers
        if container.get("State") in (*RUNNING, "created")
        for gpu in (container.get("Labels") or {}).get(f"{LABEL}gpus", "").split(",")
    }
    return tuple(gpu for gpu in place.gpu_devices if gpu not in taken)


def engine_is_recursive(version: str) -> bool:
    """Whether an engine of a version makes mounts below a read-only one read-only, too."""
    number = re.match(r"\d+", version)
    return number is not None and int(number.group()) >= RECURSIVE_READ_ONLY_ENGINE


def _tmpfs(plan: SessionPlan, place: DockerPlaceConfig) -> dict[str, str]:
    """What of a read-only container is writable, besides its mounts: memory, which counts as its own.

    Each is at most half of that memory: who fills it reads that it is full, instead of being killed.
    """
    size_mib = min(place.tmp_mib, int(plan.limits.memory_gib * 1024 / 2))
    size = f"nosuid,nodev,size={size_mib}m"
    return {
        "/tmp": f"mode=1777,exec,{size}",  # noqa: S108 - the container's own
        # Owned by number: the runtime gives a folder that the image has the image's mode back.
        str(RUN_FOLDER): f"mode=0700,uid={plan.uid},gid={plan.gid},{size}",
    }


def bind_mount(mount: Mount, *, recursive: bool) -> dict[str, Any]:
    """A mount as the engine's API has it; a missing source is an error there, not a new folder.

    Engines before 25 leave what is mounted below a read-only bind writable: there nothing below is bound but
    what the plan mounts by itself. Later ones refuse a mount that they cannot make read-only all through. A
    mount that follows the host takes what lies below it as the host has it: configured only where that is
    read-only.
    """
    options: dict[str, Any] = {"NonRecursive": True}
    if mount.propagation == "host_to_container":
        options = {"Propagation": "rslave"}
    elif recursive and mount.mode == "ro":
        options = {"Propagation": "rprivate", "ReadOnlyForceRecursive": True}
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.mode == "ro",
        "BindOptions": options,
    }
