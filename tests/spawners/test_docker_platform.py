"""Killed hubs and crowds on a platform of real processes, in little; `make soak` does both in full."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from contracts.docker_parts import BASE_IMAGE, needs_image
from contracts.docker_platform import DockerPlatform, running_docker_platform
from spawners.crowd import crowd  # the folder of these tests, not the room
from spawners.hub_kills import trial  # as above

pytestmark = [pytest.mark.docker, pytest.mark.hub]
N_KILLS = 3


@pytest.fixture
def hub(docker_engine: Any, small_image: str) -> Iterator[DockerPlatform]:
    needs_image(docker_engine, BASE_IMAGE)
    images = {"lab": BASE_IMAGE, "small": small_image}
    with running_docker_platform(docker_engine, images=images) as hub:
        yield hub


def test_a_killed_hub_loses_no_server_and_leaves_nothing_after_one_sweep(hub: DockerPlatform) -> None:
    made = trial(hub, n_people=2, n_watched=1, seed=7, settle=timedelta(seconds=3))
    for _ in range(N_KILLS):
        made.kill_once()
    found = made.sweep_and_look()
    assert found.is_whole(), (found, hub.log.read_text()[-3000:])
    assert (made.kills.kernels_asked, made.kills.kernels_forgot) == (1, 0)


def test_of_more_starts_than_room_the_rest_waits_and_each_gets_a_turn(
    docker_engine: Any, small_image: str
) -> None:
    images = {"small": small_image}
    with running_docker_platform(docker_engine, images=images, capacity=2) as hub:
        found = crowd(hub, starts=4, slots=2, at_once=4)
    assert found.is_whole(), found
