"""Placement, watch and sweep on a cluster of a thousand nodes that are only said to be there.

kwok plays nodes and pods to a real API server: objects, scheduling and watches are real, containers are not.
Measured in one process, as a hub has it: memory, the time to read all places and choose one, requests to the
API server per start with few and with many sessions, the sweeper's look. All that is made is removed.

    KUBECONFIG=... python benchmarks/bench_kubernetes_scale.py --nodes 1000 --pods 3000 --events 35000
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from beamhub_core.config import FacilityConfig  # noqa: E402
from beamhub_core.config.storage import PlaceConfig  # noqa: E402
from beamhub_spawners.inventory import HostStorage, read_places  # noqa: E402
from beamhub_spawners.kubernetes_cluster import Cluster, close_clusters, shared_cluster  # noqa: E402
from beamhub_spawners.kubernetes_facts import ask_kubernetes_place  # noqa: E402
from beamhub_spawners.kubernetes_pod import PREFIX, hub_labels, pod_name  # noqa: E402
from beamhub_spawners.kubernetes_view import KubernetesView, close_lists  # noqa: E402
from beamhub_spawners.placement import Wanted, choose  # noqa: E402
from contracts.kubernetes_parts import IMAGE, kubernetes_facility  # noqa: E402

KWOK = Path(os.environ.get("BEAMHUB_KWOK") or Path.home() / ".cache/beamhub-ci/bin/kwok")
NAMESPACE = "beamhub-scale"
FAKE = "beamhub.org/scale"
N_PLACES = 10
AT_ONCE = 40
PLACEMENT_LIMIT_S, MEMORY_LIMIT_MIB = 0.050, 512
DEADLINE_S = 900


def rss_mib() -> float:
    """What this process holds in memory now."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def kubectl(*arguments: str, said: Any = None) -> str:
    """What kubectl prints; its faults are told and nothing more."""
    done = subprocess.run(
        ["kubectl", *arguments],
        input=None if said is None else json.dumps(said),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(f"kubectl {arguments[0]}: {done.stderr[-500:]}\n")
    return done.stdout


def fake_node(i: int) -> dict[str, Any]:
    """A node with 50 images, of one of the places."""
    images = [
        {"names": [f"registry.example.org/image-{k}@sha256:{k:064x}"], "sizeBytes": 10**9} for k in range(49)
    ]
    amounts = {"cpu": "64", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "2"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"scale-{i}",
            "labels": {FAKE: "node", "facility.example/storage": f"pool-{i % N_PLACES}"},
            "annotations": {FAKE: "node"},
        },
        "spec": {"taints": [{"key": FAKE, "effect": "NoSchedule"}]},
        "status": {
            "allocatable": amounts,
            "capacity": amounts,
            "images": [{"names": [IMAGE], "sizeBytes": 10**9}, *images],
            "features": {"supplementalGroupsPolicy": True},
            "runtimeHandlers": [{"name": "", "features": {"recursiveReadOnlyMounts": True}}],
        },
    }


def session_pod(i: int, config: FacilityConfig) -> dict[str, Any]:
    """A pod with a session's labels and annotations, without volumes: no claims are there to bind."""
    plan_id = f"{i:032x}"
    labels = {f"{PREFIX}plan-id": plan_id, f"{PREFIX}account": f"{i:040x}", f"{PREFIX}server": f"{i:040x}"}
    notes = dict.fromkeys(("account", "server", "place", "plan-hash", "token-digest", "trace"), "x" * 64)
    requests = {"cpu": "500m", "memory": "4Gi"}
    variables = [{"name": f"VARIABLE_{k}", "value": "v" * 60} for k in range(40)]
    return {
        "metadata": {
            "name": pod_name(plan_id),
            "labels": {**hub_labels(config), **labels},
            "annotations": {f"{PREFIX}{name}": value for name, value in notes.items()},
        },
        "spec": {
            "containers": [
                {"name": "session", "image": IMAGE, "resources": {"requests": requests}, "env": variables}
            ],
            "nodeSelector": {"facility.example/storage": f"pool-{i % N_PLACES}", FAKE: "node"},
            "tolerations": [{"key": FAKE, "operator": "Exists"}],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
        },
    }


