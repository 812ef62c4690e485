"""A namespace of a real cluster with the storage of a facility on its nodes, for tests.

The cluster is the two-node one that `.ci/run` starts: each node sees a folder of this machine as /facility,
so a test makes files here that live on one node alone. `KUBECONFIG` names it; without one, tests skip.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

HOST = "10.89.0.1"
"""This machine, as pods of the test cluster reach it."""
NODES = ("node-a", "node-b")
RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete", "get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
]
"""All that a hub may do in the namespace of its sessions."""
SWEEPER_RULES = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "delete"]}]
"""All that the sweeper does there, for facilities that run it with an account of its own."""
NODE_RULES = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}]
"""What a hub may read of the whole cluster, so that it places by what nodes have free."""
DEADLINE_S = 60.0


@dataclass
class TestCluster:
    """One namespace of the cluster, and the folders behind its storage."""

    __test__ = False

    namespace: str
    run_folder: Path
    claims: list[str] = field(default_factory=list)

    def kubectl(self, *arguments: str, said: Any = None, check: bool = True) -> str:
        """What kubectl prints, as the cluster's administrator; `said` goes in as JSON."""
        done = subprocess.run(
            ["kubectl", "--request-timeout=30s", f"--namespace={self.namespace}", *arguments],
            input=None if said is None else json.dumps(said),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Make objects."""
        self.kubectl("apply", "-f", "-", said={"apiVersion": "v1", "kind": "List", "items": list(objects)})

    def node_folder(self, node: str) -> Path:
        """The folder of this machine that a node sees as `/facility/NAMESPACE`."""
        return self.run_folder.parent / "nodes" / node / "facility" / self.namespace

    def folder_of(self, node: str, name: str) -> Path:
        """A folder that lives on one node alone, made here."""
        folder = self.node_folder(node) / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        return folder

    def claim(self, name: str, node: str, folder: str) -> None:
        """A claim of a folder of one node: a local volume with that node's affinity, bound beforehand."""
        self.folder_of(node, folder)
        whole = f"{self.namespace}-{name}"
        if whole in self.claims:
            return
        self.claims.append(whole)
        common = {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeMode": "Filesystem",
        }
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": whole},
                "spec": {
                    **common,
                    "capacity": {"storage": "1Gi"},
                    "persistentVolumeReclaimPolicy": "Retain",
                    "local": {"path": f"/facility/{self.namespace}/{folder}"},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
                    "claimRef": {"namespace": self.namespace, "name": name},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name},
                "spec": {
                    **common,
                    "volumeName": whole,
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            },
        )
        self.wait(lambda: self.kubectl("get", "pvc", name, "-o=jsonpath={.status.phase}") == "Bound")

    @contextmanager
    def mounted(self, node: str, folder: str, options: str) -> Iterator[Path]:
        """A small file system in memory on a folder of a node; where this process sees it.

        A node has mounts of its own: one that is made here does not appear there.
        """
        pid = int((self.run_folder / f"{node}.pid").read_text())
        inside = f"/facility/{self.namespace}/{folder}"
        enter = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "--"]
        subprocess.run([*enter, "mount", "-t", "tmpfs", "-o", options, "tmpfs", inside], check=True)
        try:
            yield Path(f"/proc/{pid}/root{inside}")
        finally:
            subprocess.run([*enter, "umount", "-l", inside], check=True)

    def hub_kubeconfig(self, file: Path) -> Path:
        """The kubeconfig of an account that may do what a hub needs and nothing else."""
        self.apply(*self._role("ClusterRole", self.namespace, NODE_RULES, "hub"))
        return self.kubeconfig_of("hub", RULES, file)

    def kubeconfig_of(self, account: str, rules: list[dict[str, Any]], file: Path) -> Path:
        """The kubeconfig of a new account with some rights in the namespace."""
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}},
            *self._role("Role", account, rules, account),
        )
        admin = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        token = self.kubectl("create", "token", account, "--duration=2h").strip()
        admin["users"] = [{"name": admin["users"][0]["name"], "user": {"token": token}}]
        file.write_text(yaml.safe_dump(admin))
        file.chmod(0o600)
        return file

    def _role(
        self, kind: str, name: str, rules: list[dict[str, Any]], account: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A role and its binding to an account; one of the whole cluster is removed with the namespace."""
        api = "rbac.authorization.k8s.io"
        subject = {"kind": "ServiceAccount", "name": account, "namespace": self.namespace}
        return (
            {"apiVersion": f"{api}/v1", "kind": kind, "metadata": {"name": name}, "rules": rules},
            {
                "apiVersion": f"{api}/v1",
                "kind": f"{kind}Binding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": api, "kind": kind, "name": name},
                "subjects": [subject],
            },
        )

    def pods(self) -> list[dict[str, Any]]:
        """The namespace's pods."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", "-o=json"))["items"]
        return found

    def execute(self, pod: str, code: str) -> str:
        """What Python code prints in a pod's container."""
        return self.kubectl("exec", pod, "-c=session", "--", "python", "-c", code)

    def wait(self, is_done: Any, seconds: float = DEADLINE_S) -> None:
        """Wait until something is so."""
        until = time.monotonic() + seconds
        while not is_done():
            assert time.monotonic() < until, "it did not come to be in time"
            time.sleep(0.1)

    def clean_up(self) -> None:
        """Remove all that a test made."""
        self.kubectl("delete", "pods", "--all", "--grace-period=1", "--timeout=60s", check=False)
        self.kubectl("delete", "namespace", self.namespace, "--timeout=90s", check=False)
        roles = ("clusterrole", "clusterrolebinding")
        for kind in roles:
            self.kubectl("delete", kind, self.namespace, "--ignore-not-found", check=False)
        if self.claims:
            self.kubectl("delete", "pv", *self.claims, "--timeout=30s", check=False)
        for node in NODES:
            shutil.rmtree(self.node_folder(node), ignore_errors=True)


@contextmanager
def test_namespace(*, pod_security: str = "restricted") -> Iterator[TestCluster]:
    """A new namespace that enforces Pod Security; skips where no test cluster is."""
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig or shutil.which("kubectl") is None:
        pytest.skip("no Kubernetes cluster: KUBECONFIG is not set, or kubectl is missing")
    run_folder = Path(kubeconfig).parent
    if not (run_folder / f"{NODES[0]}.sock").exists():
        pytest.skip("the cluster is not the test cluster, whose nodes see folders of this machine")
    cluster = TestCluster(f"beamhub-test-{secrets.token_hex(4)}", run_folder)
    labels = {f"pod-security.kubernetes.io/{kind}": pod_security for kind in ("enforce", "warn")}
    metadata = {"name": cluster.namespace, "labels": {**labels, "beamhub.org/test": "spawner"}}
    try:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        cluster.wait(lambda: "default" in cluster.kubectl("get", "serviceaccounts"))
        yield cluster
    finally:
        cluster.clean_up()


test_namespace.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it


def load_image(image: str, run_folder: Path, nodes: Iterable[str] = NODES) -> None:
    """Copy an image of this machine's engine to nodes; one that a node has already is left."""
    for node in nodes:
        ctr = ["ctr", "-a", str(run_folder / f"{node}.sock"), "-n", "k8s.io", "images"]
        known = subprocess.run([*ctr, "ls", "-q"], capture_output=True, text=True, check=True).stdout
        if f"docker.io/library/{image}" in known.split():
            continue
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            subprocess.run([*ctr, "import", "-"], stdin=saved.stdout, capture_output=True, check=True)
        assert saved.returncode == 0
