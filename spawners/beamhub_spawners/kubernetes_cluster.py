"""One namespace of one cluster: the few calls that sessions need of its API server, each with a limit.

The account that it uses needs, in that namespace: pods `create`, `delete`, `get`, `list` and `watch`,
`pods/log` `get`, and events `list`. It patches nothing, executes nothing and reads no secret.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from kubernetes_asyncio import config as kube_config
from kubernetes_asyncio.client import ApiClient, Configuration
from prometheus_client import Gauge

from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.errors import BeamhubError, Unavailable
from beamhub_spawners.kubernetes_objects import NodeSeen, Raw, kept_pod, node_seen
from beamhub_spawners.kubernetes_pod import ACCOUNT, MANAGED_BY, Pod, PodsByAccount, selector
from beamhub_spawners.kubernetes_watch import Read, Watched, WatchFault, WatchHealth

SERVICE = "cluster"
LOG_LINES = 200
GOODBYE_S = 0.1
"""An encrypted connection takes leave; the loop must live that long."""
MAX_LOG_BYTES = 1_000_000
MAX_EVENTS = 100
OURS = {MANAGED_BY: "beamhub"}
"""Sessions and the parts of their clusters: both take room of nodes."""
NODES_AT_ONCE = 100  # one with all its images takes 30 kB
PATIENCE_S = 2.0
"""A view that is not fresh gets so long to heal before whoever asks is told."""
NOT_NOW = (401, 408, 429)
"""Answers that say nothing of what was asked: not known to it (a token that ran out), too slow, too many."""

_clusters: dict[tuple[str, str, str], Cluster] = {}
"""The clusters of this process: places of one namespace share a client."""


class ApiRefused(BeamhubError):
    """The API server answered that it does not do what was asked.

    `status` is HTTP's, `reason` Kubernetes' own word (`AlreadyExists`, `Forbidden`), `message` its text.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(status, reason, message)
        self.status, self.reason, self.message = status, reason, message

    def __str__(self) -> str:
        return f"The cluster refused ({self.status} {self.reason}): {self.message}"


STALE_SECONDS = Gauge(
    "beamhub_cluster_view_stale_seconds",
    "Seconds since what is known of a cluster is not fresh; 0 while it is",
    ("namespace", "kind"),
)


