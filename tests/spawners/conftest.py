"""Fixtures of the spawner tests."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.docker_parts import engine_client, own_network
from contracts.small_image import make_image
from contracts.web_stand_in import StandIn, serving_stand_in

SMALL_IMAGE = f"beamhub-test-small:{secrets.token_hex(3)}"


@pytest.fixture
def run() -> Iterator[Any]:
    """Run a coroutine in one event loop per test."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """The stand-in for hub API and web service."""
    with serving_stand_in() as serving:
        yield serving


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Any]:
    """A client of this machine's engine, or a skip."""
    with engine_client() as client:
        yield client


@pytest.fixture(scope="session")
def small_image(docker_engine: Any) -> Iterator[str]:
    """The name of the small image, which is there until the tests end."""
    make_image(docker_engine, SMALL_IMAGE)
    yield SMALL_IMAGE
    docker_engine.remove_image(SMALL_IMAGE, force=True)


@pytest.fixture
def docker_network(docker_engine: Any) -> Iterator[tuple[str, str]]:
    """A network of the test's own, and this machine's address in it."""
    with own_network(docker_engine) as network:
        yield network


@pytest.fixture
def docker_stand_in(docker_network: tuple[str, str]) -> Iterator[StandIn]:
    """The stand-in where containers reach it."""
    with serving_stand_in(docker_network[1]) as serving:
        yield serving


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that everybody may enter; pytest's own are closed to all but their owner."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
