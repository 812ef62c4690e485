"""Nodes of a real cluster that are cordoned, drained, silent and given up, under real sessions.

These tests harm a node of the cluster for a minute or two, so nothing else may use it meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyterhub.spawner import SpawnException

from beamhub_core.session import SessionPlan, SessionRequest
from beamhub_spawners.kubernetes_pod import pod_name
from beamhub_spawners.kubernetes_view import close_lists
from beamhub_spawners.session_options import read_options
from beamhub_spawners.sweeper import Decision, sweep_once
from contracts.cluster_parts import HOST, NODES, TestCluster, load_image, test_namespace
from contracts.docker_parts import BASE_IMAGE
from contracts.kubernetes_parts import (
    KubernetesBackend,
    cluster_facility,
    kubernetes_backend,
    serving_keepers,
)
from contracts.spawner_contract import OPTIONS, get
from contracts.spawner_parts import make_facility
from contracts.web_stand_in import StandIn, serving_stand_in

pytestmark = pytest.mark.kubernetes

NODE, OTHER = NODES
UNKNOWN_LIMIT_S = 10.0
SILENT_NODE_S = 75.0
"""A node that says nothing is `NotReady` after 50 s. Source: kube-controller-manager,
--node-monitor-grace-period; it looks every 5 s, and our sweep comes on top."""
GIVEN_UP_S = 90.0
"""Pods of a node that is given up are collected every 20 s, 40 s after it was seen first."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with serving_stand_in(HOST) as serving:
        yield serving


@pytest.fixture
def backend(tmp_path: Path, stand_in: StandIn, run: Any) -> Iterator[KubernetesBackend]:
    """Sessions of two places, one on each node; data of `hall-a` lies on node-a alone."""
    with test_namespace() as cluster:
        load_image(BASE_IMAGE, cluster.run_folder)
        fields = cluster_facility(tmp_path, cluster, stand_in, image=BASE_IMAGE)
        fields["sessions"]["unknown_limit_s"] = UNKNOWN_LIMIT_S
        make_facility(tmp_path)
        for pool in fields["pools"]:
            root = Path(pool["root"])
            subprocess.run(["cp", "-r", f"{tmp_path}/pools/{pool['name']}/.", str(root)], check=True)
        Path(fields["sessions"]["homes_folder"]).mkdir(exist_ok=True)
        with (
            serving_keepers(tmp_path, fields),
            kubernetes_backend(cluster, stand_in, fields, run) as backend,
        ):
            yield backend
            close_lists()


def start(backend: KubernetesBackend, run: Any, options: dict[str, Any], server_name: str = "") -> Any:
    spawner = backend.spawner(server_name)
    spawner.request = read_options(options) if options else SessionRequest()
    url = run(spawner.start())
    assert get(f"{url}{spawner.server.base_url}api") == 200
    return spawner


def with_home_on_both_nodes(backend: KubernetesBackend, plan: SessionPlan) -> None:
    """Give the person a home on the other node, too: the test cluster's nodes share no storage."""
    homes = backend.cluster.node_folder(OTHER) / "homes"
    folders = (homes / plan.account, homes / plan.account / "notebooks")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        os.chown(folder, plan.uid or -1, plan.gid or -1)


def node_of(backend: KubernetesBackend, plan_id: str) -> str:
    [pod] = [one for one in backend.cluster.pods() if one["metadata"]["name"] == pod_name(plan_id)]
    return str(pod["spec"]["nodeName"])


def sweep(backend: KubernetesBackend, run: Any) -> Decision:
    platform = backend.part.platform
    decision: Decision = run(sweep_once(platform.config, platform.web))
    return decision


def state(backend: KubernetesBackend, plan_id: str) -> str:
    return str(backend.stand_in.sessions[plan_id].record.state)


def until_state(backend: KubernetesBackend, run: Any, plan_id: str, wanted: str, seconds: float) -> float:
    """Sweep until a session's row has a state; the seconds that it took."""
    began = time.monotonic()
    while state(backend, plan_id) != wanted:
        assert time.monotonic() - began < seconds, (state(backend, plan_id), backend.cluster.pods())
        time.sleep(1)
        sweep(backend, run)
    return time.monotonic() - began


def running_on(cluster: TestCluster, node: str) -> set[str]:
    """The pods of the namespace whose container's process runs on a node, by the node's own runtime."""
    ctr = ["ctr", "-a", str(cluster.run_folder / f"{node}.sock"), "-n", "k8s.io"]
    tasks = subprocess.run([*ctr, "tasks", "ls"], capture_output=True, text=True, check=True).stdout
    running = {line.split()[0] for line in tasks.splitlines()[1:] if line.split()[2] == "RUNNING"}
    found = set()
    for task in running:
        info = subprocess.run([*ctr, "containers", "info", task], capture_output=True, text=True, check=False)
        labels = json.loads(info.stdout or "{}").get("Labels") or {}
        if (
            labels.get("io.kubernetes.pod.namespace") == cluster.namespace
            and labels.get("io.cri-containerd.kind") == "container"
        ):
            found.add(str(labels["io.kubernetes.pod.name"]))
    return found


