"""Which requests an agent admits, and which bodies: laws on the pure parts."""

from __future__ import annotations

import copy
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.session import SessionPlan, StoredSession
from beamhub_core.word import digest
from beamhub_spawners.agent_create import Facility, asked_gpus, check_stored, differences, rendered
from beamhub_spawners.agent_routes import ROUTES, NotAdmitted, read_request
from beamhub_spawners.docker_render import Ground, container_fields
from contracts.spawner_parts import docker_plan
from contracts.web_stand_in import starting_session

ID = "ab" * 32
NAME = "beamhub-" + "0" * 32
DIGEST = "sha256:" + "c" * 64
PLACE = DockerPlaceConfig(url="unix:///x", unsafe_direct_socket=True, gpu_devices=("0", "1"))
PLAN = docker_plan(uid=4711, gid=4712, gids=(4713,))
NOW = PLAN.created_at + timedelta(minutes=1)
FACILITY = Facility("demo", PLAN.place.name, PLACE, frozenset({"SITE"}))
GROUND = Ground("bridge")
ENVIRONMENT = {
    "JUPYTERHUB_API_TOKEN": "the-secret-of-this-session",
    "JUPYTERHUB_USER": PLAN.account,
    "JUPYTERHUB_SERVER_NAME": PLAN.server_name,
    "SITE": "north",
}


def stored(plan: SessionPlan = PLAN, **changes: Any) -> StoredSession:
    return starting_session(plan, **changes)


def body(plan: SessionPlan = PLAN, ground: Ground = GROUND) -> dict[str, Any]:
    made = container_fields(plan, PLACE, facility="demo", environment=ENVIRONMENT, ground=ground).body
    copied: dict[str, Any] = json.loads(json.dumps(made))
    return copied


ADMITTED = [
    ("GET", "/_ping"),
    ("GET", "/version"),
    ("GET", "/v1.41/version"),
    ("GET", "/v1.44/info"),
    ("GET", "/beamhub/inventory"),
    ("GET", f"/beamhub/home/{PLAN.account}"),
    ("POST", f"/beamhub/folders/{PLAN.id}"),
    ("GET", "/v1.41/containers/json?limit=-1&all=1&size=0&trunc_cmd=0"),
    ("POST", f"/v1.41/containers/create?name={NAME}"),
    ("POST", f"/v1.41/containers/{ID}/start"),
    ("GET", f"/v1.41/containers/{NAME}/json"),
    ("POST", f"/v1.41/containers/{ID}/stop?t=5"),
    ("POST", f"/v1.41/containers/{ID}/wait?condition=not-running"),
    ("GET", f"/v1.41/containers/{ID}/logs?stderr=1&stdout=1&timestamps=0&follow=0&tail=200"),
    ("GET", f"/v1.41/containers/{ID}/stats?stream=false"),
    ("DELETE", f"/v1.41/containers/{ID}?v=True&link=False&force=True"),
    ("GET", "/v1.41/networks?filters=%7B%7D"),
    ("POST", "/v1.41/networks/create"),
    ("POST", f"/v1.41/networks/{NAME}/connect"),
    ("POST", f"/v1.41/networks/{NAME}/disconnect"),
    ("DELETE", f"/v1.41/networks/{NAME}"),
    ("GET", f"/v1.41/images/registry:5000/team/base%40{DIGEST}/json"),
    ("GET", "/v1.41/images/beamhub-base:dev/json"),
]
REFUSED = [
    ("POST", f"/v1.41/containers/{ID}/exec"),
    ("GET", "/beamhub/home/.."),
    ("GET", "/beamhub/home/root"),
    ("GET", f"/beamhub/home/{PLAN.account}?uid=0"),
    ("GET", f"/beamhub/home/{PLAN.account}/.ssh"),
    ("POST", f"/beamhub/folders/{PLAN.id}?path=/etc"),
    ("POST", f"/beamhub/folders/{PLAN.id[:8]}"),
    ("POST", f"/v1.41/containers/{ID}/kill"),
    ("POST", f"/v1.41/containers/{ID}/attach?stream=1"),
    ("POST", f"/v1.41/containers/{ID}/update"),
    ("PUT", f"/v1.41/containers/{ID}/archive?path=/"),
    ("GET", f"/v1.41/containers/{ID}/archive?path=/etc/shadow"),
    ("GET", f"/v1.41/containers/{ID}/export"),
    ("POST", "/v1.41/images/create?fromImage=evil"),
    ("POST", "/v1.41/build"),
    ("POST", "/v1.41/volumes/create"),
    ("GET", "/v1.41/volumes"),
    ("POST", "/v1.41/plugins/pull"),
    ("POST", "/v1.41/swarm/init"),
    ("POST", "/v1.41/containers/prune"),
    ("POST", "/v1.41/networks/bridge/connect"),
    ("DELETE", "/v1.41/networks/host"),
    ("GET", "/v1.40/containers/json"),  # older versions read fewer fields of a body
    ("GET", "/v2.41/containers/json"),
    ("GET", "/v1.41//containers/json"),
    ("GET", "//v1.41/containers/json"),
    ("GET", "/v1.41/v1.41/containers/json"),
    ("GET", "/v1.41/../containers/json"),
    ("GET", "/v1.41/containers/%6a%73on"),
    ("GET", f"/v1.41/containers/{ID}%2fexec/json"),
    ("GET", f"/v1.41/containers/{ID}/../../images/json"),
    ("GET", f"/v1.41/containers/{ID}/json/"),
    ("GET", f"/v1.41/containers/{ID}/json;x"),
    ("GET", f"/v1.41/containers/{ID[:12]}/json"),  # a short id may become another's
    ("GET", "/v1.41/images/../containers/x/json"),
    ("GET", "/v1.41/images/..%2f..%2fcontainers/json"),
    ("GET", "http://other/v1.41/containers/json"),
    ("GET", "/v1.41/containers/json?all=1&all=0"),
    ("GET", "/v1.41/containers/json?before=x"),
    ("GET", '/v1.41/containers/json?filters={"name":["x"]}'),
    ("GET", '/v1.41/containers/json?filters={"label":["other=x"]}'),
    ("POST", "/v1.41/containers/create"),
    ("POST", "/v1.41/containers/create?name=other"),
    ("POST", f"/v1.41/containers/create?name={NAME}&platform=x"),
    ("POST", f"/v1.41/containers/{ID}/stop?t=999999"),
    ("POST", f"/v1.41/containers/{ID}/start?detachKeys=x"),
    ("get", "/_ping"),
    ("CONNECT", "engine:80"),
    ("OPTIONS", "*"),
    ("GET", "/_ping\r\nX: y"),
    ("GET", "/_ping\0"),
    ("GET", "/v\u00e9rsion"),
]


