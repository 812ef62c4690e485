"""A Dask client for this session."""

from __future__ import annotations

import os
from typing import Any

import dask
from distributed import Client, Worker

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.session_info import read_session

MAX_WORKERS = 1024
LOOPBACK = "127.0.0.1:0"


def connect(workers: int | None = None) -> Client:
    """A client of the session's Dask cluster.

    There is no gateway in this version: the cluster runs inside this process, with one thread per
    worker. Reading and decoding happen outside the interpreter's lock, so threads do run in parallel.
    Close it with `client.close()`, or use it in a `with` block.

    Parameters
    ----------
    workers:
        How many; without it, what the session may have, and never more than there are processors.

    Raises
    ------
    BadParameter
        If `workers` is below 1, or above what the session may have.
    SessionFileInvalid
        If the session's description cannot be read.
    """
    session = read_session()
    limits = session.cluster_limits if session is not None else None
    allowed = max(1, limits.max_workers * limits.threads_per_worker) if limits else MAX_WORKERS
    if workers is None:
        n_workers = min(allowed, len(os.sched_getaffinity(0)))
    elif 1 <= workers <= allowed:
        n_workers = workers
    else:
        raise BadParameter("workers", workers, f"from 1 to {allowed}")
    # Scheduler and workers always open an HTTP server, dashboard or not: on the loopback and without pages.
    no_pages: dict[str, list[str]] = {
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with dask.config.set(no_pages):
        # Workers in one process cannot be limited in memory one by one: the session's own limit holds.
        return Client(  # type: ignore[no-untyped-call]  # distributed has no types
            processes=False,
            n_workers=n_workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": LOOPBACK},
            worker_class=_LoopbackWorker,
        )


class _LoopbackWorker(Worker):
    """A worker whose HTTP server is not seen from outside this machine."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings.update(dashboard=False, dashboard_address=LOOPBACK)
        super().__init__(*arguments, **settings)
