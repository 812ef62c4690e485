"""How long a session's pod takes from the request until it answers HTTP, beside plain KubeSpawner.

Both hubs are real JupyterHub processes on this machine, with the same cluster and namespace; plain
KubeSpawner starts the image of stock packages, ours starts that one and our own. Starts alternate, so that
what else the machine does falls on all. Requests to the API server are counted in a proxy before it, one for
each hub, since KubeSpawner lists pods and events anew all the time; watches are not counted. A bare pod of
each image gives the floor. Where our time goes is what the hub's metrics say of its phases.

    eval "$(shared/cluster/cluster env)"
    python benchmarks/bench_pod_start.py --json docs/measurements/session-pod-start.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import yaml
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from session_peers import (
    BASE_COMMAND,
    HUB_CONFIG,
    STOCK_COMMAND,
    STOCK_IMAGE,
    HubClient,
    await_that,
    ensure_stock_image,
    free_port,
)

from beamhub_core.identity import account_name
from contracts.cluster_parts import HOST, TestCluster, load_image, test_namespace
from contracts.docker_parts import BASE_IMAGE, engine_client
from contracts.kubernetes_parts import cluster_facility
from contracts.spawner_parts import GRANTED_PID, ISSUER, TOKEN, make_facility
from contracts.web_stand_in import serving_stand_in

RATIO_LIMIT = 0.7
OVER_BARE_S = 1.0
N_BARE = 5
PLAIN = """
from kubespawner import KubeSpawner
c.JupyterHub.spawner_class = KubeSpawner
c.KubeSpawner.namespace = {namespace!r}
c.KubeSpawner.image = {image!r}
c.KubeSpawner.image_pull_policy = "Never"
c.KubeSpawner.uid = 1000
c.KubeSpawner.start_timeout = c.KubeSpawner.http_timeout = 120
c.KubeSpawner.environment = {{"HOME": "/tmp"}}
c.KubeSpawner.container_security_context = {{
    "allowPrivilegeEscalation": False, "runAsNonRoot": True,
    "capabilities": {{"drop": ["ALL"]}}, "seccompProfile": {{"type": "RuntimeDefault"}},
}}
"""
OURS = """
import sys
sys.path[:0] = {paths!r}
from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_spawners.kubernetes_spawner import KubernetesSessionSpawner
from beamhub_spawners.platform import Platform
from beamhub_spawners.web_client import WebClient
from contracts.spawner_parts import principal

class Spawner(KubernetesSessionSpawner):
    async def run_auth_state_hook(self, auth_state):
        self.principal = principal(account=self.user.name, uid=4711, gid=4711)

