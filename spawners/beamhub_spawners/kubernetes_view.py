"""What the sweeper sees of sessions on clusters: their pods, listed anew at each pass.

It has a client of its own, in threads of its own, and trusts no watch: it is what finds out when one lies.
The account that it uses needs, in the sessions' namespace, `get`, `list` and `delete` of pods, nothing else.

It never forces a pod away. While a pod stands in the API its node may still run it, also when the node does
not answer, and a pod that is forced away would write beside the one that replaces it. A pod goes when its
node says that it ended, or when the cluster itself gives the node up: its Node object is removed, or it has
the taint `node.kubernetes.io/out-of-service`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import urllib3
from kubernetes import client as kube
from kubernetes import config as kube_config
from kubernetes.client.exceptions import ApiException

from beamhub_core.config import FacilityConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_spawners.kubernetes_objects import instant, kept_pod
from beamhub_spawners.kubernetes_pod import PREFIX, Pod, hub_labels, platform_labels, selector
from beamhub_spawners.kubernetes_reasons import end_in_words
from beamhub_spawners.sweeper import SETTLE, Found, Inventory

log = logging.getLogger(__name__)

SERVICE = "cluster"
PAGE = 500
GRACE_S = 30
LATE = timedelta(seconds=30)
"""So long after the time that a deleted pod was given its node is taken for silent."""
_lists: dict[tuple[str, str, str], PodList] = {}
"""The clusters of this process, each with its thread and its silence."""


class PodList:
    """The pods of one namespace of one cluster, read and deleted by one thread.

    A call that hangs keeps the thread; until it ends, later ones are answered that the cluster is silent.
    """

    def __init__(self, place: KubernetesPlaceConfig) -> None:
        self._place = place
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kubernetes-sweep")
        self._is_busy = False
        self._silent_since: float | None = None
        self._pods = f"/api/v1/namespaces/{place.namespace}/pods"
        self._client: kube.ApiClient | None = None

    @property
    def silent_s(self) -> float:
        """Seconds since the first call that got no answer, with none answered since; else 0."""
        return time.monotonic() - self._silent_since if self._silent_since is not None else 0.0

    async def pods(self, labels: dict[str, str]) -> list[Pod]:
        """The pods with some labels.

        Raises
        ------
        Unavailable
            When the API server does not answer in time, or refuses.
        """
        found: list[Pod] = await self._do(lambda: self._list(selector(labels)))
        return found

    async def delete(self, pod: Pod) -> None:
        """Ask for the end of this very pod; one that is gone, or another of its name, is fine.

        Raises
        ------
        Unavailable
            When the API server does not answer in time, or refuses.
        """
        await self._do(lambda: self._delete(pod))

    def close(self) -> None:
        """Give the thread and the connections back."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        client, self._client = self._client, None
        if client is not None:
            client.close()  # type: ignore[no-untyped-call]  # untyped

    async def _do(self, work: Any) -> Any:
        if self._is_busy:
            raise Unavailable(SERVICE, "an earlier call still waits for it")
        self._is_busy = True
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, work)
        future.add_done_callback(self._is_free)
        try:
            done = await asyncio.wait_for(asyncio.shield(future), 2 * self._place.timeout_s)
        except ApiException as error:
            self._did_not_answer()
            raise Unavailable(SERVICE, f"HTTP {error.status}") from error
        except (TimeoutError, OSError, urllib3.exceptions.HTTPError, kube_config.ConfigException) as error:
            self._did_not_answer()
            raise Unavailable(SERVICE, type(error).__name__) from error
        self._silent_since = None
        return done

    def _is_free(self, future: asyncio.Future[Any]) -> None:
        self._is_busy = False
        if not future.cancelled():
            future.exception()  # it was told, or its caller went away

    def _did_not_answer(self) -> None:
        self._silent_since = self._silent_since or time.monotonic()

    # -- in the thread ----------------------------------------------------------------------------------

    def _list(self, labels: str) -> list[Pod]:
        found: list[Pod] = []
        following: str | None = None
        while True:
            query = {"labelSelector": labels, "limit": PAGE, **({"continue": following} if following else {})}
            page = json.loads(self._answer("GET", self._pods, query=query))
            found += [Pod(kept_pod(raw)) for raw in page.get("items") or ()]
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                return found

    def _delete(self, pod: Pod) -> None:
        options = {
            "gracePeriodSeconds": GRACE_S,
            "propagationPolicy": "Background",
            "preconditions": {"uid": pod.uid},
        }
        try:
            self._answer("DELETE", f"{self._pods}/{pod.name}", body=options)
        except ApiException as error:
            if error.status not in (404, 409):
                raise

    def _answer(self, method: str, path: str, *, query: Any = None, body: Any = None) -> bytes:
        # `CoreV1Api` would do the same; importing it takes 2 s of the hub's processor and 90 MiB.
        client = self._opened()
        asked = client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = client.call_api(*asked, _request_timeout=self._place.timeout_s)
        said: bytes = answer.read()  # type: ignore[no-untyped-call]  # untyped
        if answer.status >= 300:
            raise ApiException(status=answer.status, reason=answer.reason)
        return said

    def _opened(self) -> kube.ApiClient:
        if self._client is None:
            settings = kube.Configuration()
            if self._place.kubeconfig is not None:
                kube_config.load_kube_config(  # type: ignore[no-untyped-call]  # untyped
                    config_file=str(self._place.kubeconfig),
                    context=self._place.context,
                    client_configuration=settings,
                    persist_config=False,
                )
            else:
                kube_config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            settings.retries = False  # a pass that fails is followed by the next one
            self._client = kube.ApiClient(settings)
        return self._client


