"""The storage keeper of a Kubernetes place: real certificates, folders and processes, no engine."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.config.agent import AgentConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.errors import ConfigInvalid, Unavailable
from beamhub_core.session import SessionPlan
from beamhub_spawners.agent import RunningAgent, serving_agent
from beamhub_spawners.agent_certificates import make_certificates
from beamhub_spawners.kubernetes_keeper import ask_home, ask_pools, ensure_folders
from beamhub_spawners.refusal import StartFailed
from contracts.agent_parts import agent_fields, free_port, hub_tls, make_agent_files, running_agent
from contracts.kubernetes_parts import kubernetes_facility, kubernetes_plan
from contracts.spawner_parts import make_facility
from contracts.web_stand_in import StandIn, starting_session

UID, GID = 4711, 4700


class Keeper:
    """A keeper that serves, what web knows, and the place as the hub is told to reach it."""

    def __init__(self, folder: Path, stand_in: StandIn, agent: RunningAgent, fields: dict[str, Any]) -> None:
        self.folder, self.stand_in, self.agent, self.fields = folder, stand_in, agent, fields

    @property
    def place(self) -> KubernetesPlaceConfig:
        place = FacilityConfig.model_validate(self.fields).sessions.places[0].kubernetes
        assert place is not None
        url = f"https://127.0.0.1:{self.agent.server.port}"
        return place.model_copy(update={"keeper_url": url})

    def store(self, **changes: Any) -> SessionPlan:
        """A plan of now, with these changes, as web has it."""
        plan, _, _ = kubernetes_plan(self.fields, uid=UID, gid=GID, gids=())
        now = utc_now()
        times = {"created_at": now, "expires_at": now + timedelta(hours=1)}
        plan = plan.model_copy(update={**times, **changes})
        self.stand_in.sessions[plan.id] = starting_session(plan)
        return plan

    def make(self, plan: SessionPlan) -> None:
        asyncio.run(ensure_folders(self.place, plan.id))

    def home(self, plan: SessionPlan) -> Path:
        return self.folder / "homes" / plan.account


def fields_of(folder: Path, stand_in: StandIn) -> dict[str, Any]:
    tls = hub_tls(folder)
    return kubernetes_facility(folder, web_url=stand_in.url, keeper_url="https://127.0.0.1:1", keeper_tls=tls)


@pytest.fixture
def keeper(tmp_path: Path, stand_in: StandIn) -> Iterator[Keeper]:
    if os.geteuid() != 0:
        pytest.skip("needs root: a keeper makes folders for other users")
    make_facility(tmp_path)
    (tmp_path / "pools/hall-a/MA-5101/processed").mkdir()
    (tmp_path / "homes").mkdir()
    make_agent_files(tmp_path)
    fields = fields_of(tmp_path, stand_in)
    settings = agent_fields(tmp_path, place="hall-a", socket_file=tmp_path / "none", engine="none")
    config = AgentConfig.model_validate(settings)
    with running_agent(config, FacilityConfig.model_validate(fields)) as agent:
        yield Keeper(tmp_path, stand_in, agent, fields)


def test_the_folders_of_a_stored_plan_are_made_for_the_person(keeper: Keeper) -> None:
    plan = keeper.store()
    keeper.make(plan)
    home = keeper.home(plan)
    assert (home.stat().st_uid, home.stat().st_gid) == (UID, GID)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / "notebooks").stat().st_uid == UID
    keeper.make(plan)  # again changes nothing


@pytest.mark.parametrize(
    "fault", ["unknown", "tampered", "over", "another place", "another backend", "ended"]
)
def test_nothing_is_made_of_a_plan_that_is_not_to_be_made_here_now(keeper: Keeper, fault: str) -> None:
    plan = keeper.store()
    stored = keeper.stand_in.sessions[plan.id]
    match fault:
        case "unknown":
            keeper.stand_in.sessions.clear()
        case "tampered":
            another = plan.model_copy(update={"account": "x" + plan.account[1:]})
            keeper.stand_in.sessions[plan.id] = stored.model_copy(update={"plan": another})
        case "over":
            keeper.store(expires_at=utc_now() - timedelta(seconds=1))
        case "another place":
            keeper.store(place=plan.place.model_copy(update={"name": "hall-b"}))
        case "another backend":
            keeper.store(place=plan.place.model_copy(update={"backend": "docker"}))
        case _:
            record = stored.record.model_copy(update={"state": "ended"})
            keeper.stand_in.sessions[plan.id] = stored.model_copy(update={"record": record})
    with pytest.raises(StartFailed, match="its storage keeper did not admit it"):
        keeper.make(plan)
    assert list((keeper.folder / "homes").iterdir()) == []


def test_a_link_that_stands_in_the_data_is_found_before_the_mount(keeper: Keeper) -> None:
    raw = keeper.folder / "pools/hall-a/MA-5101/raw"
    (raw / "sample-1").rename(raw / "elsewhere")
    (raw / "sample-1").symlink_to("../../MA-6202/raw/sample-9")
    with pytest.raises(StartFailed, match=r"its folder MA-5101/raw/sample-1") as caught:
        keeper.make(keeper.store())
    assert str(keeper.folder) not in str(caught.value)


def test_pools_are_told_as_they_are_where_they_are_mounted(keeper: Keeper) -> None:
    pools = asyncio.run(ask_pools(keeper.place))
    assert {name: (state.is_readable, state.reason) for name, state in pools.items()} == {
        "hall-a": (True, "")
    }


def test_a_home_is_told_of_once_a_plan_of_its_owner_was_seen(keeper: Keeper) -> None:
    plan = keeper.store()
    before = asyncio.run(ask_home(keeper.place, plan.account))
    keeper.make(plan)
    after = asyncio.run(ask_home(keeper.place, plan.account))
    assert before.full is None and before.state(is_mapped=True) is not None
    assert after.full is None and after.state(is_mapped=True) is not None


@pytest.mark.parametrize(
    "request_line", ["GET /v1.41/containers/json", "GET /version", "POST /v1.41/containers/create", "GET /x"]
)
def test_what_needs_an_engine_is_refused(keeper: Keeper, request_line: str) -> None:
    from contracts.agent_host import Host  # its way of asking

    method, path = request_line.split()
    asking = Host(keeper.folder, keeper.agent, None, keeper.stand_in, None, None)  # type: ignore[arg-type]
    status, said = asking.ask(method, path)
    assert status == 403
    assert "not admitted" in said["message"]


def test_without_the_hubs_certificate_nobody_is_answered(keeper: Keeper, tmp_path: Path) -> None:
    strangers = tmp_path / "strangers"
    make_certificates(strangers / "tls", ("127.0.0.1",), now=utc_now())
    pair = {**hub_tls(strangers), "ca_file": str(tmp_path / "tls/ca.pem")}
    keeper.fields["sessions"]["places"][0]["kubernetes"]["keeper_tls"] = pair
    with pytest.raises(Unavailable, match="storage keeper"):
        asyncio.run(ask_pools(keeper.place))


def test_a_keeper_that_is_away_is_unavailable(keeper: Keeper) -> None:
    place = keeper.place.model_copy(update={"keeper_url": f"https://127.0.0.1:{free_port()}"})
    with pytest.raises(Unavailable, match="ConnectError"):
        asyncio.run(ensure_folders(place, "0" * 32))


def test_a_keeper_of_a_place_that_is_none_of_kubernetes_does_not_start(
    tmp_path: Path, stand_in: StandIn
) -> None:
    make_agent_files(tmp_path)
    facility = FacilityConfig.model_validate(fields_of(tmp_path, stand_in))
    settings = agent_fields(tmp_path, place="hall-c", socket_file=tmp_path / "none", engine="none")

    async def start() -> None:
        async with serving_agent(AgentConfig.model_validate(settings), facility):
            raise AssertionError("it serves")

    with pytest.raises(
        ConfigInvalid, match=r"no kubernetes place is called 'hall-c' \(there: hall-a, hall-b\)"
    ):
        asyncio.run(start())


CAPABILITIES = ("chown", "dac_override", "fowner", "fsetid", "setuid", "setgid")


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is missing")
def test_the_keepers_process_makes_folders_with_the_few_capabilities_that_its_pod_has(
    keeper: Keeper, tmp_path: Path
) -> None:
    port = free_port()
    settings = agent_fields(tmp_path, place="hall-a", socket_file=tmp_path / "none", engine="none")
    settings["listen"]["port"] = port
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "facility.yaml").write_text(yaml.safe_dump(keeper.fields))
    caps = ",".join(["-all", *(f"+{name}" for name in CAPABILITIES)])
    command = ["setpriv", "--bounding-set", caps, "--inh-caps", "-all", "--no-new-privs"]
    command += [sys.executable, "-m", "beamhub_core.command", "agent", f"--config={tmp_path / 'agent.yaml'}"]
    place = keeper.place.model_copy(update={"keeper_url": f"https://127.0.0.1:{port}"})
    plan = keeper.store()
    (keeper.folder / "pools/hall-a/MA-5101/processed").rmdir()
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            until_it_answers(place, process)
            status = Path(f"/proc/{process.pid}/status").read_text()
            bits = int(status.partition("CapEff:")[2].split()[0], 16)
            assert bits.bit_count() == len(CAPABILITIES)
            asyncio.run(ensure_folders(place, plan.id))
        finally:
            process.terminate()
            process.wait(20)
    home = keeper.home(plan)
    assert (home.stat().st_uid, stat.S_IMODE(home.stat().st_mode)) == (UID, 0o700)
    processed = keeper.folder / "pools/hall-a/MA-5101/processed"
    assert stat.S_IMODE(processed.stat().st_mode) == 0o2770


def until_it_answers(place: KubernetesPlaceConfig, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            asyncio.run(ask_pools(place))
            return
        except Unavailable:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
