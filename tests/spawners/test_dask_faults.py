"""What people's tasks do to their own cluster's workers, and to nobody else's: real containers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.docker_gateway import DockerGateway, docker_gateway
from contracts.docker_parts import BASE_IMAGE, engine_client, needs_image

pytestmark = pytest.mark.docker

FAULTY = """
import ctypes, json, os, time
import beamhub_reduction

def crash():
    ctypes.string_at(0)  # a signal from within does not end a container's first process

def eat():
    eaten = bytearray()
    while True:
        eaten += os.urandom(1 << 20) * 64

def fill(folder):
    with open(os.path.join(folder, "full"), "wb") as file:
        while True:
            file.write(bytes(1 << 20))

def told(future):
    try:
        return repr(future.result(timeout=150))
    except Exception as error:
        return f"{type(error).__name__}: {error}"

client = beamhub_reduction.connect(workers=2)
said = {"full": told(client.submit(fill, "/tmp", pure=False, retries=0))}
# In two workers at once, each of which dies four times before Dask gives the task up.
dying = {one.__name__: client.submit(one, pure=False) for one in (crash, eat)}
said |= {name: told(future) for name, future in dying.items()}
said["after"] = told(client.submit(sum, [1, 2], pure=False))
print(json.dumps(said), flush=True)
time.sleep(600)
"""
STEADY = """
import json, os, time
import beamhub_reduction
client = beamhub_reduction.connect(workers=1)
print(json.dumps({"workers": list(client.run(os.getpid))}), flush=True)
while True:
    time.sleep(0.5)
    print("alive", list(client.run(os.getpid)), flush=True)
"""


@pytest.fixture
def beside(tmp_path: Path, run: Any) -> Iterator[DockerGateway]:
    with engine_client() as engine:
        needs_image(engine, BASE_IMAGE)
        with docker_gateway(tmp_path, engine, run) as found:
            yield found


def test_a_task_that_crashes_or_takes_too_much_is_told_so_and_harms_no_other_session(
    beside: DockerGateway, run: Any
) -> None:
    other, own = beside.start_session(run, "steady"), beside.start_session(run)
    with beside.running(other.plan.id, STEADY) as steady:
        with beside.running(own.plan.id, FAULTY, limit_s=240) as said:
            pass
        assert "No space left on device" in said["full"]
        for name in ("crash", "eat"):
            assert said[name].startswith("KilledWorker"), said
            assert name in said[name]
        assert said["after"] == "3"
        lines = beside.text(other.plan.id).splitlines()
        assert len(lines) > 5
        assert lines[-1] == f"alive {json.dumps(steady['workers'])}".replace('"', "'")
    for spawner in (own, other):
        run(spawner.stop(now=True))
    run(beside.until_gone())
