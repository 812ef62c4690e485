"""Hosts that hang, fail and come back: a real engine behind a proxy that does it on demand.

The second host is only a socket that answers: it has no containers.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from beamhub_core.errors import Unavailable
from beamhub_spawners.docker_containers import shared_host
from beamhub_spawners.docker_host import MAX_WAITING, N_THREADS
from beamhub_spawners.docker_spawner import docker_place
from beamhub_spawners.session_options import read_options
from beamhub_spawners.sweeper import SETTLE, sweep_once
from contracts.docker_parts import SOCKET_FILE, DockerBackend, docker_backend, docker_facility
from contracts.fault_proxy import FaultProxy, fault_proxy
from contracts.recording_engine import recording_engine
from contracts.spawner_contract import OPTIONS
from contracts.spawner_parts import make_facility
from contracts.web_stand_in import StandIn

pytestmark = pytest.mark.docker
LOOK_S = 0.7


@dataclass
class TwoHosts:
    """Place hall-a behind the proxy; place hall-b a host without containers."""

    backend: DockerBackend
    proxy: FaultProxy

    @property
    def host(self) -> Any:
        """The client of the host behind the proxy."""
        return shared_host(docker_place(self.backend.part.platform.config, "hall-a"))


@pytest.fixture
def hosts(
    tmp_path: Path,
    docker_engine: Any,
    docker_network: tuple[str, str],
    docker_stand_in: StandIn,
    small_image: str,
    run: Any,
) -> Iterator[TwoHosts]:
    make_facility(tmp_path)
    # A socket's path has 108 characters at most.
    with (
        tempfile.TemporaryDirectory(prefix="bh-") as short,
        fault_proxy(Path(short) / "engine.sock", SOCKET_FILE) as proxy,
        recording_engine(Path(short) / "other.sock") as other,
    ):
        host = {
            "unsafe_direct_socket": True,
            "network": docker_network[0],
            "look_timeout_s": LOOK_S,
            "timeout_s": 8,
            "pause_s": 1.0,
        }
        other.answers["GET", "/containers/json"] = 200, []
        fields = docker_facility(tmp_path, docker_stand_in, {**host, "url": proxy.url}, image=small_image)
        fields["sessions"]["places"][1]["docker"]["url"] = f"unix://{short}/other.sock"
        fields["sessions"]["unknown_limit_s"] = 0.2
        with docker_backend(docker_engine, docker_stand_in, fields, run) as backend:
            yield TwoHosts(backend, proxy)
            proxy.fault = "none"


def start(hosts: TwoHosts, run: Any) -> Any:
    spawner = hosts.backend.spawner()
    spawner.request = read_options(OPTIONS)
    run(spawner.start())
    return spawner


def seconds(run: Any, work: Any) -> tuple[float, Any]:
    began = time.monotonic()
    result = run(work)
    return time.monotonic() - began, result


@pytest.mark.parametrize("fault", ["500", "cut", "mute"])
def test_a_host_out_of_order_is_unknown_and_never_gone(hosts: TwoHosts, run: Any, fault: Any) -> None:
    spawner = start(hosts, run)
    fresh = hosts.backend.spawner()
    hosts.proxy.fault = fault
    for one in (spawner, fresh):
        assert run(one.is_running()) is None
        assert run(one.poll()) is None
    assert hosts.backend.stand_in.states() == ["running"]
    assert hosts.backend.n_objects() == 1
    hosts.proxy.fault = "none"

    async def back() -> None:
        while await spawner.is_running() is not True:
            pass

    run(back())
    run(spawner.stop(now=True))
    assert hosts.backend.n_objects() == 0
    assert hosts.backend.stand_in.states() == ["ended"]


def test_a_slow_host_is_waited_for_within_its_limit(hosts: TwoHosts, run: Any) -> None:
    spawner = start(hosts, run)
    hosts.proxy.fault, hosts.proxy.delay_s = "delay", 0.1
    assert run(spawner.is_running()) is True


def test_a_stop_at_a_host_that_hangs_leaves_the_row_to_the_sweeper(hosts: TwoHosts, run: Any) -> None:
    spawner = start(hosts, run)
    hosts.proxy.fault = "mute"
    took, _ = seconds(run, spawner.stop(now=True))
    assert took < 5
    assert hosts.backend.stand_in.states() == ["stopping"]
    assert hosts.backend.n_objects() == 1


def test_a_host_that_hung_costs_nobody_time_until_it_is_asked_again(hosts: TwoHosts, run: Any) -> None:
    start(hosts, run)
    hosts.proxy.fault = "mute"
    with pytest.raises(Unavailable, match="does not answer"):
        run(hosts.host.containers({}))
    took, _ = seconds(run, _refused(hosts.host))
    assert took < LOOK_S / 2
    assert hosts.host.silent_s > 0


async def _refused(host: Any) -> None:
    with pytest.raises(Unavailable):
        await host.containers({})


def test_a_host_that_hangs_blocks_only_itself(hosts: TwoHosts, run: Any) -> None:
    config = hosts.backend.part.platform.config
    other = shared_host(docker_place(config, "hall-b"))
    hosts.proxy.fault = "mute"

    async def ask() -> tuple[list[Any], float]:
        asked = [asyncio.ensure_future(_silent(hosts.host)) for _ in range(3 * N_THREADS)]
        await asyncio.sleep(0)
        began = time.monotonic()
        await other.containers({})
        took = time.monotonic() - began
        return await asyncio.gather(*asked), took

    answers, took = run(ask())
    assert all(answers)
    assert took < LOOK_S
    hung = [one for one in threading.enumerate() if one.name.startswith("docker-host")]
    assert len(hung) <= 2 * N_THREADS  # of two hosts


async def _silent(host: Any) -> bool:
    try:
        await host.containers({})
    except Unavailable:
        return True
    return False


def test_no_more_wait_for_a_host_than_it_has_room_for(hosts: TwoHosts, run: Any) -> None:
    hosts.proxy.fault = "mute"

    async def ask() -> list[bool]:
        return await asyncio.gather(*(_silent(hosts.host) for _ in range(2 * MAX_WAITING)))

    took, answers = seconds(run, ask())
    assert all(answers)
    assert took < 5


def test_what_the_engine_refuses_is_an_answer(hosts: TwoHosts, run: Any) -> None:
    with pytest.raises(APIError):
        run(hosts.host.call("inspect_container", "not-there"))
    assert hosts.host.silent_s == 0


def test_rows_of_a_silent_host_turn_unknown_and_back_while_others_are_closed(
    hosts: TwoHosts, run: Any
) -> None:
    spawner = start(hosts, run)
    stand_in, platform = hosts.backend.stand_in, hosts.backend.part.platform
    alive = stand_in.sessions[spawner.plan.id]
    before = alive.plan.created_at - 2 * SETTLE
    here = alive.plan.model_copy(update={"created_at": before})
    stand_in.sessions[here.id] = alive.model_copy(update={"plan": here})
    elsewhere = here.model_copy(
        update={"id": "f" * 32, "place": here.place.model_copy(update={"name": "hall-b"})}
    )
    stand_in.sessions[elsewhere.id] = alive.model_copy(update={"plan": elsewhere})

    hosts.proxy.fault = "mute"
    decision = run(sweep_once(platform.config, platform.web))
    assert decision.lost == (elsewhere.id,)
    assert stand_in.sessions[elsewhere.id].record.state == "ended"

    async def until(state: str) -> None:
        while stand_in.sessions[here.id].record.state != state:
            await sweep_once(platform.config, platform.web)

    run(until("unknown"))
    assert "does not answer" in (stand_in.sessions[here.id].record.reason or "")
    hosts.proxy.fault = "none"
    run(until("running"))
    assert run(spawner.poll()) is None
