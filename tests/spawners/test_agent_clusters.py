"""The agent and the parts of clusters: only what a running session's plan renders to, within its share."""

from __future__ import annotations

import copy
import secrets
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config.docker_place import DockerPlaceConfig
from beamhub_core.config.gateway import GatewayConfig
from beamhub_spawners.agent_clusters import check_room, check_running, part_of, rendered_part
from beamhub_spawners.agent_create import Facility
from beamhub_spawners.agent_routes import NotAdmitted, read_request
from beamhub_spawners.dask_limits import Size
from beamhub_spawners.dask_render import (
    DaskPart,
    PartGround,
    part_container,
    part_container_name,
    part_labels,
    read_part,
    scheduler_part,
)
from beamhub_spawners.docker_network import LABEL
from beamhub_spawners.docker_render import Ground
from contracts.spawner_parts import docker_plan
from contracts.web_stand_in import starting_session
from spawners.test_dask_limits import gateway

PLAN = docker_plan()
PLACE = DockerPlaceConfig(url="unix:///x", unsafe_direct_socket=True, network="sessions")
FACILITY = Facility("demo", PLAN.place.name, PLACE)
GROUND = Ground("sessions")
CONFIG = gateway()
CLUSTER = "c" * 32
WORKER = DaskPart("worker", CLUSTER, "d" * 32, Size(1, 2.0))
SCHEDULER = scheduler_part(CLUSTER, 120, CONFIG)
HEX = st.text("0123456789abcdef", min_size=32, max_size=32)


def body(part: DaskPart) -> dict[str, Any]:
    return part_container(PLAN, part, PartGround("demo", CONFIG, PLACE, GROUND), token="t" * 32)


def admitted(wanted: dict[str, Any], part: DaskPart, name: str | None = None) -> dict[str, Any]:
    name = name or part_container_name(PLAN.id, part)
    found = part_of(wanted, name)
    assert found is not None
    return rendered_part(wanted, PLAN, found, name, (FACILITY, CONFIG, GROUND))


def listed(*parts: DaskPart) -> list[dict[str, Any]]:
    return [{"Labels": {f"{LABEL}plan-id": PLAN.id, **part_labels(part)}} for part in parts]


def worker(size: Size = WORKER.size) -> DaskPart:
    return DaskPart("worker", CLUSTER, secrets.token_hex(16), size)


@pytest.mark.parametrize("part", [SCHEDULER, WORKER], ids=["scheduler", "worker"])
def test_a_part_as_its_plan_renders_is_admitted(part: DaskPart) -> None:
    wanted = body(part)
    assert admitted(wanted, part) == wanted
    name = part_container_name(PLAN.id, part)
    assert len(name) <= 63  # a host name's label
    assert read_request("POST", f"/v1.41/containers/create?name={name}").query["name"] == name


@given(HEX, HEX, st.integers(1, 64), st.integers(256, 10**6))
def test_labels_say_a_part_and_are_read_back(cluster: str, name: str, threads: int, mib: int) -> None:
    part = DaskPart("worker", cluster, name, Size(threads, mib / 1024))
    assert read_part(part_labels(part)) == part


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        return [found for key in value for found in paths_in(value[key], (*path, key))]
    if isinstance(value, list) and value:
        return [found for i, one in enumerate(value) for found in paths_in(one, (*path, i))]
    return [path]


@pytest.mark.parametrize("path", paths_in(body(WORKER)), ids=str)
def test_a_part_with_any_one_value_changed_is_refused(path: tuple[Any, ...]) -> None:
    wanted = copy.deepcopy(body(WORKER))
    at: Any = wanted
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = "another" if at[path[-1]] != "another" else "x"
    if path[0] == "Env" and body(WORKER)["Env"][path[1]].startswith("DASK_GATEWAY_API_TOKEN="):
        return  # the one value that the plan does not say; without it see below
    with pytest.raises(NotAdmitted):
        admitted(wanted, WORKER)


