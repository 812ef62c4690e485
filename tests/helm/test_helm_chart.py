"""The chart lints, renders, and says of each pod what restricted Pod Security and the policies promise."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from beamhub_core.config import FacilityConfig, read_config
from helm.chart_parts import CHART, TRIAL, component_of, find_helm, of_kind, pods, render, rendered

SESSIONS = "beamhub-sessions"


@pytest.fixture(scope="module")
def helm() -> str:
    """The helm binary."""
    return find_helm()


@pytest.fixture(scope="module")
def objects(helm: str) -> list[dict[str, Any]]:
    """Every object of a release with the chart's own values."""
    return rendered(helm)


@pytest.fixture(scope="module")
def trial(helm: str) -> list[dict[str, Any]]:
    """Every object of a trial."""
    return rendered(helm, *TRIAL)


@pytest.mark.parametrize("values", [(), TRIAL], ids=["own", "trial"])
def test_the_chart_lints_strictly(helm: str, values: tuple[str, ...]) -> None:
    command = [helm, "lint", "--strict", str(CHART), *values]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "WARNING" in done.stdout, "ERROR" in done.stdout) == (0, False, False), (
        done.stdout
    )


def test_rendering_twice_gives_the_same_text(helm: str) -> None:
    assert render(helm).stdout == render(helm).stdout


def test_hub_proxy_and_web_are_there_and_no_secret_is_made(objects: list[dict[str, Any]]) -> None:
    assert set(of_kind(objects, "Deployment")) == {"beamhub-hub", "beamhub-proxy", "beamhub-web"}
    assert of_kind(objects, "Secret") == {}


@pytest.mark.parametrize("values", [(), TRIAL], ids=["own", "trial"])
def test_the_configuration_in_the_map_is_the_one_the_platform_reads(
    helm: str, values: tuple[str, ...], tmp_path: Path
) -> None:
    objects = rendered(helm, *values)
    data = of_kind(objects, "ConfigMap")["beamhub-config"]["data"]
    (tmp_path / "facility.yaml").write_text(data["facility.yaml"])
    config = read_config(tmp_path / "facility.yaml")
    services = of_kind(objects, "Service")
    for url in (
        config.hub.connect_url,
        config.hub.proxy.api_url,
        config.web.internal_url,
        config.web.hub_api_url,
        config.sessions.web_url,
    ):
        assert url is not None
        host, _, port = url.partition("://")[2].partition("/")[0].partition(":")
        name, _, rest = host.partition(".")
        assert rest == "beamhub.svc", "sessions are in another namespace"
        assert int(port) in [p["port"] for p in services[name]["spec"]["ports"]], url


def test_the_policy_in_the_map_is_one_that_the_platform_reads(
    objects: list[dict[str, Any]], tmp_path: Path
) -> None:
    policy_file = pytest.importorskip("beamhub_core.policy_file")
    (tmp_path / "policy.yaml").write_text(
        of_kind(objects, "ConfigMap")["beamhub-config"]["data"]["policy.yaml"]
    )
    assert policy_file.read_policy(tmp_path / "policy.yaml").version == "1"


def test_every_pod_but_the_keepers_is_restricted(trial: list[dict[str, Any]]) -> None:
    """Source: Kubernetes Pod Security Standards, profile restricted."""
    for name, pod in pods(trial):
        check_pod_is_contained(name, pod)
        security = pod["securityContext"]
        if "-keeper-" in name:
            continue
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def check_pod_is_contained(name: str, pod: dict[str, Any]) -> None:
    """What holds of every pod, of those that start as root, too."""
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    kinds = {kind for volume in pod["volumes"] for kind in set(volume) - {"name"}}
    assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"]["drop"] == ["ALL"]


