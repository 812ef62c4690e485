"""The agent over real TLS before a socket that records: what is not admitted never reaches it."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.config.agent import AgentConfig
from beamhub_core.session import SessionPlan
from beamhub_core.word import digest
from beamhub_spawners.agent_certificates import make_certificates
from beamhub_spawners.docker_network import LABEL
from contracts.agent_host import Host
from contracts.agent_parts import agent_fields, free_port, hub_context, make_agent_files, running_agent
from contracts.recording_engine import recording_engine
from contracts.spawner_parts import docker_plan, facility_fields, make_facility
from contracts.web_stand_in import StandIn, serving_stand_in

ID = "ab" * 32
IMAGE_ID = "sha256:" + "d" * 64


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    with serving_stand_in() as serving:
        yield serving


@pytest.fixture(scope="module")
def module_host(tmp_path_factory: pytest.TempPathFactory, stand_in: StandIn) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("agent")
    make_facility(folder)
    make_agent_files(folder)
    fields = facility_fields(folder, hub_url=stand_in.url, web_url=stand_in.url)
    for place in fields["sessions"]["places"]:
        place.update(backend="docker", docker={"url": "unix:///x", "unsafe_direct_socket": True})
    fields["sessions"]["environments"][0]["image"] = "beamhub-base:dev"
    facility = FacilityConfig.model_validate(fields)
    with recording_engine(folder / "engine.sock") as engine:
        config = agent_fields(
            folder,
            place="hall-a",
            socket_file=folder / "engine.sock",
            metrics_port=free_port(),
            pull=False,
            limits={"body_bytes": 200_000, "idle_s": 3, "engine_s": 5, "stream_s": 5},
        )
        with running_agent(AgentConfig.model_validate(config), facility) as agent:
            yield Host(folder, agent, engine, stand_in, facility, plan_for(folder, facility))


def plan_for(folder: Path, facility: FacilityConfig) -> SessionPlan:
    """A plan whose folders are there, of the place, live now."""
    plan = docker_plan(uid=4711, gid=4712)
    mounts = tuple(
        mount.model_copy(
            update={
                "source": str(folder / "homes" / mount.path)
                if mount.purpose == "home"
                else str(folder / "pools" / mount.pool / mount.path)
            }
        )
        for mount in plan.mounts
    )
    now = utc_now()
    times = {"created_at": now, "expires_at": now + timedelta(hours=1)}
    return plan.model_copy(update={"mounts": mounts, "image": "beamhub-base:dev", **times})


@pytest.fixture
def host(module_host: Host) -> Iterator[Host]:
    """The module's host with a stored plan and a fresh record."""
    module_host.stand_in.sessions.clear()
    module_host.stand_in.is_down = False
    plan_id = secrets.token_hex(16)
    module_host.plan = module_host.plan.model_copy(update={"id": plan_id})
    module_host.store(module_host.plan)
    module_host.engine.answers.clear()
    module_host.engine.answers |= {
        ("GET", "/version"): (200, {"Version": "20.10.24", "ApiVersion": "1.41"}),
        ("GET", "/images/beamhub-base:dev/json"): (200, {"Id": IMAGE_ID, "RepoDigests": [], "Secret": 1}),
        ("POST", "/containers/create"): (201, {"Id": ID, "Warnings": []}),
        ("GET", "/containers/json"): (200, []),
    }
    module_host.engine.asked.clear()
    yield module_host


def own(host: Host, **labels: str) -> dict[str, Any]:
    """A container of the facility, as the engine inspects it."""
    plan = host.plan
    made = {
        f"{LABEL}facility": "demo",
        f"{LABEL}plan-id": plan.id,
        f"{LABEL}plan-hash": digest(plan),
        **labels,
    }
    env = ["JUPYTERHUB_API_TOKEN=the-secret-of-this-session"]
    return {"Id": ID, "Name": f"/beamhub-{plan.id}", "Config": {"Labels": made, "Env": env}}


def test_the_plans_own_body_is_made_by_the_agents_own_words(host: Host) -> None:
    status, said = host.ask("POST", f"/v1.41/containers/create?name=beamhub-{host.plan.id}", host.body())
    assert (status, said["Id"]) == (201, ID)
    [made] = host.engine.changes()
    assert made.path == f"/v1.41/containers/create?name=beamhub-{host.plan.id}"
    assert made.body == host.body()
    assert (host.folder / "homes" / host.plan.account / "notebooks").is_dir()


