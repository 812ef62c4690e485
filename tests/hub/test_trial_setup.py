"""What a trial on a cluster is set up with: made once, kept for ever, completed by later versions."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from beamhub_hub.trial_setup import (
    ApiServer,
    SetupRefused,
    ensure_office,
    ensure_secret,
    keeper_certificates,
    random_key,
)
from contracts.cluster_parts import TestCluster, test_namespace

HOSTS = {"hall-a": "keeper-a.sessions.svc", "hall-b": "keeper-b.sessions.svc"}
RULES = [
    {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["create"]},
    {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["trial"], "verbs": ["get", "patch"]},
]
"""What the chart's Job may do."""


def test_each_keeper_has_a_pair_of_its_host_and_nobody_the_authoritys_key() -> None:
    made = keeper_certificates(HOSTS)
    authority = x509.load_pem_x509_certificate(made["keeper-ca.pem"].encode())
    for place, host in HOSTS.items():
        pair = x509.load_pem_x509_certificate(made[f"keeper-of-{place}.pem"].encode())
        names = pair.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [host]
        pair.verify_directly_issued_by(authority)
        assert f"keeper-of-{place}-key.pem" in made
    assert "keeper-hub-key.pem" in made
    assert "keeper-ca-key.pem" not in made
    assert keeper_certificates({}) == {}


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    with test_namespace() as cluster:
        yield cluster


def server_as(
    cluster: TestCluster, account: str, rules: list[dict[str, list[str]]], folder: Path
) -> ApiServer:
    """The API server as a pod of an account sees it."""
    known = yaml.safe_load(cluster.kubeconfig_of(account, rules, folder / "kubeconfig").read_text())
    of_cluster = known["clusters"][0]["cluster"]
    authority = base64.b64decode(of_cluster["certificate-authority-data"])
    (folder / "ca.crt").write_bytes(authority)
    (folder / "token").write_text(known["users"][0]["user"]["token"])
    (folder / "namespace").write_text(cluster.namespace)
    return ApiServer(folder, of_cluster["server"])


def values(cluster: TestCluster, name: str) -> dict[str, str]:
    """What a Secret holds, as it stands there."""
    found: dict[str, str] = json.loads(cluster.kubectl("get", "secret", name, "-o=json"))["data"]
    return found


@pytest.mark.kubernetes
def test_what_is_there_stays_and_what_is_missing_is_made(cluster: TestCluster, tmp_path: Path) -> None:
    server = server_as(cluster, "setup", RULES, tmp_path)
    pair = {"pair.pem": "certificate", "pair-key.pem": "key"}

    def groups() -> tuple[dict[str, str], ...]:
        return ({"one": random_key()}, {"two": random_key()}, {name: random_key() for name in pair})

    assert set(ensure_secret(server, "trial", groups())) == {"one", "two", *pair}
    first = values(cluster, "trial")
    assert ensure_secret(server, "trial", groups()) == ()
    assert values(cluster, "trial") == first
    cluster.kubectl(
        "patch", "secret", "trial", "--type=json", '-p=[{"op": "remove", "path": "/data/pair.pem"}]'
    )
    later = (*groups(), {"three": random_key()})
    assert set(ensure_secret(server, "trial", later)) == {"three", *pair}  # a pair is of one authority
    now = values(cluster, "trial")
    assert {name: now[name] for name in ("one", "two")} == {name: first[name] for name in ("one", "two")}
    assert now["pair-key.pem"] != first["pair-key.pem"]
    assert ensure_office(server, "office", "https://provider.example.org") is True
    assert ensure_office(server, "office", "https://other.example.org") is False
    office = json.loads(cluster.kubectl("get", "configmap", "office", "-o=json"))["data"]
    assert all(name.endswith(".csv") for name in office)
    assert "https://provider.example.org" in office["members.csv"]


@pytest.mark.kubernetes
def test_a_cluster_that_says_no_is_told_by_the_name_of_what_it_refused(
    cluster: TestCluster, tmp_path: Path
) -> None:
    server = server_as(cluster, "powerless", [{**RULES[0], "resources": ["configmaps"]}], tmp_path)
    with pytest.raises(SetupRefused, match="refused the Secret other") as caught:
        ensure_secret(server, "other", ({"one": random_key()},))
    assert caught.value.status == 403
    assert "one" not in cluster.kubectl("get", "secret", "other", "-o=json", check=False)
