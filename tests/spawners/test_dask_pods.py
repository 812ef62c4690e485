"""Clusters of pods: real gateway and API server, beside a session of the base image on two nodes."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beamhub_spawners.dask_limits import Size
from beamhub_spawners.dask_pods import PodRunner
from beamhub_spawners.dask_render import DaskPart
from beamhub_spawners.dask_runner import PartNotStarted, Secrets
from beamhub_spawners.kubernetes_pod import COMPONENT, PREFIX, pod_name
from beamhub_spawners.kubernetes_render import pod_manifest
from beamhub_spawners.session_options import read_options
from contracts.cluster_parts import HOST, NODES, TestCluster, load_image, test_namespace
from contracts.docker_parts import BASE_IMAGE
from contracts.gateway_parts import GatewayPart, gateway_fields
from contracts.kubernetes_parts import (
    IMAGE,
    KubernetesBackend,
    cluster_facility,
    kubernetes_backend,
    kubernetes_plan,
    serving_keepers,
)
from contracts.parity_look import PARITY_LOOK
from contracts.spawner_contract import OPTIONS
from contracts.spawner_parts import make_facility
from contracts.web_stand_in import serving_stand_in

pytestmark = pytest.mark.kubernetes

GATEWAY_RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "delete"]}
]
"""All that a gateway may do in the namespace of the sessions."""
GONE_S = 60.0
HELD = f"""
import os
open("/tmp/held", "w").write(str(os.getpid()))
os.environ["BEAMHUB_SESSION_FILE"] = "/run/beamhub/session.json"
import json, subprocess, time
import beamhub_reduction
began = time.monotonic()
client = beamhub_reduction.connect(workers=2)
ready_s = time.monotonic() - began
look = ["python", "-c", {PARITY_LOOK!r}]
looked = client.run(subprocess.check_output, look, text=True)
def memory():
    for file in ("memory/memory.limit_in_bytes", "memory.max"):
        if os.path.exists("/sys/fs/cgroup/" + file):
            return int(open("/sys/fs/cgroup/" + file).read())
