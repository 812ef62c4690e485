"""What cannot be done from inside a pod, what an image or a name cannot bring: on a real cluster."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from beamhub_spawners.kubernetes_pod import pod_name
from beamhub_spawners.session_options import read_options
from contracts.cluster_parts import HOST, NODES, TestCluster, load_image, test_namespace
from contracts.kubernetes_parts import KubernetesBackend, kubernetes_backend
from contracts.small_image import make_image
from contracts.spawner_contract import OPTIONS
from contracts.spawner_parts import ACCOUNT, granted_answer
from contracts.web_stand_in import StandIn, serving_stand_in
from spawners.kubernetes_tests import Fields, backend_of, small_facility, start, with_image
from spawners.raw_attempts import GID, UID, attempts, on_the_node  # the folder of these tests, not the room

pytestmark = pytest.mark.kubernetes
N_ATTEMPTS = 300
SAY_GROUPS = "import os; print(os.getgroups())"
SAY_WHO = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
facts = {name: status[name].split() for name in ("Uid", "Gid", "Groups", "CapEff", "NoNewPrivs", "Seccomp")}
facts["token"] = os.path.exists("/var/run/secrets/kubernetes.io")
facts["services"] = [name for name in os.environ if name.endswith("_SERVICE_HOST")]
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    with test_namespace() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def stand_ins(cluster: TestCluster) -> Iterator[StandIn]:
    with serving_stand_in(HOST) as serving:
        yield serving


@pytest.fixture(scope="module")
def fields(
    cluster: TestCluster, stand_ins: StandIn, small_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Fields:
    load_image(small_image, cluster.run_folder)
    return small_facility(tmp_path_factory.mktemp("facility"), cluster, stand_ins, small_image)


@pytest.fixture
def backend(
    cluster: TestCluster, stand_ins: StandIn, fields: Fields, run: Any
) -> Iterator[KubernetesBackend]:
    stand_ins.sessions.clear()
    stand_ins.answers.clear()
    with backend_of(cluster, stand_ins, fields, run) as backend:
        yield backend


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user and mount")
def test_nothing_of_many_attempts_changes_raw_data_or_leads_out(backend: KubernetesBackend, run: Any) -> None:
    """Only the mount protects the files: they belong to the session's own user, with write permission."""
    pool = backend.part.platform.config.pools[0].root
    said = attempts(backend, run, pool, on_the_node(backend.cluster), count=N_ATTEMPTS, seed=8)
    assert (said["of"], said["succeeded"]) == (N_ATTEMPTS, 0), said
    assert said["reasons"].get("EROFS", 0) > N_ATTEMPTS / 10  # it was the mount that said no
    assert said["tree is unchanged"]
    # A volume's folder is shown without what is mounted below it, so there is nothing there to write to.
    assert not said["the mount below is shown"]


SHOWN = """
import errno, json, os
found = {}
for folder in ("claim", "part", "node", "plain"):
    try:
        open(f"/{folder}/nested/made", "w").close()
        written = ""
    except OSError as error:
        written = errno.errorcode[error.errno]
    found[folder] = ["here" in os.listdir(f"/{folder}/nested"), written]
print(json.dumps(found))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_volume_is_shown_without_what_is_mounted_below_and_recursive_read_only_is_what_it_says(
    small_image: str,
) -> None:
    """Why a pool says `recursive_read_only` in vain: of all volumes only a node's whole folder shows it."""
    read_only = {"readOnly": True, "recursiveReadOnly": "Enabled"}
    with test_namespace(pod_security="privileged") as cluster:
        load_image(small_image, cluster.run_folder, NODES[:1])
        cluster.claim("pool", NODES[0], "pool/raw")
        nested = cluster.folder_of(NODES[0], "pool/raw/nested")
        volumes = [
            {"name": "claim", "persistentVolumeClaim": {"claimName": "pool"}},
            {"name": "whole", "hostPath": {"path": f"/facility/{cluster.namespace}/pool/raw"}},
            {"name": "above", "hostPath": {"path": f"/facility/{cluster.namespace}/pool"}},
        ]
        mounts = [
            {"name": "claim", "mountPath": "/claim", **read_only},
            {"name": "above", "mountPath": "/part", "subPath": "raw", **read_only},
            {"name": "whole", "mountPath": "/node", **read_only},
            {"name": "whole", "mountPath": "/plain", "readOnly": True},
        ]
        container = {"name": "session", "image": small_image, "imagePullPolicy": "Never"}
        spec = {"nodeName": NODES[0], "terminationGracePeriodSeconds": 1, "volumes": volumes}
        on_node = str(nested.relative_to(cluster.node_folder(NODES[0])))
        with cluster.mounted(NODES[0], on_node, "mode=777") as below:
            (below / "here").write_text("x")
            cluster.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "looks"},
                    "spec": {**spec, "containers": [{**container, "volumeMounts": mounts}]},
                }
            )
            phase = ("get", "pod", "looks", "-o=jsonpath={.status.phase}")
            cluster.wait(lambda: cluster.kubectl(*phase) == "Running")
            found = json.loads(cluster.execute("looks", SHOWN))
            cluster.kubectl("delete", "pod", "looks", "--grace-period=1")
    assert found["claim"] == found["part"] == [False, "EROFS"]
    assert found["node"] == [True, "EROFS"]
    assert found["plain"] == [True, ""]  # read-only, but not recursively: only the field protects it


