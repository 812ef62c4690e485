"""Sessions as pods of a cluster, rendered from the same plan as every other backend."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Mapping
from typing import Any

from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from kubespawner import KubeSpawner

from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.config.storage import PlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.host_homes import HomeOnHost
from beamhub_spawners.inventory import HostStorage
from beamhub_spawners.kubernetes_cluster import ApiRefused, Cluster, shared_cluster
from beamhub_spawners.kubernetes_facts import ask_kubernetes_home, ask_kubernetes_place
from beamhub_spawners.kubernetes_keeper import ensure_folders
from beamhub_spawners.kubernetes_look import Look, Seen, kubernetes_place, look_everywhere
from beamhub_spawners.kubernetes_pod import PORT, Pod, newest, pod_name, server_labels
from beamhub_spawners.kubernetes_reasons import (
    SERVER,
    end_in_words,
    is_pulling,
    mount_fault,
    no_node,
    refusal,
    start_fault,
    still_waiting,
    unschedulable,
)
from beamhub_spawners.kubernetes_render import GRACE_S, pod_manifest
from beamhub_spawners.kubernetes_validate import PodNotAsPlanned, check_pod
from beamhub_spawners.refusal import StartFailed
from beamhub_spawners.session_environment import hub_addresses, session_environment
from beamhub_spawners.session_log import keep_log
from beamhub_spawners.session_spawner import PlanSpawnerMixin

LOOK_S = 1.0
"""Pods are looked at again after this time also when no change is reported."""
EVENTS_AFTER_S, EVENTS_EVERY_S = 2.0, 3.0
GONE_S = 15.0
"""Within this time, after the grace, a node that answers has ended a pod."""
LOST = "the machine of this session does not answer, so nobody can tell whether it still runs"


class BareKubeSpawner(KubeSpawner):  # type: ignore[misc]  # KubeSpawner is untyped
    """KubeSpawner's traits and pages, without its clients, watches, names and templates.

    Its own start reads one cluster's credentials for the whole process and its text settings are templates;
    here each place has its cluster, and nothing passes through `str.format`.
    """

    def __init__(self, *args: Any, **traits: Any) -> None:
        Spawner.__init__(self, *args, **traits)
        self.port = PORT

    def get_env(self) -> dict[str, Any]:
        """JupyterHub's own environment of a server."""
        found: dict[str, Any] = Spawner.get_env(self)
        return found

    def get_state(self) -> dict[str, Any]:
        """JupyterHub's own state: pods are found by their labels."""
        found: dict[str, Any] = Spawner.get_state(self)
        return found

    def load_state(self, state: dict[str, Any]) -> None:
        """JupyterHub's own."""
        Spawner.load_state(self, state)

    def clear_state(self) -> None:
        """JupyterHub's own."""
        Spawner.clear_state(self)

    async def delete_forever(self) -> None:
        """Delete nothing: people's folders are the facility's."""