said = {{
    "ready_s": ready_s, "notebook": subprocess.check_output(look, text=True),
    "looked": list(looked.values()), "memory": list(client.run(memory).values()),
    "sum": client.submit(sum, range(10)).result(),
}}
client.get_versions(check=True)
print(json.dumps(said), flush=True)
time.sleep(600)
"""
SECRETS = Secrets("a-token", "a certificate", "a key")


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    with test_namespace() as cluster:
        load_image(BASE_IMAGE, cluster.run_folder)
        yield cluster


@pytest.fixture
def backend(
    tmp_path: Path, cluster: TestCluster, run: Any
) -> Iterator[tuple[KubernetesBackend, GatewayPart]]:
    for node in NODES:
        shutil.rmtree(cluster.node_folder(node), ignore_errors=True)
    with serving_stand_in(HOST) as stand_in:
        fields = cluster_facility(tmp_path, cluster, stand_in, image=BASE_IMAGE)
        make_facility(tmp_path)
        for pool in fields["pools"]:
            shutil.copytree(tmp_path / "pools" / pool["name"], pool["root"], dirs_exist_ok=True)
            Path(pool["root"]).chmod(0o755)
        fields["sessions"]["profiles"][0] |= {"cpu": 2, "memory_gib": 2, "workers": 2}
        fields["gateway"] = gateway_fields(tmp_path, HOST)
        of_gateway = copy.deepcopy(fields)
        file = cluster.kubeconfig_of("gateway", GATEWAY_RULES, tmp_path / "gateway.kubeconfig")
        for place in of_gateway["sessions"]["places"]:
            place["kubernetes"]["kubeconfig"] = str(file)
        gateway = GatewayPart(tmp_path, of_gateway, stand_in)
        shutil.rmtree(fields["sessions"]["homes_folder"])
        with (
            serving_keepers(tmp_path, fields),
            kubernetes_backend(cluster, stand_in, fields, run) as sessions,
        ):
            gateway.start()
            try:
                yield sessions, gateway
            finally:
                gateway.stop()


def started(sessions: KubernetesBackend, run: Any) -> Any:
    """A spawner whose session runs."""
    spawner = sessions.spawner()
    spawner.request = read_options(OPTIONS)
    run(spawner.start())
    return spawner


def parts(cluster: TestCluster) -> list[dict[str, Any]]:
    return [pod for pod in cluster.pods() if f"{PREFIX}role" in pod["metadata"]["labels"]]


@contextmanager
def in_session(sessions: KubernetesBackend, plan_id: str, code: str) -> Iterator[dict[str, Any]]:
    """What code in a session says first, in JSON; it goes on until the block ends, and is then killed."""
    words = ["kubectl", "-n", sessions.cluster.namespace, "exec", pod_name(plan_id), "-c=session", "--"]
    with subprocess.Popen(
        [*words, "python", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield json.loads(line)
        finally:
            kill = "import os; os.kill(int(open('/tmp/held').read()), 9)"
            sessions.cluster.kubectl("exec", pod_name(plan_id), "--", "python", "-c", kill, check=False)
            process.terminate()


def test_workers_are_what_the_notebook_is_and_end_with_its_pod(
    backend: tuple[KubernetesBackend, GatewayPart], run: Any
) -> None:
    sessions, gateway = backend
    cluster = sessions.cluster
    plan = started(sessions, run).plan
    [own] = cluster.pods()
    with in_session(sessions, plan.id, HELD) as said:
        sys.stdout.write(f"two workers were ready after {said['ready_s']:.2f} s\n")  # shown by `pytest -s`
        assert [json.loads(one) for one in said["looked"]] == [json.loads(said["notebook"])] * 2
        assert said["memory"] == [2**30, 2**30]
        assert said["sum"] == 45
        made = parts(cluster)
        for pod in made:
            check_is_of(own, pod)
        roles = sorted(pod["metadata"]["labels"][COMPONENT] for pod in made)
        assert roles == ["scheduler", "worker", "worker"]
        gateway.kill()
        cluster.kubectl("delete", "pod", pod_name(plan.id), "--grace-period=1", "--wait=false")
        began = time.monotonic()
        gateway.end_session(plan)
        gateway.start()
        cluster.wait(lambda: not cluster.pods(), GONE_S)
        sys.stdout.write(f"all parts were gone after {time.monotonic() - began:.1f} s\n")
        assert cluster.kubectl("get", "secrets,services", "-o=name") == ""


def check_is_of(own: dict[str, Any], pod: dict[str, Any]) -> None:
    """A part's pod is the session's with another command and a size, and goes with it."""
    [container], [session] = pod["spec"]["containers"], own["spec"]["containers"]
    for name in ("securityContext", "affinity", "tolerations", "automountServiceAccountToken", "nodeName"):
        assert pod["spec"][name] == own["spec"][name], name
    for name in ("image", "volumeMounts", "securityContext"):
        assert container[name] == session[name], name
    assert image_id(pod) == image_id(own)
    [owner] = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Pod", own["metadata"]["uid"])
    assert "PRIVATE KEY" not in json.dumps(pod)


def image_id(pod: dict[str, Any]) -> str:
    return str(pod["status"]["containerStatuses"][0]["imageID"])


def test_a_part_is_made_once_from_one_plan_and_goes_with_its_sessions_pod(
    cluster: TestCluster, tmp_path: Path, run: Any
) -> None:
    """With the gateway's rights alone; nothing of these pods runs, their image is nowhere."""
    with serving_stand_in(HOST) as stand_in:
        fields = cluster_facility(tmp_path, cluster, stand_in, image=IMAGE)
    file = cluster.kubeconfig_of("gateway", GATEWAY_RULES, tmp_path / "gateway.kubeconfig")
    for place in fields["sessions"]["places"]:
        place["kubernetes"]["kubeconfig"] = str(file)
    fields["gateway"] = gateway_fields(tmp_path, HOST)
    plan, config, place = kubernetes_plan(fields)
    session = pod_manifest(plan, place, config=config, environment={"JUPYTERHUB_API_TOKEN": "a-token"})
    part = DaskPart("scheduler", "c" * 32, "c" * 32, Size(1, 1.0), 60)
    another = plan.model_copy(update={"gids": (4799,)})

    async def until_started(runner: PodRunner) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    return await runner.start(plan, part, SECRETS, "")
                except PartNotStarted:  # the watch has not seen the session's pod yet
                    await asyncio.sleep(0.1)

    async def work() -> None:
        runner = PodRunner(config)
        with pytest.raises(PartNotStarted, match="no pod any more"):
            await runner.start(plan, part, SECRETS, "")
        cluster.apply(session)
        await until_started(runner)
        await runner.start(plan, part, SECRETS, "")  # as a gateway does that was killed after the first
        with pytest.raises(PartNotStarted, match="made from another plan"):
            await runner.start(another, part, SECRETS, "")
        [found] = await runner.look()
        assert (found.plan_id, found.cluster, found.place) == (plan.id, part.cluster, plan.place.name)
        assert found.is_running
        await runner.end(found)
        assert await runner.look() == ()
        assert await runner.address(found) is None
        assert not await runner.is_alive(found)
        await runner.start(plan, part, SECRETS, "")
        cluster.kubectl("delete", "pod", pod_name(plan.id), "--grace-period=1", "--wait=false")
        cluster.wait(lambda: not cluster.pods(), GONE_S)
        await runner.close()

    run(work())