class Cluster:
    """Calls of the API server for the pods of one namespace.

    `silent_s` says for how long nothing has come from it. All methods belong to one event loop.
    """

    def __init__(self, place: KubernetesPlaceConfig) -> None:
        self.place, self.namespace = place, place.namespace
        self.n_calls = 0
        """Requests to the API server so far."""
        self.view = Watched("pods", self._read(self._path("pods"), OURS), keep_pod, silence_s=place.silence_s)
        self._nodes = Watched(
            "nodes", self._read("/api/v1/nodes", {}), node_seen, silence_s=place.silence_s, page=NODES_AT_ONCE
        )
        for view in (self.view, self._nodes):
            STALE_SECONDS.labels(self.namespace, view.kind).set_function(view.stale_s)
        self._client: ApiClient | None = None
        self._opening = asyncio.Lock()
        self._silent_since: float | None = None
        self._written: str | None = None
        self._by_account = PodsByAccount()

    @property
    def silent_s(self) -> float:
        """Seconds since the first of the calls that got no answer, or since the view is not fresh; else 0."""
        calls_s = time.monotonic() - self._silent_since if self._silent_since is not None else 0.0
        return max(calls_s, self.view.stale_s())

    async def create_pod(self, manifest: Mapping[str, Any]) -> Pod:
        """Make a pod; returns it as the API server stored it, after all that changes pods on their way.

        Raises
        ------
        ApiRefused
            What the API server does not admit; 409 for a name that is taken.
        Unavailable
            Without an answer: the pod may or may not be there.
        """
        made = Pod(await self.call("POST", self._path("pods"), body=dict(manifest)))
        self._written = str(made.fields["metadata"]["resourceVersion"])
        return made

    async def delete_pod(self, pod: Pod, *, grace_s: int) -> None:
        """Ask for the end of this very pod; gone already, or another of its name, is fine.

        Parameters
        ----------
        grace_s:
            Seconds that its processes get, at least 1: with 0 the API server forgets a pod whose node has
            not ended it, and another could write beside it.

        Raises
        ------
        Unavailable
            Without an answer.
        """
        body = {
            "gracePeriodSeconds": max(1, grace_s),
            "propagationPolicy": "Background",
            "preconditions": {"uid": pod.uid},
        }
        try:
            said = await self.call("DELETE", self._path("pods", pod.name), body=body)
            self._written = str((said.get("metadata") or {}).get("resourceVersion") or "") or self._written
        except ApiRefused as refused:
            if refused.status not in (404, 409):  # 409: the name is another pod's
                raise

    async def pod(self, name: str) -> Pod | None:
        """A pod by name, from the API server itself; None when it is not there.

        Raises
        ------
        Unavailable
            Without an answer.
        """
        try:
            return Pod(await self.call("GET", self._path("pods", name)))
        except ApiRefused as refused:
            if refused.status == 404:
                return None
            raise

    async def pods(self, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        """The pods with all of some labels; what this object made or ended before is seen.

        Raises
        ------
        Unavailable
            When nothing fresh is known of the cluster.
        """
        known, account, wanted = await self.all_pods(), labels.get(ACCOUNT), labels.items()
        pods = known.values() if account is None else self._by_account.of(account, known, turn=self.turn)
        return tuple(pod for pod in pods if wanted <= pod.labels.items())

    async def all_pods(self) -> Mapping[str, Pod]:
        """All pods of sessions and their clusters there, by name, other hubs' too; not to be changed.

        Raises
        ------
        Unavailable
            When nothing fresh is known of the cluster.
        """
        await self._seen()
        return self.view.items()

    async def nodes(self) -> tuple[NodeSeen, ...] | None:
        """The nodes of the cluster; None where the account may not `list` and `watch` them.

        Raises
        ------
        Unavailable
            When nothing fresh is known of them.
        """
        self._nodes.start()
        await self._nodes.wait_for(None, self.place.timeout_s)
        await self._nodes.wait_fresh(0.0 if self._nodes.is_forbidden else PATIENCE_S)
        if self._nodes.is_forbidden:
            return None
        return tuple(self._nodes.items().values())

    def health(self) -> dict[str, WatchHealth]:
        """How fresh the views are that somebody asked for."""
        return {view.kind: view.health() for view in (self.view, self._nodes) if view.is_started}

    @property
    def turn(self) -> int:
        """Counts the changes that were seen; take it before a look, and wait for the next one after it."""
        return self.view.turn

    async def wait_change(self, after: int, timeout_s: float) -> int:
        """The turn, as soon as it is another than `after`, or when the time is over."""
        return await self.view.wait_change(after, timeout_s)

    async def _seen(self) -> None:
        """The view, once it shows what was written from here last."""
        self.view.start()
        await self.view.wait_for(self._written, self.place.timeout_s)
        await self.view.wait_fresh(PATIENCE_S)

    async def pod_log(self, name: str) -> bytes:
        """The last lines of a pod's container; nothing where there are none.

        Raises
        ------
        Unavailable
            Without an answer.
        """
        query = {"tailLines": LOG_LINES, "limitBytes": MAX_LOG_BYTES}
        try:
            return await self._answer("GET", self._path("pods", name, "log"), query, None)
        except ApiRefused:  # it never ran, or its node does not hand it out
            return b""

    async def events_of(self, pod: Pod) -> tuple[Mapping[str, Any], ...]:
        """What the cluster reported of a pod lately; not in order.

        Raises
        ------
        ApiRefused, Unavailable
            What the API server refused, or its silence.
        """
        query = {"fieldSelector": f"involvedObject.uid={pod.uid}", "limit": MAX_EVENTS}
        said = await self.call("GET", self._path("events"), query=query)
        return tuple(said.get("items") or ())

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> dict[str, Any]:
        """What the API server answers to a request, as JSON.

        Raises
        ------
        ApiRefused
            For what it refuses.
        Unavailable
            When it does not answer in time, says that it cannot now, or does not know us.
        """
        answered: dict[str, Any] = json.loads(await self._answer(method, path, query or {}, body))
        return answered

    async def close(self) -> None:
        """Stop looking, and give the connections back."""
        await self.view.close()
        await self._nodes.close()
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _path(self, *parts: str) -> str:
        return "/".join(("/api/v1/namespaces", self.namespace, *parts))

    def _read(self, path: str, labels: Mapping[str, str]) -> Read:
        """A list call that hands its answer out as it comes."""

        async def read(query: Mapping[str, Any], limit: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
            try:
                client = await self._opened()
            except kube_config.ConfigException as error:
                raise WatchFault("there are no credentials for its API server") from error
            response: aiohttp.ClientResponse = await client.call_api(
                path,
                "GET",
                query_params=[*query.items(), ("labelSelector", selector(labels))],
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=limit,
            )
            return response

        return read

    async def _answer(self, method: str, path: str, query: Mapping[str, Any], body: Any) -> bytes:
        self.n_calls += 1
        try:
            async with asyncio.timeout(self.place.timeout_s):
                client = await self._opened()
                # The client's own reading would write answers, with the tokens in them, to its log.
                response = await client.call_api(
                    path,
                    method,
                    query_params=list(query.items()),
                    header_params={"Accept": "application/json, */*"},
                    body=body,
                    auth_settings=["BearerToken"],
                    _preload_content=False,
                )
                said: bytes = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError, kube_config.ConfigException) as error:
            self._did_not_answer()
            raise Unavailable(SERVICE, type(error).__name__) from error
        if response.status in NOT_NOW or response.status >= 500:
            self._did_not_answer()
            raise Unavailable(SERVICE, f"HTTP {response.status}")
        self._silent_since = None
        if response.status >= 300:
            raise refusal_of(response.status, said)
        return said

    def _did_not_answer(self) -> None:
        self._silent_since = self._silent_since or time.monotonic()

    async def _opened(self) -> ApiClient:
        async with self._opening:
            if self._client is None:
                self._client = await open_client(self.place)
            return self._client


def keep_pod(raw: Raw) -> Pod:
    """A pod with what is kept of it."""
    return Pod(kept_pod(raw))


def refusal_of(status: int, said: bytes) -> ApiRefused:
    """What the API server refused, from the `Status` object that it answers with."""
    try:
        told = json.loads(said)
    except ValueError:
        told = None
    fields = told if isinstance(told, dict) else {}
    return ApiRefused(status, str(fields.get("reason") or ""), str(fields.get("message") or ""))


async def open_client(place: KubernetesPlaceConfig) -> ApiClient:
    """A client of the place's API server, with the kubeconfig's or the pod's own credentials.

    Raises
    ------
    kubernetes_asyncio.config.ConfigException, OSError
        If there are none.
    """
    settings = Configuration()
    if place.kubeconfig is not None:
        await kube_config.load_kube_config(
            config_file=str(place.kubeconfig), context=place.context, client_configuration=settings
        )
    else:
        kube_config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]  # untyped
    return ApiClient(configuration=settings)


def shared_cluster(place: KubernetesPlaceConfig) -> Cluster:
    """The one object of a cluster's namespace in this process."""
    key = place.cluster_key
    if key not in _clusters:
        _clusters[key] = Cluster(place)
    return _clusters[key]


async def close_clusters() -> None:
    """Give the connections to all clusters back."""
    while _clusters:
        _, cluster = _clusters.popitem()
        await cluster.close()
    await asyncio.sleep(GOODBYE_S)
