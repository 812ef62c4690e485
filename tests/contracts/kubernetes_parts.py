"""A facility whose places are nodes of a cluster, and plans for it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_core.config.agent import AgentConfig
from beamhub_core.config.kubernetes_place import KubernetesPlaceConfig
from beamhub_core.rights import GrantAnswer
from beamhub_core.session import SessionPlan, SessionRequest
from beamhub_spawners.kubernetes_cluster import close_clusters
from beamhub_spawners.kubernetes_pod import pod_name
from beamhub_spawners.kubernetes_spawner import KubernetesSessionSpawner
from beamhub_spawners.plan import session_plan
from contracts.agent_parts import agent_fields, hub_tls, make_agent_files, running_agent
from contracts.cluster_parts import NODES, TestCluster
from contracts.spawner_parts import (
    EXPLAIN,
    GRANTED_PID,
    OCCASION,
    PLACE,
    HubPart,
    facility_fields,
    granted_answer,
    hub_part,
    principal,
)
from contracts.web_stand_in import StandIn

IMAGE = "registry.example.org/base@sha256:" + "5" * 64
FACILITY = f"kt{secrets.token_hex(3)}"
PLACES: dict[str, dict[str, Any]] = {
    name: {
        "namespace": "sessions",
        "volumes": {name: {"claim": name}},
        "homes": {"claim": "homes"},
        "node_labels": {"facility.example/storage": node},
        "hub_api_url": "http://hub.beamhub:8081/hub/api",
    }
    for name, node in (("hall-a", "node-a"), ("hall-b", "node-b"))
}


def kubernetes_facility(
    folder: Path = Path("/srv"),
    *,
    hub_url: str = "http://hub",
    web_url: str = "http://web",
    **changes: Any,
) -> dict[str, Any]:
    """The fields of a facility with two places on one cluster, each with these changes of its section."""
    fields = facility_fields(folder, hub_url=hub_url, web_url=web_url, target="/data")
    for place in fields["sessions"]["places"]:
        place.update(backend="kubernetes", kubernetes={**PLACES[place["name"]], **changes})
    fields["sessions"]["environments"][0]["image"] = IMAGE
    return fields


def kubernetes_plan(
    fields: dict[str, Any], answer: GrantAnswer | None = None, *, profile: str | None = None, **person: Any
) -> tuple[SessionPlan, FacilityConfig, KubernetesPlaceConfig]:
    """A plan for the first place, of a person with these changes, with what it is rendered with."""
    config = FacilityConfig.model_validate(fields)
    placed = (PLACE.model_copy(update={"backend": "kubernetes"}), EXPLAIN)
    request = SessionRequest(datasets=(GRANTED_PID,), profile=profile)
    who = principal(**{"uid": 4711, "gid": 4700, "gids": (4701, 4702), **person})
    plan = session_plan(answer or granted_answer(), request, config, who, placed, OCCASION)
    place = config.sessions.places[0].kubernetes
    assert place is not None
    return plan, config, place


class KubernetesBackend:
    """A facility whose sessions are pods of one namespace of a real cluster."""

    def __init__(self, cluster: TestCluster, stand_in: StandIn, part: HubPart) -> None:
        self.cluster, self.stand_in, self.part = cluster, stand_in, part

    def spawner(self, server_name: str = "", **more: Any) -> Any:
        """A spawner object that remembers nothing."""
        return self.part.spawner(KubernetesSessionSpawner, server_name=server_name, **more)

    def look(self, plan_id: str, code: str) -> str:
        """The last line of what Python code prints inside a session."""
        in_session = "import os; os.environ['BEAMHUB_SESSION_FILE'] = '/run/beamhub/session.json'\n" + code
        return self.cluster.execute(pod_name(plan_id), in_session).splitlines()[-1]

    def kill(self, plan_id: str) -> None:
        """End a session's process behind the hub's back: the first child of the pod's first process."""
        code = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"
        self.cluster.kubectl("exec", pod_name(plan_id), "--", "python", "-c", code, check=False)

    def n_objects(self) -> int:
        """Pods that exist now."""
        return len(self.cluster.pods())


def cluster_facility(
    folder: Path, cluster: TestCluster, stand_in: StandIn, *, image: str, **changes: Any
) -> dict[str, Any]:
    """The fields of a facility of which `hall-a` and the homes lie on node-a alone, `hall-b` on node-b alone.

    The folders are those of this machine that the nodes see, so that this process finds them, too.
    """
    kubeconfig = cluster.hub_kubeconfig(folder / "hub.kubeconfig")
    fields = kubernetes_facility(folder, hub_url=stand_in.url, web_url=stand_in.url)
    for pool, node in zip(fields["pools"], NODES, strict=True):
        name = pool["name"]
        pool["root"] = str(cluster.folder_of(node, f"pools/{name}"))
        cluster.claim(name, node, f"pools/{name}")
        cluster.claim(f"homes-of-{name}", node, "homes")
    for place, node in zip(fields["sessions"]["places"], NODES, strict=True):
        place["kubernetes"] |= {
            "kubeconfig": str(kubeconfig),
            "namespace": cluster.namespace,
            "homes": {"claim": f"homes-of-{place['name']}"},
            "node_labels": {"facility.example/storage": node},
            "hub_api_url": f"{stand_in.url}/hub/api",
            # The machine that tests run on is small.
            "cpu_request_share": 0.02,
            "memory_request_share": 0.05,
            **changes,
        }
    homes = cluster.node_folder(NODES[0]) / "homes"
    fields["sessions"]["homes_folder"] = str(homes)
    fields["sessions"]["environments"][0]["image"] = image
    fields["short_name"] = FACILITY
    return fields


@contextmanager
def kubernetes_backend(
    cluster: TestCluster, stand_in: StandIn, fields: dict[str, Any], run: Any
) -> Iterator[KubernetesBackend]:
    """A backend; its pods are removed after it."""
    with hub_part(FacilityConfig.model_validate(fields), stand_in) as part:
        try:
            yield KubernetesBackend(cluster, stand_in, part)
        finally:
            cluster.kubectl("delete", "pods", "--all", "--grace-period=1", "--timeout=60s", check=False)
            run(part.platform.web.close())
            run(close_clusters())


@contextmanager
def serving_keepers(folder: Path, fields: dict[str, Any]) -> Iterator[None]:
    """The storage keeper of each place, with certificates and all; the places are told how to reach it."""
    make_agent_files(folder)
    places = fields["sessions"]["places"]
    with ExitStack() as keepers:
        for place in places:
            settings = agent_fields(folder, place=place["name"], socket_file=folder / "none", engine="none")
            facility = FacilityConfig.model_validate(fields)
            agent = keepers.enter_context(running_agent(AgentConfig.model_validate(settings), facility))
            url = f"https://127.0.0.1:{agent.server.port}"
            place["kubernetes"] |= {"keeper_url": url, "keeper_tls": hub_tls(folder)}
        yield