config = FacilityConfig.model_validate({fields!r})
Spawner.platform = Platform(config=config, clock=utc_now, web=WebClient({web_url!r}, {web_token!r}))
c.JupyterHub.spawner_class = Spawner
c.JupyterHub.authenticate_prometheus = False
"""
PHASE_SUM = re.compile(r'^beamhub_start_phase_seconds_sum\{phase="(plan|create|boot)"\} (\S+)$', re.MULTILINE)


class CountingProxy:
    """An API server's front that counts requests; it adds the credentials, and is for this machine only."""

    def __init__(self, kubeconfig: Path) -> None:
        admin = yaml.safe_load(kubeconfig.read_text())
        self._server = admin["clusters"][0]["cluster"]["server"]
        self._token = admin["users"][0]["user"]["token"]
        self.n_requests = 0
        self.port = free_port()

    @contextmanager
    def serving(self) -> Iterator[CountingProxy]:
        """Serve until the block ends."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        runner = asyncio.run_coroutine_threadsafe(self._start(), loop).result(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
            asyncio.run_coroutine_threadsafe(_end_others(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)

    def kubeconfig(self, file: Path) -> Path:
        """A kubeconfig that leads here."""
        cluster = {"name": "x", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "x", "user": {}}]}
        file.write_text(
            yaml.safe_dump({**config, "current-context": "x", "kind": "Config", "apiVersion": "v1"})
        )
        return file

    async def _start(self) -> web.AppRunner:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._forward)
        app.cleanup_ctx.append(self._client)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        return runner

    async def _client(self, app: web.Application) -> Any:
        # The certificate is not looked at: both ends are this machine.
        async with ClientSession(connector=TCPConnector(ssl=False), timeout=ClientTimeout()) as client:
            self._session = client
            yield

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        # A watch belongs to the hub and not to a start: one for all, opened anew every few seconds.
        self.n_requests += "watch" not in request.query
        kept = {name: value for name, value in request.headers.items() if name in ("Accept", "Content-Type")}
        headers = {**kept, "Authorization": f"Bearer {self._token}"}
        async with self._session.request(
            request.method, f"{self._server}{request.rel_url}", headers=headers, data=await request.read()
        ) as answer:
            response = web.StreamResponse(
                status=answer.status, headers={"Content-Type": answer.headers.get("Content-Type", "")}
            )
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            return response


async def _end_others() -> None:
    """End what still forwards."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for one in others:
        one.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def hub(folder: Path, config: str, **facts: Any) -> Iterator[HubClient]:
    """A JupyterHub process with this configuration."""
    folder.mkdir()
    port, token = free_port(), secrets.token_hex(16)
    common = HUB_CONFIG.format(port=port, public=free_port(), token=token, host=HOST)
    (folder / "jupyterhub_config.py").write_text(common + config)
    with (folder / "hub.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", "jupyterhub_config.py"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "JUPYTERHUB_CRYPT_KEY": "ab" * 32, **facts},
        )
    api_url = f"http://127.0.0.1:{port}/hub/api"
    try:
        await_that(lambda: _answers(f"{api_url}/"), f"the hub in {folder.name}")
        yield HubClient(api_url, token)
    except BaseException:
        sys.stderr.write((folder / "hub.log").read_text()[-4000:])
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code < 500
    except httpx.HTTPError:
        return False


def bare_start(cluster: TestCluster, image: str) -> float:
    """Seconds from making a bare pod of an image until its JupyterLab answers."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "session",
        "image": image,
        "imagePullPolicy": "Never",
        "args": list(STOCK_COMMAND if image == STOCK_IMAGE else BASE_COMMAND),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - the pod's own
        "securityContext": security,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}}
    began = time.perf_counter()
    cluster.apply({**pod, "spec": {"restartPolicy": "Never", "containers": [container]}})
    try:
        address = ""
        while not address or not _answers(f"http://{address}:8888/api"):
            address = address or cluster.kubectl("get", "pod", "bare", "-o=jsonpath={.status.podIP}")
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        cluster.kubectl("delete", "pod", "bare", "--grace-period=1")


def timed(client: HubClient, name: str, options: dict[str, Any], proxy: CountingProxy) -> tuple[float, int]:
    """Seconds of one start, and requests to the API server until the server answers."""
    client.add(name)
    before = proxy.n_requests
    took = client.start(name, options)
    n_requests = proxy.n_requests - before
    client.stop(name)
    return took, n_requests


def phase_sums(client: HubClient) -> dict[str, float]:
    """The seconds that a hub spent in each phase of its starts so far; nothing where it has no phases."""
    return {name: float(seconds) for name, seconds in PHASE_SUM.findall(client.metrics())}


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and extremes."""
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)) - 1)] if len(ordered) > 1 else ordered[0]
    return {"p50": statistics.median(ordered), "p95": p95, "least": ordered[0], "most": ordered[-1]}


