"""Fixtures of the spawner tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from contracts.spawner_parts import StandIn, serving_stand_in


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
