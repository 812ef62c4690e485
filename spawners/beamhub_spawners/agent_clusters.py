"""Whether a scheduler or worker that a gateway wants is what its session's plan renders to. Pure.

The gateway holds a certificate as the hub does; what it may make is bounded here once more, by the plan as
web has it: the same mounts, image and identity, within what the plan says of clusters, while its session
runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from beamhub_core.config.gateway import GatewayConfig
from beamhub_core.session import SessionPlan, StoredSession
from beamhub_spawners.agent_create import MAX_DIFFERENCES, Facility, check_unchanged, differences
from beamhub_spawners.agent_routes import NotAdmitted
from beamhub_spawners.dask_limits import EPSILON, session_share
from beamhub_spawners.dask_render import (
    TOKEN_VARIABLE,
    DaskPart,
    PartGround,
    part_container,
    part_container_name,
    read_part,
    scheduler_part,
)
from beamhub_spawners.docker_render import Ground

RUNS = ("starting", "running", "unknown")
MAX_TOKEN = 200


def part_of(wanted: Mapping[str, Any], name: str) -> DaskPart | None:
    """The part that an asked body speaks of; None where name and labels are a session's own.

    Raises
    ------
    NotAdmitted
        If labels and name do not say the same.
    """
    labels = wanted.get("Labels")
    if not isinstance(labels, dict) or not all(isinstance(one, str) for one in labels.values()):
        raise NotAdmitted(403, "the container has no labels")
    try:
        part = read_part(labels)
    except ValueError as error:
        raise NotAdmitted(403, str(error)) from None
    if (part is not None) != (len(name) > len("beamhub-") + 32):
        raise NotAdmitted(403, "the container's name is none of its part's")
    return part


def check_running(stored: StoredSession, facility: Facility, *, now: datetime) -> SessionPlan:
    """The plan, if its session runs here and its time is not over.

    Raises
    ------
    NotAdmitted
    """
    plan = check_unchanged(stored, place=facility.place_name, backend="docker")
    if stored.ends_at <= now:
        raise NotAdmitted(403, "the plan's time is over")
    if stored.record.state not in RUNS:
        raise NotAdmitted(403, f"the session is {stored.record.state}; clusters stand beside running ones")
    return plan


def check_room(
    part: DaskPart, plan: SessionPlan, containers: Iterable[Mapping[str, Any]], gateway: GatewayConfig | None
) -> None:
    """Nothing, when a part fits into its session's share beside what is there.

    Parameters
    ----------
    containers:
        The session's containers on this host, its own and those of its clusters.

    Raises
    ------
    NotAdmitted
        With the numbers.
    """
    if gateway is None:
        raise NotAdmitted(403, "the facility has no gateway")
    there = [one for one in map(_part_there, containers) if one is not None and one.name != part.name]
    if part.role == "scheduler":
        schedulers = sum(one.role == "scheduler" for one in there)
        if part.size != scheduler_part(part.cluster, 0, gateway).size or part.grace_s > gateway.max_grace_s:
            raise NotAdmitted(403, "the scheduler has another size or grace than the facility says")
        if schedulers >= gateway.max_clusters_per_session:
            raise NotAdmitted(403, f"the session has {schedulers} clusters, as many as it may")
        return
    share = session_share(plan)
    workers = [*(one for one in there if one.role == "worker"), part]
    threads, memory = sum(one.size.threads for one in workers), sum(one.size.memory_gib for one in workers)
    if part.size.threads < 1 or part.size.memory_gib <= 0:
        raise NotAdmitted(403, "the worker has no threads or no memory")
    if (
        len(workers) > share.max_workers
        or threads > share.max_threads
        or memory > share.max_memory_gib + EPSILON
    ):
        raise NotAdmitted(
            403,
            f"the session's workers would be {len(workers)} with {threads} threads and {memory:g} GiB; its "
            f"plan gives {share.max_workers} with {share.max_threads} and {share.max_memory_gib:g}",
        )


def rendered_part(
    wanted: Mapping[str, Any],
    plan: SessionPlan,
    part: DaskPart,
    name: str,
    where: tuple[Facility, GatewayConfig | None, Ground],
) -> dict[str, Any]:
    """The body that plan and part render to, when it is the asked one.

    Raises
    ------
    NotAdmitted
        Saying how the asked one differs.
    """
    facility, gateway, ground = where
    if gateway is None:
        raise NotAdmitted(403, "the facility has no gateway")
    if name != part_container_name(plan.id, part):
        raise NotAdmitted(403, "the container's name is none of its part's")
    try:
        expected = part_container(
            plan,
            part,
            PartGround(facility.short_name, gateway, facility.place, ground),
            token=_token(wanted),
        )
    except ValueError as error:
        raise NotAdmitted(403, str(error)) from None
    differing = tuple(differences(dict(wanted), expected))
    if differing:
        told = "; ".join(differing[:MAX_DIFFERENCES])
        raise NotAdmitted(403, f"the container is not what its plan says: {told}")
    return expected


def _token(wanted: Mapping[str, Any]) -> str:
    """The one value that the plan does not say."""
    lines = wanted.get("Env")
    for line in lines if isinstance(lines, list) else ():
        if isinstance(line, str) and line.startswith(f"{TOKEN_VARIABLE}=") and len(line) < MAX_TOKEN:
            return line.partition("=")[2]
    raise NotAdmitted(403, "the environment has no token of the cluster")


def _part_there(container: Mapping[str, Any]) -> DaskPart | None:
    try:
        return read_part(container.get("Labels") or {})
    except ValueError:
        return None
