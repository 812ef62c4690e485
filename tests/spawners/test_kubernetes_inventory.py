"""What nodes give, as places have it: laws of quantities and room, and the words of each fault."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config import FacilityConfig
from beamhub_core.config.storage import PlaceConfig
from beamhub_core.rights import Refused
from beamhub_core.session import Place
from beamhub_spawners.inventory import NOT_SHOWN, place_of
from beamhub_spawners.kubernetes_inventory import full_name, healthy_pools, storage_of, taken_of
from beamhub_spawners.kubernetes_objects import NodeSeen, NotAQuantity, kept_pod, node_seen, read_quantity
from beamhub_spawners.kubernetes_pod import Pod
from beamhub_spawners.kubernetes_view import unknown_s
from beamhub_spawners.placement import Wanted, choose
from contracts.kubernetes_parts import IMAGE, kubernetes_facility

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
GIB = 2**30


def node(name: str = "node-a", **changes: Any) -> dict[str, Any]:
    """A node as the API server shows it, of place hall-a, with these parts changed."""
    parts: dict[str, Any] = {
        "labels": {"facility.example/storage": "node-a"},
        "allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110", "nvidia.com/gpu": "2"},
        "ready": "True",
        "spec": {},
        "images": [{"names": [IMAGE, "registry.example.org/base:1"], "sizeBytes": 1}],
        "strict": True,
        "recursive": True,
        **changes,
    }
    return {
        "metadata": {"name": name, "labels": parts["labels"]},
        "spec": parts["spec"],
        "status": {
            "allocatable": parts["allocatable"],
            "conditions": [{"type": "Ready", "status": parts["ready"]}],
            "images": parts["images"],
            "features": {"supplementalGroupsPolicy": parts["strict"]},
            "runtimeHandlers": [{"name": "", "features": {"recursiveReadOnlyMounts": parts["recursive"]}}],
        },
    }


def pod(node_name: str = "node-a", phase: str = "Running", **requests: str) -> dict[str, Any]:
    """A session's pod on a node, with requests."""
    return kept_pod(
        {
            "metadata": {"name": "p", "uid": "u"},
            "spec": {
                "nodeName": node_name,
                "containers": [{"name": "session", "resources": {"requests": requests}}],
            },
            "status": {"phase": phase},
        }
    )


def place_now(
    *nodes: dict[str, Any], pods: tuple[dict[str, Any], ...] = (), gpus: int = 4, **changes: Any
) -> Place:
    """Place hall-a, with these nodes in the cluster."""
    fields = kubernetes_facility(**changes)
    fields["sessions"]["places"][0]["gpus"] = gpus
    config = FacilityConfig.model_validate(fields)
    place: PlaceConfig = config.sessions.places[0]
    seen: list[NodeSeen] = [node_seen(one) for one in nodes]
    pools = healthy_pools(place, config, lambda: NOW)
    return place_of(place, config.pools, storage_of(place, config, seen, taken_of(pods), pools), ())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", 0.5),
        ("4Gi", 4 * GIB),
        ("1e3", 1000),
        ("0", 0),
        ("5E", 5e18),
        ("1.5k", 1500),
        ("2", 2),
        (3, 3),
    ],
)
def test_quantities_are_read_as_kubernetes_writes_them(text: Any, value: float) -> None:
    assert read_quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", "Gi", "4 Gi", "4gb", "1e", "--1", "NaN", "inf", "1e999", "4GiB", "x" * 9999]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(NotAQuantity, match="is no quantity"):
        read_quantity(text)


@given(st.integers(0, 10**9), st.sampled_from(["", "m", "k", "Ki", "Mi", "G", "Gi"]))
def test_more_of_a_unit_is_more(n: int, unit: str) -> None:
    assert read_quantity(f"{n}{unit}") <= read_quantity(f"{n + 1}{unit}")


def test_a_place_has_what_its_nodes_give() -> None:
    place = place_now(node("node-a"), node("elsewhere", labels={}))
    assert place.fault is None
    assert place.healthy_pools == ("hall-a",)
    assert (place.gpus, place.gpus_used) == (2, 0)
    assert place.memory_free_gib == 32
    assert place.images == (IMAGE,)


FAULTS = [
    ({"labels": {}}, "no node of the cluster has its labels"),
    ({"spec": {"unschedulable": True}}, "its node is cordoned"),
    ({"ready": "Unknown"}, "its node does not answer"),
    ({"ready": "False"}, "its node does not answer"),
    ({"spec": {"taints": [{"key": "beam", "effect": "NoSchedule"}]}}, r"is set apart \(taint beam\)"),
    ({"strict": False}, "cannot keep an image's groups out"),
    ({"recursive": False}, "cannot make what is mounted below a read-only mount read-only"),
]


@pytest.mark.parametrize(("changes", "words"), FAULTS)
def test_nothing_is_placed_on_nodes_that_take_nothing_and_the_reason_is_said(
    changes: dict[str, Any], words: str
) -> None:
    place = place_now(node(**changes))
    for wanted in (Wanted({"hall-a": 7}, IMAGE), Wanted({}, IMAGE)):
        with pytest.raises(Refused, match=words) as caught:
            choose(wanted, [place])
        assert caught.value.refusal.code == "no_place"


