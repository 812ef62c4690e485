"""From a session's plan to the scheduler and workers of a Dask cluster beside it. Pure.

What a part may touch, as whom it runs and from which image is the plan's, word for word; a cluster adds a
name and a size. The certificate and key of a cluster stand in files of the part's own, and so does its
token where files can be put before the start; no command line, label or plan has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.config.gateway import GatewayConfig
from beamhub_core.session import Limits, SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.container_start import RUN_FOLDER
from beamhub_spawners.dask_limits import Size
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.docker_render import Ground, session_host_config

Role = Literal["scheduler", "worker"]
SCHEDULER_PORT = 8786
API_PORT = 8787
LOOPBACK = "127.0.0.1:0"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - of a container in the session's network
ADAPTIVE_S = 3
HEARTBEAT_S = 10
PRELOAD = "beamhub_spawners.dask_preload"
START = ("python", "-P", "-m", "beamhub_spawners.dask_start")
GRACE_VARIABLE = "BEAMHUB_CLUSTER_GRACE_S"
TOKEN_VARIABLE = "DASK_GATEWAY_API_TOKEN"  # noqa: S105 - a variable's name
SCHEDULER_PIDS = 128
# Scheduler and workers open an HTTP server in any case: without pages, for nobody is asked for a name there.
SETTINGS = {
    "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
    "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}


@dataclass(frozen=True, slots=True)
class DaskPart:
    """One process of a cluster.

    Parameters
    ----------
    cluster, name:
        The gateway's names of cluster and part, 32 hexadecimal digits each; a scheduler is called as its
        cluster.
    size:
        What a worker has; a scheduler's is the facility's.
    grace_s:
        Seconds that a scheduler waits for a client.
    """

    role: Role
    cluster: str
    name: str
    size: Size
    grace_s: int = 0


@dataclass(frozen=True, slots=True)
class PartFiles:
    """Where a part finds its certificate, key and token."""

    certificate: str
    key: str
    token: str


def scheduler_part(cluster: str, grace_s: int, config: GatewayConfig) -> DaskPart:
    """A cluster's scheduler."""
    size = Size(max(1, int(config.scheduler_cpu)), config.scheduler_memory_gib)
    return DaskPart("scheduler", cluster, cluster, size, grace_s)


def part_limits(part: DaskPart, plan: SessionPlan, config: GatewayConfig) -> Limits:
    """Processor, memory and processes of one part."""
    if part.role == "scheduler":
        return Limits(cpu=config.scheduler_cpu, memory_gib=config.scheduler_memory_gib, pids=SCHEDULER_PIDS)
    return Limits(cpu=part.size.threads, memory_gib=part.size.memory_gib, pids=plan.limits.pids)


def part_command(
    part: DaskPart, config: GatewayConfig, *, host: str, ports: tuple[int, int], folder: str, preload: str
) -> list[str]:
    """What follows `python -P -m` for a part; a worker's scheduler stands in its environment.

    Parameters
    ----------
    host, ports:
        Where a scheduler listens, for Dask and for the gateway; port 0 is a free one.
    folder:
        Where a worker keeps what it writes.
    preload:
        Module or file of `dask_preload`.
    """
    if part.role == "scheduler":
        return [
            "distributed.cli.dask_scheduler",
            *("--preload", "dask_gateway.scheduler_preload", "--preload", preload),
            *("--protocol", "tls", "--host", host, "--port", str(ports[0])),
            *("--dashboard-address", LOOPBACK, "--no-dashboard", "--no-show"),
            *("--dg-api-address", f"{host}:{ports[1]}", "--dg-heartbeat-period", str(HEARTBEAT_S)),
            *("--dg-adaptive-period", str(ADAPTIVE_S), "--dg-idle-timeout", f"{config.idle_s:g}"),
        ]
    return [
        "distributed.cli.dask_worker",
        *("--dashboard-address", LOOPBACK, "--no-dashboard", "--no-nanny"),
        *("--name", part.name, "--nthreads", str(part.size.threads)),
        *("--memory-limit", str(int(part.size.memory_gib * 2**30)), "--local-directory", folder),
    ]


def part_variables(
    part: DaskPart, plan: SessionPlan, config: GatewayConfig, *, scheduler: str, files: PartFiles
) -> dict[str, str]:
    """A part's environment: the session's own variables, and where its cluster is. Never a secret.

    Parameters
    ----------
    scheduler:
        The address of a worker's scheduler; empty for the scheduler itself.
    """
    role = part.role.upper()
    threads = str(part.size.threads)
    counted = {name: threads for name in plan.environment_variables if name.endswith("_NUM_THREADS")}
    limits = part_limits(part, plan, config)
    of_the_part = {
        **counted,
        "CPU_LIMIT": f"{limits.cpu:g}",
        "MEM_LIMIT": str(int(limits.memory_gib * 2**30)),
        **SETTINGS,
        GRACE_VARIABLE: str(part.grace_s),
        "DASK_GATEWAY_API_URL": f"{config.session_url.rstrip('/')}/api",
        "DASK_GATEWAY_CLUSTER_NAME": part.cluster,
        "DASK_GATEWAY_WORKER_NAME": part.name if part.role == "worker" else "",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": files.certificate,
        f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT": files.certificate,
        f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY": files.key,
    }
    if scheduler:
        of_the_part["DASK_SCHEDULER_ADDRESS"] = scheduler
    home = next(mount.target for mount in plan.mounts if mount.purpose == "home")
    return {"LANG": "C.UTF-8", **plan.environment_variables, **of_the_part, "HOME": home}


