"""From a session plan to what Docker is asked for. Pure.

The fields go to the engine's API as they are. DockerSpawner's own traits are not used for them: it passes
each string through `str.format`, so a brace in a dataset's path would fail or read attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from beamhub_core.config.storage import DockerPlaceConfig
from beamhub_core.session import Mount, SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.container_start import RUN_FOLDER, SESSION_INFO_VARIABLE
from beamhub_spawners.session_environment import token_digest
from beamhub_spawners.session_view import session_info

LABEL = "org.beamhub."
PORT = 8888
CPU_PERIOD_US = 100_000
SHM_SHARE = 0.25
# What a container promises; the engine enforces it whatever runs inside.
ENFORCED = {
    "raw_read_only": True,
    "ungranted_unreadable": True,
    "other_processes_unreadable": True,
    "signals_scoped": True,
    "abstract_sockets": True,
    "own_numeric_identity": True,
    "memory": True,
}


@dataclass(frozen=True, slots=True)
class ContainerFields:
    """A container to create: arguments of `create_container`, and of `create_host_config`."""

    create: dict[str, Any]
    host: dict[str, Any]


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
    plan: SessionPlan, place: DockerPlaceConfig, *, facility: str, environment: dict[str, str]
) -> ContainerFields:
    """The container of a plan.

    Raises
    ------
    ValueError
        If the plan has no numeric identity, or root's.
    """
    if not plan.uid or not plan.gid:
        raise ValueError(f"plan {plan.id} has no numeric identity to run a container with")
    home = next(mount.target for mount in plan.mounts if mount.purpose == "home")
    memory_bytes = int(plan.limits.memory_gib * 2**30)
    return ContainerFields(
        create={
            "image": plan.image,
            "name": container_name(plan),
            "user": f"{plan.uid}:{plan.gid}",  # both: with the uid alone the image's groups would count
            "working_dir": "/",
            "environment": {
                **environment,
                "HOME": home,
                SESSION_INFO_VARIABLE: session_info(plan, enforced=ENFORCED).model_dump_json(),
            },
            "labels": {
                **server_labels(facility, plan.account, plan.server_name),
                f"{LABEL}plan-id": plan.id,
                f"{LABEL}plan-hash": digest(plan),
                f"{LABEL}token-digest": token_digest(environment["JUPYTERHUB_API_TOKEN"]),
                f"{LABEL}expires": plan.expires_at.isoformat(),
                f"{LABEL}trace": plan.trace_id or "-",
            },
        },
        host={
            "mounts": [bind_mount(mount) for mount in plan.mounts],
            "read_only": True,
            "tmpfs": _tmpfs(plan, place),
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "group_add": [str(gid) for gid in plan.gids],
            "pids_limit": plan.limits.pids,
            "mem_limit": memory_bytes,
            "memswap_limit": memory_bytes,
            "cpu_period": CPU_PERIOD_US,
            "cpu_quota": int(plan.limits.cpu * CPU_PERIOD_US),
            "shm_size": int(memory_bytes * SHM_SHARE),
            "network_mode": place.network,
            "restart_policy": {"Name": "no"},
        },
    )


def _tmpfs(plan: SessionPlan, place: DockerPlaceConfig) -> dict[str, str]:
    """What of a read-only container is writable, besides its mounts: memory, which counts as its own."""
    size = f"nosuid,nodev,size={place.tmp_mib}m"
    return {
        "/tmp": f"mode=1777,exec,{size}",  # noqa: S108 - the container's own
        # Owned by number: the runtime gives a folder that the image has the image's mode back.
        str(RUN_FOLDER): f"mode=0700,uid={plan.uid},gid={plan.gid},{size}",
    }


def bind_mount(mount: Mount) -> dict[str, Any]:
    """A mount as the engine's API has it; a missing source is an error there, not a new folder.

    NonRecursive: engines before 25 leave what is mounted below a read-only bind writable, so nothing below is
    bound but what the plan mounts by itself.
    """
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.mode == "ro",
        "BindOptions": {"NonRecursive": True},
    }