def facility() -> FacilityConfig:
    """A facility of ten places on the cluster."""
    fields = kubernetes_facility()
    pool = fields["pools"][0]
    fields["pools"] = [
        {**pool, "name": f"pool-{i}", "root": f"/srv/{i}", "target": f"/data/{i}"} for i in range(N_PLACES)
    ]
    [first, *_] = fields["sessions"]["places"]
    fields["sessions"]["places"] = [
        {
            **first,
            "name": f"place-{i}",
            "pools": [f"pool-{i}"],
            "capacity": 1000,
            "gpus": 200,
            "kubernetes": {
                **first["kubernetes"],
                "kubeconfig": os.environ["KUBECONFIG"],
                "namespace": NAMESPACE,
                "volumes": {f"pool-{i}": {"claim": "a"}},
                "node_labels": {"facility.example/storage": f"pool-{i}", FAKE: "node"},
                "tolerations": [{"key": FAKE}],
            },
        }
        for i in range(N_PLACES)
    ]
    return FacilityConfig.model_validate(fields)


@contextmanager
def playing_nodes() -> Iterator[None]:
    """kwok, playing the nodes of this benchmark and no others."""
    command = [
        str(KWOK),
        f"--kubeconfig={os.environ['KUBECONFIG']}",
        f"--config={Path(__file__).with_name('kwok_stages.yaml')}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-label-selector={FAKE}=node",
        "--node-lease-duration-seconds=200",
    ]
    # An API server with an old etcd refuses that kind of list, and kwok would wait for it.
    settings = {**os.environ, "KUBE_FEATURE_WatchListClient": "false"}
    with (
        tempfile.NamedTemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=settings) as kwok,
    ):
        try:
            yield
            assert kwok.poll() is None, Path(log.name).read_text()[-2000:]
        finally:
            kwok.terminate()
            kwok.wait(20)


def remove_all() -> None:
    """Remove what a run made, also one that was cut off."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
    kubectl("-n", NAMESPACE, "delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
    kubectl("delete", "nodes", "-l", f"{FAKE}=node", "--ignore-not-found", "--wait=false")


async def several(work: Callable[[int], Awaitable[Any]], numbers: range) -> float:
    """Do something for each number, many at once; the seconds that it took."""
    began, waiting = time.monotonic(), asyncio.Semaphore(AT_ONCE)

    async def one(i: int) -> None:
        async with waiting:
            await work(i)

    await asyncio.gather(*(one(i) for i in numbers))
    return time.monotonic() - began


async def until(what: str, is_so: Callable[[], Awaitable[bool]]) -> float:
    """Wait until something is so; the seconds that it took."""
    began = time.monotonic()
    while not await is_so():
        assert time.monotonic() - began < DEADLINE_S, f"{what}: not in time"
        await asyncio.sleep(0.5)
    sys.stderr.write(f"{what}: {time.monotonic() - began:.1f} s\n")
    return time.monotonic() - began


async def n_running(cluster: Cluster) -> int:
    """Pods that run."""
    return sum(pod.phase == "Running" for pod in await cluster.pods({}))


async def placements(config: FacilityConfig, n: int) -> list[float]:
    """Seconds of each look at all places with the choice of one."""

    async def ask(place: PlaceConfig) -> HostStorage | None:
        return await ask_kubernetes_place(place, config)

    times = []
    for i in range(n):
        began = time.perf_counter()
        places = await read_places(config, (), ask)
        chosen, _ = choose(Wanted({f"pool-{i % N_PLACES}": 10**9}, IMAGE, memory_gib=4, key=str(i)), places)
        times.append(time.perf_counter() - began)
        assert chosen.name == f"place-{i % N_PLACES}"
    return times


async def starts(cluster: Cluster, config: FacilityConfig, first: int, n: int) -> tuple[float, list[float]]:
    """Requests to the API server per start and stop of a pod, and the seconds until each ran."""
    before, times = cluster.n_calls, []
    for i in range(first, first + n):
        began = time.perf_counter()
        made = await cluster.create_pod(session_pod(i, config))
        while True:
            turn = cluster.turn
            [pod] = [one for one in await cluster.pods(made.labels) if one.name == made.name]
            if "running" in pod.container_state:
                break
            await cluster.wait_change(turn, 5)
        times.append(time.perf_counter() - began)
        await cluster.delete_pod(pod, grace_s=1)
    return (cluster.n_calls - before) / n, times


def percentile(times: list[float], share: float) -> float:
    """A percentile of times, in seconds."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures; nodes are there when it begins."""
    config = facility()
    cluster = shared_cluster(config.sessions.places[0].kubernetes)  # type: ignore[arg-type]  # it is one
    figures: dict[str, Any] = {"rss_at_start_mib": rss_mib()}
    await until("nodes", lambda: _ready(cluster, arguments.nodes))
    figures["rss_with_nodes_mib"] = rss_mib()
    few, times = await starts(cluster, config, 10**6, arguments.starts)
    figures["calls_per_start_and_stop_few"], figures["start_p50_s_few"] = few, statistics.median(times)
    figures["create_s"] = await several(
        lambda i: cluster.create_pod(session_pod(i, config)), range(arguments.pods)
    )
    figures["all_running_s"] = await until("pods", lambda: _running(cluster, arguments.pods))
    figures["rss_with_pods_mib"] = rss_mib()
    many, times = await starts(cluster, config, 2 * 10**6, arguments.starts)
    figures["calls_per_start_and_stop_many"], figures["start_p50_s_many"] = many, statistics.median(times)
    times = await placements(config, arguments.placements)
    figures["placement_p50_s"], figures["placement_p95_s"] = statistics.median(times), percentile(times, 0.95)
    began = time.perf_counter()
    look = await KubernetesView(config).look()
    figures["sweeper_look_s"], figures["sweeper_saw"] = time.perf_counter() - began, len(look.found)
    if arguments.events:
        figures["events_create_s"] = await several(lambda i: _event(cluster, i), range(arguments.events))
        began = time.perf_counter()
        [pod] = [one for one in await cluster.pods({}) if one.name == pod_name("0" * 32)]
        figures["events_of_one_pod"] = len(await cluster.events_of(pod))
        figures["events_of_one_pod_s"] = time.perf_counter() - began
        figures["rss_with_events_mib"] = rss_mib()
    figures["views"] = {
        name: {"n_items": one.n_items, "n_lists": one.n_lists, "n_restarts": one.n_restarts}
        for name, one in cluster.health().items()
    }
    figures["rss_peak_mib"] = (
        int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    )
    return figures


