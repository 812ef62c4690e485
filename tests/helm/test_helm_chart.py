"""The chart lints, renders, and says of each pod what restricted Pod Security and the policies promise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from beamhub_core.config import read_config
from beamhub_core.config.reading import sections

CHART = Path(__file__).resolve().parents[2] / "helm" / "beamhub"


@pytest.fixture(scope="module")
def helm() -> str:
    """The helm binary: BEAMHUB_HELM, or the one on the path."""
    found = os.environ.get("BEAMHUB_HELM") or shutil.which("helm")
    if not found:
        pytest.skip("helm is missing (BEAMHUB_HELM or PATH)")
    return found


def render(helm: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [helm, "template", "beamhub", str(CHART), "--namespace", "platform", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def objects(helm: str) -> list[dict[str, Any]]:
    """Every object of a release with the chart's own values."""
    done = render(helm)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, found in of_kind(objects, "Deployment").items():
        yield name, found["spec"]["template"]["spec"]


def test_the_chart_lints_strictly(helm: str) -> None:
    done = subprocess.run([helm, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
    assert (done.returncode, "WARNING" in done.stdout, "ERROR" in done.stdout) == (0, False, False), (
        done.stdout
    )


def test_rendering_twice_gives_the_same_text(helm: str) -> None:
    assert render(helm).stdout == render(helm).stdout


def test_hub_proxy_and_web_are_there_and_no_secret_is_made(objects: list[dict[str, Any]]) -> None:
    assert set(of_kind(objects, "Deployment")) == {"beamhub-hub", "beamhub-proxy", "beamhub-web"}
    assert of_kind(objects, "Secret") == {}
    assert of_kind(objects, "ClusterRole") == {}


def test_the_configuration_in_the_map_is_the_one_the_platform_reads(
    objects: list[dict[str, Any]], tmp_path: Path
) -> None:
    data = of_kind(objects, "ConfigMap")["beamhub-config"]["data"]
    (tmp_path / "facility.yaml").write_text(data["facility.yaml"])
    config = read_config(tmp_path / "facility.yaml")
    services = of_kind(objects, "Service")
    for url in (
        config.web.internal_url,
        config.web.hub_api_url,
        config.hub.proxy.api_url,
        config.sessions.web_url,
    ):
        host, _, port = url.partition("://")[2].partition("/")[0].partition(":")
        assert int(port) in [p["port"] for p in services[host]["spec"]["ports"]], url


def test_the_policy_in_the_map_is_one_that_the_platform_reads(
    objects: list[dict[str, Any]], tmp_path: Path
) -> None:
    policy_file = pytest.importorskip("beamhub_core.policy_file")
    (tmp_path / "policy.yaml").write_text(
        of_kind(objects, "ConfigMap")["beamhub-config"]["data"]["policy.yaml"]
    )
    assert policy_file.read_policy(tmp_path / "policy.yaml").version == "1"


def test_every_pod_is_restricted(objects: list[dict[str, Any]]) -> None:
    """Source: Kubernetes Pod Security Standards, profile restricted."""
    for name, pod in pods(objects):
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"}), (
            name
        )
        assert security["runAsUser"] > 0
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert {kind for volume in pod["volumes"] for kind in set(volume) - {"name"}} <= {
            "configMap",
            "secret",
            "emptyDir",
            "persistentVolumeClaim",
        }
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert own["readOnlyRootFilesystem"] is True
            assert "securityContext" not in container.get("lifecycle", {})


def test_every_container_has_a_digest_limits_and_three_probes(objects: list[dict[str, Any]]) -> None:
    for _, pod in pods(objects):
        for container in pod["containers"]:
            assert "@sha256:" in container["image"]
            assert container["resources"]["limits"]["memory"]
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_the_hub_alone_holds_a_token_for_the_cluster_and_may_touch_pods_only(
    objects: list[dict[str, Any]],
) -> None:
    assert {name: pod["automountServiceAccountToken"] for name, pod in pods(objects)} == {
        "beamhub-hub": True,
        "beamhub-proxy": False,
        "beamhub-web": False,
    }
    rules = of_kind(objects, "Role")["beamhub-hub"]["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} == {"pods", "events"}
    assert not any("*" in rule[key] for rule in rules for key in ("apiGroups", "resources", "verbs"))


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
    session = policies["beamhub-session"]["spec"]
    reached = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for rule in session["egress"]
        for peer in rule["to"]
    }
    assert reached == {"hub", "web"}


def test_no_policy_opens_the_metadata_address(objects: list[dict[str, Any]]) -> None:
    for policy in of_kind(objects, "NetworkPolicy").values():
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


def test_the_charts_values_hold_its_whole_schema_and_every_section_of_the_configuration() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(values, json.loads((CHART / "values.schema.json").read_text()))
    needed = {path.partition(".")[0].removesuffix("[]") for path, _ in sections()} - {""}
    assert needed <= set(values["facility"])
