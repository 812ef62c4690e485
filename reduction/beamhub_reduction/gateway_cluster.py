"""A Dask cluster beside the session, made by the facility's gateway from the session's own plan."""

from __future__ import annotations

import warnings
from typing import Any

from dask_gateway import GatewayCluster, GatewayClusterError, GatewayServerError
from dask_gateway import client as gateway_client
from dask_gateway.auth import JupyterHubAuth

from beamhub_core.session import ClusterLimits
from beamhub_reduction.cluster_client import ClusterFacts, SessionClient
from beamhub_reduction.cluster_stop import stop_by_door
from beamhub_reduction.errors import ClusterRefused
from beamhub_reduction.session_info import Gateway

READY_S = 60.0
# What dask-gateway's client raises of its HTTP library, which it uses and this room does not.
ClientError = gateway_client.aiohttp.ClientError
ClientResponseError = gateway_client.aiohttp.ClientResponseError
ENGINE_ERRORS = (GatewayClusterError, GatewayServerError, ValueError, ClientError, OSError)
NOT_OPEN = {
    401: "the gateway does not know this session",
    403: "this session has ended, or is not known to the gateway; open it again from the portal",
    503: "the platform cannot look up this session now; try again in a minute",
}


def connect_gateway(
    gateway: Gateway, limits: ClusterLimits, n_workers: int, *, memory_gib: float | None, grace_s: int | None
) -> SessionClient:
    """A client of a new cluster, with all its workers there. Closing it ends the cluster.

    Parameters
    ----------
    n_workers:
        How many, each with the threads that the session's plan gives a worker.
    memory_gib:
        Memory of all workers together; without it what the plan gives each.
    grace_s:
        Seconds that the cluster waits for this kernel to come back, should it die.

    Raises
    ------
    ClusterRefused
        With the gateway's reason, its numbers in it; also if the workers are not there within a minute.
    """
    options: dict[str, Any] = {"workers": n_workers, "worker_threads": limits.threads_per_worker}
    if memory_gib is not None:
        options["worker_memory_gib"] = memory_gib / n_workers
    if grace_s is not None:
        options["grace_s"] = grace_s
    cluster = None
    try:
        cluster = GatewayCluster(
            address=gateway.url, auth=JupyterHubAuth(gateway.token), shutdown_on_close=True, **options
        )
        cluster.scale(n_workers)
        client = GatewayClient(cluster, limits.max_workers)
        try:
            client.wait_for_workers(n_workers, timeout=READY_S)
        except TimeoutError:
            n_there = len(client.scheduler_info(n_workers=-1)["workers"])
            client.close()
            raise ClusterRefused(
                f"{n_there} of {n_workers} workers came within {READY_S:g} s; ask for fewer or later"
            ) from None
        return client
    except ENGINE_ERRORS as error:
        if cluster is not None:
            cluster.close()
        raise ClusterRefused(_reason(error)) from error


class ClusterNotTold(UserWarning):
    """A cluster goes on for some minutes, because nothing that could end it answered."""


class GatewayClient(SessionClient):
    """A client that ends its cluster with itself, as that of a cluster on this machine does."""

    def __init__(self, cluster: GatewayCluster, most_workers: int) -> None:
        self.gateway_cluster = cluster
        facts = ClusterFacts("gateway", most_workers, str(cluster.name))
        super().__init__(cluster, facts, security=cluster.security)

    def _pair(self) -> tuple[str, str]:
        security = self.gateway_cluster.security
        return security.tls_cert, security.tls_key

    def _scale(self, workers: int) -> None:
        try:
            self.gateway_cluster.scale(workers)
        except ENGINE_ERRORS as error:
            raise ClusterRefused(_reason(error)) from error

    def _end_cluster(self) -> None:
        """Through the gateway; where that does not answer the scheduler itself is told to end."""
        try:
            self.gateway_cluster.gateway.stop_cluster(self.gateway_cluster.name)
        except ENGINE_ERRORS as error:
            if self._record is None or not stop_by_door(self._record):
                message = (
                    f"The cluster could not be told to end ({_reason(error)}). It ends by itself: it waits "
                    "for its kernel no longer than was asked for."
                )
                warnings.warn(ClusterNotTold(message), stacklevel=4)
        self.gateway_cluster.close(shutdown=False)
        # The engine's finaliser asks a loop that has ended, and its complaint would appear in notebooks.
        self.gateway_cluster.gateway.__dict__.pop("_loop_runner", None)


def _reason(error: Exception) -> str:
    if isinstance(error, ClientResponseError):
        return NOT_OPEN.get(error.status, f"the gateway answers HTTP {error.status}")
    if isinstance(error, (ClientError, OSError)):
        return f"the gateway does not answer ({type(error).__name__}); reduce without a client meanwhile"
    return str(error)