@pytest.mark.parametrize(("method", "target"), ADMITTED)
def test_what_a_session_needs_is_admitted(method: str, target: str) -> None:
    asked = read_request(method, target)
    assert asked.route in {route.name for route in ROUTES}


def test_every_route_is_tried_above() -> None:
    assert {read_request(*one).route for one in ADMITTED} == {route.name for route in ROUTES}


@pytest.mark.parametrize(("method", "target"), REFUSED)
def test_everything_else_is_refused(method: str, target: str) -> None:
    with pytest.raises(NotAdmitted) as refused:
        read_request(method, target)
    assert refused.value.status in (403, 414)


def test_an_image_is_named_as_it_is_however_it_is_written() -> None:
    parts = read_request("GET", f"/images/base%40sha256%3A{'c' * 64}/json").parts
    assert parts == {"image": f"base@{DIGEST}"}


pieces = st.sampled_from(
    ["/", "//", "..", "%2e", "%2F", "%00", "v1.41", "containers", "json", "create", "images", ID, NAME,
    "exec",
     "?", "&", "name=", "=", ";", "#", "networks", "connect", " ", "\\", "@", ":"]
)  # fmt: skip
targets = st.one_of(
    st.text(max_size=200),
    st.lists(pieces, max_size=14).map("".join),
    st.sampled_from([target for _, target in ADMITTED]).flatmap(
        lambda target: st.tuples(st.integers(0, len(target)), pieces).map(
            lambda at: target[: at[0]] + at[1] + target[at[0] :]
        )
    ),
)
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


@given(method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD"]), target=targets)
@example(method="GET", target="/v1.41/images/a/../../json")
def test_whatever_is_admitted_names_plain_things_only(method: str, target: str) -> None:
    try:
        asked = read_request(method, target)
    except NotAdmitted:
        return
    for part in asked.parts.values():
        assert PLAIN.fullmatch(part)
        assert "%" not in part
        assert ".." not in part
    assert set(asked.parts) <= {"container", "plan", "image"}
    if "container" in asked.parts:
        assert re.fullmatch(r"[0-9a-f]{64}|beamhub-[0-9a-f]{32}", asked.parts["container"])
    if asked.route == "create":
        assert re.fullmatch(r"beamhub-[0-9a-f]{32}", asked.query["name"])


def test_the_body_of_the_plan_has_no_difference() -> None:
    expected, differing = rendered(body(), stored(), FACILITY, GROUND)
    assert differing == ()
    assert expected == body()


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*found, *(one for name, inner in items for one in places_in(inner, (*path, name)))]


@given(data=st.data(), value=values)
def test_a_body_with_any_change_anywhere_is_not_the_plans(data: st.DataObject, value: Any) -> None:
    changed = copy.deepcopy(body())
    *way, last = data.draw(st.sampled_from(places_in(changed)))
    inner = changed
    for name in way:
        inner = inner[name]
    before = json.dumps(inner[last], sort_keys=True)
    inner[last] = value
    if json.dumps(value, sort_keys=True) == before:
        return
    try:
        _, differing = rendered(changed, stored(), FACILITY, GROUND)
    except NotAdmitted:
        return
    assert differing