# -- as a container -----------------------------------------------------------------------------------------


def part_container_name(plan_id: str, part: DaskPart) -> str:
    """The name of a part's container: from plan and part, short enough to be a host name."""
    return f"beamhub-{plan_id}-{part.role[0]}-{part.name[:16]}"


def part_labels(part: DaskPart, prefix: str = LABEL) -> dict[str, str]:
    """What a part's container or pod says of its part; the agent reads it back."""
    return {
        f"{prefix}role": part.role,
        f"{prefix}cluster": part.cluster,
        f"{prefix}part": part.name,
        f"{prefix}threads": str(part.size.threads),
        f"{prefix}memory-mib": str(round(part.size.memory_gib * 1024)),
        f"{prefix}grace-s": str(part.grace_s),
    }


def container_files() -> PartFiles:
    """Where a container's start leaves what it fetched: memory of its own."""
    return PartFiles(*(str(RUN_FOLDER / name) for name in ("dask.crt", "dask.pem", "token")))


@dataclass(frozen=True, slots=True)
class PartGround:
    """What facility and host add to a part's container."""

    facility: str
    gateway: GatewayConfig
    place: DockerPlaceConfig
    ground: Ground


def part_container(plan: SessionPlan, part: DaskPart, where: PartGround, *, token: str) -> dict[str, Any]:
    """The body of `POST /containers/create` for a part: the session's container, with another command.

    Parameters
    ----------
    token:
        The cluster's token at the gateway, with which the start fetches certificate and key. As with the
        session's own token it is the one secret of the environment.

    Raises
    ------
    ValueError
        If the plan has no numeric identity, or root's.
    """
    if not plan.uid or not plan.gid:
        raise ValueError(f"plan {plan.id} has no numeric identity to run a container with")
    scheduler = ""
    if part.role == "worker":
        beside = DaskPart("scheduler", part.cluster, part.cluster, part.size)
        scheduler = f"tls://{part_container_name(plan.id, beside)}:{SCHEDULER_PORT}"
    variables = {
        **part_variables(part, plan, where.gateway, scheduler=scheduler, files=container_files()),
        TOKEN_VARIABLE: token,
    }
    command = part_command(
        part,
        where.gateway,
        host=EVERYWHERE,
        ports=(SCHEDULER_PORT, API_PORT),
        folder=str(RUN_FOLDER),
        preload=PRELOAD,
    )
    as_planned = plan.model_copy(update={"limits": part_limits(part, plan, where.gateway)})
    return {
        "Image": plan.image,
        "User": f"{plan.uid}:{plan.gid}",
        "WorkingDir": "/",
        "Entrypoint": list(START),
        "Cmd": command,
        "Env": [f"{name}={variables[name]}" for name in sorted(variables)],
        "Labels": {
            f"{LABEL}facility": where.facility,
            f"{LABEL}plan-id": plan.id,
            f"{LABEL}plan-hash": digest(plan),
            f"{LABEL}gpus": "",
            **part_labels(part),
        },
        "HostConfig": session_host_config(as_planned, where.place, where.ground),
    }


def read_part(labels: Mapping[str, str], prefix: str = LABEL) -> DaskPart | None:
    """The part that labels of a container or pod speak of; None for any other.

    Raises
    ------
    ValueError
        If they speak of a part and are none that this module writes.
    """
    role = labels.get(f"{prefix}role")
    if role is None:
        return None
    words = {name: labels.get(f"{prefix}{name}", "") for name in ("cluster", "part", "threads", "memory-mib")}
    if role not in ("scheduler", "worker") or not all(_is_hex(words[one]) for one in ("cluster", "part")):
        raise ValueError("the labels name no part of a cluster")
    if role == "scheduler" and words["part"] != words["cluster"]:
        raise ValueError("a scheduler is called as its cluster")
    numbers = [_number(words["threads"]), _number(words["memory-mib"])]
    grace_s = _number(labels.get(f"{prefix}grace-s", ""))
    size = Size(numbers[0], numbers[1] / 1024)
    return DaskPart(
        "scheduler" if role == "scheduler" else "worker", words["cluster"], words["part"], size, grace_s
    )


def _is_hex(word: str) -> bool:
    return len(word) == 32 and set(word) <= set("0123456789abcdef")


def _number(word: str) -> int:
    if not word.isascii() or not word.isdecimal() or len(word) > 9:
        raise ValueError("a number of the labels is none")
    return int(word)