def test_several_faults_are_counted_and_one_good_node_is_enough() -> None:
    bad = [node("a", spec={"unschedulable": True}), node("b", ready="Unknown")]
    fault = place_now(*bad).fault
    assert fault == (
        "none of its 2 nodes takes sessions: 1 does not answer, 1 is cordoned (closed to new sessions)"
    )
    assert place_now(*bad, node("c")).fault is None


def test_a_place_that_does_without_takes_nodes_that_cannot_mount_recursively_read_only() -> None:
    assert place_now(node(recursive=False), recursive_read_only=False).fault is None


def test_a_pool_whose_nested_file_systems_must_be_seen_is_refused_by_name() -> None:
    config = FacilityConfig.model_validate(kubernetes_facility())
    pools = [config.pools[0].model_copy(update={"recursive_read_only": True})]
    place = config.sessions.places[0]
    states = healthy_pools(place, config, lambda: NOW)
    seen = [node_seen(node())]
    found = place_of(place, pools, storage_of(place, config, seen, {}, states), [])
    assert (found.healthy_pools, found.pool_faults) == ((), {"hall-a": NOT_SHOWN})


def test_a_tolerated_taint_keeps_nothing_out() -> None:
    tainted = node(spec={"taints": [{"key": "beam", "value": "on", "effect": "NoSchedule"}]})
    assert place_now(tainted, tolerations=[{"key": "beam"}]).fault is None
    assert place_now(tainted, tolerations=[{"key": "beam", "value": "off"}]).fault is not None
    assert place_now(node(spec={"taints": [{"key": "x", "effect": "PreferNoSchedule"}]})).fault is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.booleans()), max_size=12))
def test_memory_is_what_the_emptiest_node_has_left(taken: list[tuple[str, int, bool]]) -> None:
    pods = tuple(
        pod(name, "Succeeded" if is_over else "Running", memory=f"{gib}Gi") for name, gib, is_over in taken
    )
    left = [32 - sum(gib for name, gib, is_over in taken if name == one and not is_over) for one in "ab"]
    place = place_now(node("a"), node("b"), pods=pods)
    assert place.memory_free_gib == max(0, *left)


def test_a_node_without_cores_or_slots_has_no_room() -> None:
    assert place_now(node(), pods=(pod(cpu="7900m"),)).memory_free_gib == 0
    assert place_now(node(allocatable={"cpu": "8", "memory": "32Gi", "pods": "0"})).memory_free_gib == 0


def test_graphics_processors_are_those_of_one_node_and_refused_where_none_are() -> None:
    place = place_now(node("a"), node("b"), pods=(pod("a", **{"nvidia.com/gpu": "1"}),))
    assert (place.gpus, place.gpus - place.gpus_used) == (4, 2)
    without = place_now(node(allocatable={"cpu": "8", "memory": "32Gi", "pods": "110"}))
    with pytest.raises(Refused, match="needs 1 GPU, has none"):
        choose(Wanted({}, IMAGE, gpus=1), [without])


def test_an_image_that_no_node_has_and_none_fetches_is_a_fault() -> None:
    place = place_now(node(images=[]), image_pull_policy="Never")
    with pytest.raises(Refused, match="they do not fetch images"):
        choose(Wanted({}, IMAGE), [place])
    assert place_now(node(images=[])).image_faults == {}


@pytest.mark.parametrize(
    ("reference", "whole"),
    [
        ("base:dev", "docker.io/library/base:dev"),
        ("base", "docker.io/library/base:latest"),
        ("team/base:1", "docker.io/team/base:1"),
        ("localhost:5000/base:1", "localhost:5000/base:1"),
        ("r.example.org/a/b:1@sha256:ab", "r.example.org/a/b@sha256:ab"),
    ],
)
def test_references_are_compared_by_their_whole_names(reference: str, whole: str) -> None:
    assert full_name(reference) == whole


def status(phase: str = "Running", ready: str = "True", **meta: Any) -> Pod:
    return Pod(
        kept_pod(
            {
                "metadata": {"name": "p", "uid": "u", **meta},
                "spec": {"nodeName": "node-a", "containers": [{"name": "session"}]},
                "status": {
                    "phase": phase,
                    "conditions": [
                        {"type": "Ready", "status": ready, "lastTransitionTime": (NOW - HALF).isoformat()}
                    ],
                    "containerStatuses": [{"name": "session", "ready": True, "state": {"running": {}}}],
                },
            }
        )
    )


HALF = timedelta(seconds=30)


def test_a_pod_is_unknown_since_its_node_fell_silent_or_is_late_with_its_end() -> None:
    deleted = {"deletionTimestamp": (NOW - 4 * HALF).isoformat()}
    assert unknown_s(status(), NOW) == 0
    assert unknown_s(status(ready="False"), NOW) == 30
    assert unknown_s(status(**deleted), NOW) == 120
    assert unknown_s(status(deletionTimestamp=(NOW - HALF / 2).isoformat()), NOW) == 0
    assert unknown_s(status(phase="Failed", ready="False", **deleted), NOW) == 0


def test_what_is_kept_of_a_pod_is_little() -> None:
    raw = {
        "metadata": {"name": "p", "uid": "u", "managedFields": ["x" * 10_000], "labels": {"a": "b" * 9999}},
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "session", "env": [{"name": "T", "value": "secret"}]}],
        },
        "status": {
            "phase": "Running",
            "message": "m" * 100_000,
            "conditions": [{"type": "Ready", "status": 1}],
        },
    }
    kept = str(kept_pod(raw))
    assert len(kept) < 2500
    assert "secret" not in kept
