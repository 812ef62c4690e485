"""Networks of sessions through an agent, and what is left of them: before a recording socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.config import FacilityConfig
from beamhub_core.config.agent import AgentConfig
from beamhub_spawners.docker_containers import close_hosts
from beamhub_spawners.docker_network import network_fields
from beamhub_spawners.docker_view import DockerView
from contracts.agent_host import Host
from contracts.agent_parts import agent_fields, make_agent_files, running_agent
from contracts.recording_engine import recording_engine
from contracts.spawner_parts import docker_plan, facility_fields, make_facility
from contracts.web_stand_in import StandIn

SUBNET = IPv4Network("10.77.3.16/28")
PEER = {"container": "platform-proxy", "alias": "proxy"}


@pytest.fixture
def host(tmp_path: Path, stand_in: StandIn) -> Iterator[Host]:
    make_facility(tmp_path)
    make_agent_files(tmp_path)
    fields = facility_fields(tmp_path, hub_url=stand_in.url, web_url=stand_in.url)
    for place in fields["sessions"]["places"]:
        socket = {"url": f"unix://{tmp_path}/e.sock", "unsafe_direct_socket": True}
        place.update(backend="docker", docker={**socket, "network_block": "10.77.0.0/16", "peers": [PEER]})
    facility = FacilityConfig.model_validate(fields)
    now = datetime.now(UTC)
    plan = docker_plan(uid=4711, gid=4712).model_copy(
        update={"created_at": now, "expires_at": now + timedelta(hours=1)}
    )
    with recording_engine(tmp_path / "e.sock") as engine:
        config = agent_fields(tmp_path, place="hall-a", socket_file=tmp_path / "e.sock", pull=False)
        with running_agent(AgentConfig.model_validate(config), facility) as agent:
            host = Host(tmp_path, agent, engine, stand_in, facility, plan)
            host.store(plan)
            engine.answers["POST", "/networks/create"] = 201, {"Id": "n1"}
            yield host


def wanted(host: Host, subnet: IPv4Network = SUBNET) -> dict[str, Any]:
    place = host.facility.sessions.places[0].docker
    assert place is not None
    return network_fields(host.plan, place, subnet, facility="demo")


def test_a_session_has_the_network_of_its_plan_and_no_other(host: Host) -> None:
    assert host.ask("POST", "/v1.41/networks/create", wanted(host))[0] == 201
    [made] = host.engine.changes()
    assert made.body == wanted(host)
    host.engine.asked.clear()
    for changes in (
        {"Internal": True},
        {"Name": "bridge"},
        {"Name": "beamhub-" + "9" * 32},
        {"Driver": "macvlan", "Options": {"parent": "eth0"}},
        {"Labels": {}},
        {"Attachable": True},
        wanted(host, IPv4Network("10.78.0.0/28")),
        wanted(host, IPv4Network("10.77.0.0/24")),
    ):
        assert host.ask("POST", "/networks/create", {**wanted(host), **changes})[0] == 403
    assert host.engine.changes() == []


def test_only_the_platforms_own_containers_join(host: Host) -> None:
    name = f"beamhub-{host.plan.id}"
    host.engine.answers["GET", f"/networks/{name}"] = 200, {"Id": "n1", "Labels": wanted(host)["Labels"]}
    host.engine.answers["POST", "/networks/n1/connect"] = 200, {}
    body = {"Container": "platform-proxy", "EndpointConfig": {"Aliases": ["proxy"]}}
    assert host.ask("POST", f"/networks/{name}/connect", body)[0] == 200
    host.engine.asked.clear()
    for changes in ({"Container": "beamhub-" + "1" * 32}, {"EndpointConfig": {"Aliases": ["hub"]}}):
        assert host.ask("POST", f"/networks/{name}/connect", {**body, **changes})[0] == 403
    foreign = {**wanted(host)["Labels"], "org.beamhub.facility": "other"}
    host.engine.answers["GET", f"/networks/{name}"] = 200, {"Id": "n1", "Labels": foreign}
    assert host.ask("POST", f"/networks/{name}/connect", body)[0] == 404
    assert host.ask("DELETE", f"/networks/{name}")[0] == 404
    assert host.engine.changes() == []


def test_of_other_networks_the_hub_sees_only_what_they_take(host: Host) -> None:
    host.engine.answers["GET", "/networks"] = 200, [{"Name": "theirs", "Labels": {}, "IPAM": {"Config": []}}]
    _, said = host.ask("GET", "/networks?filters=%7B%7D")
    assert said == [{"IPAM": {"Config": []}}]


def test_a_sweep_removes_networks_of_sessions_that_are_gone(host: Host, run: Any) -> None:
    def network(i: int, age: timedelta, facility: str = "demo") -> dict[str, Any]:
        labels = {"org.beamhub.facility": facility, "org.beamhub.plan-id": f"{i:032x}"}
        created = (datetime.now(UTC) - age).isoformat().replace("+00:00", "123Z")
        return {"Name": f"beamhub-{i:032x}", "Labels": labels, "Created": created}

    old, young = timedelta(minutes=10), timedelta(seconds=5)
    alive = {"Id": "c", "State": "running", "Created": 1, "Labels": network(4, old)["Labels"]}
    host.engine.answers["GET", "/containers/json"] = 200, [alive]
    host.engine.answers["GET", "/networks"] = (
        200,
        [network(1, old), network(2, young), network(3, old, "other"), network(4, old), {"Name": "bridge"}],
    )
    try:
        run(DockerView(host.facility).tidy())
    finally:
        close_hosts()
    removed = {one.path for one in host.engine.changes() if one.method == "DELETE"}
    assert removed == {f"/v1.41/networks/beamhub-{1:032x}"}