HOST_CHANGES: list[tuple[str, Any]] = [
    ("Privileged", True),
    ("Binds", ["/:/host"]),
    ("CapAdd", ["SYS_ADMIN"]),
    ("CapDrop", []),
    ("PidMode", "host"),
    ("NetworkMode", "host"),
    ("UsernsMode", "host"),
    ("SecurityOpt", ["seccomp=unconfined"]),
    ("Devices", [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}]),
    ("ReadonlyRootfs", False),
    ("ReadonlyRootfs", 1),
    ("Memory", 0),
    ("GroupAdd", ["0"]),
    ("CgroupParent", "/"),
    ("Runtime", "other"),
    ("VolumesFrom", ["other"]),
    ("DeviceRequests", [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]),
]


@pytest.mark.parametrize(("name", "value"), HOST_CHANGES)
def test_no_power_over_the_host_can_be_asked_for(name: str, value: Any) -> None:
    changed = body()
    changed["HostConfig"][name] = value
    _, differing = rendered(changed, stored(), FACILITY, GROUND)
    assert any(one.startswith(f"HostConfig.{name}") for one in differing)


@pytest.mark.parametrize(
    "mount", [{"Source": "/"}, {"ReadOnly": False}, {"Target": "/etc"}, {"Type": "volume"}]
)
def test_no_mount_can_be_changed_or_added(mount: dict[str, Any]) -> None:
    changed = body()
    raw = next(one for one in changed["HostConfig"]["Mounts"] if one["ReadOnly"])
    raw |= mount
    assert rendered(changed, stored(), FACILITY, GROUND)[1]
    added = body()
    added["HostConfig"]["Mounts"].append({**raw, **mount})
    assert rendered(added, stored(), FACILITY, GROUND)[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"LD_PRELOAD": "/x.so"}, "no plan has"),
        ({"JUPYTERHUB_USER": "other"}, "another account"),
        ({"JUPYTERHUB_API_TOKEN": None}, "no token"),
    ],
)
def test_the_environment_is_the_sessions(changes: dict[str, str | None], reason: str) -> None:
    asked = body()
    variables = dict(line.split("=", 1) for line in asked["Env"]) | changes
    asked["Env"] = [f"{name}={value}" for name, value in variables.items() if value is not None]
    with pytest.raises(NotAdmitted, match=reason):
        rendered(asked, stored(), FACILITY, GROUND)


def test_a_plans_own_variable_and_the_tokens_label_cannot_be_changed() -> None:
    asked = body()
    asked["Env"] = [line.replace("OMP_NUM_THREADS=2", "OMP_NUM_THREADS=64") for line in asked["Env"]]
    _, differing = rendered(asked, stored(), FACILITY, GROUND)
    assert differing == ("Env: 'OMP_NUM_THREADS' (values not shown)",)
    asked = body()
    asked["Labels"]["org.beamhub.token-digest"] = "0" * 64
    _, differing = rendered(asked, stored(), FACILITY, GROUND)
    assert differing == ("Labels.org.beamhub.token-digest: differs",)


@given(value=st.text(min_size=12, max_size=40, alphabet=st.characters(categories=["L", "N"])))
def test_no_value_of_the_environment_is_told(value: str) -> None:
    told = "".join(differences({"Env": [f"SECRET={value}"]}, {"Env": ["SECRET=other"]}))
    assert value not in told


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "ended"}, "ended"),
        ({"state": "running"}, "once"),
        ({"plan_hash": "0" * 64}, "hash mismatch"),
        ({"plan_id": "1" * 32}, "hash mismatch"),
    ],
)
def test_a_plan_is_made_once_and_as_it_was_stored(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotAdmitted, match=reason):
        check_stored(stored(**changes), FACILITY, now=NOW)


def test_a_plan_edited_in_the_database_is_a_hash_mismatch() -> None:
    widened = PLAN.model_copy(update={"mounts": (PLAN.mounts[0].model_copy(update={"mode": "rw"}),)})
    with pytest.raises(NotAdmitted, match="hash mismatch"):
        check_stored(stored(widened, plan_hash=digest(PLAN)), FACILITY, now=NOW)


def test_a_plan_that_is_over_or_elsewhere_is_refused() -> None:
    with pytest.raises(NotAdmitted, match="time is over"):
        check_stored(stored(), FACILITY, now=PLAN.expires_at)
    with pytest.raises(NotAdmitted, match="for the place"):
        check_stored(stored(), Facility("demo", "hall-b", PLACE), now=datetime.now(UTC))


def test_graphics_processors_are_asked_for_by_name() -> None:
    two = PLAN.model_copy(update={"limits": PLAN.limits.model_copy(update={"gpus": 1})})
    ground = Ground("bridge", gpus=("1",))
    asked = body(two, ground)
    assert asked_gpus(asked) == ("1",)
    assert rendered(asked, stored(two), FACILITY, ground)[1] == ()
    with pytest.raises(NotAdmitted, match="1 graphics processors"):
        rendered(asked, stored(two), FACILITY, GROUND)
    with pytest.raises(NotAdmitted, match="by name"):
        asked_gpus({"HostConfig": {"DeviceRequests": [{"Count": -1}]}})
