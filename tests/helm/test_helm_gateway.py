"""The gateway of the chart: there with its section, with few rights, and shut but for single flows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beamhub_core.config import read_config
from beamhub_spawners.dask_pod_render import WORKER_PORT
from beamhub_spawners.dask_render import API_PORT, SCHEDULER_PORT
from helm.chart_parts import TRIAL, component_of, find_helm, of_kind, rendered

SESSIONS = "beamhub-sessions"
NAME = "beamhub-gateway"


@pytest.fixture(scope="module")
def trial() -> list[dict[str, Any]]:
    """Every object of a trial, which has a gateway."""
    return rendered(find_helm(), *TRIAL)


def test_without_its_section_there_is_no_gateway_and_nothing_is_open_for_one() -> None:
    objects = rendered(find_helm())
    assert not [one["metadata"]["name"] for one in objects if NAME in one["metadata"]["name"]]
    assert set(of_kind(objects, "NetworkPolicy", SESSIONS)) == {"beamhub-default-deny", "beamhub-session"}


def test_the_gateway_may_make_watch_and_remove_pods_of_sessions_and_nothing_else(
    trial: list[dict[str, Any]],
) -> None:
    [rule] = of_kind(trial, "Role", SESSIONS)[NAME]["rules"]
    assert rule == {
        "apiGroups": [""],
        "resources": ["pods"],
        "verbs": ["get", "list", "watch", "create", "delete"],
    }
    bound = [
        (one["kind"], one["metadata"].get("namespace"))
        for one in trial
        if any(subject["name"] == NAME for subject in one.get("subjects", []))
    ]
    assert bound == [("RoleBinding", SESSIONS)]


def test_sessions_reach_the_gateway_where_the_configuration_says(
    trial: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "facility.yaml").write_text(
        of_kind(trial, "ConfigMap")["beamhub-config"]["data"]["facility.yaml"]
    )
    gateway = read_config(tmp_path / "facility.yaml").gateway
    assert gateway is not None
    [port] = of_kind(trial, "Service")[NAME]["spec"]["ports"]
    assert gateway.session_url == f"http://{NAME}.beamhub.svc:{port['port']}"


def test_a_scheduler_is_reached_by_the_gateway_and_by_workers_alone(trial: list[dict[str, Any]]) -> None:
    policies = of_kind(trial, "NetworkPolicy", SESSIONS)
    for name, ports in (("scheduler", [SCHEDULER_PORT]), ("worker", [WORKER_PORT])):
        policy = policies[f"beamhub-{name}"]["spec"]
        assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": name}
        assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
        assert [port["port"] for port in policy["ingress"][-1]["ports"]] == ports
    of_scheduler = policies["beamhub-scheduler"]["spec"]
    gateway, workers = of_scheduler["ingress"]
    assert set().union(*map(component_of, gateway["from"])) == {"gateway"}
    assert [port["port"] for port in gateway["ports"]] == [SCHEDULER_PORT, API_PORT]
    assert workers["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/component": "worker"}}}]
    [beside] = policies["beamhub-worker"]["spec"]["ingress"]
    [peer] = beside["from"]
    assert component_of(peer) == {"scheduler", "worker"}


def test_the_gateway_is_reached_by_sessions_and_asks_web_schedulers_and_the_api_server(
    trial: list[dict[str, Any]],
) -> None:
    policy = of_kind(trial, "NetworkPolicy")[NAME]["spec"]
    [entry] = policy["ingress"]
    names = [peer["namespaceSelector"]["matchLabels"] for peer in entry["from"]]
    assert names == [{"kubernetes.io/metadata.name": SESSIONS}]
    web, schedulers, api_server = policy["egress"]
    assert set().union(*map(component_of, web["to"])) == {"web"}
    [peer] = schedulers["to"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "scheduler"}
    assert {port["port"] for port in api_server["ports"]} == {443, 6443}


def test_no_object_is_made_twice(trial: list[dict[str, Any]]) -> None:
    names = [
        (one["kind"], one["metadata"].get("namespace", "beamhub"), one["metadata"]["name"]) for one in trial
    ]
    assert len(set(names)) == len(names)
