"""The Docker spawner on a real engine, with the real base image."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException, ImageNotFound

from beamhub_core.config import FacilityConfig
from beamhub_spawners.docker_render import LABEL, container_name
from beamhub_spawners.docker_spawner import DockerSessionSpawner
from contracts.spawner_contract import OPTIONS, SpawnerContract
from contracts.spawner_parts import (
    ACCOUNT,
    HubPart,
    StandIn,
    facility_fields,
    granted_answer,
    hub_part,
    make_facility,
    serving_stand_in,
)

pytestmark = pytest.mark.docker
IMAGE = os.environ.get("BEAMHUB_BASE_IMAGE", "beamhub-base:dev")
FACILITY = f"dockertest-{os.getpid()}"  # others may use the same engine
SOCKET = "unix:///var/run/docker.sock"


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    try:
        client = docker.APIClient(base_url=SOCKET, version="auto", timeout=60)
        client.inspect_image(IMAGE)
    except ImageNotFound:
        client.close()
        pytest.skip(f"no image {IMAGE}; build it from images/base/Dockerfile")
    except DockerException as error:
        pytest.skip(f"no Docker engine answers ({type(error).__name__})")
    yield client
    client.close()


@pytest.fixture
def network(engine: Any) -> Iterator[tuple[str, str]]:
    """A network of the test's own: its name and the address by which containers reach this process."""
    name = f"beamhub-test-{secrets.token_hex(4)}"
    network_id = engine.create_network(name, driver="bridge")["Id"]
    yield name, engine.inspect_network(network_id)["IPAM"]["Config"][0]["Gateway"]
    engine.remove_network(network_id)


@pytest.fixture
def stand_in(network: tuple[str, str]) -> Iterator[StandIn]:
    with serving_stand_in(network[1]) as serving:
        yield serving


class DockerBackend:
    def __init__(self, engine: Any, stand_in: StandIn, part: HubPart) -> None:
        self.engine, self.stand_in, self.part = engine, stand_in, part

    def spawner(self, server_name: str = "") -> Any:
        return self.part.spawner(DockerSessionSpawner, server_name=server_name)

    def look(self, plan_id: str, code: str) -> str:
        in_session = "import os; os.environ['BEAMHUB_SESSION_FILE'] = '/run/beamhub/session.json'\n" + code
        command = self.engine.exec_create(f"beamhub-{plan_id}", ["python", "-c", in_session])
        said = self.engine.exec_start(command["Id"]).decode()
        assert self.engine.exec_inspect(command["Id"])["ExitCode"] == 0, said
        return str(said.splitlines()[-1])

    def kill(self, plan_id: str) -> None:
        self.engine.kill(f"beamhub-{plan_id}")

    def containers(self) -> list[Any]:
        found: list[Any] = self.engine.containers(all=True, filters={"label": f"{LABEL}facility={FACILITY}"})
        return found

    def n_objects(self) -> int:
        return len(self.containers())


@pytest.fixture
def backend(
    tmp_path: Path, engine: Any, network: tuple[str, str], stand_in: StandIn, run: Any
) -> Iterator[DockerBackend]:
    """A facility with one Docker host as two places; containers that a test leaves are removed after it."""
    make_facility(tmp_path)
    fields = facility_fields(tmp_path, hub_url=stand_in.url, web_url=stand_in.url, target="/data")
    fields["short_name"] = FACILITY
    for place in fields["sessions"]["places"]:
        place["backend"] = "docker"
        place["docker"] = {"url": SOCKET, "network": network[0], "hub_api_url": f"{stand_in.url}/hub/api"}
    fields["sessions"]["environments"][0]["image"] = IMAGE
    with hub_part(FacilityConfig.model_validate(fields), stand_in) as part:
        backend = DockerBackend(engine, stand_in, part)
        yield backend
        for container in backend.containers():
            engine.remove_container(container["Id"], force=True, v=True)
        run(part.platform.web.close())
        for host in DockerSessionSpawner._hosts.values():
            host.close()
        DockerSessionSpawner._hosts.clear()


class TestDockerSpawner(SpawnerContract):
    """The contract on containers."""

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
