"""A platform of real processes on a real cluster, with a storage keeper of its one place."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_spawners.kubernetes_pod import Pod
from beamhub_spawners.kubernetes_view import close_lists
from contracts.agent_parts import free_port, hub_tls
from contracts.cluster_parts import HOST, NODES, TestCluster
from contracts.docker_parts import BASE_IMAGE
from contracts.real_platform import (
    RealPlatform,
    SessionObject,
    facts_of,
    running_agent_process,
    serving_web,
    write_hub_config,
    write_platform,
)

PLACE = "cluster"
GONE_S = 60.0


@dataclass
class KubernetesPlatform(RealPlatform):
    """Sessions as pods of one namespace."""

    cluster: TestCluster | None = None

    def objects(self) -> list[SessionObject]:
        """The namespace's pods, once those that were asked to end are gone."""
        assert self.cluster is not None
        self.cluster.wait(lambda: not any(pod.is_deleting for pod in self.pods()), GONE_S)
        return [
            SessionObject(
                f"pod {pod.plan_id} ({pod.phase})",
                pod.plan_id,
                f"{pod.annotations['beamhub.org/account']}/{pod.annotations['beamhub.org/server']}",
                not pod.is_ended,
            )
            for pod in self.pods()
        ]

    def pods(self) -> list[Pod]:
        """The namespace's pods, those that end, too."""
        assert self.cluster is not None
        said = self.cluster.kubectl("get", "pods", "-o=json")
        return [Pod(fields) for fields in json.loads(said)["items"]]

    def address(self, account: str) -> str:
        """Where a person's pod listens."""
        [pod] = [one for one in self.pods() if one.annotations["beamhub.org/account"] == account]
        return f"{pod.ip}:8888"

    def remove_all(self) -> None:
        """Nothing: whoever made the namespace removes it."""

    async def close_views(self) -> None:
        """The sweeper's clients."""
        close_lists()


@contextmanager
def running_kubernetes_platform(
    cluster: TestCluster, *, images: dict[str, str] | None = None
) -> Iterator[KubernetesPlatform]:
    """A platform whose every part runs; of its processes nothing outlives the block.

    Parameters
    ----------
    images:
        Environments by name, on the nodes already; the base image as `lab` when absent.
    """
    with tempfile.TemporaryDirectory(prefix="beamhub-pods-") as name, socket.socket() as listener:
        folder = Path(name)
        listener.bind(("127.0.0.1", 0))
        public, port, keeper_port = f"http://127.0.0.1:{listener.getsockname()[1]}", free_port(), free_port()
        config = _write(folder, public, (port, keeper_port), cluster, images or {"lab": BASE_IMAGE})
        write_hub_config(folder, config, public, port)
        api_url = f"http://127.0.0.1:{port}/hub/api"
        with serving_web(config, listener) as service, running_agent_process(folder, keeper_port):
            platform = KubernetesPlatform(
                config, service, public, api_url, folder / "hub.log", folder, cluster=cluster
            )
            with platform.running():
                yield platform


def _write(
    folder: Path, public: str, ports: tuple[int, int], cluster: TestCluster, images: dict[str, str]
) -> FacilityConfig:
    """The place is node-a, where the pool and the homes lie: folders of this machine that the node sees."""
    hub_port, keeper_port = ports
    facts = facts_of(folder, public, hub_port)
    for name in ("pool", "homes"):
        cluster.claim(name, NODES[0], name)
    facts["pools"] = [
        {"name": "pool", "root": str(cluster.folder_of(NODES[0], "pool")), "target": "/data/pool"}
    ]
    facts["sessions"]["homes_folder"] = str(cluster.folder_of(NODES[0], "homes"))
    kubernetes: dict[str, Any] = {
        "kubeconfig": str(cluster.hub_kubeconfig(folder / "hub.kubeconfig")),
        "namespace": cluster.namespace,
        "volumes": {"pool": {"claim": "pool"}},
        "homes": {"claim": "homes"},
        "node_labels": {"facility.example/storage": NODES[0]},
        "hub_api_url": f"http://{HOST}:{hub_port}/hub/api",
        "keeper_url": f"https://127.0.0.1:{keeper_port}",
        "keeper_tls": hub_tls(folder),
        "image_pull_policy": "Never",
        # The machine that tests run on is small.
        "cpu_request_share": 0.02,
        "memory_request_share": 0.05,
    }
    place = {"name": PLACE, "backend": "kubernetes", "pools": ["pool"], "capacity": 100}
    return write_platform(
        folder,
        facts,
        {**place, "kubernetes": kubernetes},
        images,
        port=keeper_port,
        socket_file=folder / "none",
        engine="none",
    )
