"""Clusters of containers: real gateway, agent and engine, beside a session of the base image."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from beamhub_core.config import FacilityConfig
from beamhub_core.config.agent import AgentConfig
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.session_options import read_options
from beamhub_spawners.sweeper import sweep_once
from contracts.agent_parts import agent_fields, free_port, hub_tls, make_agent_files, running_agent
from contracts.docker_parts import (
    BASE_IMAGE,
    NETWORK_BLOCK,
    SOCKET_FILE,
    DockerBackend,
    docker_backend,
    docker_facility,
    engine_client,
    needs_image,
    own_network,
)
from contracts.gateway_parts import GatewayPart, gateway_fields
from contracts.parity_look import PARITY_LOOK
from contracts.spawner_contract import OPTIONS
from contracts.spawner_parts import make_facility
from contracts.web_stand_in import serving_stand_in

pytestmark = pytest.mark.docker

DEADLINE_S = 60.0
SAID = "/tmp/said"  # noqa: S108 - of a container


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
def backend(tmp_path: Path, engine: Any, run: Any) -> Iterator[tuple[DockerBackend, GatewayPart]]:
    make_facility(tmp_path)
    make_agent_files(tmp_path)
    port = free_port()
    with own_network(engine) as (_, address), serving_stand_in(address) as stand_in:
        host = {"url": f"https://127.0.0.1:{port}", "tls": hub_tls(tmp_path), "network_block": NETWORK_BLOCK}
        fields = docker_facility(tmp_path, stand_in, host, image=BASE_IMAGE)
        fields["sessions"]["profiles"][0] |= {"cpu": 2, "memory_gib": 2, "workers": 2}
        fields["gateway"] = gateway_fields(tmp_path, address)
        agent = agent_fields(tmp_path, place="hall-a", socket_file=SOCKET_FILE)
        agent["listen"]["port"] = port
        facility = FacilityConfig.model_validate(fields)
        gateway = GatewayPart(tmp_path, fields, stand_in)
        with (
            running_agent(AgentConfig.model_validate(agent), facility),
            docker_backend(engine, stand_in, fields, run) as sessions,
        ):
            gateway.start()
            try:
                yield sessions, gateway
            finally:
                gateway.stop()


def parts(sessions: DockerBackend) -> list[Any]:
    return [one for one in sessions.containers() if f"{LABEL}role" in one["Labels"]]


async def until_gone(sessions: DockerBackend, *, with_networks: bool = False) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while parts(sessions) or (with_networks and sessions.networks()):
            await asyncio.sleep(0.2)


def started(sessions: DockerBackend, run: Any) -> tuple[Any, str]:
    """A running session, and the token that its server got."""
    spawner = sessions.spawner()
    spawner.request = read_options(OPTIONS)
    run(spawner.start())
    return spawner, spawner.api_token


IN_THE_NOTEBOOK = f"""
import json, subprocess, time
import beamhub_reduction
LOOK = {PARITY_LOOK!r}
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


@contextmanager
def in_session(sessions: DockerBackend, plan_id: str, code: str) -> Iterator[Any]:
    """What code in a session says first, in JSON; it goes on until the block ends, and is then killed."""
    begin = (
        "import os, sys; os.environ['BEAMHUB_SESSION_FILE'] = '/run/beamhub/session.json'\n"
        "open('/tmp/held', 'w').write(str(os.getpid()))\n"
        "sys.stdout = sys.stderr = open(" + repr(SAID) + ", 'w', buffering=1)\n"
    )
    engine, name = sessions.engine, f"beamhub-{plan_id}"
    command = engine.exec_create(name, ["python", "-c", begin + code])
    engine.exec_start(command["Id"], detach=True)
    until = time.monotonic() + 2 * DEADLINE_S
    while True:
        text = engine.exec_start(engine.exec_create(name, ["cat", SAID])["Id"]).decode()
        lines = [line for line in text.splitlines() if line.startswith("{")]
        if lines:
            break
        assert engine.exec_inspect(command["Id"])["Running"], text
        assert time.monotonic() < until, text
        time.sleep(0.5)
    try:
        yield json.loads(lines[0])
    finally:
        with contextlib.suppress(APIError):  # the session has ended, and all in it
            kill = "import os; os.kill(int(open('/tmp/held').read()), 9)"
            engine.exec_start(engine.exec_create(name, ["python", "-c", kill])["Id"])


def roles(containers: list[Any]) -> list[str]:
    return sorted(one["Config"]["Labels"][f"{LABEL}role"] for one in containers)


def test_workers_are_what_the_notebook_is_and_end_with_it(
    backend: tuple[DockerBackend, GatewayPart], run: Any
) -> None:
    sessions, gateway = backend
    spawner, _ = started(sessions, run)
    plan_id = spawner.plan.id
    notebook = json.loads(sessions.look(plan_id, PARITY_LOOK))

    with in_session(sessions, plan_id, HELD) as said:
        containers = [sessions.engine.inspect_container(one["Id"]) for one in parts(sessions)]
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
        run(until_gone(sessions, with_networks=True))


def test_a_notebook_is_told_the_numbers(backend: tuple[DockerBackend, GatewayPart], run: Any) -> None:
    sessions, _ = backend
    spawner, _ = started(sessions, run)
    [workers, memory] = json.loads(sessions.look(spawner.plan.id, REFUSED))
    assert workers == "workers is 3; it must be from 1 to 2."
    assert memory.startswith("There is no cluster: This session may have 2 GiB of workers together")
    assert parts(sessions) == []
    run(spawner.stop(now=True))


def test_a_cluster_goes_when_its_kernel_was_killed(
    backend: tuple[DockerBackend, GatewayPart], run: Any
) -> None:
    sessions, _ = backend
    spawner, _ = started(sessions, run)
    held = HELD.replace("connect(workers=2)", "connect(workers=1, grace_s=1)")
    with in_session(sessions, spawner.plan.id, held):
        assert len(parts(sessions)) == 2
    run(until_gone(sessions))
    run(spawner.stop(now=True))


def test_what_a_gateway_that_is_gone_for_good_left_goes_with_the_sweep(
    backend: tuple[DockerBackend, GatewayPart], run: Any
) -> None:
    sessions, gateway = backend
    spawner, _ = started(sessions, run)
    platform = sessions.part.platform
    with in_session(sessions, spawner.plan.id, HELD.replace("workers=2", "workers=1")):
        gateway.kill()
        run(sweep_once(platform.config, platform.web, settle=timedelta(0)))
        assert len(parts(sessions)) == 2
        run(spawner.stop(now=True))
    run(sweep_once(platform.config, platform.web))  # what is young is left alone: it may be starting
    assert len(parts(sessions)) == 2
    assert len(sessions.networks()) == 1
    run(sweep_once(platform.config, platform.web, settle=timedelta(0)))
    assert parts(sessions) == []
    assert sessions.networks() == []
