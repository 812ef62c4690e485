"""How much Dask clusters may still take, by session, person, proposal and group. Pure.

What a cluster holds is counted from the moment it is asked for, so that many askers at once share what is
free; nothing here waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from beamhub_core.config.gateway import GatewayConfig, ShareLimitsConfig
from beamhub_core.errors import BeamhubError
from beamhub_core.session import SessionPlan

EPSILON = 1e-9
LEVELS = {"This session": "session", "You": "person", "The proposal ": "proposal", "The group ": "group"}
"""How messages begin that name a limit, and whose limit that is."""


@dataclass(frozen=True, slots=True)
class Size:
    """What one worker has."""

    threads: int
    memory_gib: float


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose a session and its clusters are."""

    plan_id: str
    account: str
    proposals: frozenset[str]
    gids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Held:
    """What one session or cluster holds now; `n_workers` is 0 for a session itself."""

    holder: Holder
    cpu: float
    memory_gib: float
    n_workers: int = 0
    is_cluster: bool = True


@dataclass(frozen=True, slots=True)
class SessionShare:
    """What the clusters of one session may have together, from its plan."""

    max_workers: int
    max_threads: int
    max_memory_gib: float


class OverLimit(BeamhubError):
    """A cluster would take more than is left.

    `asked`, `held` and `limit` are in the unit of `what`, e.g. 'workers'. `level` is whose the limit is: of a
    session, person, proposal or group.
    """

    def __init__(self, whose: str, what: str, asked: float, held: float, limit: float) -> None:
        super().__init__(whose, what, asked, held, limit)
        self.whose, self.what, self.asked, self.held, self.limit = whose, what, asked, held, limit
        self.level = next(level for words, level in LEVELS.items() if whose.startswith(words))

    def __str__(self) -> str:
        return (
            f"{self.whose} may have {self.limit:g} {self.what} together; {self.held:g} are in use and "
            f"{self.asked:g} more were asked for. Ask for fewer, or close another cluster or session."
        )


def holder_of(plan: SessionPlan) -> Holder:
    """Whose a plan is: its account, the proposals of its data, and its numeric groups."""
    proposals = {one.proposal for one in plan.datasets} | {
        one.proposal for one in plan.mounts if one.proposal is not None
    }
    gids = {gid for gid in (plan.gid, *plan.gids) if gid is not None}
    return Holder(plan.id, plan.account, frozenset(proposals), frozenset(gids))


def session_share(plan: SessionPlan) -> SessionShare:
    """What the clusters of a plan may have together; the schedulers come on top."""
    limits = plan.cluster_limits
    return SessionShare(limits.max_workers, limits.max_workers * limits.threads_per_worker, limits.memory_gib)


def session_held(plan: SessionPlan) -> Held:
    """What the session itself, its notebooks' server, holds."""
    return Held(holder_of(plan), plan.limits.cpu, plan.limits.memory_gib, is_cluster=False)


def cluster_held(holder: Holder, size: Size, n_workers: int, config: GatewayConfig) -> Held:
    """What a cluster holds: its scheduler, and as many workers as it has or asked for."""
    return Held(
        holder,
        config.scheduler_cpu + n_workers * size.threads,
        config.scheduler_memory_gib + n_workers * size.memory_gib,
        n_workers,
    )


def default_size(plan: SessionPlan) -> Size:
    """A worker's size when nothing is asked for: the session's share divided evenly."""
    limits = plan.cluster_limits
    return Size(limits.threads_per_worker, limits.memory_gib / max(1, limits.max_workers))


def check_new_cluster(
    holder: Holder, share: SessionShare, size: Size, others: Iterable[Held], config: GatewayConfig
) -> None:
    """Nothing, when a session may have one more cluster with room for a worker.

    Raises
    ------
    OverLimit
        Naming the first limit that it would pass, with the numbers.
    """
    held = tuple(others)
    n_clusters = sum(one.is_cluster and one.holder.plan_id == holder.plan_id for one in held)
    if n_clusters >= config.max_clusters_per_session:
        raise OverLimit("This session", "clusters", 1, n_clusters, config.max_clusters_per_session)
    if size.threads > share.max_threads:
        raise OverLimit("This session", "threads of workers", size.threads, 0, share.max_threads)
    if size.memory_gib > share.max_memory_gib + EPSILON:
        raise OverLimit("This session", "GiB of workers", size.memory_gib, 0, share.max_memory_gib)
    for whose, limits, used in _shares(holder, held, config):
        _check(whose, "processor cores", config.scheduler_cpu, used.cpu, limits.max_cpu)
        _check(whose, "GiB of memory", config.scheduler_memory_gib, used.memory_gib, limits.max_memory_gib)


