"""What a backend does for the gateway: start, find and end the parts of clusters. One class per backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from beamhub_core.config import FacilityConfig
from beamhub_core.config.gateway import GatewayConfig
from beamhub_core.errors import BeamhubError
from beamhub_core.session import SessionPlan
from beamhub_spawners.dask_render import DaskPart


class PartNotStarted(BeamhubError):
    """A scheduler or worker could not be made; `reason` may be read by its owner."""

    def __init__(self, role: str, reason: str) -> None:
        super().__init__(role, reason)
        self.role, self.reason = role, reason

    def __str__(self) -> str:
        return f"The {self.role} does not start: {self.reason}."


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a cluster's own parts know, and nobody else but its session. Never in a log: it has no repr."""

    token: str
    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Secrets(...)"


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part that exists, whoever started it and when."""

    plan_id: str
    cluster: str
    name: str
    place: str
    is_running: bool
    age_s: float


@dataclass(frozen=True, slots=True)
class PartAddress:
    """Where a scheduler may say that it listens: its host, and its two ports where they are fixed."""

    host: str
    ports: tuple[int, int] | None = None


class Runner(Protocol):
    """Parts are found again by plan, cluster and name alone: nothing is lost with the gateway's process.

    `knows_schedulers`: whether a worker can be started before its scheduler says where it listens.
    """

    knows_schedulers: bool

    async def start(self, plan: SessionPlan, part: DaskPart, secrets: Secrets, scheduler: str) -> None:
        """Start a part; one of the same name that was made from this plan already is left as it is.

        Raises
        ------
        PartNotStarted, Unavailable
        """
        ...

    async def end(self, found: FoundPart) -> None:
        """End a part and remove all that was made for it; one that is gone already is fine.

        Raises
        ------
        Unavailable
            If its host does not answer: then it may still run.
        """
        ...

    async def look(self) -> tuple[FoundPart, ...]:
        """Every part of this facility on the hosts that answer."""
        ...

    async def is_alive(self, found: FoundPart) -> bool:
        """Whether a part runs; also when its host does not answer, because nothing is known then."""
        ...

    async def address(self, found: FoundPart) -> PartAddress | None:
        """Where a scheduler listens; None when it is gone.

        Raises
        ------
        Unavailable
            If its host does not answer.
        """
        ...

    async def close(self) -> None:
        """Give connections and processes' records back; parts go on."""
        ...


def gateway_of(config: FacilityConfig) -> GatewayConfig:
    """The gateway's section.

    Raises
    ------
    ValueError
        If the facility has none.
    """
    if config.gateway is None:
        raise ValueError("facility.yaml has no section 'gateway'")
    return config.gateway


def runner_for(config: FacilityConfig) -> Runner:
    """The runner of the one backend that a facility has."""
    backend = config.sessions.places[0].backend
    if backend == "local":
        from beamhub_spawners.dask_local import LocalRunner

        return LocalRunner(config)
    if backend == "kubernetes":
        from beamhub_spawners.dask_pods import PodRunner  # needs the kubernetes packages

        return PodRunner(config)
    from beamhub_spawners.dask_docker import DockerRunner  # needs the docker packages

    return DockerRunner(config)