async def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures; connections are closed however it ends."""
    try:
        return await measure(arguments)
    finally:
        close_lists()
        await close_clusters()


async def _ready(cluster: Cluster, n: int) -> bool:
    nodes = await cluster.nodes() or ()
    return sum(node.is_ready for node in nodes if node.labels.get(FAKE) == "node") >= n


async def _running(cluster: Cluster, n: int) -> bool:
    return await n_running(cluster) >= n


async def _event(cluster: Cluster, i: int) -> None:
    subject = {
        "kind": "Pod",
        "namespace": NAMESPACE,
        "name": "p",
        "uid": f"uid-{i % 3000}",
        "apiVersion": "v1",
    }
    event = {
        "metadata": {"generateName": "scale-"},
        "involvedObject": subject,
        "reason": "Scale",
        "message": "m" * 200,
        "type": "Normal",
    }
    await cluster.call("POST", f"/api/v1/namespaces/{NAMESPACE}/events", body=event)


def main() -> int:
    """Run it, print the figures, keep them; 1 when a limit is not held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=3000)
    parser.add_argument("--events", type=int, default=35_000)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--placements", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not KWOK.exists() or "KUBECONFIG" not in os.environ:
        sys.stderr.write(f"needs a cluster (KUBECONFIG) and kwok ({KWOK}, or BEAMHUB_KWOK)\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was made is removed then, too
    with ExitStack() as left:
        left.callback(remove_all)
        kubectl("create", "namespace", NAMESPACE)
        nodes = [fake_node(i) for i in range(arguments.nodes)]
        for begin in range(0, len(nodes), 100):
            kubectl(
                "create",
                "-f",
                "-",
                said={"apiVersion": "v1", "kind": "List", "items": nodes[begin : begin + 100]},
            )
        with playing_nodes():
            figures = asyncio.run(measured(arguments))
    held = {
        "placement_p95": figures["placement_p95_s"] <= PLACEMENT_LIMIT_S,
        "memory": figures["rss_peak_mib"] <= MEMORY_LIMIT_MIB,
        "calls_flat": figures["calls_per_start_and_stop_many"] <= figures["calls_per_start_and_stop_few"],
    }
    result = {
        "what": "placement, watch and sweep at scale",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "sizes": {name: getattr(arguments, name) for name in ("nodes", "pods", "events", "starts")},
        "limits": {"placement_p95_s": PLACEMENT_LIMIT_S, "memory_mib": MEMORY_LIMIT_MIB},
        "figures": figures,
        "held": held,
    }
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
