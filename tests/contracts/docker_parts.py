"""What the tests of Docker hosts share: the engine, a network to the stand-in, a backend of containers."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError, DockerException, ImageNotFound

from beamhub_core.config import FacilityConfig
from beamhub_spawners.docker_containers import close_hosts
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.docker_spawner import DockerSessionSpawner
from contracts.spawner_parts import HubPart, facility_fields, hub_part
from contracts.web_stand_in import StandIn

BASE_IMAGE = os.environ.get("BEAMHUB_BASE_IMAGE", "beamhub-base:dev")
SOCKET_FILE = Path("/var/run/docker.sock")
SOCKET = f"unix://{SOCKET_FILE}"
FACILITY = f"dt{secrets.token_hex(3)}"  # runs side by side keep off each other's containers
# Not one that a facility, a cloud or Docker itself is likely to use.
NETWORK_BLOCK = "10.213.128.0/20"


@contextmanager
def engine_client(url: str = SOCKET) -> Iterator[Any]:
    """A client of an engine; the test is skipped where none answers."""
    try:
        client = docker.APIClient(base_url=url, version="auto", timeout=60)
    except DockerException as error:
        pytest.skip(f"no Docker engine answers ({type(error).__name__})")
    try:
        yield client
    finally:
        client.close()


def needs_image(engine: Any, image: str) -> None:
    """Skip where an image is not."""
    try:
        engine.inspect_image(image)
    except ImageNotFound:
        pytest.skip(f"no image {image}; build it from images/base/Dockerfile")


@contextmanager
def own_network(engine: Any) -> Iterator[tuple[str, str]]:
    """A network of the test's own: its name and the address by which containers reach this process."""
    name = f"beamhub-test-{secrets.token_hex(4)}"
    network_id = engine.create_network(name, driver="bridge", labels={f"{LABEL}test": "agent"})["Id"]
    try:
        yield name, engine.inspect_network(network_id)["IPAM"]["Config"][0]["Gateway"]
    finally:
        engine.remove_network(network_id)


class DockerBackend:
    """A facility whose sessions are containers of one engine."""

    def __init__(self, engine: Any, stand_in: StandIn, part: HubPart) -> None:
        self.engine, self.stand_in, self.part = engine, stand_in, part

    def spawner(self, server_name: str = "") -> Any:
        """A spawner object that remembers nothing."""
        return self.part.spawner(DockerSessionSpawner, server_name=server_name)

    def look(self, plan_id: str, code: str) -> str:
        """The last line of what Python code prints inside a session."""
        in_session = "import os; os.environ['BEAMHUB_SESSION_FILE'] = '/run/beamhub/session.json'\n" + code
        command = self.engine.exec_create(f"beamhub-{plan_id}", ["python", "-c", in_session])
        said = self.engine.exec_start(command["Id"]).decode()
        assert self.engine.exec_inspect(command["Id"])["ExitCode"] == 0, said
        return str(said.splitlines()[-1])

    def kill(self, plan_id: str) -> None:
        """End a session's process behind the hub's back."""
        self.engine.kill(f"beamhub-{plan_id}")

    def containers(self) -> list[Any]:
        """This facility's containers, running or not."""
        found: list[Any] = self.engine.containers(all=True, filters={"label": f"{LABEL}facility={FACILITY}"})
        return found

    def networks(self) -> list[Any]:
        """This facility's networks of sessions."""
        found: list[Any] = self.engine.networks(filters={"label": f"{LABEL}facility={FACILITY}"})
        return found

    def n_objects(self) -> int:
        """Containers and networks that exist now; a session has one of each, counted as one."""
        return max(len(self.containers()), len(self.networks()))

    def clean_up(self) -> None:
        """Remove what a test left."""
        for container in self.containers():
            self.engine.remove_container(container["Id"], force=True, v=True)
        for network in self.networks():
            self.engine.remove_network(network["Id"])


def docker_facility(
    folder: Path, stand_in: StandIn, docker_fields: dict[str, Any], *, image: str
) -> dict[str, Any]:
    """The fields of a facility whose two places are docker places of one host."""
    fields = facility_fields(folder, hub_url=stand_in.url, web_url=stand_in.url, target="/data")
    fields["short_name"] = FACILITY
    for place in fields["sessions"]["places"]:
        place["backend"] = "docker"
        place["docker"] = {"hub_api_url": f"{stand_in.url}/hub/api", **docker_fields}
    fields["sessions"]["environments"][0]["image"] = image
    return fields


@contextmanager
def docker_backend(
    engine: Any, stand_in: StandIn, fields: dict[str, Any], run: Any
) -> Iterator[DockerBackend]:
    """A backend; what a test leaves is removed after it."""
    with hub_part(FacilityConfig.model_validate(fields), stand_in) as part:
        backend = DockerBackend(engine, stand_in, part)
        try:
            yield backend
        finally:
            backend.clean_up()
            run(part.platform.web.close())
            close_hosts()


def gone(engine: Any, container: str) -> bool:
    """Whether an engine says that a container is not there."""
    try:
        engine.inspect_container(container)
    except APIError as error:
        return bool(error.status_code == 404)
    return False
