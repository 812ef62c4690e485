"""The chart on a real cluster: it comes up, people log in, nothing flows that must not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beamhub_spawners.kubernetes_pod import COMPONENT
from helm.cluster_release import Release, kubectl, need_cluster
from helm.cluster_walls import check_walls
from journey.checks import check_cluster_end, check_confinement, check_hub_death, stop_session
from journey.cluster_platform import ClusterPlatform
from journey.person import Person
from journey.stops import STOPS, Journey, new_experiment

pytestmark = pytest.mark.kubernetes

PORTAL = "/services/web/"
PROBE = "probe"
METADATA_ADDRESS = "169.254.169.254"
N_TRIES = 1000 if os.environ.get("BEAMHUB_SOAK") else 20
"""How often each port of another person's cluster is dialled."""
LOOK = """
import json, socket, sys
found = {}
for target in json.loads(sys.argv[1]):
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
        found[target] = "open"
    except OSError as error:
        found[target] = type(error).__name__
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def release(request: pytest.FixtureRequest) -> Iterator[Release]:
    """A trial, installed; everything of it is gone afterwards."""
    need_cluster()
    made = Release("chart-test")
    values = made.values()  # skips where an image is missing, before anything is made
    made.remove()  # a run that was killed may have left one
    try:
        made.prepare()
        made.helm("install", "--create-namespace", values=values)
        made.wait_for_portal()
        yield made
        if request.session.testsfailed:
            print(made.logs())  # noqa: T201  # pytest shows it with the failure
    except BaseException:
        print(made.logs())  # noqa: T201
        raise
    finally:
        made.remove()


@pytest.fixture(scope="module")
def probe(release: Release) -> Iterator[Release]:
    """Two pods in the sessions' namespace that do nothing but listen; the second looks like a worker."""
    image = release.values()["images"]["hub"]
    for name in (PROBE, f"{PROBE}-2"):
        pod = probe_pod(release, name, image)
        pod["metadata"]["labels"] = {COMPONENT: "worker" if name != PROBE else "session"}
        kubectl("apply", "-f", "-", given=json.dumps(pod))
    wanted = [f"pod/{PROBE}", f"pod/{PROBE}-2"]
    kubectl("wait", "-n", release.sessions, "--for=condition=Ready", *wanted, "--timeout=90s")
    yield release


def probe_pod(release: Release, name: str, image: dict[str, str]) -> dict[str, Any]:
    """A pod that passes *restricted*, listens where a session would, and stays."""
    container = {
        "name": "probe",
        "image": f"{image['repository']}@{image['digest']}",
        "command": ["python", "-P", "-m", "http.server", "8888", "--directory", "/opt"],
        "resources": {"limits": {"memory": "128Mi"}, "requests": {"cpu": "10m"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": release.sessions},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        },
    }


def looked_at(namespace: str, pod: str, *targets: str) -> dict[str, str]:
    """What comes of a connection to each target, tried inside a pod."""
    words = ["exec", "-n", namespace, pod, "--", "python", "-P", "-c", LOOK, json.dumps(targets)]
    found: dict[str, str] = json.loads(kubectl(*words))
    return found


def address_of(release: Release, component: str) -> str:
    """The address of a component's pod."""
    return str(release.pod_of(component)["status"]["podIP"])


def test_every_pod_is_ready_and_stands_for_one_component(release: Release) -> None:
    ready = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]
        for pod in release.pods()
        for condition in pod["status"]["conditions"]
        if condition["type"] == "Ready" and condition["status"] == "True"
    }
    assert ready == {"hub", "web", "proxy", "gateway", "database", "provider", "keeper"}


def test_a_person_logs_in_through_the_proxy_and_sees_the_harvested_data(release: Release) -> None:
    person = Person(release.url, "ines")
    try:
        page = person.log_in(PORTAL)
        assert page.status == 200
        assert "Ines Ferreira" in page.text
        found = person.poll(
            f"{release.url}{PORTAL}api/Datasets/count", lambda said: said["count"] > 0, seconds=60
        )
        assert found["count"] > 0
    finally:
        person.close()


def test_the_hub_keeps_its_state_in_the_releases_own_database(release: Release) -> None:
    pod = release.pod_of("hub")["metadata"]["name"]
    listing = kubectl("exec", "-n", release.namespace, pod, "-c", "hub", "--", "ls", "/var/lib/beamhub")
    assert "sqlite" not in " ".join(line for line in listing.split() if line.startswith("hub."))
    sql = "SELECT count(*) FROM spawners"
    database = release.pod_of("database")["metadata"]["name"]
    words = ["psql", "--host=/tmp", "--username=postgres", "--tuples-only", "hub", "--command", sql]
    path = "PATH=$(echo /usr/lib/postgresql/*/bin):$PATH"
    command = ["sh", "-c", f'{path} exec "$@"', "sh", *words]
    assert kubectl("exec", "-n", release.namespace, database, "--", *command).strip().isdigit()