def test_a_body_that_differs_is_refused_and_its_secrets_are_not_logged(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    body = host.body()
    body["HostConfig"]["Privileged"] = True
    body["Env"].append("JPY_API_TOKEN=another-secret-of-it")
    status, said = host.ask("POST", f"/v1.41/containers/create?name=beamhub-{host.plan.id}", body)
    assert status == 403
    assert "HostConfig.Privileged: True instead of False" in said["message"]
    assert host.engine.changes() == []
    assert "HostConfig.Privileged" in caplog.text
    for text in (caplog.text, json.dumps(said)):
        assert "another-secret" not in text
        assert "the-secret" not in text


def test_a_plan_edited_in_the_database_is_refused(host: Host) -> None:
    widened = host.plan.model_copy(update={"uid": 1})
    host.store(widened, plan_hash=digest(host.plan))
    status, said = host.ask("POST", f"/containers/create?name=beamhub-{host.plan.id}", host.body())
    assert (status, host.engine.changes()) == (403, [])
    assert "hash mismatch" in said["message"]


@pytest.mark.parametrize("state", ["running", "ended", "failed", "stopping"])
def test_a_plan_that_was_made_or_is_over_makes_nothing(host: Host, state: str) -> None:
    host.store(host.plan, state=state)
    status, _ = host.ask("POST", f"/containers/create?name=beamhub-{host.plan.id}", host.body())
    assert (status, host.engine.changes()) == (403, [])


def test_a_plan_whose_container_was_removed_is_not_made_again(host: Host) -> None:
    path = f"/containers/create?name=beamhub-{host.plan.id}"
    assert host.ask("POST", path, host.body())[0] == 201
    status, said = host.ask("POST", path, host.body())
    assert status == 403
    assert "made and removed" in said["message"]


def test_a_plan_that_web_does_not_know_makes_nothing(host: Host) -> None:
    host.stand_in.sessions.clear()
    status, _ = host.ask("POST", f"/containers/create?name=beamhub-{host.plan.id}", host.body())
    assert (status, host.engine.changes()) == (403, [])
    host.stand_in.is_down = True
    status, _ = host.ask("POST", f"/containers/create?name=beamhub-{host.plan.id}", host.body())
    assert (status, host.engine.changes()) == (503, [])


def test_a_source_that_became_a_link_is_refused(host: Host) -> None:
    mount = next(one for one in host.plan.mounts if one.purpose == "raw")
    folder = Path(mount.source)
    folder.rename(folder.with_name("aside"))
    folder.symlink_to("/etc")
    try:
        status, said = host.ask("POST", f"/containers/create?name=beamhub-{host.plan.id}", host.body())
    finally:
        folder.unlink()
        folder.with_name("aside").rename(folder)
    assert (status, host.engine.changes()) == (403, [])
    assert "symbolic link" in said["message"]


def test_an_image_that_is_not_there_is_said_and_never_pulled(host: Host) -> None:
    del host.engine.answers["GET", "/images/beamhub-base:dev/json"]
    status, said = host.ask("POST", f"/containers/create?name=beamhub-{host.plan.id}", host.body())
    assert (status, host.engine.changes()) == (404, [])
    assert "no such image" in said["message"]


def test_only_own_containers_are_there_for_the_hub(host: Host) -> None:
    host.engine.answers["GET", f"/containers/{ID}/json"] = 200, own(host)
    host.engine.answers["POST", f"/containers/{ID}/stop"] = 204, None
    status, known = host.ask("GET", f"/containers/{ID}/json")
    assert status == 200
    assert "Env" not in known["Config"]
    assert host.ask("POST", f"/containers/{ID}/stop?t=0")[0] == 204
    for foreign in (
        own(host, **{f"{LABEL}facility": "other"}),
        own(host, **{f"{LABEL}plan-id": "1" * 32}),
        {**own(host), "Name": "/something"},
        {"Id": ID, "Config": {"Labels": None}},
    ):
        host.engine.answers["GET", f"/containers/{ID}/json"] = 200, foreign
        host.engine.asked.clear()
        assert host.ask("POST", f"/containers/{ID}/stop")[0] == 404
        assert host.ask("DELETE", f"/containers/{ID}?force=1")[0] == 404
        assert host.engine.changes() == []


def test_a_container_starts_only_from_the_plan_that_is_stored(host: Host) -> None:
    host.engine.answers["POST", f"/containers/{ID}/start"] = 204, None
    host.engine.answers["GET", f"/containers/{ID}/json"] = 200, own(host)
    assert host.ask("POST", f"/containers/{ID}/start")[0] == 204
    host.engine.answers["GET", f"/containers/{ID}/json"] = 200, own(host, **{f"{LABEL}plan-hash": "0" * 64})
    host.engine.asked.clear()
    assert host.ask("POST", f"/containers/{ID}/start")[0] == 403
    assert host.engine.changes() == []


def test_what_web_is_not_needed_for_goes_on_without_it(host: Host) -> None:
    host.stand_in.is_down = True
    host.engine.answers["GET", f"/containers/{ID}/json"] = 200, own(host)
    host.engine.answers["POST", f"/containers/{ID}/stop"] = 204, None
    assert host.ask("POST", f"/containers/{ID}/stop")[0] == 204
    assert host.ask("POST", f"/containers/{ID}/start")[0] == 503


def test_a_list_is_of_this_facility_whatever_is_asked(host: Host) -> None:
    assert host.ask("GET", "/v1.41/containers/json?all=1")[0] == 200
    asked = urllib.request.url2pathname(host.engine.asked[-1].path)
    assert '"org.beamhub.facility=demo"' in asked


def test_an_engine_that_fails_is_no_container_that_is_gone(host: Host) -> None:
    host.engine.answers["GET", f"/containers/{ID}/json"] = 500, {"message": "out of order"}
    assert host.ask("GET", f"/containers/{ID}/json")[0] == 503


def test_nobody_calls_without_the_hubs_certificate(host: Host, tmp_path: Path) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        host.ask("GET", "/_ping", pair=None)
    make_certificates(tmp_path / "tls", ("127.0.0.1",), now=utc_now())  # another authority
    context = hub_context(host.folder, None)
    context.load_cert_chain(str(tmp_path / "tls/hub.pem"), str(tmp_path / "tls/hub-key.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", host.agent.server.port, context=context)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connection.request("GET", "/_ping")
        connection.getresponse()
    connection.close()
    # An agent's own certificate is of the authority, but serves as a server's only.
    with pytest.raises((ssl.SSLError, ConnectionError)):
        host.ask("GET", "/_ping", pair="agent-127.0.0.1")
    assert host.engine.asked == []


def test_a_certificate_of_another_subject_is_refused(tmp_path: Path, host: Host) -> None:
    fields = agent_fields(host.folder, place="hall-a", socket_file=host.folder / "engine.sock", pull=False)
    fields["listen"]["accepted_subjects"] = ["somebody-else"]
    with running_agent(AgentConfig.model_validate(fields), host.facility) as agent:
        other = Host(host.folder, agent, host.engine, host.stand_in, host.facility, host.plan)
        status, said = other.ask("GET", "/_ping")
    assert status == 403
    assert "may not call" in said["message"]


def test_old_tls_is_not_spoken(host: Host) -> None:
    context = hub_context(host.folder)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", host.agent.server.port), 5) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_too_much_and_too_slow_is_cut_off(host: Host) -> None:
    head = f"POST /containers/create?name=beamhub-{host.plan.id} HTTP/1.1\r\nHost: x\r\n".encode()
    huge = host.raw(head + b"Content-Length: 999999999\r\n\r\n")
    assert b" 201 " not in huge
    assert b" 200 " not in host.raw(b"GET /_ping HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n")
    assert host.engine.changes() == []


def test_metrics_stand_on_the_loopback_and_name_nobody(host: Host) -> None:
    host.ask("GET", "/v1.41/secrets")
    url = f"http://127.0.0.1:{host.agent.server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        said = answer.read().decode()
    assert 'beamhub_agent_requests_total{outcome="refused",route="none"}' in said
    assert host.plan.account not in said


def test_the_inventory_says_what_the_host_has(host: Host) -> None:
    host.engine.answers["GET", "/containers/json"] = 200, [{"State": "running"}, {"State": "exited"}]
    status, said = host.ask("GET", "/beamhub/inventory")
    assert status == 200
    assert said["place"] == "hall-a"
    assert {name: state["is_readable"] for name, state in said["pools"].items()} == {"hall-a": True}
    assert said["recursive_read_only"] is False
    assert said["n_sessions"] == 1
    assert set(said["images"]) == {"beamhub-base:dev"}


PIECES = (
    rb"/ // .. %2e%2e %2f /v1.41 /containers /create /json /exec /images ? /start /stop \ /networks".split()
)
PIECES += [b" ", b"\t", b"\x00", b"name=beamhub-" + b"0" * 32, b"/" + ID.encode(), b"/volumes", b"/build"]
HEADERS = [
    b"",
    b"Transfer-Encoding: chunked",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: -1",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Upgrade: tcp\r\nConnection: Upgrade",
    b" folded: x",
]
lines = st.one_of(
    st.binary(max_size=300),
    st.tuples(
        st.sampled_from([b"GET", b"POST", b"DELETE", b"PUT", b"HEAD", b"PRI", b"\xff"]),
        st.lists(st.sampled_from(PIECES), max_size=10).map(b"".join),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b""]),
        st.sampled_from(HEADERS),
        st.one_of(st.binary(max_size=60), st.just(b"5\r\n{}   \r\n0\r\n\r\n")),
    ).map(lambda one: b"%b %b %b\r\nHost: x\r\n%b\r\n\r\n%b" % one),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(sent=lines)
def test_nothing_that_is_not_admitted_reaches_the_engine(host: Host, sent: bytes) -> None:
    host.engine.asked.clear()
    host.raw(sent)
    assert host.engine.changes() == []
    for one in host.engine.asked:
        path = one.path.partition("?")[0].removeprefix("/v1.41")
        assert path in {"/version", "/_ping", "/info", "/containers/json", "/networks"} or path == (
            f"/containers/{ID}/json"
        ), one