def compared(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Ours beside plain, which runs the stock image: with that image, and with our own."""
    plain = figures["plain_s"]["p50"]
    return {
        what: {
            "ratio_p50": figures[f"{ours}_s"]["p50"] / plain,
            "p95_over_bare_s": figures[f"{ours}_s"]["p95"] - figures[f"{bare}_s"]["p50"],
        }
        for what, ours, bare in (("same image", "ours_stock", "bare_stock"), ("own image", "ours", "bare"))
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--image", default=BASE_IMAGE, help="our own image; the stock one is built when absent"
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three rounds, to see that it works")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    n_rounds = 3 if asked.quick else asked.rounds
    with ExitStack() as stack:
        figures = measure(stack, asked.image, n_rounds)
    comparison = compared(figures)
    same = comparison["same image"]
    holds = same["ratio_p50"] <= RATIO_LIMIT and same["p95_over_bare_s"] <= OVER_BARE_S
    figures |= {
        "compared": comparison,
        "limits": {"ratio_p50": RATIO_LIMIT, "p95_over_bare_s": OVER_BARE_S},
        "image": asked.image,
        "rounds": n_rounds,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
    }
    print(json.dumps(figures, indent=2))
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if holds or asked.quick else 1


def measure(stack: ExitStack, image: str, n_rounds: int) -> dict[str, Any]:
    """Start plain, ours and bare in turn."""
    enter: Callable[[Any], Any] = stack.enter_context
    cluster: TestCluster = enter(test_namespace())
    with engine_client() as engine:
        ensure_stock_image(engine, {name: version(name) for name in ("jupyterhub", "jupyterlab")})
    for one in (image, STOCK_IMAGE):
        load_image(one, cluster.run_folder)
    folder = Path(enter(tempfile.TemporaryDirectory()))
    stand_in = enter(serving_stand_in(HOST))
    fields = cluster_facility(folder, cluster, stand_in, image=image, image_pull_policy="Never")
    stock = {"name": "stock", "title": "Stock", "image": STOCK_IMAGE}
    fields["sessions"]["environments"].append(stock)
    make_facility(folder)
    for pool in fields["pools"]:
        shutil.copytree(folder / "pools" / pool["name"], pool["root"], dirs_exist_ok=True)
    # KubeSpawner watches events and more; what each may do makes no difference to the times.
    cluster.kubectl(
        "create", "rolebinding", "plain", "--clusterrole=edit", f"--serviceaccount={cluster.namespace}:hub"
    )
    own_kubeconfig = Path(fields["sessions"]["places"][0]["kubernetes"]["kubeconfig"])
    proxies: dict[str, CountingProxy] = {
        name: enter(CountingProxy(own_kubeconfig).serving()) for name in ("plain", "ours")
    }
    counted = {name: one.kubeconfig(folder / f"{name}.kubeconfig") for name, one in proxies.items()}
    for place in fields["sessions"]["places"]:
        place["kubernetes"] |= {"kubeconfig": str(counted["ours"]), "hub_api_url": None}
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
    paths.append(str(Path(__file__).resolve().parents[1] / "tests"))
    plain = enter(
        hub(
            folder / "plain",
            PLAIN.format(namespace=cluster.namespace, image=STOCK_IMAGE),
            KUBECONFIG=str(counted["plain"]),
        )
    )
    ours = enter(
        hub(
            folder / "ours",
            OURS.format(paths=paths, fields=fields, web_url=stand_in.url, web_token=TOKEN),
        )
    )
    wanted = {"datasets": [GRANTED_PID]}
    kinds: dict[str, tuple[HubClient, dict[str, Any], CountingProxy]] = {
        "plain": (plain, {}, proxies["plain"]),
        "ours": (ours, wanted, proxies["ours"]),
        "ours_stock": (ours, {**wanted, "environment": "stock"}, proxies["ours"]),
    }
    times: dict[str, list[float]] = {name: [] for name in (*kinds, "bare", "bare_stock")}
    requests: dict[str, list[int]] = {name: [] for name in kinds}
    phases: dict[str, list[float]] = {}
    for i in range(n_rounds + 1):
        for name, (client, options, proxy) in kinds.items():
            account = account_name(ISSUER, f"p{i}")
            home = Path(fields["sessions"]["homes_folder"]) / account
            home.mkdir(exist_ok=True)
            os.chown(home, 4711, 4711)
            before = phase_sums(client)
            took, n_requests = timed(client, account, options, proxy)
            if i:  # the first starts read the image from the disk
                times[name].append(took)
                requests[name].append(n_requests)
                for phase, seconds in phase_sums(client).items():
                    phases.setdefault(f"{name}_{phase}", []).append(seconds - before.get(phase, 0.0))
        if 1 <= i <= N_BARE:
            times["bare"].append(bare_start(cluster, image))
            times["bare_stock"].append(bare_start(cluster, STOCK_IMAGE))
        sys.stderr.write(f"round {i} of {n_rounds}\n")
    found: dict[str, Any] = {f"{name}_s": quantiles(values) for name, values in times.items()}
    found |= {f"{name}_requests_per_start": statistics.median(values) for name, values in requests.items()}
    return found | {"phases_p50_s": {name: statistics.median(values) for name, values in phases.items()}}


if __name__ == "__main__":
    sys.exit(main())