def check_workers(
    held_now: Held,
    n_workers: int,
    size: Size,
    others: Iterable[Held],
    rules: tuple[SessionShare, GatewayConfig],
) -> None:
    """Nothing, when a cluster may grow to a number of workers.

    Parameters
    ----------
    held_now:
        The cluster as it is.
    others:
        Everything else that is held: sessions, and the other clusters.

    Raises
    ------
    OverLimit
        Naming the first limit that it would pass, with the numbers.
    """
    for room in _rooms(held_now, size, others, rules):
        _check(room.whose, room.what, room.besides + n_workers * room.each, room.used, room.limit)


def most_workers(
    held_now: Held, size: Size, others: Iterable[Held], rules: tuple[SessionShare, GatewayConfig]
) -> int:
    """How many workers a cluster may have at most; 0 when it may have none.

    The number for which `check_workers` says nothing, and for which one more raises.
    """
    bounds = [
        (room.limit - room.used - room.besides) / room.each
        for room in _rooms(held_now, size, others, rules)
        if room.limit is not None
    ]
    return max(0, math.floor(min(bounds) + EPSILON))


@dataclass(frozen=True, slots=True)
class _Room:
    """One limit that a growing cluster meets: what each worker takes of it, and what is taken besides.

    `used` is what others hold, `besides` what the cluster takes without any worker.
    """

    whose: str
    what: str
    each: float
    used: float
    limit: float | None
    besides: float = 0.0


def _rooms(
    held_now: Held, size: Size, others: Iterable[Held], rules: tuple[SessionShare, GatewayConfig]
) -> Iterator[_Room]:
    """Every limit that counts for the workers of a cluster, the session's own first."""
    share, config = rules
    rest = tuple(others)
    mine = [one for one in rest if one.is_cluster and one.holder.plan_id == held_now.holder.plan_id]
    own, cpu, gib = "This session", config.scheduler_cpu, config.scheduler_memory_gib
    yield _Room(own, "workers", 1, sum(one.n_workers for one in mine), share.max_workers)
    threads = sum(one.cpu - cpu for one in mine)
    yield _Room(own, "threads of workers", size.threads, threads, share.max_threads)
    memory = sum(one.memory_gib - gib for one in mine)
    yield _Room(own, "GiB of workers", size.memory_gib, memory, share.max_memory_gib)
    for whose, limits, used in _shares(held_now.holder, rest, config):
        yield _Room(whose, "workers", 1, used.n_workers, limits.max_workers)
        yield _Room(whose, "processor cores", size.threads, used.cpu, limits.max_cpu, cpu)
        yield _Room(whose, "GiB of memory", size.memory_gib, used.memory_gib, limits.max_memory_gib, gib)


@dataclass(frozen=True, slots=True)
class _Used:
    cpu: float
    memory_gib: float
    n_workers: int


def _shares(
    holder: Holder, held: tuple[Held, ...], config: GatewayConfig
) -> Iterator[tuple[str, ShareLimitsConfig, _Used]]:
    """Each share that a cluster of a holder counts against, with what of it is in use."""
    limits = config.limits
    yield "You", limits.person, _used(one for one in held if one.holder.account == holder.account)
    for proposal in sorted(holder.proposals):
        used = _used(one for one in held if proposal in one.holder.proposals)
        yield f"The proposal {proposal}", limits.proposal, used
    for group in limits.groups:
        if group.gid in holder.gids:
            yield f"The group {group.name}", group, _used(one for one in held if group.gid in one.holder.gids)


def _used(held: Iterable[Held]) -> _Used:
    some = tuple(held)
    return _Used(
        sum(one.cpu for one in some), sum(one.memory_gib for one in some), sum(one.n_workers for one in some)
    )


def _check(whose: str, what: str, asked: float, held: float, limit: float | None) -> None:
    if limit is not None and held + asked > limit + EPSILON:
        raise OverLimit(whose, what, asked, held, limit)
