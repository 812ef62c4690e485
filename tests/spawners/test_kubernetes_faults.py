"""What goes wrong on a cluster, and what people are told of it: on a real one."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from beamhub_spawners.kubernetes_pod import pod_name
from beamhub_spawners.refusal import StartRefused
from beamhub_spawners.session_options import read_options
from contracts.cluster_parts import HOST, NODES, TestCluster, load_image, test_namespace
from contracts.kubernetes_parts import KubernetesBackend
from contracts.small_image import SERVER, make_image
from contracts.spawner_contract import OPTIONS
from contracts.web_stand_in import StandIn, serving_stand_in
from spawners.kubernetes_tests import (
    backend_of,
    configure,
    failed,
    refused,
    small_facility,
    start,
    with_image,
)

pytestmark = pytest.mark.kubernetes
EATING = SERVER.replace(
    "        self.send_response(200)\n",
    "        if 'eat' in self.path:\n"
    "            kept = bytearray(2**30); kept[::4096] = b'x' * len(kept[::4096])\n"
    "        self.send_response(200)\n",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    with test_namespace() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def stand_ins(cluster: TestCluster) -> Iterator[StandIn]:
    with serving_stand_in(HOST) as serving:
        yield serving


@pytest.fixture(scope="module")
def fields(
    cluster: TestCluster, stand_ins: StandIn, small_image: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    load_image(small_image, cluster.run_folder)
    return small_facility(tmp_path_factory.mktemp("facility"), cluster, stand_ins, small_image)


@pytest.fixture
def backend(
    cluster: TestCluster, stand_ins: StandIn, fields: dict[str, Any], run: Any
) -> Iterator[KubernetesBackend]:
    stand_ins.sessions.clear()
    stand_ins.answers.clear()
    with backend_of(cluster, stand_ins, fields, run) as backend:
        yield backend


# -- no room, no node --------------------------------------------------------------------------------


@contextmanager
def extended_resource(cluster: TestCluster, node: str, number: int) -> Iterator[str]:
    """A resource of a node that nobody else uses."""
    name = f"beamhub.test/gpu-{secrets.token_hex(3)}"
    path = f"/status/capacity/{name.replace('/', '~1')}"
    patch = ("patch", "node", node, "--subresource=status", "--type=json", "-p")
    cluster.kubectl(*patch, json.dumps([{"op": "add", "path": path, "value": str(number)}]))
    try:
        said = ("get", "node", node, "-o=jsonpath={.status.allocatable}")
        cluster.wait(lambda: name in cluster.kubectl(*said))  # its kubelet looks now and then
        yield name
    finally:
        cluster.kubectl(*patch, json.dumps([{"op": "remove", "path": path}]))


def want_gpu(backend: KubernetesBackend, resource: str) -> None:
    sessions = backend.part.platform.config.sessions.model_dump(mode="json")
    sessions["profiles"][0]["gpus"] = 1
    for place in sessions["places"]:
        place["gpus"] = 4
    configure(backend, sessions=sessions, gpu_resource=resource)


def test_a_graphics_processor_is_counted_by_the_cluster_and_a_second_session_is_refused(
    backend: KubernetesBackend, run: Any
) -> None:
    with extended_resource(backend.cluster, NODES[0], 1) as resource:
        want_gpu(backend, resource)
        first = start(backend, run)
        [pod] = backend.cluster.pods()
        assert pod["spec"]["nodeName"] == NODES[0]
        assert pod["spec"]["containers"][0]["resources"]["limits"][resource] == "1"
        second = backend.spawner("other")
        second.request = read_options(OPTIONS)
        with pytest.raises(StartRefused) as caught:  # by placement, or by the scheduler when it was faster
            run(second.start())
        assert caught.value.reason == "full"
        assert backend.n_objects() == 1
        run(first.stop(now=True))


def test_where_no_node_has_a_graphics_processor_the_start_is_refused_in_seconds(
    backend: KubernetesBackend, run: Any
) -> None:
    want_gpu(backend, "beamhub.test/none")
    began = time.monotonic()
    code, words = refused(backend, run)
    assert code in ("full", "no_place")
    assert "graphics processors" in words or "GPU" in words
    assert time.monotonic() - began < 6  # 2 s of waiting; the rest is a machine that others use


def test_a_volume_on_another_node_than_the_place_is_said(backend: KubernetesBackend, run: Any) -> None:
    configure(backend, node_labels={"facility.example/storage": NODES[1]})
    code, words = refused(backend, run)
    assert code == "no_place"
    assert "its storage is not on the machines" in words


def test_a_quota_that_is_used_up_is_no_fault(backend: KubernetesBackend, run: Any) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    backend.cluster.apply(quota)
    try:
        backend.cluster.wait(
            lambda: "hard" in backend.cluster.kubectl("get", "quota", "none", "-o=jsonpath={.status}")
        )
        code, words = refused(backend, run)
        assert code == "full"
        assert "share of the cluster" in words
    finally:
        backend.cluster.kubectl("delete", "quota", "none")


def test_a_claim_that_never_binds_is_said(backend: KubernetesBackend, run: Any) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "never"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    backend.cluster.apply(claim)
    for name in ("never", "not-there-at-all"):
        configure(backend, homes={"claim": name})
        assert failed(backend, run) == "the cluster has no volume for a storage claim of its place"


# -- images ---------------------------------------------------------------------------------------------


def test_an_image_that_is_not_on_the_node_is_said(backend: KubernetesBackend, run: Any) -> None:
    with_image(backend, f"{HOST}:1/not-there:dev")
    assert failed(backend, run) == "its software environment cannot be fetched"
    configure(backend, image_pull_policy="Never")
    code, words = refused(backend, run)
    assert code == "no_place"
    assert "on none of the nodes" in words


def test_an_image_whose_registry_never_answers_ends_the_wait(backend: KubernetesBackend, run: Any) -> None:
    with socket.create_server((HOST, 0)) as silent:
        with_image(backend, f"{HOST}:{silent.getsockname()[1]}/hangs:1")
        configure(backend, sessions={"start_timeout_s": 6})
        assert failed(backend, run) == "its software environment could not be fetched within 6 s"


def test_an_image_that_cannot_be_started_is_said(
    backend: KubernetesBackend, run: Any, docker_engine: Any
) -> None:
    name = f"beamhub-test-broken:{secrets.token_hex(3)}"
    make_image(docker_engine, name, start=["/usr/bin/not-there"])
    try:
        load_image(name, backend.cluster.run_folder, NODES[:1])
        with_image(backend, name)
        assert failed(backend, run) == "its software environment cannot be started"
    finally:
        docker_engine.remove_image(name, force=True)


def test_a_session_over_its_memory_limit_is_shown_as_such(
    backend: KubernetesBackend, run: Any, docker_engine: Any
) -> None:
    name = f"beamhub-test-eating:{secrets.token_hex(3)}"
    make_image(docker_engine, name, command=EATING)
    profile = {"name": "small", "title": "Small", "cpu": 1, "memory_gib": 0.25}
    try:
        load_image(name, backend.cluster.run_folder, NODES[:1])
        with_image(backend, name)
        configure(backend, memory_request_share=1.0, tmp_mib=16, sessions={"profiles": [profile]})
        spawner = start(backend, run)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{run(spawner.find_url())}/eat", timeout=30)
        backend.cluster.wait(lambda: run(spawner.poll()) == 0, 20)
        assert run(spawner.exit_reason()) == "it used more memory than its profile allows"
    finally:
        docker_engine.remove_image(name, force=True)


# -- the cluster's own rules -----------------------------------------------------------------------------


@contextmanager
def policy(cluster: TestCluster, expression: str) -> Iterator[str]:
    """A rule of the cluster on the pods of the namespace."""
    name = f"{cluster.namespace}.example.org"
    kind = "admissionregistration.k8s.io/v1"
    resource = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    cluster.apply(
        {
            "apiVersion": kind,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [resource]},
                "validations": [{"expression": expression, "message": "secret words of the facility"}],
            },
        },
        {
            "apiVersion": kind,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}}
                },
            },
        },
    )
    try:
        trial = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "trial"},
            "spec": {"containers": [{"name": "x", "image": "x"}]},
        }
        tried = ("create", "--dry-run=server", "-o=name", "-f", "-")
        restricted = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        trial["spec"]["containers"][0]["securityContext"] = restricted  # type: ignore[index]
        cluster.wait(lambda: not cluster.kubectl(*tried, said=trial, check=False))
        yield name
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            cluster.kubectl("delete", kind, name)


def test_a_rule_of_the_cluster_that_says_no_is_named_without_its_words(
    backend: KubernetesBackend, run: Any
) -> None:
    with policy(backend.cluster, "false") as name:
        assert failed(backend, run) == f"a rule of the cluster does not admit it ({name})"


def test_host_folders_are_refused_where_pod_security_is_restricted(
    backend: KubernetesBackend, run: Any
) -> None:
    places = backend.part.platform.config.sessions.model_dump(mode="json")["places"]
    for place in places:
        [name] = place["kubernetes"]["volumes"]
        place["kubernetes"]["unsafe_host_path_pools"] = True
        place["kubernetes"]["volumes"] = {
            name: {"host_path": f"/facility/{backend.cluster.namespace}/pools/{name}"}
        }
    configure(backend, sessions={"places": places})
    assert failed(backend, run) == "the security rules of its namespace do not admit it"


def test_what_a_hook_of_the_hub_adds_is_refused(backend: KubernetesBackend, run: Any) -> None:
    def hook(spawner: Any, pod: dict[str, Any]) -> dict[str, Any]:
        pod["metadata"]["labels"]["example.org/team"] = "data"
        if spawner.name:
            pod["spec"]["volumes"].append({"name": "all", "persistentVolumeClaim": {"claimName": "hall-a"}})
        return pod

    spawner = backend.spawner(modify_pod_hook=hook)
    spawner.request = read_options(OPTIONS)
    run(spawner.start())
    [pod] = backend.cluster.pods()
    assert pod["metadata"]["labels"]["example.org/team"] == "data"
    other = backend.spawner("other", modify_pod_hook=hook)
    other.request = read_options(OPTIONS)
    with pytest.raises(Exception, match="one that its plan does not allow"):
        run(other.start())
    run(spawner.stop(now=True))


def test_what_the_cluster_adds_on_the_way_in_is_refused_unless_the_facility_admits_it(
    backend: KubernetesBackend, run: Any
) -> None:
    limits = [{"type": "Container", "default": {"ephemeral-storage": "1Gi"}}]
    backend.cluster.apply(
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "disk"}, "spec": {"limits": limits}}
    )
    try:
        assert failed(backend, run) == "its pod was changed into one that its plan does not allow"
        added = "metadata.annotations[kubernetes.io/limit-ranger]"
        configure(backend, admitted_changes=[added, "spec.containers[session].resources"])
        run(start(backend, run).stop(now=True))
    finally:
        backend.cluster.kubectl("delete", "limitrange", "disk")


def test_a_pod_of_the_same_name_from_another_plan_is_not_taken_over(
    backend: KubernetesBackend, run: Any
) -> None:
    spawner = start(backend, run)
    changed = spawner.plan.model_copy(update={"display_name": "Another"})
    with pytest.raises(Exception, match="made from another plan"):
        run(spawner.launch(changed))
    run(spawner.launch(spawner.plan))  # its own is
    assert [pod["metadata"]["name"] for pod in backend.cluster.pods()] == [pod_name(spawner.plan.id)]
    run(spawner.stop(now=True))
    assert backend.n_objects() == 0


def test_without_the_api_server_nothing_starts_and_nobody_says_that_a_server_stopped(
    backend: KubernetesBackend, run: Any, tmp_path: Path
) -> None:
    spawner = start(backend, run)
    nowhere = tmp_path / "nowhere.kubeconfig"
    known = Path(str(backend.part.platform.config.sessions.places[0].kubernetes.kubeconfig))  # type: ignore[union-attr]
    nowhere.write_text(known.read_text().replace(":6443", ":1"))
    configure(backend, kubeconfig=str(nowhere))
    blind = backend.spawner()
    assert run(blind.poll()) is None
    blind.request = read_options(OPTIONS)
    with pytest.raises(Exception, match="does not answer"):
        run(blind.start())
    assert backend.n_objects() == 1
    configure(backend, kubeconfig=str(known))
    run(spawner.stop(now=True))