def test_a_session_is_the_person_with_no_right_of_the_cluster(backend: KubernetesBackend, run: Any) -> None:
    spawner = start(backend, run, uid=UID, gid=GID, gids=(4713,))
    facts = json.loads(backend.look(spawner.plan.id, SAY_WHO))
    assert facts["Uid"] == [str(UID)] * 4
    assert facts["Gid"] == [str(GID)] * 4
    assert set(facts["Groups"]) <= {str(GID), "4713"}
    assert facts["CapEff"] == ["0000000000000000"]
    assert facts["NoNewPrivs"] == ["1"]
    assert facts["Seccomp"] == ["2"]
    assert not facts["token"]
    assert set(facts["services"]) <= {"KUBERNETES_SERVICE_HOST"}  # the address that each pod is told
    run(spawner.stop(now=True))


def test_the_groups_of_an_image_give_a_session_nothing(
    backend: KubernetesBackend, run: Any, docker_engine: Any
) -> None:
    name = f"beamhub-test-groups:{secrets.token_hex(3)}"
    passwd = [f"scientist:x:{UID}:{GID}::/:"]
    make_image(docker_engine, name, group_lines=["evil:x:4999:scientist"], passwd_lines=passwd)
    try:
        load_image(name, backend.cluster.run_folder, NODES[:1])
        with_image(backend, name)
        spawner = start(backend, run, uid=UID, gid=GID, gids=(4713,))
        groups = json.loads(backend.look(spawner.plan.id, SAY_GROUPS))
        assert set(groups) <= {GID, 4713}
        assert 4713 in groups
        run(spawner.stop(now=True))
        # The image does grant it, where the place lets images speak.
        fields = backend.part.platform.config.model_dump(mode="json")
        assert fields["sessions"]["places"][0]["kubernetes"]["supplemental_groups"] == "strict"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "merged"},
            "spec": {
                "restartPolicy": "Never",
                "nodeName": NODES[0],
                "securityContext": {
                    "runAsUser": UID,
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "session",
                        "image": name,
                        "imagePullPolicy": "Never",
                        "command": ["/usr/bin/python", "-c", SAY_GROUPS],
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }
                ],
            },
        }
        backend.cluster.apply(pod)
        backend.cluster.wait(lambda: "4999" in backend.cluster.kubectl("logs", "merged", check=False))
    finally:
        docker_engine.remove_image(name, force=True)


AWKWARD = (
    "MA-5101/raw/{username.x} {{0}} %s %(x)s: a,b",
    "MA-5101/raw/$(HOME) $$ ${x} `id`",
    "MA-5101/raw/Ångström-é ü 試料",
)