def test_a_pod_of_the_sessions_namespace_reaches_hub_web_and_gateway_and_nothing_else(probe: Release) -> None:
    release = probe
    hub, web = (f"beamhub-{name}.{release.namespace}.svc" for name in ("hub", "web"))
    other = json.loads(kubectl("get", "pod", f"{PROBE}-2", "-n", release.sessions, "-o", "json"))
    database, provider, proxy = (address_of(release, name) for name in ("database", "provider", "proxy"))
    gateway = f"beamhub-gateway.{release.namespace}.svc"
    shut = [
        "kubernetes.default.svc:443",
        "10.89.0.1:6443",
        f"{database}:5432",
        f"beamhub-database.{release.namespace}.svc:5432",
        f"{provider}:8083",
        f"{proxy}:8000",
        f"{proxy}:8001",
        f"{other['status']['podIP']}:8888",
        f"{METADATA_ADDRESS}:80",
        "10.89.0.10:10250",
        "10.89.0.11:10250",
    ]
    doors = {f"{hub}:8081", f"{web}:8082", f"{gateway}:8786"}
    found = looked_at(release.sessions, PROBE, *doors, *shut)
    # A node's own packets to and from its own pods pass no policy of the test cluster (netpol.py).
    own = json.loads(kubectl("get", "pod", PROBE, "-n", release.sessions, "-o", "json"))["status"]["hostIP"]
    found.pop(f"{own}:10250")
    assert {target for target, said in found.items() if said == "open"} == doors


def test_proxy_and_hub_reach_a_session_and_web_and_the_database_do_not(probe: Release) -> None:
    release = probe
    pod = json.loads(kubectl("get", "pod", PROBE, "-n", release.sessions, "-o", "json"))
    target = f"{pod['status']['podIP']}:8888"
    said = {}
    for component in ("hub", "web"):
        name = release.pod_of(component)["metadata"]["name"]
        said[component] = looked_at(release.namespace, name, target)[target]
    node = (
        "const s=require('net').connect({host:process.argv[1],port:8888});s.on('connect',()=>"
        "{console.log('open');process.exit()});setTimeout(()=>{console.log('shut');process.exit()},3000)"
    )
    proxy = release.pod_of("proxy")["metadata"]["name"]
    words = [
        "exec",
        "-n",
        release.namespace,
        proxy,
        "--",
        "/opt/proxy/node",
        "-e",
        node,
        pod["status"]["podIP"],
    ]
    said["proxy"] = kubectl(*words).strip()
    assert said == {"hub": "open", "web": "TimeoutError", "proxy": "open"}


def test_hub_and_web_reach_the_database_and_the_hub_alone_the_api_server(release: Release) -> None:
    targets = (
        f"beamhub-database.{release.namespace}.svc:5432",
        "kubernetes.default.svc:443",
        f"{METADATA_ADDRESS}:80",
    )
    said = {
        component: list(
            looked_at(release.namespace, release.pod_of(component)["metadata"]["name"], *targets).values()
        )
        for component in ("hub", "web")
    }
    assert said["hub"][:2] == ["open", "open"]
    assert said["web"][0] == "open"
    assert "open" not in said["web"][1:]
    assert said["hub"][2] != "open"


@pytest.mark.parametrize("component", ["gateway", "hub"])
def test_hub_and_gateway_may_do_what_they_need_and_nothing_more(release: Release, component: str) -> None:
    account = f"system:serviceaccount:{release.namespace}:beamhub-{component}"

    def may(verb: str, what: str, namespace: str) -> bool:
        kind, _, part = what.partition("/")  # as one word it would be an object's name
        words = ("auth", "can-i", verb, kind, f"--subresource={part}", "-n", namespace, f"--as={account}")
        return "yes" in kubectl(*words, check=False).split()

    for verb in ("get", "list", "watch", "create", "delete"):
        assert may(verb, "pods", release.sessions), verb
    for verb, what in (("get", "pods/log"), ("list", "events"), ("list", "nodes")):
        assert may(verb, what, release.sessions) is (component == "hub")
    for verb, what in (
        ("create", "pods/exec"),
        ("patch", "pods"),
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "persistentvolumeclaims"),
        ("create", "serviceaccounts/token"),
        ("patch", "nodes"),
        ("get", "configmaps"),
    ):
        assert not may(verb, what, release.sessions), f"{verb} {what}"
    for verb, what in (("get", "pods"), ("create", "pods"), ("get", "secrets"), ("get", "configmaps")):
        assert not may(verb, what, release.namespace), f"{verb} {what} in the release's namespace"
        assert not may(verb, what, "kube-system"), f"{verb} {what} in kube-system"


