"""Clusters of containers: real gateway, agent and engine, beside a session of the base image."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.sweeper import sweep_once
from contracts.docker_gateway import DockerGateway, docker_gateway
from contracts.docker_parts import BASE_IMAGE, engine_client, needs_image

pytestmark = pytest.mark.docker

LOOK = """
import json, os, re
def mounts():
    found = {}
    for line in open("/proc/self/mountinfo"):
        words = line.split()
        target, options = words[4], set(words[5].split(","))
        if not re.match(r"/(proc|sys|dev|run|tmp|etc)(/|$)", target) and target != "/":
            found[target] = (words[3], "ro" if "ro" in options else "rw")
    return found
print(json.dumps({
    "mounts": mounts(), "uid": os.getuid(), "gid": os.getgid(), "groups": sorted(os.getgroups()),
    "root": "ro" if os.statvfs("/").f_flag & os.ST_RDONLY else "rw",
    "rights": [line for line in open("/proc/self/status") if line.startswith(("CapEff", "NoNewPrivs"))],
}))
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with engine_client() as client:
        needs_image(client, BASE_IMAGE)
        made = client.create_container(
            BASE_IMAGE,
            entrypoint=["python", "-c", "import dask_gateway, beamhub_spawners.dask_start"],
            labels={f"{LABEL}test": "gateway"},
        )
        client.start(made["Id"])
        status = client.wait(made["Id"])["StatusCode"]
        client.remove_container(made["Id"], force=True)
        if status:
            pytest.skip(
                f"the image {BASE_IMAGE} is older than the gateway; build it from images/base/Dockerfile"
            )
        yield client


@pytest.fixture
def beside(tmp_path: Path, engine: Any, run: Any) -> Iterator[DockerGateway]:
    with docker_gateway(tmp_path, engine, run) as found:
        yield found


IN_THE_NOTEBOOK = f"""
import json, subprocess, time
import beamhub_reduction
LOOK = {LOOK!r}
began = time.monotonic()
client = beamhub_reduction.connect(workers=2)
ready_s = time.monotonic() - began
looked = client.run(subprocess.check_output, ["python", "-c", LOOK], text=True)
client.get_versions(check=True)
"""
HELD = (
    IN_THE_NOTEBOOK
    + """
print(json.dumps({"ready_s": ready_s, "looked": list(looked.values())}), flush=True)
time.sleep(600)
"""
)
REFUSED = """
import beamhub_reduction, json
said = []
for settings in ({"workers": 3}, {"workers": 2, "memory_gib": 3}):
    try:
        beamhub_reduction.connect(**settings)
    except Exception as error:
        said.append(str(error))
print(json.dumps(said))
"""


def roles(containers: list[Any]) -> list[str]:
    return sorted(one["Config"]["Labels"][f"{LABEL}role"] for one in containers)


def test_workers_are_what_the_notebook_is_and_end_with_it(beside: DockerGateway, run: Any) -> None:
    sessions, gateway = beside.sessions, beside.gateway
    spawner = beside.start_session(run)
    plan_id = spawner.plan.id
    notebook = json.loads(sessions.look(plan_id, LOOK))

    with beside.running(plan_id, HELD) as said:
        containers = [sessions.engine.inspect_container(one["Id"]) for one in beside.parts()]
        sys.stdout.write(f"two workers were ready after {said['ready_s']:.2f} s\n")  # shown by `pytest -s`
        own = sessions.engine.inspect_container(f"beamhub-{plan_id}")
        assert [json.loads(one) for one in said["looked"]] == [notebook, notebook]
        for container in containers:
            assert container["Image"] == own["Image"]
            assert container["Config"]["User"] == own["Config"]["User"]
            assert container["HostConfig"]["Mounts"] == own["HostConfig"]["Mounts"]
            assert "PRIVATE KEY" not in json.dumps(container)
        assert roles(containers) == ["scheduler", "worker", "worker"]
        workers = [one["HostConfig"] for one in containers if roles([one]) == ["worker"]]
        assert {(one["Memory"], one["CpuQuota"]) for one in workers} == {(2**30, 100_000)}
        gateway.kill()
        run(spawner.stop(now=True))
        gateway.start()
        run(beside.until_gone(with_networks=True))


def test_a_notebook_is_told_the_numbers(beside: DockerGateway, run: Any) -> None:
    sessions = beside.sessions
    spawner = beside.start_session(run)
    [workers, memory] = json.loads(sessions.look(spawner.plan.id, REFUSED))
    assert workers == "workers is 3; it must be from 1 to 2."
    assert memory.startswith("There is no cluster: This session may have 2 GiB of workers together")
    assert beside.parts() == []
    run(spawner.stop(now=True))


def test_a_cluster_goes_when_its_kernel_was_killed(beside: DockerGateway, run: Any) -> None:
    spawner = beside.start_session(run)
    held = HELD.replace("connect(workers=2)", "connect(workers=1, grace_s=1)")
    with beside.running(spawner.plan.id, held):
        assert len(beside.parts()) == 2
    run(beside.until_gone())
    run(spawner.stop(now=True))


def test_what_a_gateway_that_is_gone_for_good_left_goes_with_the_sweep(
    beside: DockerGateway, run: Any
) -> None:
    sessions, gateway = beside.sessions, beside.gateway
    spawner = beside.start_session(run)
    platform = sessions.part.platform
    with beside.running(spawner.plan.id, HELD.replace("workers=2", "workers=1")):
        gateway.kill()
        run(sweep_once(platform.config, platform.web, settle=timedelta(0)))
        assert len(beside.parts()) == 2
        run(spawner.stop(now=True))
    run(sweep_once(platform.config, platform.web))  # what is young is left alone: it may be starting
    assert len(beside.parts()) == 2
    assert len(sessions.networks()) == 1
    run(sweep_once(platform.config, platform.web, settle=timedelta(0)))
    assert beside.parts() == []
    assert sessions.networks() == []
