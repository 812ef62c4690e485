"""The gateway's backend: clusters from the plans of running sessions, within limits, and gone with them.

dask-gateway keeps clusters and workers in its database and brings what exists to what is wanted. Added here:
each part is rendered from the plan as web has it at that moment, nothing grows past a limit, and a look every
few seconds ends what belongs to no session any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from aiohttp import web
from dask_gateway_server.backends.base import PublicException
from dask_gateway_server.backends.db_base import DBBackendBase, JobStatus
from traitlets import default

from beamhub_core.config import FacilityConfig
from beamhub_core.config.gateway import GatewayConfig
from beamhub_core.errors import Unavailable
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.dask_limits import (
    Held,
    OverLimit,
    SessionShare,
    check_new_cluster,
    check_workers,
    cluster_held,
    most_workers,
    session_held,
    session_share,
)
from beamhub_spawners.dask_messages import (
    Asked,
    BadMessage,
    read_heartbeat,
    read_message,
    with_all_staying,
)
from beamhub_spawners.dask_metrics import GatewayMetrics, MetricsServer
from beamhub_spawners.dask_options import PlanClusterConfig, SessionOptions, holder_in, size_in
from beamhub_spawners.dask_render import DaskPart, scheduler_part
from beamhub_spawners.dask_report import UsageTeller
from beamhub_spawners.dask_rows import answer_pair, row_part, row_secrets, row_share
from beamhub_spawners.dask_runner import FoundPart, PartNotStarted, Runner
from beamhub_spawners.dask_sessions import SessionDirectory, SessionUser
from beamhub_spawners.dask_usage import Usage, part_times, usage_by_session

EARLY_S = 90.0
"""For as long as this a scheduler may not know yet how many workers it has; it may take 60 to start."""
FRESH_S = 1.0
ORPHAN_S = 30.0
"""Nothing younger is an orphan: its row may be on its way."""
GONE = "Your session is not running any more; open it again from the portal."
THEY_STAY = "The cluster's first workers stay: the wish for them is on its way."
UNKNOWN = "The platform cannot look up your session now. Try again in a minute."


@dataclass(frozen=True, slots=True)
class GatewayPlatform:
    """What the backend gets of the process that it lives in."""

    config: FacilityConfig
    gateway: GatewayConfig
    directory: SessionDirectory
    runner: Runner
    metrics: GatewayMetrics = field(default_factory=GatewayMetrics)


class PlanBackend(DBBackendBase):  # type: ignore[misc]  # dask-gateway has no types
    """Clusters beside sessions. `platform` is set on the class before the gateway starts.

    A cluster belongs to a session: its user's name is the plan's id. All methods run in one event loop.
    """

    platform: ClassVar[GatewayPlatform]

    @default("cluster_config_class")
    def _default_cluster_config_class(self) -> type[PlanClusterConfig]:
        return PlanClusterConfig

    async def setup(self, app: web.Application) -> None:
        """Add the route by which a container's parts fetch their certificate, then start."""
        self._asked: dict[str, int] = {}
        self._early: dict[str, tuple[float, int]] = {}
        app.add_routes([web.get("/api/v1/clusters/{cluster_name}/pair", answer_pair)])
        await super().setup(app)

    async def do_setup(self) -> None:
        """Begin to look after sessions, and to tell metrics."""
        self._pages = MetricsServer(self.platform.metrics, self.platform.gateway)
        await self._pages.start(self.db)
        self.task_pool.spawn(self._watch())
        self.task_pool.spawn(UsageTeller(self.usage, self.platform.directory.tell_usage).run())

    async def do_cleanup(self) -> None:
        """Leave the parts as they are: another gateway finds them."""
        await self._pages.close()
        await self.platform.runner.close()
        await self.platform.directory.close()

    # -- what people ask -------------------------------------------------------------------------------

    async def get_cluster_options(self, user: SessionUser) -> SessionOptions:
        """What the session may choose."""
        return SessionOptions(user.plan, digest(user.plan), self.platform.gateway)

    async def start_cluster(self, user: SessionUser, cluster_options: Any) -> str:
        """Make a cluster's row, if there is room for it; the parts follow.

        Raises
        ------
        PublicException
            With the numbers where a limit would be passed.
        """
        directory = self.platform.directory
        options, config = await self.process_cluster_options(user, cluster_options)
        try:
            live = await directory.look(at_most_s=FRESH_S)  # one question to web, however many ask at once
        except Unavailable as error:
            raise PublicException(UNKNOWN) from error
        if not any(one.plan.id == user.plan.id and directory.may_have_clusters(one) for one in live):
            raise PublicException(GONE)
        # From here to the row nothing waits, so that each of many askers at once counts the others.
        try:
            self._check_new(config, session_share(user.plan))
        except OverLimit as over:
            self.platform.metrics.refused(over)
            raise PublicException(str(over)) from None
        cluster = self.db.create_cluster(user.name, options, config.to_dict())
        self.log.info("cluster %s asked for by session %s", cluster.name, user.name)
        self.queue.put(cluster)
        self._start_first_workers(cluster, config.first_workers)
        return str(cluster.name)

    def _check_new(self, config: PlanClusterConfig, share: SessionShare) -> None:
        holder, size, gateway = holder_in(config), size_in(config), self.platform.gateway
        held = tuple(self._held())
        check_new_cluster(holder, share, size, held, gateway)
        if config.first_workers:
            mine = cluster_held(holder, size, 0, gateway)
            check_workers(mine, config.first_workers, size, held, (share, gateway))

    def _start_first_workers(self, row: Any, n_workers: int) -> None:
        """Hold room for the first workers, and start them with the scheduler where they will find it."""
        if not n_workers:
            return
        self._early[row.name] = (time.monotonic() + EARLY_S, n_workers)
        self._asked[row.name] = n_workers
        if self.platform.runner.knows_schedulers:
            self.db.update_cluster(row, count=n_workers)
            for _ in range(n_workers):
                self.queue.put(self.db.create_worker(row))

    async def forward_message_to_scheduler(self, cluster: Any, msg: dict[str, Any]) -> None:
        """Pass a wish for a size on, within the limits.

        Raises
        ------
        PublicException
            With the numbers where a limit would be passed, or if the cluster is not there.
        """
        row = self.db.get_cluster(cluster.name)
        try:
            asked = read_message(msg)
            if row is not None:
                msg = self._within_limits(row, asked).as_message()
        except OverLimit as over:
            self.platform.metrics.refused(over)
            raise PublicException(str(over)) from None
        except BadMessage as error:
            raise PublicException(str(error)) from None
        await super().forward_message_to_scheduler(cluster, msg)

    async def _cluster_to_running(self, cluster: Any) -> None:
        """Tell a scheduler that is there now of its first workers, before it sends them away."""
        await super()._cluster_to_running(cluster)
        self.platform.metrics.started("scheduler", cluster.start_time)
        _, n_workers = self._early.get(cluster.name, (0.0, 0))
        if n_workers:
            wish = {"op": "scale", "count": n_workers}
            await super().forward_message_to_scheduler(cluster.to_model(), wish)

    async def on_cluster_heartbeat(self, cluster_name: str, msg: Any) -> None:
        """Take a scheduler's word for its workers, and not for where it is or what it may have.

        People's code runs beside the scheduler and has its token: a count is cut to the limits, and an
        address that is not the scheduler's own ends the cluster.

        Raises
        ------
        PublicException
            If the message is none, or would send the first workers away.
        """
        row = self.db.get_cluster(cluster_name)
        if row is None or row.target > JobStatus.RUNNING:
            return
        try:
            beat = read_heartbeat(msg)
        except BadMessage as error:
            raise PublicException(str(error)) from None
        if row.status != JobStatus.RUNNING and not await self._is_its_own(row, beat):
            self.log.warning("cluster %s says it is where it is not; it is stopped", cluster_name)
            await self.stop_cluster(cluster_name, failed=True)
            return
        n_first = self._still_early(row, beat["count"])
        # No dashboard: the engine's proxy would show it to whoever knows the cluster's name.
        allowed = max(row.count, self._most(row))
        cut = {**beat, "count": min(max(beat["count"], n_first), allowed), "dashboard_address": ""}
        if n_first:
            cut = with_all_staying(cut)
        waiting = [worker for worker in row.workers.values() if worker.status < JobStatus.RUNNING]
        await super().on_cluster_heartbeat(cluster_name, cut)
        for worker in waiting:
            if worker.status == JobStatus.RUNNING:
                self.platform.metrics.started("worker", worker.start_time)
        if n_first and beat["closing_workers"]:
            raise PublicException(
                THEY_STAY
            )  # else the scheduler sends away who came before the wish for them

    def _still_early(self, row: Any, count: int) -> int:
        """The first workers of a cluster, until its scheduler has heard of them; it begins with none."""
        ends_at, n_workers = self._early.get(row.name, (0.0, 0))
        if count == 0 and time.monotonic() < ends_at:
            return n_workers
        self._early.pop(row.name, None)
        self._asked.pop(row.name, None)
        return 0

    def _within_limits(self, row: Any, asked: Asked) -> Asked:
        """A wish that may be passed on, remembered until the scheduler's next heartbeat."""
        gateway = self.platform.gateway
        if not asked.is_active:
            return asked
        if asked.op == "adapt" and asked.maximum is None:
            bound = min(gateway.default_maximum, row.config.max_workers)
            asked = asked.bounded(max(bound, asked.minimum))
        most = asked.count if asked.op == "scale" else asked.maximum
        assert most is not None  # noqa: S101 - bounded above
        others, rules = tuple(self._held(but=row.name)), (row_share(row), gateway)
        held = cluster_held(holder_in(row.config), size_in(row.config), 0, gateway)
        check_workers(held, most, size_in(row.config), others, rules)
        if asked.op == "scale":
            self._asked[row.name] = most
        return asked

    # -- what is held ----------------------------------------------------------------------------------

    def _held(self, *, but: str = "") -> Iterator[Held]:
        """Everything that is in use or asked for: sessions, and all clusters but one."""
        for stored in self.platform.directory.known:
            yield session_held(stored.plan)
        for row in self.db.name_to_cluster.values():
            if row.status < JobStatus.STOPPED and row.name != but:
                yield self._held_by(row)

    def _held_by(self, row: Any) -> Held:
        there = sum(worker.status < JobStatus.STOPPED for worker in row.workers.values())
        n_workers = max(row.count, there, self._asked.get(row.name, 0))
        return cluster_held(holder_in(row.config), size_in(row.config), n_workers, self.platform.gateway)

    def _most(self, row: Any) -> int:
        rules = (row_share(row), self.platform.gateway)
        return most_workers(self._held_by(row), size_in(row.config), self._held(but=row.name), rules)

    def usage(self) -> dict[str, Usage]:
        """What the clusters of each session have used so far, by its plan's id; of the last days' rows."""
        rows = self.db.name_to_cluster.values()
        parts = (part for row in rows for part in part_times(row, self.platform.gateway))
        return usage_by_session(parts, now_s=time.time())  # the machine's clock, as in the rows

    # -- parts -----------------------------------------------------------------------------------------

    async def do_start_cluster(self, cluster: Any) -> AsyncIterator[dict[str, str]]:
        """Start the scheduler."""
        plan = await self._plan(cluster, "scheduler")
        yield {"place": plan.place.name}
        part = scheduler_part(cluster.name, cluster.config.grace_s, self.platform.gateway)
        await self._start(plan, part, cluster, "")

    async def do_start_worker(self, worker: Any) -> AsyncIterator[dict[str, str]]:
        """Start a worker, from the plan as it is now."""
        cluster = worker.cluster
        plan = await self._plan(cluster, "worker")
        yield {"place": plan.place.name}
        part = DaskPart("worker", cluster.name, worker.name, size_in(cluster.config))
        await self._start(plan, part, cluster, cluster.scheduler_address)

    async def _start(self, plan: SessionPlan, part: DaskPart, cluster: Any, scheduler: str) -> None:
        try:
            await self.platform.runner.start(plan, part, row_secrets(cluster), scheduler)
        except (PartNotStarted, Unavailable):
            self.platform.metrics.failed(part.role)
            raise

    async def do_stop_cluster(self, cluster: Any) -> None:
        """End the scheduler."""
        self._asked.pop(cluster.name, None)
        self._early.pop(cluster.name, None)
        await self.platform.runner.end(row_part(cluster, cluster.name))

    async def do_stop_worker(self, worker: Any) -> None:
        """End a worker."""
        await self.platform.runner.end(row_part(worker.cluster, worker.name))

    async def do_check_clusters(self, clusters: list[Any]) -> list[bool]:
        """Whether the schedulers that have not answered yet are there."""
        found = (row_part(one, one.name) for one in clusters)
        return await asyncio.gather(*(self.platform.runner.is_alive(one) for one in found))

    async def do_check_workers(self, workers: list[Any]) -> list[bool]:
        """Whether the workers that have not joined yet are there."""
        found = (row_part(one.cluster, one.name) for one in workers)
        return await asyncio.gather(*(self.platform.runner.is_alive(one) for one in found))

    async def _plan(self, cluster: Any, role: str) -> SessionPlan:
        """The plan that a cluster was asked for with, if its session still runs."""
        stored = await self.platform.directory.plan(cluster.config.plan_id)
        if stored is None or digest(stored.plan) != cluster.config.plan_hash:
            raise PartNotStarted(role, "its session is not running any more")
        return stored.plan

    async def _is_its_own(self, row: Any, beat: dict[str, Any]) -> bool:
        address = await self.platform.runner.address(row_part(row, row.name))
        if address is None:
            return False
        said = [urlsplit(beat[name]) for name in ("scheduler_address", "api_address")]
        if [one.scheme for one in said] != ["tls", "http"] or {one.hostname for one in said} != {
            address.host
        }:
            return False
        return address.ports is None or tuple(one.port for one in said) == address.ports

    # -- looking after sessions ------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                await self._watch_once()
            except (Unavailable, OSError) as error:
                self.log.warning("clusters could not be looked after; the next look tries again: %s", error)
            except Exception:  # the outermost layer of a task: the next look must come
                self.log.exception("a look after clusters failed")
            await asyncio.sleep(self.platform.gateway.watch_s)

    async def _watch_once(self) -> None:
        """End clusters whose sessions have ended, and parts that belong to no cluster.

        While web does not answer nothing is ended: what runs keeps running.
        """
        directory, runner = self.platform.directory, self.platform.runner
        live = await directory.look(at_most_s=1.0)
        running = {stored.plan.id for stored in live if directory.may_have_clusters(stored)}
        for row in list(self.db.active_clusters()):
            if row.config.plan_id not in running:
                self.log.info("the session of cluster %s has ended; so does the cluster", row.name)
                await self.stop_cluster(row.name)
        for found in await runner.look():
            if not self._is_wanted(found) and found.age_s > ORPHAN_S:
                self.log.warning("ending a part that belongs to no cluster: %s", found)
                await runner.end(found)
        self.platform.metrics.looked()

    def _is_wanted(self, found: FoundPart) -> bool:
        row = self.db.get_cluster(found.cluster)
        if row is None or row.config.plan_id != found.plan_id or row.status >= JobStatus.STOPPED:
            return False
        worker = row.workers.get(found.name)
        return found.name == row.name or (worker is not None and worker.status < JobStatus.STOPPED)
