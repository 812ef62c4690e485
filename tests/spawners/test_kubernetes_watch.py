"""The view of a real cluster, through a proxy that cuts, mutes, refuses, answers 500 and 410."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.errors import Unavailable
from beamhub_spawners.kubernetes_cluster import Cluster
from beamhub_spawners.kubernetes_pod import COMPONENT, MANAGED_BY
from contracts.cluster_parts import NODES, TestCluster, test_namespace
from contracts.fault_proxy import Fault, FaultProxy, fault_proxy

pytestmark = pytest.mark.kubernetes

SILENCE_S = 4.0
HEALED_S = 15.0


@pytest.fixture
def cluster() -> Iterator[TestCluster]:
    with test_namespace(pod_security="privileged") as cluster:
        yield cluster


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[FaultProxy]:
    """A proxy before the API server that is its administrator, so that it speaks plain HTTP to the view."""
    said = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    server, user = said["clusters"][0]["cluster"], said["users"][0]["user"]
    for name in ("client-certificate", "client-key"):
        (tmp_path / name).write_bytes(base64.b64decode(user[f"{name}-data"]))
    authority = base64.b64decode(server["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=authority)
    tls.load_cert_chain(tmp_path / "client-certificate", tmp_path / "client-key")
    address = urlsplit(server["server"])
    with fault_proxy(("127.0.0.1", 0), (str(address.hostname), address.port or 443), tls) as proxy:
        yield proxy


def kubeconfig(folder: Path, url: str) -> Path:
    file = folder / "proxy.kubeconfig"
    fields: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "proxy",
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        "clusters": [{"name": "proxy", "cluster": {"server": url}}],
        "users": [{"name": "proxy", "user": {}}],
    }
    file.write_text(yaml.safe_dump(fields))
    return file


def idle_pod(cluster: TestCluster, name: str) -> None:
    """A pod with our labels that no node ever takes: it costs the cluster nothing."""
    container = {"name": "session", "image": "none.example.org/none:none"}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {MANAGED_BY: "beamhub", COMPONENT: "session"}},
            "spec": {"containers": [container], "nodeSelector": {"beamhub.org/no-such": "node"}},
        }
    )


@asynccontextmanager
async def followed(cluster: TestCluster, file: Path) -> AsyncIterator[Cluster]:
    fields = {
        "kubeconfig": str(file),
        "namespace": cluster.namespace,
        "volumes": {"hall-a": {"claim": "a"}},
        "homes": {"claim": "homes"},
        "silence_s": SILENCE_S,
        "timeout_s": 5,
    }
    seen = Cluster(KubernetesPlaceConfig.model_validate(fields))
    try:
        yield seen
    finally:
        await seen.close()


async def names(seen: Cluster) -> set[str]:
    return {pod.name for pod in await seen.pods({})}


async def until(is_so: Callable[[], Awaitable[bool]], seconds: float) -> float:
    """Wait until something is so; the seconds that it took."""
    began = time.monotonic()
    while True:
        try:
            if await is_so():
                return time.monotonic() - began
        except Unavailable:
            pass
        assert time.monotonic() - began < seconds, "it did not come to be in time"
        await asyncio.sleep(0.1)


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 90))  # type: ignore[arg-type]  # an async function's coroutine


async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(work, *arguments)


@pytest.mark.parametrize("fault", ["mute", "cut", "500", "410", "refuse"])
def test_every_fault_of_the_watch_is_red_and_heals_without_a_restart(
    cluster: TestCluster, proxy: FaultProxy, tmp_path: Path, fault: Fault
) -> None:
    async def work() -> None:
        async with followed(cluster, kubeconfig(tmp_path, proxy.url)) as seen:
            await in_thread(idle_pod, cluster, "before")
            await until(lambda: has(seen, {"before"}), HEALED_S)
            proxy.fault = fault
            await in_thread(idle_pod, cluster, "during")
            await until(lambda: is_red(seen), 3 * SILENCE_S)
            with pytest.raises(Unavailable, match="no sign of it for"):
                await seen.pods({})
            health = seen.health()["pods"]
            assert health.reason
            assert not health.is_fresh
            assert seen.silent_s > 0
            proxy.fault = "none"
            await until(lambda: has(seen, {"before", "during"}), HEALED_S)
            assert seen.health()["pods"].is_fresh

    run(work)


async def has(seen: Cluster, wanted: set[str]) -> bool:
    return await names(seen) == wanted


async def is_red(seen: Cluster) -> bool:
    return not seen.health()["pods"].is_fresh


def test_a_quiet_cluster_stays_fresh_for_few_requests(
    cluster: TestCluster, proxy: FaultProxy, tmp_path: Path
) -> None:
    async def work() -> None:
        async with followed(cluster, kubeconfig(tmp_path, proxy.url)) as seen:
            await seen.pods({})
            before = proxy.n_requests
            for _ in range(int(2 * SILENCE_S / 0.5)):
                await asyncio.sleep(0.5)
                assert seen.health()["pods"].is_fresh
            assert proxy.n_requests - before <= 2 * SILENCE_S / (SILENCE_S / 2) + 2
            assert seen.health()["pods"].n_lists == 1

    run(work)


def test_what_was_made_and_ended_is_seen_at_once(
    cluster: TestCluster, proxy: FaultProxy, tmp_path: Path
) -> None:
    async def work() -> None:
        async with followed(cluster, kubeconfig(tmp_path, proxy.url)) as seen:
            container = {"name": "session", "image": "none.example.org/none:none"}
            labels = {MANAGED_BY: "beamhub", COMPONENT: "session"}
            for i in range(5):
                manifest = {
                    "metadata": {"name": f"pod-{i}", "labels": labels},
                    "spec": {"containers": [container], "nodeSelector": {"beamhub.org/no-such": "node"}},
                }
                made = await seen.create_pod(manifest)
                assert made.name in await names(seen)
            for pod in await seen.pods({}):
                await seen.delete_pod(pod, grace_s=1)
            await until(lambda: has(seen, set()), HEALED_S)

    run(work)


def test_nodes_are_seen_with_what_they_give(cluster: TestCluster, proxy: FaultProxy, tmp_path: Path) -> None:
    async def work() -> None:
        async with followed(cluster, kubeconfig(tmp_path, proxy.url)) as seen:
            nodes = {node.name: node for node in await seen.nodes() or ()}
            assert set(NODES) <= set(nodes)
            for name in NODES:
                node = nodes[name]
                assert node.is_ready
                assert node.is_recursive
                assert node.is_strict
                assert node.allocatable["memory"] > 2**30
                assert node.labels["facility.example/storage"] == name

    run(work)


def test_an_account_that_may_not_read_nodes_is_told_nothing_of_them(
    cluster: TestCluster, tmp_path: Path
) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    file = cluster.kubeconfig_of("reader", rules, tmp_path / "reader.kubeconfig")

    async def work() -> None:
        async with followed(cluster, file) as seen:
            assert await seen.nodes() is None
            assert await names(seen) == set()

    run(work)
