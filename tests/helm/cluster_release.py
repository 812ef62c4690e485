"""A trial of the chart on the test cluster: two real nodes, a storage each, enforced policies.

The cluster is that of `shared/cluster`; `eval "$(cluster env)"` says where. Its nodes see folders of this
machine, so the demo's files are written from here, and what a session makes is read from here.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from beamhub_core.demo.access_list import let_read
from beamhub_core.demo.compose import give_proposal
from beamhub_core.demo.compose_config import PROPOSAL_GIDS
from helm.chart_parts import CHART, TRIAL, find_helm

CLUSTER = Path("/var/lib/testcluster")
NODE_ADDRESS = "10.89.0.10"
NODES = {"hall-a": "node-a", "hall-b": "node-b"}
IMAGES = {
    "hub": "beamhub-hub",
    "web": "beamhub-web",
    "proxy": "beamhub-proxy",
    "gateway": "beamhub-gateway",
    "postgresql": "beamhub-postgresql",
}
SESSION_IMAGE = "beamhub-base"
PLATFORM_UID = 64100
INSTALL_S = 150
ROUTES_S = 60.0


def need_cluster() -> None:
    """Skip the test where no cluster answers."""
    if shutil.which("kubectl") is None or "KUBECONFIG" not in os.environ:
        pytest.skip('no Kubernetes cluster: shared/cluster/cluster up; eval "$(shared/cluster/cluster env)"')
    if not (CLUSTER / "run").is_dir():
        pytest.skip(f"the cluster of KUBECONFIG is not the one of shared/cluster ({CLUSTER})")


def run(*command: str, given: str | None = None, check: bool = True, seconds: float = 120) -> str:
    """What a command prints.

    Raises
    ------
    RuntimeError
        With its output, when it fails.
    """
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=seconds)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)[:300]} failed:\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    return done.stdout if check else done.stdout + done.stderr


def kubectl(*words: str, given: str | None = None, check: bool = True, seconds: float = 120) -> str:
    """What kubectl prints."""
    return run("kubectl", *words, given=given, check=check, seconds=seconds)


def image_digest(image: str) -> str:
    """The digest under which every node holds an image; it is loaded where it is missing.

    Nodes know what `docker save` wrote by tag alone; the chart names images by digest, so the tag gets one.
    """
    reference = f"docker.io/library/{image}"
    repository = reference.rpartition(":")[0]
    digests = set()
    for node in sorted(set(NODES.values())):
        ctr = ("ctr", "-a", str(CLUSTER / "run" / f"{node}.sock"), "-n", "k8s.io", "images")
        listed = [line.split() for line in run(*ctr, "ls", f"name=={reference}").splitlines()[1:]]
        if not listed:
            pytest.skip(f"{node} has no image {image}: shared/cluster/cluster load {image}")
        digest = next(word for word in listed[0] if word.startswith("sha256:"))
        run(*ctr, "tag", "--force", reference, f"{repository}@{digest}")
        digests.add(digest)
    assert len(digests) == 1, f"the nodes hold different images {image}: {digests}"
    return digests.pop()


@dataclass
class Release:
    """One release of the chart in namespaces of its own."""

    namespace: str
    ports: tuple[int, int] = (30880, 30883)
    tag: str = field(default_factory=lambda: os.environ.get("BEAMHUB_TAG", "dev"))
    name: str = "beamhub"

    @property
    def sessions(self) -> str:
        """The namespace of the sessions."""
        return f"{self.namespace}-sessions"

    @property
    def url(self) -> str:
        """Where browsers reach the platform."""
        return f"http://{NODE_ADDRESS}:{self.ports[0]}"

    @property
    def issuer(self) -> str:
        """The demo provider's issuer."""
        return f"http://beamhub-provider.{self.namespace}.svc:8083"

    def folder(self, node: str) -> Path:
        """The release's folder of a node, from here."""
        return CLUSTER / "nodes" / node / "facility" / self.namespace

    @property
    def seen(self) -> Path:
        """The release's folder as its nodes, its sessions and, by links, this machine name it."""
        return Path("/facility") / self.namespace

    def values(self) -> dict[str, Any]:
        """The trial's values, for this cluster, these names and these images."""
        text = (CHART / "trial-values.yaml").read_text()
        text = text.replace("beamhub-sessions", self.sessions).replace(
            ".beamhub.svc", f".{self.namespace}.svc"
        )
        values: dict[str, Any] = yaml.safe_load(text)
        own: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
        images = {}
        for name, repository in IMAGES.items():
            digest = image_digest(f"{repository}:{self.tag}")
            images[name] = {"repository": f"docker.io/library/{repository}", "digest": digest}
        for volume in values["localVolumes"]:
            volume["path"] = volume["path"].replace("/facility/", f"{self.seen}/")
            if (
                volume["name"] == "hall-b" and "namespace" not in volume
            ):  # web's node sees the other's storage
                volume["path"] = str(self.folder("node-b") / "hall-b")
        facility = _merged(own["facility"], values["facility"])
        _rename(facility, ".beamhub.svc", f".{self.namespace}.svc")
        _rename(facility, "/facility/", f"{self.seen}/")
        facility["hub"]["public_url"] = self.url
        digest = image_digest(f"{SESSION_IMAGE}:{self.tag_of_session}")
        facility["sessions"]["environments"] = [
            {
                "name": "standard",
                "title": "Beamhub standard",
                "image": f"docker.io/library/{SESSION_IMAGE}@{digest}",
            }
        ]
        return values | {
            "images": images,
            "facility": facility,
            "trial": {
                "enabled": True,
                "providerUrl": f"http://{NODE_ADDRESS}:{self.ports[1]}",
                "nodePort": self.ports[1],
            },
            "proxy": {"serviceType": "NodePort", "nodePort": self.ports[0]},
            "networkPolicy": {"dns": {"podLabels": {"k8s-app": None, "app": "coredns"}}},
        }

    @property
    def tag_of_session(self) -> str:
        """The tag of the image that sessions run in."""
        return os.environ.get("BEAMHUB_SESSION_TAG", self.tag)

    def prepare(self) -> None:
        """The folders of both nodes with the demo's files, as a facility has them."""
        made = self.folder("node-a").parent / f".{self.namespace}"
        if not (self.folder("node-a") / "truth.json").exists():
            command = [sys.executable, "-m", "beamhub_reduction.synthetic", "facility", str(made)]
            run(*command, "--seed", "20261", "--truth", str(made / "truth.json"), seconds=300)
            for hall, node in NODES.items():
                self.folder(node).mkdir(parents=True, exist_ok=True)
                shutil.copytree(made / hall, self.folder(node) / hall)
            shutil.copy(made / "truth.json", self.folder("node-a"))
            shutil.rmtree(made)
        self.seen.mkdir(parents=True, exist_ok=True)
        for hall, node in NODES.items():
            if not (self.seen / hall).is_symlink():
                (self.seen / hall).symlink_to(self.folder(node) / hall)
            let_read(self.folder(node) / hall, PLATFORM_UID)
            for name in ("homes", *(f"state/{one}" for one in ("hub", "web", "gateway", "database"))):
                (self.folder(node) / name).mkdir(parents=True, exist_ok=True)
            for proposal, gid in PROPOSAL_GIDS.items():
                if (self.folder(node) / hall / proposal).is_dir():
                    give_proposal(self.folder(node) / hall / proposal, gid)

    def helm(self, verb: str, *options: str, values: dict[str, Any] | None = None) -> str:
        """One act of helm on the release, waited for."""
        words = [find_helm(), verb, self.name]
        if verb in ("install", "upgrade"):
            words += [str(CHART), *TRIAL, "--values", "-"]
        words += ["--namespace", self.namespace, "--wait", "--timeout", f"{INSTALL_S}s", *options]
        return run(*words, given=json.dumps(values) if values is not None else None, seconds=INSTALL_S + 60)

    def wait_for_portal(self) -> None:
        """Return when the portal answers: the hub is ready a moment before it gives the proxy its routes."""
        deadline = time.monotonic() + ROUTES_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/services/web/", timeout=10).status_code == 200:
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"no portal at {self.url} in {ROUTES_S:.0f} s")
            time.sleep(0.5)

    def pods(self, namespace: str | None = None) -> list[dict[str, Any]]:
        """The pods of a namespace, the release's if none is named."""
        found: list[dict[str, Any]] = json.loads(
            kubectl("get", "pods", "-n", namespace or self.namespace, "-o", "json")
        )["items"]
        return found

    def pod_of(self, component: str) -> dict[str, Any]:
        """The one pod of a component that is not on its way out."""
        [found] = [
            pod
            for pod in self.pods()
            if pod["metadata"].get("labels", {}).get("app.kubernetes.io/component") == component
            and "deletionTimestamp" not in pod["metadata"]
        ]
        return found

    def logs(self) -> str:
        """What each pod said last, and the last events: for whoever looks at a failure."""
        said = [
            kubectl("get", "pods,pvc", "-n", each, "-o", "wide", check=False)
            for each in (self.namespace, self.sessions)
        ]
        for each in (self.namespace, self.sessions):
            said.append(kubectl("get", "events", "-n", each, "--sort-by=.lastTimestamp", check=False)[-3000:])
        for component in ("hub", "web", "proxy", "gateway", "database", "provider"):
            label = f"app.kubernetes.io/component={component}"
            words = ("logs", "-n", self.namespace, "-l", label, "--tail=40", "--all-containers", "--prefix")
            said.append(kubectl(*words, check=False)[-4000:])
        return "\n".join(said)

    def remove(self) -> None:
        """Everything of the release, and what it leaves behind by intention."""
        run(
            find_helm(),
            "uninstall",
            self.name,
            "--namespace",
            self.namespace,
            "--wait",
            check=False,
            seconds=180,
        )
        for namespace in (self.sessions, self.namespace):
            kubectl(
                "delete",
                "namespace",
                namespace,
                "--ignore-not-found",
                "--timeout=120s",
                check=False,
                seconds=150,
            )
        label = f"app.kubernetes.io/instance={self.name}"
        volumes = json.loads(kubectl("get", "pv", "-l", label, "-o", "json"))["items"]
        for volume in volumes:
            if volume["spec"]["claimRef"]["namespace"] in (self.namespace, self.sessions):
                kubectl("delete", "pv", volume["metadata"]["name"], "--wait=false", check=False)
        for node in NODES.values():
            shutil.rmtree(self.folder(node), ignore_errors=True)
        shutil.rmtree(self.seen, ignore_errors=True)  # links, no data


def _merged(base: Any, over: Any) -> Any:
    """As helm merges values: mappings by key, everything else is replaced."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return copy.deepcopy(over)
    return copy.deepcopy(base) | {
        key: _merged(base[key], value) if key in base else copy.deepcopy(value) for key, value in over.items()
    }


def _rename(value: Any, old: str, new: str) -> None:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(items):
        if isinstance(each, str):
            value[key] = each.replace(old, new)
        else:
            _rename(each, old, new)