class KubernetesView:
    """Pods of this hub in the namespaces of its places."""

    def __init__(self, config: FacilityConfig, settle: timedelta = SETTLE) -> None:
        self._config, self._settle = config, settle
        self._seen: dict[str, tuple[PodList, Pod]] = {}
        self._left: list[tuple[PodList, Pod]] = []
        """Parts of clusters whose session has no pod, as of the last look."""

    async def look(self) -> Inventory:
        """Every session's pod with this hub's labels, and which places are silent."""
        places: dict[PodList, list[str]] = {}
        for place in self._config.sessions.places:
            if place.kubernetes is not None:
                places.setdefault(shared_list(place.kubernetes), []).append(place.name)
        looks = await asyncio.gather(*(self._look(pods) for pods in places))
        silent: dict[str, float] = {}
        found: list[Found] = []
        self._left = []
        sessions = hub_labels(self._config).items()
        for (pods, names), seen in zip(places.items(), looks, strict=True):
            if seen is None:
                silent.update(dict.fromkeys(names, pods.silent_s))
                continue
            now = datetime.now(UTC)
            self._left += [(pods, pod) for pod in left_parts(seen, now - self._settle)]
            for pod in seen:
                if not sessions <= pod.labels.items():
                    continue  # of a cluster: the gateway's, see `tidy`
                one = found_of(pod, now)
                self._seen[one.backend_id] = (pods, pod)
                found.append(one)
        return Inventory(tuple(found), silent)

    async def end(self, found: Found) -> None:
        """Ask for the end of the pod; its node ends it.

        Raises
        ------
        Unavailable
            When its cluster does not answer.
        """
        if found.backend_id in self._seen:
            pods, pod = self._seen[found.backend_id]
            if not pod.is_deleting:
                await pods.delete(pod)

    async def tidy(self) -> None:
        """Remove parts of clusters whose session is gone.

        The cluster itself removes them with the session's pod, which owns them; this is for one whose
        collector does not, and for a pod that was made anew.
        """
        for pods, pod in self._left:
            log.warning("removing a part of a cluster whose session is gone: %s", pod.name)
            try:
                await pods.delete(pod)
            except Unavailable as error:
                log.warning("it could not be removed; the next pass tries again: %s", error)

    async def _look(self, pods: PodList) -> list[Pod] | None:
        try:
            return [pod for pod in await pods.pods(platform_labels(self._config)) if pod.plan_id]
        except Unavailable as error:
            log.warning("a cluster is not seen by the sweeper: %s", error)
            return None


def left_parts(seen: list[Pod], before: datetime) -> list[Pod]:
    """The parts of clusters that were made before an instant and whose session has no pod. Pure."""
    role = f"{PREFIX}role"
    sessions = {pod.plan_id for pod in seen if role not in pod.labels}
    return [
        pod
        for pod in seen
        if role in pod.labels
        and pod.plan_id not in sessions
        and not pod.is_deleting
        and pod.created is not None
        and pod.created < before
    ]


def found_of(pod: Pod, now: datetime) -> Found:
    """A pod as the sweeper compares it. Pure."""
    created = pod.created
    return Found(
        plan_id=pod.plan_id,
        backend_id=f"pod:{pod.namespace}/{pod.name}",
        is_running=not pod.is_ended,
        age_s=(now - created).total_seconds() if created is not None else 0.0,
        url=pod.url,
        token_digest=pod.token_digest,
        unknown_s=unknown_s(pod, now),
        reason=end_in_words(pod) if pod.is_ended else "",
    )


def unknown_s(pod: Pod, now: datetime) -> float:
    """Seconds since nobody can tell whether a pod runs; 0 while its node speaks of it. Pure.

    By the cluster's clock: a hub whose clock is behind waits longer.
    """
    if pod.is_ended or not pod.node:
        return 0.0
    since = []
    if pod.is_on_a_lost_node:
        since.append(instant(pod.condition("Ready").get("lastTransitionTime")) or pod.created or now)
    deletion_at = instant(pod.fields["metadata"].get("deletionTimestamp"))
    if deletion_at is not None and now > deletion_at + LATE:
        since.append(deletion_at)
    return max(0.0, (now - min(since)).total_seconds()) if since else 0.0


def shared_list(place: KubernetesPlaceConfig) -> PodList:
    """The one object of a cluster's namespace in this process."""
    key = place.cluster_key
    if key not in _lists:
        _lists[key] = PodList(place)
    return _lists[key]


def close_lists() -> None:
    """Give all threads back."""
    while _lists:
        _, pods = _lists.popitem()
        pods.close()
