"""From a session's plan to the pods of a Dask cluster: the session's pod with another command. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_core.config.gateway import GatewayConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.container_start import RUN_FOLDER
from beamhub_spawners.dask_render import (
    API_PORT,
    EVERYWHERE,
    PRELOAD,
    SCHEDULER_PORT,
    START,
    TOKEN_VARIABLE,
    DaskPart,
    container_files,
    part_command,
    part_container_name,
    part_labels,
    part_limits,
    part_variables,
)
from beamhub_spawners.kubernetes_pod import COMPONENT, PREFIX, platform_labels
from beamhub_spawners.kubernetes_render import PodContent, plan_pod

WORKER_PORT = 8788
"""Of each worker, so that a network policy can name it."""


@dataclass(frozen=True, slots=True)
class PodGround:
    """What facility, cluster and session add to a part's pod.

    Parameters
    ----------
    session_pod:
        Name and uid of the session's pod, with which the part goes.
    scheduler_host:
        Where a worker's scheduler is, as it stands in a URL; empty for the scheduler itself.
    """

    config: FacilityConfig
    gateway: GatewayConfig
    place: KubernetesPlaceConfig
    session_pod: tuple[str, str]
    scheduler_host: str = ""


def part_pod(plan: SessionPlan, part: DaskPart, where: PodGround, *, token: str) -> dict[str, Any]:
    """The pod of a scheduler or worker, as the body of a `POST` to the API server.

    Parameters
    ----------
    token:
        The cluster's token at the gateway, with which the start fetches certificate and key. As with the
        session's own token it is the one secret of the environment.

    Raises
    ------
    ValueError
        If the plan has no numeric identity, or root's, or mounts what has no volume in the place.
    """
    scheduler = f"tls://{where.scheduler_host}:{SCHEDULER_PORT}" if part.role == "worker" else ""
    command = part_command(
        part,
        where.gateway,
        host=EVERYWHERE,
        ports=(SCHEDULER_PORT, API_PORT),
        folder=str(RUN_FOLDER),
        preload=PRELOAD,
    )
    ports = {"scheduler": SCHEDULER_PORT, "api": API_PORT}
    if part.role == "worker":
        ports = {"worker": WORKER_PORT}
        command += ["--worker-port", str(WORKER_PORT)]
    content = PodContent(
        name=part_container_name(plan.id, part),
        labels={**platform_labels(where.config), COMPONENT: part.role, **part_labels(part, PREFIX)},
        annotations={},
        variables={
            **part_variables(part, plan, where.gateway, scheduler=scheduler, files=container_files()),
            TOKEN_VARIABLE: token,
        },
        ports=ports,
        command=START,
        arguments=tuple(command),
        owner=where.session_pod,
    )
    as_planned = plan.model_copy(update={"limits": part_limits(part, plan, where.gateway)})
    return plan_pod(as_planned, digest(plan), where.place, where.config, content)
