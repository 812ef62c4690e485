"""Folders through an agent: slow storage holds up its own starts only, and homes are told of to few."""

from __future__ import annotations

import errno
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.config.agent import AgentConfig
from beamhub_core.identity import account_name
from beamhub_core.session import SessionPlan
from beamhub_spawners.docker_render import Ground, container_fields
from beamhub_spawners.host_homes import MAPPED, HomeOnHost
from contracts.agent_host import ENVIRONMENT, Host
from contracts.agent_parts import agent_fields, make_agent_files, running_agent
from contracts.recording_engine import recording_engine
from contracts.spawner_parts import ISSUER, docker_plan, facility_fields, make_facility
from contracts.web_stand_in import StandIn

SLOW, QUICK = 4711, 4811
SET_QUOTA = """\
echo "$1" >> {folder}/quotas
if [ "$1" = {slow} ]; then while [ ! -e {folder}/go ]; do sleep 0.02; done; fi
"""


@pytest.fixture
def host(tmp_path: Path, stand_in: StandIn) -> Iterator[Host]:
    """A host where setting the quota of one user takes until the test lets it go."""
    make_facility(tmp_path)
    make_agent_files(tmp_path)
    (tmp_path / "set-quota").write_text(SET_QUOTA.format(folder=tmp_path, slow=SLOW))
    fields = facility_fields(tmp_path, hub_url=stand_in.url, web_url=stand_in.url)
    for place in fields["sessions"]["places"]:
        place.update(backend="docker", docker={"url": "unix:///x", "unsafe_direct_socket": True})
    fields["sessions"]["environments"][0]["image"] = "beamhub-base:dev"
    fields["sessions"]["homes"] = {"quota_gib": 1, "quota_command": ["/bin/sh", str(tmp_path / "set-quota")]}
    facility = FacilityConfig.model_validate(fields)
    with recording_engine(tmp_path / "e.sock") as engine:
        engine.answers |= {
            ("GET", "/images/beamhub-base:dev/json"): (200, {"Id": "sha256:" + "d" * 64}),
            ("POST", "/containers/create"): (201, {"Id": "ab" * 32}),
            ("GET", "/containers/json"): (200, []),
        }
        config = agent_fields(tmp_path, place="hall-a", socket_file=tmp_path / "e.sock", pull=False)
        with running_agent(AgentConfig.model_validate(config), facility) as agent:
            yield Host(tmp_path, agent, engine, stand_in, facility, docker_plan(uid=SLOW, gid=SLOW))


def stored(host: Host, subject: str, uid: int) -> SessionPlan:
    """A plan of somebody, which web has stored just now."""
    plan = docker_plan(uid=uid, gid=uid)
    plan = plan.model_copy(update={"account": account_name(ISSUER, subject)})
    now = utc_now()
    home = {"source": str(host.folder / "homes" / plan.account), "path": plan.account}
    mounts = tuple(
        mount.model_copy(update=home)
        if mount.purpose == "home"
        else mount.model_copy(update={"source": str(host.folder / "pools" / mount.pool / mount.path)})
        for mount in plan.mounts
    )
    times = {"created_at": now, "expires_at": now + timedelta(hours=1), "id": secrets.token_hex(16)}
    plan = plan.model_copy(update={"mounts": mounts, "image": "beamhub-base:dev", **times})
    host.store(plan)
    return plan


def body(host: Host, plan: SessionPlan) -> dict[str, Any]:
    place = host.facility.sessions.places[0].docker
    assert place is not None
    ground = Ground("bridge")
    return container_fields(plan, place, facility="demo", environment=ENVIRONMENT, ground=ground).body


def create(host: Host, plan: SessionPlan) -> int:
    return host.ask("POST", f"/v1.41/containers/create?name=beamhub-{plan.id}", body(host, plan))[0]


def quotas(host: Host) -> list[str]:
    file = host.folder / "quotas"
    return file.read_text().split() if file.exists() else []


def until_waiting(host: Host, n: int) -> None:
    """Until so many quotas of the slow user are being set."""
    deadline = time.monotonic() + 20
    while quotas(host).count(str(SLOW)) < n:
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def test_two_starts_with_slow_folders_do_not_hold_up_a_third(host: Host) -> None:
    slow = [stored(host, name, SLOW) for name in ("ines", "oscar")]
    quick = stored(host, "maria", QUICK)
    with ThreadPoolExecutor() as threads:
        asked: list[Future[int]] = [threads.submit(create, host, plan) for plan in slow]
        try:
            until_waiting(host, 2)
            assert create(host, quick) == 201
            assert [one.done() for one in asked] == [False, False]
            assert host.ask("GET", "/beamhub/inventory")[0] == 200
        finally:
            (host.folder / "go").touch()
        assert [one.result() for one in asked] == [201, 201]


def test_two_requests_for_one_plan_make_one_container(host: Host) -> None:
    plan = stored(host, "ines", SLOW)
    with ThreadPoolExecutor() as threads:
        asked = [threads.submit(create, host, plan) for _ in range(2)]
        try:
            until_waiting(host, 1)
        finally:
            (host.folder / "go").touch()
        assert sorted(one.result() for one in asked) == [201, 403]
    assert len(host.engine.changes()) == 1


def test_a_session_that_was_ended_while_its_storage_took_its_time_is_not_made(host: Host) -> None:
    plan = stored(host, "ines", SLOW)
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(create, host, plan)
        try:
            until_waiting(host, 1)
            host.store(plan, state="stopping")
        finally:
            (host.folder / "go").touch()
        assert asked.result() == 403
    assert host.engine.changes() == []


def test_folders_are_made_before_the_container_and_their_quota_is_set_once(host: Host) -> None:
    plan = stored(host, "maria", QUICK)
    assert host.ask("POST", f"/beamhub/folders/{plan.id}")[0] == 204
    assert (host.folder / "homes" / plan.account / "notebooks").is_dir()
    assert host.engine.changes() == []
    assert create(host, plan) == 201
    assert quotas(host) == [str(QUICK)]


@pytest.mark.parametrize("state", ["running", "ended", "failed", "stopping"])
def test_folders_are_made_of_a_plan_that_is_to_be_made_only(host: Host, state: str) -> None:
    plan = stored(host, "maria", QUICK)
    host.store(plan, state=state)
    assert host.ask("POST", f"/beamhub/folders/{plan.id}")[0] == 403
    assert host.ask("POST", f"/beamhub/folders/{'0' * 32}")[0] == 403
    assert not (host.folder / "homes" / plan.account).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_home_is_told_of_only_after_a_stored_plan_of_its_account(host: Host) -> None:
    plan, other = stored(host, "maria", QUICK), stored(host, "oscar", QUICK)
    for one in (plan, other):
        (host.folder / "homes" / one.account).mkdir(parents=True)
    with small_disk(host.folder / "homes" / plan.account), small_disk(host.folder / "homes" / other.account):
        assert host.ask("POST", f"/beamhub/folders/{plan.id}")[0] == 204
        told = [
            HomeOnHost.model_validate(host.ask("GET", f"/beamhub/home/{one.account}")[1])
            for one in (plan, other)
        ]
    assert [one.full for one in told] == ["no space is left", None]
    assert all(one.homes[MAPPED].is_readable for one in told)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A full one, mounted at a folder, of the quick user."""
    options = f"size=64k,mode=0700,uid={QUICK},gid={QUICK}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            (folder / "data").write_bytes(b"x" * 10**6)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
