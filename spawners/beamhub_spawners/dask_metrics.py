"""Prometheus metrics of the gateway, on an address of their own: sessions reach the gateway's port.

No label names a person, a session or a cluster: they are states, roles and kinds of limits.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from aiohttp import web
from dask_gateway_server.backends.db_base import JobStatus
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from beamhub_core.config.gateway import GatewayConfig
from beamhub_spawners.dask_limits import OverLimit
from beamhub_spawners.dask_options import size_in

BUCKETS = (0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 20, 30, 60)
STATES = {
    JobStatus.CREATED: "starting",
    JobStatus.SUBMITTED: "starting",
    JobStatus.RUNNING: "running",
    JobStatus.CLOSING: "stopping",
}
"""What the engine calls the states of clusters and workers that are there, and what we do."""
ROLES = ("scheduler", "worker")
PAGE = "text/plain"


class GatewayMetrics:
    """Counters and gauges in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._parts = self._gauge("parts", "Schedulers and workers that are there", "role", "state")
        self._cores = self._gauge("cores", "Processor cores that they hold", "role", "state")
        self._memory = self._gauge("memory_bytes", "Memory that they hold", "role", "state")
        self._last_look = Gauge(
            "beamhub_gateway_last_look_timestamp_seconds",
            "When the gateway last looked which sessions have ended",
            registry=self.registry,
        )
        self._refusals = Counter(
            "beamhub_gateway_refusals",
            "Wishes for clusters or workers that passed a limit: no faults",
            ("whose", "what"),
            registry=self.registry,
        )
        self._failures = Counter(
            "beamhub_gateway_start_failures",
            "Schedulers and workers that could not be started",
            ("role",),
            registry=self.registry,
        )
        self._start_s = Histogram(
            "beamhub_gateway_start_seconds",
            "Seconds from the wish for a scheduler or worker until it answers",
            ("role",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        for role in ROLES:
            self._failures.labels(role)
            self._start_s.labels(role)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"beamhub_gateway_{name}", text, labels, registry=self.registry)

    def refused(self, over: OverLimit) -> None:
        """A limit held."""
        self._refusals.labels(over.level, over.what).inc()

    def failed(self, role: Literal["scheduler", "worker"]) -> None:
        """A part could not be made."""
        self._failures.labels(role).inc()

    def started(self, role: Literal["scheduler", "worker"], asked_ms: int) -> None:
        """A part answers, that was asked for at a time of the database's."""
        self._start_s.labels(role).observe(max(0.0, time.time() - asked_ms / 1000))

    def looked(self) -> None:
        """A look after sessions came to its end."""
        self._last_look.set(time.time())

    def page(self, rows: Iterable[Any], config: GatewayConfig) -> bytes:
        """Everything as Prometheus reads it; what is there is counted now.

        Parameters
        ----------
        rows:
            The clusters of the gateway's database, whether they are there or not.
        """
        for gauge in (self._parts, self._cores, self._memory):
            for role in ROLES:
                for state in STATES.values():
                    gauge.labels(role, state).set(0)
        for role, state, cores, memory_gib in _parts(rows, config):
            self._parts.labels(role, state).inc()
            self._cores.labels(role, state).inc(cores)
            self._memory.labels(role, state).inc(memory_gib * 2**30)
        return generate_latest(self.registry)


def _parts(rows: Iterable[Any], config: GatewayConfig) -> Iterator[tuple[str, str, float, float]]:
    """Role, state, cores and GiB of each part that is there."""
    for row in rows:
        if row.status in STATES:
            yield "scheduler", STATES[row.status], config.scheduler_cpu, config.scheduler_memory_gib
        size = size_in(row.config)
        for worker in row.workers.values():
            if worker.status in STATES:
                yield "worker", STATES[worker.status], size.threads, size.memory_gib


class MetricsServer:
    """The page of metrics on its own address; `port` 0 in the configuration means none."""

    def __init__(self, metrics: GatewayMetrics, config: GatewayConfig) -> None:
        self._metrics, self._config = metrics, config
        self._runner: web.AppRunner | None = None

    async def start(self, database: Any) -> None:
        """Listen, if there is to be a page.

        Raises
        ------
        OSError
            If the address is taken or none of this machine's.
        """
        if not self._config.metrics_port:
            return

        async def answer(_: web.Request) -> web.Response:
            page = self._metrics.page(database.name_to_cluster.values(), self._config)
            return web.Response(body=page, content_type=PAGE)

        app = web.Application(client_max_size=0)
        app.add_routes([web.get("/metrics", answer)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._config.metrics_host, self._config.metrics_port).start()

    async def close(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()