def test_a_keeper_has_the_few_capabilities_of_baseline_that_it_needs(trial: list[dict[str, Any]]) -> None:
    """Source: Kubernetes Pod Security Standards, profile baseline, which allows these and eight more."""
    keepers = [pod for name, pod in pods(trial) if "-keeper-" in name]
    assert len(keepers) == 2
    for pod in keepers:
        [container] = pod["containers"]
        added = container["securityContext"]["capabilities"]["add"]
        assert set(added) == {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID"}


def test_every_container_has_a_digest_limits_and_three_probes(trial: list[dict[str, Any]]) -> None:
    for _, pod in pods(trial):
        for container in pod["containers"]:
            assert "@sha256:" in container["image"]
            assert container["resources"]["limits"]["memory"]
            if pod.get("restartPolicy") != "Never":
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_hub_and_gateway_alone_hold_a_token_for_the_cluster(trial: list[dict[str, Any]]) -> None:
    holders = {name for name, pod in pods(trial) if pod["automountServiceAccountToken"]}
    assert holders == {"beamhub-hub", "beamhub-gateway", "beamhub-trial-setup"}
    hooks = [found for found in trial if "trial-setup" in found["metadata"]["name"]]
    assert {found["kind"] for found in hooks} == {"ServiceAccount", "Role", "RoleBinding", "Job"}
    for found in hooks:  # its rights go with it
        assert "hook-succeeded" in found["metadata"]["annotations"]["helm.sh/hook-delete-policy"]


def test_the_hub_may_touch_pods_of_sessions_and_look_at_nodes(objects: list[dict[str, Any]]) -> None:
    assert of_kind(objects, "Role") == {}
    rules = of_kind(objects, "Role", SESSIONS)["beamhub-hub"]["rules"]
    assert {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]} == {
        "pods": {"get", "list", "watch", "create", "delete"},
        "pods/log": {"get"},
        "events": {"list"},
    }
    [nodes] = of_kind(objects, "ClusterRole").values()
    assert nodes["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}]


def test_without_the_nodes_no_right_reaches_beyond_the_sessions_namespace(helm: str) -> None:
    objects = rendered(helm, "--set", "rbac.readNodes=false")
    assert not [found["kind"] for found in objects if found["kind"].startswith("ClusterRole")]


def test_each_pod_gets_the_secrets_that_its_part_of_the_configuration_names(
    trial: list[dict[str, Any]],
) -> None:
    given = {
        name: {item["key"] for volume in pod["volumes"] for item in volume.get("secret", {}).get("items", [])}
        for name, pod in pods(trial)
    }
    assert given["beamhub-gateway"] == {"gateway-client-token", "gateway-keys"}
    assert given["beamhub-web"] == {
        "demo-client-token",
        "gateway-client-token",
        "hub-client-token",
        "keeper-token",
        "web-cookie",
        "web-database-password",
        "web-service-token",
    }
    assert not given["beamhub-hub"] & {"web-cookie", "web-database-password", "demo-client-token"}
    assert given["beamhub-keeper-hall-a"] == {
        "keeper-ca.pem",
        "keeper-of-hall-a.pem",
        "keeper-of-hall-a-key.pem",
        "keeper-token",
    }
    assert given["beamhub-database"] == {"hub-database-password", "web-database-password"}
    assert given["beamhub-provider"] == {"provider-client-secret"}


def test_pools_are_mounted_where_the_configuration_says_and_read_only(objects: list[dict[str, Any]]) -> None:
    [web] = dict(pods(objects))["beamhub-web"]["containers"]
    assert {"name": "pool-archive", "mountPath": "/facility/archive", "readOnly": True} in web["volumeMounts"]
    hub = dict(pods(objects))["beamhub-hub"]
    assert not any(volume["name"].startswith("pool-") for volume in hub["volumes"])


def test_everything_is_shut_before_single_flows_are_opened(objects: list[dict[str, Any]]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    shut = policies["beamhub-default-deny"]["spec"]
    assert shut["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in shut
    assert "egress" not in shut


def test_a_session_is_reached_by_proxy_and_hub_and_reaches_hub_and_web(objects: list[dict[str, Any]]) -> None:
    policies = of_kind(objects, "NetworkPolicy", SESSIONS)
    shut = policies["beamhub-default-deny"]["spec"]
    assert shut == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    session = policies["beamhub-session"]["spec"]
    assert session["podSelector"] == {}, "whatever label a pod there has"
    [entry] = session["ingress"]
    assert entry["ports"] == [{"port": 8888}]
    assert set().union(*map(component_of, entry["from"])) == {"proxy", "hub"}
    name_server, *flows = session["egress"]
    assert {port["port"] for port in name_server["ports"]} == {53}
    assert [set().union(*map(component_of, rule["to"])) for rule in flows] == [{"hub"}, {"web"}]
    assert not [peer for rule in session["egress"] for peer in rule["to"] if "ipBlock" in peer]


def test_hub_and_web_alone_reach_the_database(trial: list[dict[str, Any]]) -> None:
    policy = of_kind(trial, "NetworkPolicy")["beamhub-database"]["spec"]
    [entry] = policy["ingress"]
    assert [component_of(peer) for peer in entry["from"]] == [{"hub", "web"}]


def test_sessions_have_a_namespace_that_enforces_restricted_and_stays(objects: list[dict[str, Any]]) -> None:
    made = of_kind(objects, "Namespace")[SESSIONS]["metadata"]
    assert made["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert made["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_releases_own_namespace_is_none_for_sessions(helm: str) -> None:
    done = render(helm, "--set", "facility.sessions.places[0].kubernetes.namespace=beamhub", *TRIAL)
    assert done.returncode != 0
    assert "namespace of their own" in done.stderr


def test_a_quota_and_limits_stand_in_the_sessions_namespace(helm: str) -> None:
    objects = rendered(
        helm,
        "--set-json",
        'sessions.resourceQuota={"pods": "20"}',
        "--set-json",
        'sessions.limitRange=[{"type": "Container", "max": {"cpu": "4"}}]',
    )
    [quota] = of_kind(objects, "ResourceQuota", SESSIONS).values()
    assert quota["spec"] == {"hard": {"pods": "20"}}
    assert len(of_kind(objects, "LimitRange", SESSIONS)) == 1


def test_a_local_volume_is_bound_to_its_claim_and_both_stay(trial: list[dict[str, Any]]) -> None:
    claims = {
        (namespace or "beamhub", name)
        for namespace in (None, "beamhub", SESSIONS)
        for name in of_kind(trial, "PersistentVolumeClaim", namespace)
    }
    volumes = of_kind(trial, "PersistentVolume")
    assert {
        (v["spec"]["claimRef"]["namespace"], v["spec"]["claimRef"]["name"]) for v in volumes.values()
    } == claims
    for found in trial:
        if found["kind"] in ("PersistentVolume", "PersistentVolumeClaim"):
            assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
            assert found["spec"]["storageClassName"] == ""


def test_the_proxy_routes_by_host_where_people_have_host_names(helm: str) -> None:
    host = "facility.hub.subdomain_host=beamhub.example"
    [proxy] = dict(pods(rendered(helm, "--set", host)))["beamhub-proxy"]["containers"]
    assert "--host-routing" in proxy["args"]


def test_no_policy_opens_the_metadata_address(trial: list[dict[str, Any]]) -> None:
    for policy in (found for found in trial if found["kind"] == "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                block = peer.get("ipBlock", {"cidr": "", "except": []})
                assert block["cidr"] != "0.0.0.0/0" or "169.254.0.0/16" in block["except"]


def test_state_stays_when_the_release_goes(objects: list[dict[str, Any]]) -> None:
    for claim in of_kind(objects, "PersistentVolumeClaim").values():
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "hubb.storage=1Gi"), "hubb"),
        (("--set", "hub.storge=1Gi"), "storge"),
        (("--set", "facility.nmae=x"), "nmae"),
        (("--set", "facility.hub.listen_port=70000"), "listen_port"),
        (("--set", "images.hub.digest=latest"), "digest"),
        (("--set", "poolClaims=null"), "poolClaims"),
        (("--set", "database.databases[0]=Hub"), "databases"),
        (("--set", "trial.providerUrl=nowhere"), "providerUrl"),
        (("--set-json", 'localVolumes=[{"name": "a", "node": "n", "path": "b", "capacity": "1Gi"}]'), "path"),
        (("--set", "sessions.podSecurity=lax"), "podSecurity"),
        (("--set", "userOffice.existingConfigMap="), "userOffice"),
    ],
)
def test_wrong_values_are_refused_with_their_place(helm: str, options: tuple[str, ...], words: str) -> None:
    done = render(helm, *options)
    assert done.returncode != 0
    assert words in done.stderr


def test_a_pool_without_a_claim_is_named(helm: str) -> None:
    done = render(helm, "--set-json", 'poolClaims={"archive": null}')
    assert done.returncode != 0
    assert "poolClaims" in done.stderr


def test_no_policy_is_rendered_where_they_are_kept_elsewhere(helm: str) -> None:
    done = render(helm, "--set", "networkPolicy.enabled=false")
    assert "kind: NetworkPolicy" not in done.stdout
    assert done.returncode == 0


def test_every_value_of_the_chart_is_described() -> None:
    schema = json.loads((CHART / "schema" / "chart.schema.json").read_text())
    described = [
        schema["properties"],
        *(d["properties"] for d in schema["$defs"].values() if "properties" in d),
    ]
    missing = [
        name
        for group in described
        for name, about in group.items()
        if "description" not in about and "description" not in schema["$defs"].get(_definition(about), {})
    ]
    assert missing == []


def _definition(about: dict[str, Any]) -> str:
    return str(about.get("$ref", "")).rpartition("/")[2]


def test_the_charts_values_fit_its_schema_and_hold_every_needed_part_of_the_configuration() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(values, json.loads((CHART / "values.schema.json").read_text()))
    needed = {name for name, info in FacilityConfig.model_fields.items() if info.is_required()}
    assert needed <= set(values["facility"])