def power_off(cluster: TestCluster, node: str) -> None:
    """End the containers of the test's own pods on a node, as a machine that loses power does."""
    ctr = ["ctr", "-a", str(cluster.run_folder / f"{node}.sock"), "-n", "k8s.io"]
    listed = subprocess.run([*ctr, "containers", "ls", "-q"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        info = subprocess.run([*ctr, "containers", "info", name], capture_output=True, text=True, check=False)
        labels = json.loads(info.stdout or "{}").get("Labels") or {}
        if labels.get("io.kubernetes.pod.namespace") == cluster.namespace:
            subprocess.run([*ctr, "tasks", "kill", "-s", "KILL", name], capture_output=True, check=False)


@contextmanager
def silent_kubelet(cluster: TestCluster, node: str) -> Iterator[None]:
    """A node whose kubelet is stopped until the block ends; its containers run on."""
    pid = int((cluster.run_folder / f"{node}.pid").read_text())
    assert "kubelet" in Path(f"/proc/{pid}/cmdline").read_text()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        cluster.kubectl("taint", "node", node, f"{OUT_OF_SERVICE}-", check=False)
        cluster.wait(lambda: is_ready(cluster, node))


def is_ready(cluster: TestCluster, node: str) -> bool:
    said = json.loads(cluster.kubectl("get", "node", node, "-o=json"))
    taints = [one["key"] for one in said["spec"].get("taints") or ()]
    ready = [one["status"] for one in said["status"]["conditions"] if one["type"] == "Ready"]
    return ready == ["True"] and not any(one.startswith("node.kubernetes.io/") for one in taints)


@contextmanager
def cordoned(cluster: TestCluster, node: str) -> Iterator[None]:
    cluster.kubectl("cordon", node)
    try:
        yield
    finally:
        cluster.kubectl("uncordon", node)


def test_a_cordoned_node_takes_nothing_new_and_says_so_and_drained_sessions_end(
    backend: KubernetesBackend, run: Any
) -> None:
    runs = start(backend, run, OPTIONS, "runs")
    with_home_on_both_nodes(backend, runs.plan)
    with cordoned(backend.cluster, NODE):
        backend.cluster.wait(lambda: _is_refused(backend, run))
        assert run(runs.poll()) is None
        elsewhere = start(backend, run, {}, "elsewhere")
        assert node_of(backend, elsewhere.plan.id) == OTHER
        session = f"--pod-selector=beamhub.org/plan-id={runs.plan.id}"
        options = ("--timeout=60s", "--force", "--delete-emptydir-data")
        backend.cluster.kubectl("drain", NODE, session, *options)
        assert run(runs.poll()) == 0
        run(elsewhere.stop(now=True))


def _is_refused(backend: KubernetesBackend, run: Any) -> bool:
    spawner = backend.spawner("beside-the-data")
    spawner.request = read_options(OPTIONS)
    with pytest.raises(SpawnException) as caught:
        run(spawner.start())
    assert caught.value.reason == "no_place"
    return "its node is cordoned" in str(caught.value.jupyterhub_message)


def test_a_node_that_falls_silent_makes_sessions_unknown_and_they_run_again_when_it_is_back(
    backend: KubernetesBackend, run: Any
) -> None:
    cluster = backend.cluster
    spawner = start(backend, run, {"datasets": OPTIONS["datasets"]}, "s")
    plan_id = spawner.plan.id
    with_home_on_both_nodes(backend, spawner.plan)
    with silent_kubelet(cluster, NODE):
        until_state(backend, run, plan_id, "unknown", SILENT_NODE_S + UNKNOWN_LIMIT_S)
        assert run(spawner.poll()) is None
        # The same server is not started beside itself: its process may run on, and here it does.
        again = backend.spawner("s")
        again.request = SessionRequest()
        with pytest.raises(SpawnException) as caught:
            run(again.start())
        assert "does not answer" in str(caught.value.jupyterhub_message)
        assert running_on(cluster, NODE) == {pod_name(plan_id)}
        assert running_on(cluster, OTHER) == set()
        # Another server of the same person starts on the other node.
        other = start(backend, run, {}, "another")
        assert node_of(backend, other.plan.id) == OTHER
        run(other.stop(now=True))
    # That start asked for the end of the old one, and the node does it now that it is back.
    cluster.wait(lambda: running_on(cluster, NODE) == set())
    until_state(backend, run, plan_id, "ended", 60)
    restarted = start(backend, run, OPTIONS, "s")
    assert running_on(cluster, NODE) == {pod_name(restarted.plan.id)}


def test_a_node_that_is_given_up_loses_its_sessions_and_they_start_elsewhere_once(
    backend: KubernetesBackend, run: Any
) -> None:
    cluster = backend.cluster
    with cordoned(cluster, OTHER):
        spawner = start(backend, run, {}, "s")
    plan_id = spawner.plan.id
    with_home_on_both_nodes(backend, spawner.plan)
    assert node_of(backend, plan_id) == NODE
    with silent_kubelet(cluster, NODE):
        power_off(cluster, NODE)
        until_state(backend, run, plan_id, "unknown", SILENT_NODE_S + UNKNOWN_LIMIT_S)
        cluster.kubectl("taint", "node", NODE, OUT_OF_SERVICE)
        until_state(backend, run, plan_id, "ended", GIVEN_UP_S)
        again = start(backend, run, {}, "s")
        assert node_of(backend, again.plan.id) == OTHER
    # The node is back: what it had does not come back with it.
    cluster.wait(lambda: running_on(cluster, NODE) == set())
    assert running_on(cluster, OTHER) == {pod_name(again.plan.id)}
    sweep(backend, run)
    assert state(backend, again.plan.id) == "running"
