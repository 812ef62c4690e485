"""Parts of clusters as pods beside the session's own, in its namespace, owned by its pod.

The account that the gateway uses needs, in that namespace, `create`, `get`, `list`, `watch` and `delete` of
pods, and nothing else.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from beamhub_core.config import FacilityConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.dask_pod_render import PodGround, part_pod
from beamhub_spawners.dask_render import API_PORT, SCHEDULER_PORT, DaskPart, read_part
from beamhub_spawners.dask_runner import FoundPart, PartAddress, PartNotStarted, Secrets, gateway_of
from beamhub_spawners.kubernetes_cluster import ApiRefused, Cluster, close_clusters, shared_cluster
from beamhub_spawners.kubernetes_look import kubernetes_place, look_everywhere
from beamhub_spawners.kubernetes_pod import PREFIX, Pod, hub_labels, newest, platform_labels
from beamhub_spawners.kubernetes_reasons import end_in_words, refusal, start_fault
from beamhub_spawners.kubernetes_validate import PodNotAsPlanned, check_pod
from beamhub_spawners.refusal import StartFailed

log = logging.getLogger(__name__)

STOP_S = 3
GONE_S = 15.0
"""Within this time a node that answers has ended a pod."""
ADDRESS_S = 45.0
"""For as long as this a worker waits for its scheduler's address; a node gives it before the image runs."""
LOOK_S = 1.0


