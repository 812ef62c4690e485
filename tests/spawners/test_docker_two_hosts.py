"""Two hosts with different trees: the data choose the host, and only its agent sees what is mounted."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from beamhub_core.config import FacilityConfig
from beamhub_core.errors import Unavailable
from beamhub_core.rights import PoolPath
from beamhub_spawners.docker_containers import shared_host
from beamhub_spawners.docker_render import container_name
from beamhub_spawners.docker_spawner import docker_place
from beamhub_spawners.refusal import StartFailed
from beamhub_spawners.session_options import read_options
from contracts.agent_parts import agent_fields, free_port, hub_tls, make_agent_files
from contracts.docker_parts import SOCKET, DockerBackend, docker_backend, docker_facility, gone
from contracts.second_engine import SecondEngine, second_engine
from contracts.small_image import make_image
from contracts.spawner_parts import ACCOUNT, GRANTED_PID, granted_answer, make_facility
from contracts.web_stand_in import StandIn

pytestmark = pytest.mark.docker
SECOND_BLOCK = "10.213.144.0/20"
AGENT = "import argparse, sys, pathlib\nfrom beamhub_spawners.agent import run\n"
AGENT += "run(argparse.Namespace(config=pathlib.Path(sys.argv[1])))"
OTHER_PID = "demo:TO-7303:sample-3"


@dataclass
class TwoHosts:
    """Host hall-a is the machine's engine, direct; host hall-b the second one, behind an agent of its own."""

    backend: DockerBackend
    second: SecondEngine
    client: Any

    def start(self, run: Any, pid: str) -> Any:
        spawner = self.backend.spawner(server_name="on-" + pid[5:7].lower())
        spawner.request = read_options({"datasets": [pid]})
        run(spawner.start())
        return spawner


def answer_in_hall_b() -> Any:
    """Rights on a dataset of the other pool, beside those on the first."""
    answer = granted_answer(ACCOUNT)
    folder = PoolPath(pool="hall-b", path="TO-7303/raw/sample-3")
    dataset = answer.datasets[0].model_copy(
        update={
            "pid": OTHER_PID,
            "proposal": "TO-7303",
            "folder": folder,
            "file": "TO-7303/raw/sample-3/scan.h5",
            "link_closure": (),
        }
    )
    grant = answer.grants[0].model_copy(update={"folder": folder, "pid": OTHER_PID, "proposal": "TO-7303"})
    return answer.model_copy(update={"datasets": (dataset,), "grants": (grant,), "ungranted_links": ()})


@pytest.fixture
def trees(tmp_path: Path) -> dict[Path, Path]:
    """hall-b as this machine has it is an empty folder; the second host's has the data."""
    make_facility(tmp_path)
    make_agent_files(tmp_path)
    here, there = tmp_path / "pools/hall-b", tmp_path / "of-the-second-host"
    here.rename(there)
    here.mkdir()
    return {here: there}


@pytest.fixture
def hosts(
    tmp_path: Path,
    trees: dict[Path, Path],
    docker_engine: Any,
    docker_network: tuple[str, str],
    docker_stand_in: StandIn,
    small_image: str,
    run: Any,
) -> Iterator[TwoHosts]:
    port = free_port()
    first = {"url": SOCKET, "unsafe_direct_socket": True, "network": docker_network[0]}
    fields = docker_facility(tmp_path, docker_stand_in, first, image=small_image)
    fields["sessions"]["places"][1]["docker"] = {
        "url": f"https://127.0.0.1:{port}",
        "tls": hub_tls(tmp_path),
        "hub_api_url": f"{docker_stand_in.url}/hub/api",
        "network_block": SECOND_BLOCK,
    }
    (tmp_path / "facility.yaml").write_text(yaml.safe_dump(fields))
    FacilityConfig.model_validate(fields)
    with second_engine(trees) as second:
        client = docker.APIClient(base_url=second.url, version="auto", timeout=60)
        try:
            make_image(client, small_image)
            agent = agent_fields(tmp_path, place="hall-b", socket_file=second.socket)
            agent["listen"]["port"] = port
            (tmp_path / "agent.yaml").write_text(yaml.safe_dump(agent))
            with (
                agent_process(second, tmp_path / "agent.yaml", tmp_path / "agent.log"),
                docker_backend(docker_engine, docker_stand_in, fields, run) as backend,
            ):
                found = TwoHosts(backend, second, client)
                run(answering(backend))
                yield found
                for container in client.containers(all=True):
                    client.remove_container(container["Id"], force=True)
        finally:
            client.close()


async def answering(backend: DockerBackend) -> None:
    """Wait until the agent serves: it was started a moment ago."""
    host = shared_host(docker_place(backend.part.platform.config, "hall-b"))
    async with asyncio.timeout(60):
        while True:
            try:
                await host.call("ping")
            except Unavailable:
                await asyncio.sleep(0.1)
            else:
                return


@contextmanager
def agent_process(second: SecondEngine, config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`beamhub agent` as a process of the second host, ended by SIGTERM."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            second.within(sys.executable, "-c", AGENT, str(config)), stdout=stream, stderr=stream
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()[-3000:]


def test_the_data_choose_the_host_and_the_container_is_really_there(hosts: TwoHosts, run: Any) -> None:
    on_first = hosts.start(run, GRANTED_PID)
    hosts.backend.stand_in.answers[ACCOUNT] = answer_in_hall_b()
    on_second = hosts.start(run, OTHER_PID)

    assert on_first.plan.place.name == "hall-a"
    assert on_second.plan.place.name == "hall-b"
    assert gone(hosts.client, container_name(on_first.plan))
    assert gone(hosts.backend.engine, container_name(on_second.plan))
    read = "print(open('/data/{}/scan.h5').read())"
    assert hosts.backend.look(on_first.plan.id, read.format("hall-a/MA-5101/raw/sample-1")) == "granted"
    there = DockerBackend(hosts.client, hosts.backend.stand_in, hosts.backend.part)
    assert there.look(on_second.plan.id, read.format("hall-b/TO-7303/raw/sample-3")) == "embargoed"
    for one in (on_first, on_second):
        assert run(one.poll()) is None
        run(one.stop(now=True))
        assert run(one.poll()) == 0
    assert hosts.client.containers(all=True) == []
    assert there.networks() == []


def test_a_full_disk_is_said_and_nothing_is_left(hosts: TwoHosts, run: Any) -> None:
    hosts.backend.stand_in.answers[ACCOUNT] = answer_in_hall_b()
    hosts.second.free_bytes(leave=0)
    try:
        with pytest.raises(StartFailed) as caught:
            hosts.start(run, OTHER_PID)
    finally:
        hosts.second.free_bytes(leave=-1)
    assert caught.value.reason == "the disk of the host is full"
    assert hosts.client.containers(all=True) == []
    assert hosts.backend.stand_in.states() == ["failed"]
    hosts.start(run, OTHER_PID)  # and when there is room again, it goes on
    assert hosts.backend.stand_in.states() == ["failed", "running"]