class KubernetesSessionSpawner(PlanSpawnerMixin, BareKubeSpawner):
    """One pod per session, on whichever cluster the plan's place belongs to.

    Of KubeSpawner's settings `environment` and `modify_pod_hook` count. The hook gets the pod as a dict in
    the API's camelCase; what it changes is checked against the plan.
    """

    async def ask_host(self, place: PlaceConfig) -> HostStorage | None:
        """What the place's nodes and its storage keeper say."""
        return await ask_kubernetes_place(place, self.platform.config)

    async def ask_home(self, place_name: str, account: str) -> HomeOnHost | None:
        """What the place's storage keeper says; the hub itself mounts no homes."""
        return await ask_kubernetes_home(kubernetes_place(self.platform.config, place_name), account)

    # -- the backend's part -------------------------------------------------------------------------

    async def launch(self, plan: SessionPlan) -> None:
        """Make the plan's pod and wait until its container runs."""
        place = kubernetes_place(self.platform.config, plan.place.name)
        cluster = shared_cluster(place)
        self.ip, self.port, self.image = "0.0.0.0", PORT, plan.image  # noqa: S104 - of the pod's network
        await ensure_folders(place, plan.id)
        planned = self._manifest(plan, place)
        await self._make(plan, place, planned, await self._hooked(planned, place))
        await self._until_running(cluster, plan, place)

    async def is_running(self) -> bool | None:
        """By label on every configured cluster; None where the node or cluster that may have it is silent."""
        look = await self._look()
        live = [one.pod for one in look.seen if not one.pod.is_ended]
        if any(not pod.is_on_a_lost_node for pod in live):
            return True
        if live:
            return None
        if self.plan is not None:
            return None if self.plan.place.name in look.silent else False
        return None if look.silent else False

    async def find_url(self) -> str | None:
        """The pod's own address."""
        for one in (await self._look()).seen:
            if one.pod.url is not None:
                return one.pod.url
        return None

    async def find_plan_id(self) -> str | None:
        """From the newest pod's label."""
        found = newest(one.pod for one in (await self._look()).seen)
        return found.plan_id if found is not None else None

    async def backend_id(self) -> str | None:
        """The pod's namespace and name."""
        if self.plan is None:
            return None
        place = kubernetes_place(self.platform.config, self.plan.place.name)
        return f"pod:{place.namespace}/{pod_name(self.plan.id)}"

    async def exit_reason(self) -> str:
        """Why the newest pod ended."""
        found = newest(one.pod for one in (await self._look()).seen)
        return end_in_words(found) if found is not None else "its pod was removed from the cluster"

    async def end(self, *, now: bool) -> None:
        """Delete this server's pods and wait until their nodes have ended them.

        Raises
        ------
        Unavailable
            While that is not certain: on a node that does not answer a pod may run on, and write. Its end
            is asked for; it comes when the node is back, or when the facility removes the node.
        """
        look = await self._look()
        await asyncio.gather(*(self._end_pod(one, now=now) for one in look.seen))
        if look.silent:
            raise Unavailable("cluster", f"no answer of {', '.join(sorted(look.silent))}")

    # -- parts of a start ------------------------------------------------------------------------------

    def _manifest(self, plan: SessionPlan, place: KubernetesPlaceConfig) -> dict[str, Any]:
        environment = session_environment(
            self.get_env(),
            of_the_facility=frozenset(self.environment),
            of_the_plan=plan.environment_variables,
            of_the_backend=hub_addresses(place.hub_api_url, self.user.escaped_name),
        )
        try:
            return pod_manifest(plan, place, config=self.platform.config, environment=environment)
        except ValueError as error:
            self.log.error("no pod can be made of session %s: %s", plan.id, error)
            raise StartFailed(SERVER, "its place is not set up for a folder that it needs") from error

    async def _hooked(self, planned: Mapping[str, Any], place: KubernetesPlaceConfig) -> dict[str, Any]:
        """The pod after the facility's own hook, which is not trusted with more than the plan."""
        finished: Any = copy.deepcopy(dict(planned))
        if self.modify_pod_hook:
            finished = await maybe_future(self.modify_pod_hook(self, finished))
        self._check(finished, planned, place)
        return dict(finished)

    def _check(
        self, finished: Any, planned: Mapping[str, Any], place: KubernetesPlaceConfig, *more: str
    ) -> None:
        """Refuse a pod that is more than its plan; `more` may differ besides what the place admits."""
        try:
            if not isinstance(finished, Mapping):
                raise PodNotAsPlanned(("the whole pod",))
            check_pod(finished, planned, admitted=(*place.admitted_changes, *more))
        except PodNotAsPlanned as error:
            self.log.error("%s", error)
            raise StartFailed(SERVER, "its pod was changed into one that its plan does not allow") from error

    async def _make(
        self,
        plan: SessionPlan,
        place: KubernetesPlaceConfig,
        planned: Mapping[str, Any],
        finished: dict[str, Any],
    ) -> None:
        """Create the pod; one of its name serves only when it was made from this very plan."""
        cluster = shared_cluster(place)  # which other places may share: their admitted changes are theirs
        placed: tuple[str, ...] = ()
        try:
            made = await cluster.create_pod(finished)
        except ApiRefused as refused:
            if refused.status != 409 or refused.reason != "AlreadyExists":
                self.log.error("session %s: %s", plan.id, refused)
                raise refusal(refused, plan.place.name) from refused
            known = await cluster.pod(pod_name(plan.id))
            if known is None or known.plan_hash != digest(plan):
                raise StartFailed(SERVER, "a pod of its name was made from another plan") from refused
            made, placed = known, ("spec.nodeName",)  # the scheduler's since
        try:
            self._check(made.fields, planned, place, *placed)
        except StartFailed:
            await cluster.delete_pod(made, grace_s=1)
            raise

    async def _until_running(self, cluster: Cluster, plan: SessionPlan, place: KubernetesPlaceConfig) -> None:
        """Wait until the container runs or has ended; raises when it will not."""
        limit_s = self.platform.config.sessions.start_timeout_s
        began = time.monotonic()
        placed_at: float | None = None
        events_at = 0.0
        events: tuple[Mapping[str, Any], ...] = ()
        while True:
            turn = cluster.turn
            pod = await self._own_pod(cluster, plan)
            now = time.monotonic()
            if pod is not None and (pod.is_ended or "running" in pod.container_state):
                return
            if pod is None:
                if now - began > limit_s:
                    raise StartFailed(SERVER, "its pod was removed from the cluster")
            elif pod.node is None:
                self._wait_for_node(pod, place, plan, waited_s=now - began)
            else:
                if placed_at is None:
                    placed_at = now
                    self.phases.say(55, "A machine takes it; bringing folders and software there")
                fault = start_fault(pod) or mount_fault(events)
                if fault is not None:
                    self.log.error("session %s: %s", plan.id, pod.container_state or events)
                    raise StartFailed(SERVER, fault)
                if now - placed_at > EVENTS_AFTER_S and now - events_at > EVENTS_EVERY_S:
                    events_at, events = now, await self._events(cluster, pod)
                    if is_pulling(events):
                        self.phases.say(
                            58, "Fetching its software; the first time on a machine takes minutes"
                        )
                if now - placed_at > limit_s:
                    raise StartFailed(SERVER, still_waiting(pod, events, limit_s=limit_s))
            await cluster.wait_change(turn, LOOK_S)

    def _wait_for_node(
        self, pod: Pod, place: KubernetesPlaceConfig, plan: SessionPlan, *, waited_s: float
    ) -> None:
        said = unschedulable(pod)
        if said is None:
            if waited_s > max(self.platform.config.sessions.start_timeout_s, place.no_node_wait_s):
                raise StartFailed(SERVER, "the cluster gave it no machine")
            return
        if waited_s < place.no_node_wait_s:
            self.phases.say(50, "Waiting for a machine that can take it")
            return
        self.log.warning("no node takes session %s: %s", plan.id, said)
        raise no_node(said, plan.place.name, gpu_resource=place.gpu_resource)

    async def _own_pod(self, cluster: Cluster, plan: SessionPlan) -> Pod | None:
        name = pod_name(plan.id)
        return next((pod for pod in await cluster.pods(self._labels()) if pod.name == name), None)

    async def _events(self, cluster: Cluster, pod: Pod) -> tuple[Mapping[str, Any], ...]:
        try:
            return await cluster.events_of(pod)
        except (ApiRefused, Unavailable):
            return ()  # they only say why, never whether

    # -- the end ------------------------------------------------------------------------------------------

    async def _end_pod(self, seen: Seen, *, now: bool) -> None:
        cluster, pod = seen.cluster, seen.pod
        await self._keep_log(cluster, pod)
        grace_s = 1 if now else GRACE_S
        await cluster.delete_pod(pod, grace_s=grace_s)
        until = time.monotonic() + grace_s + GONE_S
        while time.monotonic() < until:
            turn = cluster.turn
            known = [one for one in await cluster.pods(self._labels()) if one.uid == pod.uid]
            if not known:
                return
            if known[0].is_on_a_lost_node:
                break
            await cluster.wait_change(turn, LOOK_S)
        raise Unavailable("cluster", LOST)

    async def _keep_log(self, cluster: Cluster, pod: Pod) -> None:
        if pod.node is None or pod.is_on_a_lost_node:
            return  # nobody has it, or nobody hands it out
        try:
            said = await cluster.pod_log(pod.name)
            await asyncio.to_thread(keep_log, self.platform.config.sessions.state_folder, pod.plan_id, said)
        except (Unavailable, OSError) as error:
            self.log.warning("the log of session %s was not kept: %s", pod.plan_id, error)

    def _labels(self) -> dict[str, str]:
        return server_labels(self.platform.config, self.user.name, self.name)

    async def _look(self) -> Look:
        """This server's pods on all clusters."""
        return await look_everywhere(self.platform.config, self._labels())
