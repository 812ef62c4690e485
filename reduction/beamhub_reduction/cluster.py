"""A Dask client for this session."""

from __future__ import annotations

from typing import Any

import dask
from distributed import LocalCluster, Security, Worker

from beamhub_reduction.cluster_client import ClusterFacts, SessionClient
from beamhub_reduction.errors import BadParameter
from beamhub_reduction.pipeline.memory import memory_limit, processor_count
from beamhub_reduction.session_info import gateway, read_session

MAX_WORKERS = 1024
LOOPBACK = "127.0.0.1:0"
NO_PAGES: dict[str, Any] = {
    # Scheduler and workers always open an HTTP server, dashboard or not: on the loopback and without pages.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Nobody looks at the samples that workers take of their stacks, a hundred times a second.
    "distributed.worker.profile.enabled": False,
}
NO_SPILL: dict[str, Any] = {
    # A reduction is planned to fit: what grows beyond that is a mistake, which shall fail fast, not spill.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": 0.85,
    "distributed.worker.memory.terminate": 0.95,
}


def connect(
    workers: int | None = None,
    *,
    processes: bool = False,
    memory_gib: float | None = None,
    grace_s: int | None = None,
) -> SessionClient:
    """A client of a Dask cluster for this session: the facility's gateway makes it where there is one.

    There the workers stand beside the session, with its image, identity and mounts, each with the threads
    that its plan says. Elsewhere the cluster is on this machine, and every worker takes one thread; a
    reduction does not need that one: without a client it runs in threads of this process, just as fast.

    Close it with `client.close()`, or use it in a `with` block; the cluster ends with it. In a notebook it
    shows what it has, what it costs and how long it may go on, with buttons to scale and to stop it;
    `client.scale(n)` does the same from code.

    Parameters
    ----------
    workers:
        How many; without it, what the session may have, and on this machine no more than its processors.
    processes:
        Workers as processes of this machine, whatever the facility has; they survive each other's death, and
        speak TLS with certificates made for this cluster, so that nobody else on the machine can join.
    memory_gib:
        Memory of all worker processes together, GiB; without it what this session may use.
    grace_s:
        Seconds that a cluster of the gateway's waits for this kernel, should it die; the facility's own value
        without it. A cluster on this machine dies with its kernel.

    Raises
    ------
    BadParameter
        If `workers` is below 1, or above what the session may have; if `memory_gib` or `grace_s` is not above
        zero.
    ClusterRefused
        If the gateway gives no cluster, with its reason and numbers.
    SessionFileInvalid
        If the session's description cannot be read.
    """
    session = read_session()
    limits = session.cluster_limits if session is not None else None
    if memory_gib is not None and not memory_gib > 0:
        raise BadParameter("memory_gib", memory_gib, "above zero")
    if grace_s is not None and not grace_s >= 1:
        raise BadParameter("grace_s", grace_s, "at least 1")
    beside = gateway()
    if beside is not None and limits is not None and limits.max_workers > 0 and not processes:
        from beamhub_reduction.gateway_cluster import connect_gateway  # dask-gateway takes half a second

        n_beside = limits.max_workers if workers is None else worker_count(workers, limits.max_workers)
        return connect_gateway(beside, limits, n_beside, memory_gib=memory_gib, grace_s=grace_s)
    allowed = max(1, limits.max_workers * limits.threads_per_worker) if limits else MAX_WORKERS
    n_workers = worker_count(workers, allowed)
    if not processes:
        return _threads(n_workers, allowed)
    own = int(memory_gib * 1024**3) if memory_gib is not None else memory_limit()
    if limits is not None:
        own = min(own, int(limits.memory_gib * 1024**3))
    return _processes(n_workers, own // n_workers)


def worker_count(workers: int | None, allowed: int = MAX_WORKERS) -> int:
    """The number of workers asked for, or as many as there are processors.

    Raises
    ------
    BadParameter
        If it is below 1 or above `allowed`.
    """
    if workers is None:
        return min(allowed, processor_count())
    if not 1 <= workers <= allowed:
        raise BadParameter("workers", workers, f"from 1 to {allowed}")
    return workers


def session_threads(workers: int | None) -> int:
    """Threads that a reduction in this process may have: as `worker_count`, within the session's limits.

    Raises
    ------
    BadParameter, SessionFileInvalid
    """
    session = read_session()
    limits = session.cluster_limits if session is not None else None
    allowed = max(1, limits.max_workers * limits.threads_per_worker) if limits else MAX_WORKERS
    return worker_count(workers, allowed)


def _threads(n_workers: int, allowed: int) -> SessionClient:
    with dask.config.set(NO_PAGES):
        # Workers in one process cannot be limited in memory one by one: the session's own limit holds.
        cluster = LocalCluster(  # type: ignore[no-untyped-call]  # distributed has no types
            processes=False,
            n_workers=n_workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": LOOPBACK},
            worker_class=_LoopbackWorker,
        )
        return SessionClient(cluster, ClusterFacts("threads", allowed))


def _processes(n_workers: int, memory_bytes: int) -> SessionClient:
    security = Security.temporary()  # type: ignore[no-untyped-call]  # distributed has no types
    with dask.config.set({**NO_PAGES, **NO_SPILL}):
        cluster = LocalCluster(  # type: ignore[no-untyped-call]  # distributed has no types
            processes=True,
            n_workers=n_workers,
            threads_per_worker=1,
            memory_limit=memory_bytes,
            host="127.0.0.1",
            protocol="tls://",
            security=security,
            dashboard_address=None,
            worker_dashboard_address=LOOPBACK,
            scheduler_kwargs={"dashboard": False, "dashboard_address": LOOPBACK},
        )
        # More workers than at the start would have more memory together than was asked for.
        return SessionClient(cluster, ClusterFacts("processes", n_workers))


class _LoopbackWorker(Worker):
    """A worker whose HTTP server is not seen from outside this machine."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings.update(dashboard=False, dashboard_address=LOOPBACK)
        super().__init__(*arguments, **settings)
