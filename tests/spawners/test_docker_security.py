"""What cannot be done from inside a session, and what an image cannot bring: on a real engine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beamhub_spawners.docker_render import container_name
from beamhub_spawners.refusal import StartFailed
from beamhub_spawners.session_options import read_options
from contracts.docker_parts import NETWORK_BLOCK, SOCKET, DockerBackend, docker_backend, docker_facility
from contracts.small_image import make_image
from contracts.spawner_contract import OPTIONS
from contracts.spawner_parts import make_facility
from contracts.web_stand_in import StandIn
from spawners.raw_attempts import (
    GID,
    UID,
    attempts,
    mounted_here,
    start,
)  # the folder of these tests, not the room

pytestmark = pytest.mark.docker
N_ATTEMPTS = 300
SAY_GROUPS = "import os; print(os.getgroups())"


@pytest.fixture
def backend(
    tmp_path: Path, docker_engine: Any, docker_stand_in: StandIn, small_image: str, run: Any
) -> Iterator[DockerBackend]:
    make_facility(tmp_path)
    host = {"url": SOCKET, "unsafe_direct_socket": True, "network_block": NETWORK_BLOCK}
    fields = docker_facility(tmp_path, docker_stand_in, host, image=small_image)
    with docker_backend(docker_engine, docker_stand_in, fields, run) as backend:
        yield backend


def test_nothing_of_many_attempts_changes_raw_data_or_leads_out(
    backend: DockerBackend, run: Any, tmp_path: Path
) -> None:
    """Only the mount protects the files: they belong to the session's own user, with write permission."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another user and mount")
    said = attempts(backend, run, tmp_path / "pools/hall-a", mounted_here, count=N_ATTEMPTS, seed=7)
    assert said["of"] == N_ATTEMPTS
    assert said["succeeded"] == 0, said
    assert said["reasons"].get("EROFS", 0) > N_ATTEMPTS / 10  # it was the mount that said no
    assert said["tree is unchanged"]


def test_the_groups_of_an_image_give_a_session_nothing(
    backend: DockerBackend, run: Any, docker_engine: Any
) -> None:
    name = "beamhub-test-groups:dev"
    passwd = [f"scientist:x:{UID}:0::/:"]
    make_image(docker_engine, name, group_lines=["evil:x:4999:scientist"], passwd_lines=passwd)
    try:
        # The image does grant it, to whoever runs it as a user without a group.
        made = docker_engine.create_container_from_config(
            {"Image": name, "User": str(UID), "Cmd": ["/usr/bin/python", "-c", SAY_GROUPS]}
        )
        docker_engine.start(made["Id"])
        docker_engine.wait(made["Id"])
        assert b"4999" in docker_engine.logs(made["Id"])
        docker_engine.remove_container(made["Id"])

        place_of(backend, image=name)
        spawner = start(backend, run, uid=UID, gid=GID, gids=(4713,))
        groups = json.loads(backend.look(spawner.plan.id, SAY_GROUPS))
        assert set(groups) <= {GID, 4713}
        assert 4713 in groups
        run(spawner.stop(now=True))
    finally:
        docker_engine.remove_image(name, force=True)


def place_of(backend: DockerBackend, *, image: str) -> None:
    """Have the places of a backend run another image."""
    config = backend.part.platform.config
    places = tuple(
        place.model_copy(update={"docker": place.docker.model_copy(update={"image": image})})
        for place in config.sessions.places
        if place.docker is not None
    )
    sessions = config.sessions.model_copy(update={"places": places})
    changed = config.model_copy(update={"sessions": sessions})
    backend.part.platform = type(backend.part.platform)(
        config=changed, clock=backend.part.platform.clock, web=backend.part.platform.web
    )


def failed(backend: DockerBackend, run: Any) -> str:
    """Why a start failed, after a look that nothing is left of it."""
    with pytest.raises(StartFailed) as caught:
        start(backend, run)
    assert backend.n_objects() == 0
    assert backend.stand_in.states()[-1] == "failed"
    return str(caught.value.reason)


def test_an_image_that_is_missing_or_broken_is_said_in_plain_words(
    backend: DockerBackend, run: Any, docker_engine: Any
) -> None:
    place_of(backend, image="beamhub-test-not-there:dev")
    assert failed(backend, run) == "its image is not on the host yet"
    place_of(backend, image="beamhub-test-not-there@sha256:" + "0" * 64)
    assert failed(backend, run) == "its image is not on the host yet"
    name = "beamhub-test-broken:dev"
    make_image(docker_engine, name, start=["/usr/bin/not-there"])
    try:
        place_of(backend, image=name)
        assert failed(backend, run) == "its image cannot be started"
    finally:
        docker_engine.remove_image(name, force=True)


def test_what_runs_is_the_image_of_the_plan(backend: DockerBackend, run: Any, docker_engine: Any) -> None:
    image_id = docker_engine.inspect_image(backend.part.platform.config.sessions.environments[0].image)["Id"]
    place_of(backend, image=image_id)
    spawner = start(backend, run)
    assert docker_engine.inspect_container(container_name(spawner.plan))["Image"] == image_id
    run(spawner.stop(now=True))


def test_a_source_that_vanished_fails_the_start_and_is_not_made(
    backend: DockerBackend, run: Any, tmp_path: Path
) -> None:
    gone = tmp_path / "pools/hall-a/MA-5101/raw/sample-1"
    gone.rename(tmp_path / "aside")
    failed(backend, run)
    assert not gone.exists()


def test_no_route_leads_from_one_session_to_another(backend: DockerBackend, run: Any) -> None:
    first, second = start(backend, run), None
    second = backend.spawner(server_name="other")
    second.request = read_options(OPTIONS)
    url = run(second.start())
    code = (
        "import urllib.request\n"
        f"try: print(urllib.request.urlopen({url + '/api'!r}, timeout=2).status)\n"
        "except OSError as error: print(type(error).__name__)"
    )
    assert backend.look(first.plan.id, code) in ("URLError", "TimeoutError")
    assert len(backend.networks()) == 2
    for one in (first, second):
        run(one.stop(now=True))
    assert backend.networks() == []