def test_a_part_without_a_token_or_with_one_more_key_is_refused() -> None:
    bare = body(WORKER)
    bare["Env"] = [line for line in bare["Env"] if "API_TOKEN" not in line]
    with pytest.raises(NotAdmitted, match="no token of the cluster"):
        admitted(bare, WORKER)
    with pytest.raises(NotAdmitted, match="Healthcheck: not of the plan"):
        admitted({**body(WORKER), "Healthcheck": {}}, WORKER)


def test_a_name_and_labels_that_disagree_are_refused() -> None:
    for name in (f"beamhub-{PLAN.id}", f"beamhub-{'1' * 32}-w-{'d' * 16}", f"beamhub-{PLAN.id}-s-{'d' * 16}"):
        with pytest.raises(NotAdmitted, match="name is none of its part's"):
            admitted(body(WORKER), WORKER, name)
    with pytest.raises(NotAdmitted):
        part_of({"Labels": {}}, part_container_name(PLAN.id, WORKER))


def test_parts_together_stay_within_the_share_of_the_plan() -> None:
    limits = PLAN.cluster_limits
    assert (limits.max_workers, limits.threads_per_worker, limits.memory_gib) == (2, 1, 4.0)
    check_room(worker(), PLAN, listed(SCHEDULER, worker()), CONFIG)
    for there in (listed(worker(), worker()), listed(worker(Size(2, 0.5))), listed(worker(Size(1, 3.0)))):
        with pytest.raises(NotAdmitted, match="its plan gives 2 with 2 and 4"):
            check_room(worker(), PLAN, there, CONFIG)
    second = scheduler_part("e" * 32, 1, CONFIG)
    check_room(second, PLAN, listed(SCHEDULER), CONFIG)
    with pytest.raises(NotAdmitted, match="has 2 clusters, as many as it may"):
        check_room(scheduler_part("f" * 32, 1, CONFIG), PLAN, listed(SCHEDULER, second), CONFIG)
    for wrong in (
        DaskPart("scheduler", CLUSTER, CLUSTER, Size(64, 64.0)),
        scheduler_part(CLUSTER, 10**6, CONFIG),
    ):
        with pytest.raises(NotAdmitted, match="another size or grace"):
            check_room(wrong, PLAN, [], CONFIG)
    with pytest.raises(NotAdmitted, match="no gateway"):
        check_room(SCHEDULER, PLAN, [], None)


@pytest.mark.parametrize("state", ["planned", "stopping", "ended", "failed"])
def test_no_part_stands_beside_a_session_that_does_not_run(state: str) -> None:
    with pytest.raises(NotAdmitted, match=f"the session is {state}"):
        check_running(starting_session(PLAN, state=state), FACILITY, now=PLAN.created_at)


def test_a_running_session_has_parts_until_its_time_is_over() -> None:
    stored = starting_session(PLAN, state="running")
    assert check_running(stored, FACILITY, now=PLAN.created_at) == PLAN
    with pytest.raises(NotAdmitted, match="time is over"):
        check_running(stored, FACILITY, now=PLAN.expires_at + timedelta(seconds=1))
    with pytest.raises(NotAdmitted, match="hash mismatch"):
        check_running(starting_session(PLAN, state="running", plan_hash="0"), FACILITY, now=PLAN.created_at)
    with pytest.raises(NotAdmitted, match="for the place"):
        check_running(stored, Facility("demo", "elsewhere", PLACE), now=PLAN.created_at)


def test_a_gateway_config_of_another_facility_renders_another_body() -> None:
    other = GatewayConfig.model_validate(CONFIG.model_dump() | {"session_url": "http://127.0.0.9:8786"})
    with pytest.raises(NotAdmitted, match=r"Env: 'DASK_GATEWAY_API_URL' \(values not shown\)"):
        rendered_part(
            body(WORKER), PLAN, WORKER, part_container_name(PLAN.id, WORKER), (FACILITY, other, GROUND)
        )
