"""The sweeper on a real cluster, with an account that may list and delete pods of one namespace only."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.config import FacilityConfig
from beamhub_spawners.kubernetes_pod import COMPONENT, PREFIX, hub_labels, pod_name
from beamhub_spawners.kubernetes_view import KubernetesView, close_lists
from contracts.agent_parts import free_port
from contracts.cluster_parts import RULES, SWEEPER_RULES, TestCluster, test_namespace
from contracts.kubernetes_parts import kubernetes_facility

pytestmark = pytest.mark.kubernetes

PLANS = ("1" * 32, "2" * 32)


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    with test_namespace(pod_security="privileged") as cluster:
        yield cluster


@pytest.fixture
def config(cluster: TestCluster, tmp_path: Path) -> Iterator[FacilityConfig]:
    file = cluster.kubeconfig_of("sweeper", SWEEPER_RULES, tmp_path / "sweeper.kubeconfig")
    fields = kubernetes_facility(kubeconfig=str(file))
    for place in fields["sessions"]["places"]:
        place["kubernetes"]["namespace"] = cluster.namespace
    yield FacilityConfig.model_validate(fields)
    close_lists()
    cluster.kubectl("delete", "pods", "--all", "--grace-period=0", "--force", check=False)


def idle_pod(
    cluster: TestCluster, config: FacilityConfig, plan_id: str, *, name: str = "", **labels: str
) -> None:
    """A pod with a session's labels that no node takes."""
    metadata = {
        "name": name or pod_name(plan_id),
        "labels": {**hub_labels(config), f"{PREFIX}plan-id": plan_id, **labels},
        "annotations": {f"{PREFIX}token-digest": "a" * 64},
    }
    spec = {
        "containers": [{"name": "session", "image": "none.example.org/none:none"}],
        "nodeSelector": {"beamhub.org/no-such": "node"},
    }
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def can(cluster: TestCluster, account: str, *what: str) -> bool:
    who = f"--as=system:serviceaccount:{cluster.namespace}:{account}"
    return cluster.kubectl("auth", "can-i", *what, who, check=False).strip() == "yes"


FORBIDDEN = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("patch", "pods"),
    ("update", "pods"),
    ("create", "pods", "--subresource=exec"),
    ("create", "serviceaccounts", "--subresource=token"),
    ("get", "configmaps"),
    ("list", "pods", "--all-namespaces"),
    ("list", "secrets", "--namespace=kube-system"),
    ("delete", "nodes"),
]


def test_the_sweepers_account_lists_and_deletes_pods_there_and_nothing_else(
    cluster: TestCluster, config: FacilityConfig
) -> None:
    for verb in ("get", "list", "delete"):
        assert can(cluster, "sweeper", verb, "pods")
    for what in (
        *FORBIDDEN,
        ("create", "pods"),
        ("get", "pods", "--subresource=log"),
        ("watch", "pods"),
        ("list", "nodes"),
    ):
        assert not can(cluster, "sweeper", *what), what


def test_the_hubs_account_reads_no_secret_and_enters_no_pod(cluster: TestCluster, tmp_path: Path) -> None:
    cluster.kubeconfig_of("hub", RULES, tmp_path / "hub.kubeconfig")
    assert can(cluster, "hub", "create", "pods")
    for what in FORBIDDEN:
        assert not can(cluster, "hub", *what), what


def test_every_pod_of_this_hub_is_seen_and_one_is_ended(cluster: TestCluster, config: FacilityConfig) -> None:
    for plan_id in PLANS:
        idle_pod(cluster, config, plan_id)
    idle_pod(cluster, config, "3" * 32, **{f"{PREFIX}hub": "another"})

    async def work() -> list[tuple[str, ...]]:
        view = KubernetesView(config)
        first = await view.look()
        assert first.silent == {}
        assert {found.token_digest for found in first.found} == {"a" * 64}
        assert all(found.is_running and found.unknown_s == 0 for found in first.found)
        await view.end(next(found for found in first.found if found.plan_id == PLANS[0]))
        await view.end(next(found for found in first.found if found.plan_id == PLANS[0]))  # again: no fault
        looks = [first, await view.look()]
        return [tuple(sorted(found.plan_id for found in look.found)) for look in looks]

    before, after = asyncio.run(work())
    assert before == PLANS
    assert after == (PLANS[1],)


def test_parts_of_a_cluster_are_no_sessions_and_go_when_theirs_is_gone(
    cluster: TestCluster, config: FacilityConfig
) -> None:
    idle_pod(cluster, config, PLANS[0])
    for plan_id in PLANS:
        part = {COMPONENT: "worker", f"{PREFIX}role": "worker"}
        idle_pod(cluster, config, plan_id, name=f"{pod_name(plan_id)}-w", **part)

    async def work() -> list[str]:
        view = KubernetesView(config, timedelta(seconds=-5))  # creation times are whole seconds
        look = await view.look()
        await view.tidy()
        return [found.plan_id for found in look.found]

    assert asyncio.run(work()) == [PLANS[0]]
    left = {pod["metadata"]["name"] for pod in cluster.pods()}
    assert left == {pod_name(PLANS[0]), f"{pod_name(PLANS[0])}-w"}


LOOK = """
import asyncio, sys
from pathlib import Path
from beamhub_core.config import FacilityConfig
from beamhub_spawners.kubernetes_view import KubernetesView, close_lists

config = FacilityConfig.model_validate_json(Path(sys.argv[1]).read_text())
look = asyncio.run(KubernetesView(config).look())
close_lists()
print(sorted(look.silent), "kubernetes.client.api.core_v1_api" in sys.modules)
"""


def test_a_look_does_without_the_clients_hundreds_of_models(config: FacilityConfig, tmp_path: Path) -> None:
    """They would take seconds of a hub's first minute, and 90 MiB of its memory."""
    file = tmp_path / "facility.json"
    file.write_text(config.model_dump_json())
    said = subprocess.run([sys.executable, "-c", LOOK, str(file)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[] False"


def test_an_account_that_may_not_look_takes_the_cluster_for_silent(
    cluster: TestCluster, config: FacilityConfig, tmp_path: Path
) -> None:
    powerless = cluster.kubeconfig_of("powerless", [], tmp_path / "powerless.kubeconfig")
    fields = config.model_dump(mode="json")
    for place in fields["sessions"]["places"]:
        place["kubernetes"]["kubeconfig"] = str(powerless)
    try:
        look = asyncio.run(KubernetesView(FacilityConfig.model_validate(fields)).look())
    finally:
        close_lists()
    assert (look.found, set(look.silent)) == ((), {"hall-a", "hall-b"})


def test_a_cluster_that_does_not_answer_is_silent_and_its_silence_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "away.kubeconfig"
    file.write_text(away(free_port()))
    fields: dict[str, Any] = kubernetes_facility(kubeconfig=str(file))
    config = FacilityConfig.model_validate(fields)

    async def work() -> None:
        view = KubernetesView(config)
        first = await view.look()
        assert set(first.silent) == {"hall-a", "hall-b"}
        assert first.found == ()
        began = time.monotonic()
        while True:
            again = await view.look()
            if min(again.silent.values()) > 0.2:
                break
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.05)

    try:
        asyncio.run(work())
    finally:
        close_lists()


def away(port: int) -> str:
    return f"""
apiVersion: v1
kind: Config
current-context: away
contexts: [{{name: away, context: {{cluster: away, user: away}}}}]
clusters: [{{name: away, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: away, user: {{}}}}]
"""