class PodRunner:
    """Clusters on Kubernetes: each part on the nodes of its session's place."""

    knows_schedulers = True

    def __init__(self, config: FacilityConfig) -> None:
        self._config, self._gateway = config, gateway_of(config)

    async def start(self, plan: SessionPlan, part: DaskPart, secrets: Secrets, scheduler: str) -> None:
        """Create the part's pod from the plan, below the session's pod.

        A worker's scheduler is where the cluster shows the scheduler's pod, whatever else is said.
        """
        try:
            place = kubernetes_place(self._config, plan.place.name)
            cluster = shared_cluster(place)
            owner = await self._session_pod(cluster, plan)
            host = await self._scheduler_host(cluster, plan, part) if part.role == "worker" else ""
            where = PodGround(self._config, self._gateway, place, (owner.name, owner.uid), host)
            planned = part_pod(plan, part, where, token=secrets.token)
            await self._make(cluster, place, plan, planned)
        except (ValueError, StartFailed) as error:
            raise PartNotStarted(part.role, str(error)) from error
        except (PodNotAsPlanned, ApiRefused) as error:
            log.error("the %s of cluster %s does not start: %s", part.role, part.cluster, error)
            raise PartNotStarted(part.role, _in_words(error, plan.place.name)) from error

    async def end(self, found: FoundPart) -> None:
        """Delete the pod and wait until its node has ended it."""
        place = self._known_place(found.place)
        if place is None:
            return
        cluster = shared_cluster(place)
        try:
            for pod in await cluster.pods(self._labels(found)):
                if pod.is_ended:
                    log.info("part %s of cluster %s: %s", found.name, found.cluster, end_in_words(pod))
                await cluster.delete_pod(pod, grace_s=STOP_S)
        except ApiRefused as error:
            raise Unavailable("cluster", f"HTTP {error.status}") from error
        until = time.monotonic() + GONE_S
        while True:
            turn = cluster.turn
            if not await cluster.pods(self._labels(found)):
                return
            if time.monotonic() > until:
                raise Unavailable("cluster", "the node of a part does not end it")
            await cluster.wait_change(turn, LOOK_S)

    async def look(self) -> tuple[FoundPart, ...]:
        """Every pod of a cluster's part whose end was not asked for, on the clusters that answer."""
        seen = await look_everywhere(self._config, platform_labels(self._config))
        found = (_found(one.pod) for one in seen.seen if not one.pod.is_deleting)
        return tuple(one for one in found if one is not None)

    async def is_alive(self, found: FoundPart) -> bool:
        """Whether the pod runs or may yet; unknown counts as running."""
        place = self._known_place(found.place)
        if place is None:
            return False
        try:
            pods = await shared_cluster(place).pods(self._labels(found))
        except Unavailable:
            return True
        return any(not pod.is_ended and start_fault(pod) is None for pod in pods)

    async def address(self, found: FoundPart) -> PartAddress | None:
        """The pod's own address, and the ports that were rendered."""
        place = self._known_place(found.place)
        pods = () if place is None else await shared_cluster(place).pods(self._labels(found))
        pod = newest(pod for pod in pods if not pod.is_ended)
        return None if pod is None or pod.ip is None else PartAddress(pod.ip, (SCHEDULER_PORT, API_PORT))

    async def close(self) -> None:
        """Stop looking at the clusters; pods go on."""
        await close_clusters()

    # -- parts -----------------------------------------------------------------------------------------

    async def _session_pod(self, cluster: Cluster, plan: SessionPlan) -> Pod:
        labels = {**hub_labels(self._config), f"{PREFIX}plan-id": plan.id}
        pods = await cluster.pods(labels)
        found = newest(pod for pod in pods if not pod.is_ended and not pod.is_deleting)
        if found is None:
            raise ValueError("its session has no pod any more")
        return found

    async def _scheduler_host(self, cluster: Cluster, plan: SessionPlan, part: DaskPart) -> str:
        """Where the scheduler of a worker is, as soon as its node says so; both start side by side."""
        labels = self._labels(FoundPart(plan.id, part.cluster, part.cluster, plan.place.name, True, 0.0))
        until = time.monotonic() + ADDRESS_S
        while True:
            turn = cluster.turn
            pod = newest(await cluster.pods(labels))
            if pod is not None and (pod.is_ended or pod.is_deleting):
                raise ValueError("its scheduler has ended")
            if pod is not None and pod.ip is not None:
                return f"[{pod.ip}]" if ":" in pod.ip else pod.ip
            if time.monotonic() > until:
                raise ValueError("its scheduler got no address")
            await cluster.wait_change(turn, LOOK_S)

    async def _make(
        self, cluster: Cluster, place: KubernetesPlaceConfig, plan: SessionPlan, planned: dict[str, object]
    ) -> None:
        """Create the pod; one of its name serves only when it was made from this very plan."""
        placed: tuple[str, ...] = ()
        try:
            made = await cluster.create_pod(planned)
        except ApiRefused as refused:
            if refused.status != 409 or refused.reason != "AlreadyExists":
                raise
            metadata = planned["metadata"]
            assert isinstance(metadata, dict)  # noqa: S101 - of the rendered pod
            known = await cluster.pod(str(metadata["name"]))
            if known is None or known.plan_hash != digest(plan):
                raise ValueError("a pod of its name was made from another plan") from refused
            made, placed = known, ("spec.nodeName",)  # the scheduler's since
        try:
            check_pod(made.fields, planned, admitted=(*place.admitted_changes, *placed))
        except PodNotAsPlanned:
            await cluster.delete_pod(made, grace_s=1)
            raise

    def _labels(self, found: FoundPart) -> dict[str, str]:
        return {
            **platform_labels(self._config),
            f"{PREFIX}plan-id": found.plan_id,
            f"{PREFIX}cluster": found.cluster,
            f"{PREFIX}part": found.name,
        }

    def _known_place(self, name: str) -> KubernetesPlaceConfig | None:
        return next((one.kubernetes for one in self._config.sessions.places if one.name == name), None)


def _in_words(error: PodNotAsPlanned | ApiRefused, place: str) -> str:
    """Why a part does not start, without the cluster's own names."""
    if isinstance(error, PodNotAsPlanned):
        return "its pod was changed into one that its plan does not allow"
    failure = refusal(error, place)
    return (
        failure.reason
        if isinstance(failure, StartFailed)
        else "the sessions' share of the cluster is used up"
    )


def _found(pod: Pod) -> FoundPart | None:
    try:
        part = read_part(pod.labels, PREFIX)
    except ValueError:
        return None
    if part is None:
        return None
    age_s = (datetime.now(UTC) - pod.created).total_seconds() if pod.created is not None else 0.0
    place = pod.annotations.get(f"{PREFIX}place", "")
    return FoundPart(pod.plan_id, part.cluster, part.name, place, not pod.is_ended, age_s)