@pytest.mark.parametrize("path", AWKWARD)
def test_a_path_of_any_letters_is_mounted_as_it_is(backend: KubernetesBackend, run: Any, path: str) -> None:
    pool = backend.part.platform.config.pools[0].root
    (pool / path).mkdir()
    (pool / path / "scan.h5").write_text("awkward")
    answer = granted_answer()
    folder = answer.datasets[0].folder.model_copy(update={"path": path})
    dataset = answer.datasets[0].model_copy(update={"folder": folder, "file": f"{path}/scan.h5"})
    grants = (*answer.grants, answer.grants[0].model_copy(update={"folder": folder}))
    backend.stand_in.answers[ACCOUNT] = answer.model_copy(update={"datasets": (dataset,), "grants": grants})
    spawner = start(backend, run)
    code = (
        "import json, os\n"
        "said = open('/proc/1/environ').read().split('BEAMHUB_SESSION_INFO=')[1].split('\\0')[0]\n"
        "said = json.loads(said)\n"
        "print(open(said['datasets'][0]['file']).read())"
    )
    assert backend.look(spawner.plan.id, code) == "awkward"
    run(spawner.stop(now=True))


def test_names_that_look_alike_and_long_ones_have_pods_of_their_own(
    backend: KubernetesBackend, run: Any
) -> None:
    long = "x" * 64
    names = [long, long[:-1] + "y", "ines", "\u0456nes"]  # the last begins with a Cyrillic letter
    spawners = [start(backend, run, name) for name in names]
    assert sorted(map(_server, backend.cluster.pods())) == sorted(names)
    run(spawners[0].stop(now=True))
    assert [run(one.poll()) for one in spawners] == [0, None, None, None]
    assert sorted(map(_server, backend.cluster.pods())) == sorted(names[1:])


def _server(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["annotations"]["beamhub.org/server"])


def test_two_hubs_in_one_namespace_do_not_touch_each_others_pods(
    backend: KubernetesBackend, cluster: TestCluster, fields: Fields, run: Any
) -> None:
    """Not even hubs of the same short name, for the same person and server."""
    mine = start(backend, run)
    with serving_stand_in(HOST) as other_web:
        theirs = json.loads(json.dumps(fields))
        theirs["hub"]["public_url"] = "https://other.example.org"
        with kubernetes_backend(cluster, other_web, theirs, run) as other:
            their = other.spawner()  # the class has one platform, the objects here have theirs
            their.platform, mine.platform = other.part.platform, backend.part.platform
            assert run(their.poll()) == 0
            their.request = read_options(OPTIONS)
            run(their.start())
            names = {pod["metadata"]["name"] for pod in cluster.pods()}
            assert names == {pod_name(mine.plan.id), pod_name(their.plan.id)}
            run(their.stop(now=True))
            assert run(mine.poll()) is None
            assert [pod["metadata"]["name"] for pod in cluster.pods()] == [pod_name(mine.plan.id)]


def test_data_on_both_nodes_fills_one_and_then_the_other(
    cluster: TestCluster, stand_ins: StandIn, fields: Fields, run: Any
) -> None:
    there = json.loads(json.dumps(fields))
    cluster.claim("hall-a-on-b", NODES[1], "copy")
    first, second = there["sessions"]["places"]
    first["capacity"] = 1
    second["pools"] = ["hall-b", "hall-a"]
    second["kubernetes"]["volumes"]["hall-a"] = {"claim": "hall-a-on-b"}
    stand_ins.sessions.clear()
    with backend_of(cluster, stand_ins, there, run) as backend:
        spawners = [start(backend, run, name) for name in ("one", "two")]
        nodes = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in cluster.pods()}
        places = [spawner.plan.place.name for spawner in spawners]
        assert sorted(places) == ["hall-a", "hall-b"]
        for spawner in spawners:
            expected = NODES[0] if spawner.plan.place.name == "hall-a" else NODES[1]
            assert nodes[pod_name(spawner.plan.id)] == expected
            run(spawner.stop(now=True))


def test_data_on_no_node_of_any_place_is_refused_with_the_reason(
    backend: KubernetesBackend, run: Any
) -> None:
    answer = granted_answer()
    folder = answer.datasets[0].folder.model_copy(update={"pool": "hall-c"})
    dataset = answer.datasets[0].model_copy(update={"folder": folder})
    backend.stand_in.answers[ACCOUNT] = answer.model_copy(update={"datasets": (dataset,)})
    spawner = backend.spawner()
    spawner.request = read_options(OPTIONS)
    with pytest.raises(Exception, match="storage pool hall-c is not mounted there") as caught:
        run(spawner.start())
    assert caught.value.reason == "no_place"  # type: ignore[attr-defined]
    assert backend.n_objects() == 0
