"""What a person may choose of a cluster: how large it is, and how long it waits for its kernel."""

from __future__ import annotations

from typing import Any

from dask_gateway_server.backends.base import ClusterConfig
from dask_gateway_server.options import Float, Integer, Options
from traitlets import Float as FloatTrait
from traitlets import Integer as IntegerTrait
from traitlets import List, Unicode

from beamhub_core.config.gateway import GatewayConfig
from beamhub_core.errors import BeamhubError
from beamhub_core.session import SessionPlan
from beamhub_spawners.dask_limits import Holder, Size, default_size, holder_of, session_share

NAMES = ("worker_threads", "worker_memory_gib", "workers", "grace_s")
SMALLEST_MEMORY_GIB = 0.25
SHOWN = 5


class OptionRefused(BeamhubError):
    """A cluster was asked for with something that is not the user's to choose."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.names = names

    def __str__(self) -> str:
        asked = ", ".join(ascii(name[:40]) for name in self.names[:SHOWN])
        return (
            f"A cluster takes no option {asked}: image, mounts, identity and environment are those of your "
            f"session. You can choose {', '.join(NAMES)}."
        )


class PlanClusterConfig(ClusterConfig):  # type: ignore[misc]  # dask-gateway has no types
    """What the gateway keeps of a cluster: whose it is, and its size."""

    plan_id = Unicode()
    plan_hash = Unicode()
    account = Unicode()
    place = Unicode()
    proposals = List(Unicode())
    gids = List(IntegerTrait())
    worker_memory_gib = FloatTrait()
    first_workers = IntegerTrait()
    grace_s = IntegerTrait()
    max_workers = IntegerTrait()
    max_threads = IntegerTrait()
    max_memory_gib = FloatTrait()
    expires_at = FloatTrait()


class SessionOptions(Options):  # type: ignore[misc]  # dask-gateway has no types
    """The options of one session's clusters; whatever else is asked for is refused by name."""

    def __init__(self, plan: SessionPlan, plan_hash: str, config: GatewayConfig) -> None:
        size, share = default_size(plan), session_share(plan)
        smallest = min(SMALLEST_MEMORY_GIB, size.memory_gib)
        super().__init__(
            Integer("worker_threads", size.threads, min=1, max=max(1, share.max_threads)),
            Float("worker_memory_gib", size.memory_gib, min=smallest, max=share.max_memory_gib),
            Integer("workers", 0, min=0),
            Integer("grace_s", int(config.grace_s), min=1, max=int(config.max_grace_s)),
            handler=lambda chosen: {
                "plan_id": plan.id,
                "plan_hash": plan_hash,
                "account": plan.account,
                "place": plan.place.name,
                "proposals": sorted(holder_of(plan).proposals),
                "gids": sorted(holder_of(plan).gids),
                "worker_cores": chosen.worker_threads,
                "worker_threads": chosen.worker_threads,
                "worker_memory": int(chosen.worker_memory_gib * 2**30),
                "worker_memory_gib": _in_mib(chosen.worker_memory_gib),
                "first_workers": chosen.workers,
                "grace_s": chosen.grace_s,
                "max_workers": share.max_workers,
                "max_threads": share.max_threads,
                "max_memory_gib": share.max_memory_gib,
                "expires_at": plan.expires_at.timestamp(),
            },
        )

    def parse_options(self, request: Any) -> dict[str, Any]:
        """The chosen options, defaults filled in.

        Raises
        ------
        OptionRefused
            If anything else is named.
        TypeError, ValueError
            If a value is none.
        """
        foreign = tuple(sorted(str(name) for name in request if name not in NAMES)) if request else ()
        if foreign:
            raise OptionRefused(foreign)
        parsed: dict[str, Any] = super().parse_options(request)
        return parsed


def holder_in(config: Any) -> Holder:
    """Whose a cluster is, from what the gateway keeps of it."""
    return Holder(config.plan_id, config.account, frozenset(config.proposals), frozenset(config.gids))


def size_in(config: Any) -> Size:
    """The size of a cluster's workers."""
    return Size(config.worker_threads, config.worker_memory_gib)


def _in_mib(memory_gib: float) -> float:
    """Whole MiB, as a container's label has it, rounded down so that the sum stays within the share."""
    return int(memory_gib * 1024) / 1024