def test_the_sessions_namespace_admits_restricted_pods_only(release: Release) -> None:
    image = release.values()["images"]["hub"]
    pod = probe_pod(release, "root", image)
    pod["spec"]["containers"][0]["securityContext"] |= {"runAsNonRoot": False, "runAsUser": 0}
    said = kubectl("apply", "--dry-run=server", "-f", "-", given=json.dumps(pod), check=False)
    assert "violates PodSecurity" in said
    pod = probe_pod(release, "host", image)
    pod["spec"]["volumes"] = [{"name": "host", "hostPath": {"path": "/"}}]
    assert "violates PodSecurity" in kubectl(
        "apply", "--dry-run=server", "-f", "-", given=json.dumps(pod), check=False
    )


def test_the_trials_setup_left_a_secret_and_no_right(release: Release) -> None:
    left = kubectl("get", "job,role,rolebinding,serviceaccount", "-n", release.namespace, "-o", "name")
    assert "trial-setup" not in left
    keys = json.loads(kubectl("get", "secret", "beamhub-secrets", "-n", release.namespace, "-o", "json"))[
        "data"
    ]
    assert len(set(keys.values())) == len(keys) >= 10


def test_the_journey_passes_through_the_chart(probe: Release, tmp_path: Path) -> None:
    """Login, search, launch, a pod on the data's node, a cluster beside it, the product harvested."""
    release = probe
    platform = ClusterPlatform(release, tmp_path, 0)
    journey = Journey(platform, say=lambda _: None)
    person = Person(release.url, "ines")
    try:
        session = journey.walk(person, new_experiment(platform))
        assert [stop["name"] for stop in journey.stops] == list(STOPS)
        check_pod_of(release, session.stored)
        check_walls(release, session.plan_id, (PROBE, f"{PROBE}-2"), N_TRIES)
        outcomes = check_confinement(journey, session)
        assert [name for name, said in outcomes.items() if not said["enforced"]] == []
        assert check_hub_death(journey, session)["variable_kept"]
        stop_session(person, session)
        assert check_cluster_end(journey, session)
    finally:
        person.close()


def check_pod_of(release: Release, stored: dict[str, Any]) -> None:
    """The session's pod lies on the node of its data and mounts the plan's folders, no more."""
    name = stored["record"]["backend_id"].rpartition("/")[2]
    [pod] = [one for one in release.pods(release.sessions) if one["metadata"]["name"] == name]
    assert pod["spec"]["nodeName"] == "node-a"
    assert pod["spec"]["automountServiceAccountToken"] is False
    [container] = pod["spec"]["containers"]
    memory = {one["name"] for one in pod["spec"]["volumes"] if "emptyDir" in one}
    mounted = {one["mountPath"]: one for one in container["volumeMounts"] if one["name"] not in memory}
    planned = {mount["target"]: mount["mode"] for mount in stored["plan"]["mounts"]}
    assert set(mounted) == set(planned)
    for target, mode in planned.items():
        assert mounted[target].get("readOnly", False) is (mode == "ro")


def test_an_upgrade_keeps_sessions_secrets_and_people_and_uninstalling_keeps_the_state(
    probe: Release,
) -> None:
    release = probe

    def secret() -> dict[str, str]:
        said = kubectl("get", "secret", "beamhub-secrets", "-n", release.namespace, "-o", "json")
        data: dict[str, str] = json.loads(said)["data"]
        return data

    before, hub = secret(), release.pod_of("hub")["metadata"]["uid"]
    session = json.loads(kubectl("get", "pod", PROBE, "-n", release.sessions, "-o", "json"))["metadata"][
        "uid"
    ]
    values = release.values()
    values["facility"]["name"] = "Another name"
    release.helm("upgrade", values=values)
    after = json.loads(kubectl("get", "pod", PROBE, "-n", release.sessions, "-o", "json"))
    assert after["metadata"]["uid"] == session
    assert after["status"]["phase"] == "Running"
    assert secret() == before
    assert release.pod_of("hub")["metadata"]["uid"] != hub, "the changed configuration restarts it"
    release.wait_for_portal()
    person = Person(release.url, "sam")
    assert person.log_in(PORTAL).status == 200
    person.close()

    release.helm("uninstall")
    kept = json.loads(kubectl("get", "pvc", "-A", "-l", "app.kubernetes.io/instance=beamhub", "-o", "json"))
    names = {
        (claim["metadata"]["namespace"], claim["metadata"]["name"])
        for claim in kept["items"]
        if claim["status"]["phase"] == "Bound"
    }
    assert {
        (release.namespace, f"beamhub-{name}") for name in ("hub-state", "web-state", "database")
    } <= names
    assert {(release.sessions, "homes-a"), (release.sessions, "homes-b")} <= names
    assert secret() == before
    assert [pod for pod in release.pods() if "deletionTimestamp" not in pod["metadata"]] == []
