"""The Docker spawner on a real engine, with the real base image."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.config import FacilityConfig
from beamhub_core.config.agent import AgentConfig
from beamhub_spawners.docker_inventory import ask_docker_host
from beamhub_spawners.docker_render import container_name
from contracts.agent_parts import agent_fields, free_port, hub_tls, make_agent_files, running_agent
from contracts.docker_parts import (
    BASE_IMAGE,
    NETWORK_BLOCK,
    SOCKET,
    SOCKET_FILE,
    DockerBackend,
    docker_backend,
    docker_facility,
    engine_client,
    needs_image,
    own_network,
)
from contracts.spawner_contract import OPTIONS, SpawnerContract
from contracts.spawner_parts import ACCOUNT, granted_answer, make_facility
from contracts.web_stand_in import StandIn, serving_stand_in

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with engine_client() as client:
        needs_image(client, BASE_IMAGE)
        yield client


@pytest.fixture
def network(engine: Any) -> Iterator[tuple[str, str]]:
    with own_network(engine) as network:
        yield network


@pytest.fixture
def stand_in(network: tuple[str, str]) -> Iterator[StandIn]:
    with serving_stand_in(network[1]) as serving:
        yield serving


class TestDockerSpawner(SpawnerContract):
    """The contract on containers that share a network, over the engine's own socket."""

    @pytest.fixture
    def backend(
        self, tmp_path: Path, engine: Any, network: tuple[str, str], stand_in: StandIn, run: Any
    ) -> Iterator[DockerBackend]:
        make_facility(tmp_path)
        host = {"url": SOCKET, "unsafe_direct_socket": True, "network": network[0]}
        fields = docker_facility(tmp_path, stand_in, host, image=BASE_IMAGE)
        with docker_backend(engine, stand_in, fields, run) as backend:
            yield backend

    def test_a_container_is_what_its_plan_says_and_no_more(self, backend: DockerBackend, run: Any) -> None:
        spawner, _ = self.start(backend, run)
        plan = spawner.plan
        known = backend.engine.inspect_container(container_name(plan))

        host = known["HostConfig"]
        assert known["Config"]["User"] == f"{plan.uid}:{plan.gid}"
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges" in host["SecurityOpt"]
        assert not host["Privileged"]
        assert not host["Binds"]
        assert host["PidsLimit"] == plan.limits.pids
        assert host["Memory"] == plan.limits.memory_gib * 2**30
        mounted = {(m["Source"], m["Destination"], m["RW"]) for m in known["Mounts"] if m["Type"] == "bind"}
        assert mounted == {(m.source, m.target, m.mode == "rw") for m in plan.mounts}

    def test_a_mount_below_a_raw_folder_is_not_writable_either(
        self, backend: DockerBackend, run: Any, tmp_path: Path
    ) -> None:
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("only root can mount a file system below the raw folder")
        nested = tmp_path / "pools/hall-a/MA-5101/raw/sample-1/nested"
        nested.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(nested)], check=True)
        try:
            nested.chmod(0o777)
            spawner, _ = self.start(backend, run)
            code = (
                "import pathlib\n"
                "file = pathlib.Path('/data/hall-a/MA-5101/raw/sample-1/nested/x')\n"
                "try: file.write_text('x'); print('done')\n"
                "except OSError as error: print(type(error).__name__)"
            )
            assert backend.look(spawner.plan.id, code) in ("PermissionError", "OSError")
            assert list(nested.iterdir()) == []
            run(spawner.stop(now=True))
        finally:
            subprocess.run(["umount", str(nested)], check=True)

    def test_braces_and_colons_in_a_path_are_mounted_as_they_are(
        self, backend: DockerBackend, run: Any, tmp_path: Path
    ) -> None:
        awkward = "MA-5101/raw/{username.x}: a,b"
        (tmp_path / "pools/hall-a" / awkward).mkdir()
        (tmp_path / "pools/hall-a" / awkward / "scan.h5").write_text("awkward")
        spawner = backend.spawner()
        answer = granted_answer()
        dataset = answer.datasets[0]
        folder = dataset.folder.model_copy(update={"path": awkward})
        backend.stand_in.answers[ACCOUNT] = answer.model_copy(
            update={
                "datasets": (dataset.model_copy(update={"folder": folder, "file": f"{awkward}/scan.h5"}),),
                "grants": (*answer.grants, answer.grants[0].model_copy(update={"folder": folder})),
            }
        )
        run(spawner._run_apply_user_options(OPTIONS))
        run(spawner.start())
        code = f"print(open('/data/hall-a/{awkward}/scan.h5').read())"
        assert backend.look(spawner.plan.id, code) == "awkward"


class TestDockerSpawnerThroughTheAgent(SpawnerContract):
    """The contract again: certificates on both sides, a network of each session's own, a published port."""

    @pytest.fixture
    def backend(self, tmp_path: Path, engine: Any, stand_in: StandIn, run: Any) -> Iterator[DockerBackend]:
        make_facility(tmp_path)
        make_agent_files(tmp_path)
        port = free_port()
        host = {
            "url": f"https://127.0.0.1:{port}",
            "tls": hub_tls(tmp_path),
            "network_block": NETWORK_BLOCK,
            "publish_address": "127.0.0.1",
        }
        fields = docker_facility(tmp_path, stand_in, host, image=BASE_IMAGE)
        # One host, one agent, one place: an agent admits the plans of its own place only.
        fields["sessions"]["places"] = fields["sessions"]["places"][:1]
        agent = agent_fields(tmp_path, place="hall-a", socket_file=SOCKET_FILE)
        agent["listen"]["port"] = port
        facility = FacilityConfig.model_validate(fields)
        with (
            running_agent(AgentConfig.model_validate(agent), facility),
            docker_backend(engine, stand_in, fields, run) as backend,
        ):
            yield backend

    def test_the_hub_reads_what_the_host_has(self, backend: DockerBackend, run: Any) -> None:
        [place, *_] = backend.part.platform.config.sessions.places
        found = run(ask_docker_host(place))
        assert found.pools["hall-a"].is_readable
        assert BASE_IMAGE in found.images

    def test_a_session_has_a_network_of_its_own_that_goes_with_it(
        self, backend: DockerBackend, run: Any
    ) -> None:
        spawner, url = self.start(backend, run)
        [network] = backend.networks()
        subnet = IPv4Network(network["IPAM"]["Config"][0]["Subnet"])
        assert subnet.prefixlen == 28
        assert subnet.subnet_of(IPv4Network(NETWORK_BLOCK))
        assert url.startswith("http://127.0.0.1:")
        known = backend.engine.inspect_container(container_name(spawner.plan))
        [joined] = known["NetworkSettings"]["Networks"].values()
        assert IPv4Address(joined["IPAddress"]) in subnet
        run(spawner.stop(now=True))
        assert backend.networks() == []
