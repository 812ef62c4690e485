"""What a session's start is compared with: a hub with plain DockerSpawner, and servers without any hub."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from docker.errors import ImageNotFound

STOCK_IMAGE = "beamhub-bench-stock:dev"
# What somebody writes who follows the documentation of JupyterHub and DockerSpawner.
STOCK_DOCKERFILE = """
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv \\
    && python3 -m venv /opt/jupyter
RUN /opt/jupyter/bin/pip install --no-cache-dir jupyterhub=={jupyterhub} jupyterlab=={jupyterlab}
RUN useradd --create-home jovyan
ENV PATH=/opt/jupyter/bin:/usr/bin:/bin
USER jovyan
WORKDIR /home/jovyan
EXPOSE 8888
CMD ["jupyterhub-singleuser"]
"""
HUB_CONFIG = """
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    should_start = False
    async def add_route(self, routespec, target, data): pass
    async def delete_route(self, routespec): pass
    async def get_all_routes(self): return {{}}

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.authenticator_class = DummyAuthenticator
c.DummyAuthenticator.allow_all = True
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.hub_bind_url = "http://0.0.0.0:{port}"
c.JupyterHub.hub_connect_url = "http://{host}:{port}"
c.JupyterHub.bind_url = "http://127.0.0.1:{public}"
c.JupyterHub.services = [{{"name": "operator", "api_token": {token!r}}}]
c.JupyterHub.load_roles = [
    {{"name": "operator", "services": ["operator"], "scopes": ["admin:users", "admin:servers"]}},
]
"""
"""A hub for benchmarks: nobody's proxy, an operator with a token; `host` is where its servers reach it."""
PLAIN_CONFIG = """
from dockerspawner import DockerSpawner
c.JupyterHub.spawner_class = DockerSpawner
c.DockerSpawner.image = {image!r}
c.DockerSpawner.use_internal_ip = True
c.DockerSpawner.remove = True
c.Spawner.start_timeout = 300  # on a busy machine a slow start is slow, not failed
c.Spawner.http_timeout = 180
c.DockerSpawner.prefix = {prefix!r}
"""
BARE_ARGUMENTS = ("--ip=0.0.0.0", "--port=8888", "--no-browser", "--ServerApp.token=")
STOCK_COMMAND = ("jupyter", "lab", *BARE_ARGUMENTS)
# As a session of ours boots, without the imports that it bars: else the limit would be too easy.
BARRED = (
    "from beamhub_spawners.session_server import bar_slow_imports; bar_slow_imports()\n"
    "from jupyterlab.labapp import main; main()"
)
BASE_COMMAND = ("python", "-P", "-c", BARRED, *BARE_ARGUMENTS)
POLL_S = 0.01
LIMIT_S = 180.0


def ensure_stock_image(engine: Any, versions: dict[str, str]) -> None:
    """Build the stock image, unless an earlier run has."""
    try:
        engine.inspect_image(STOCK_IMAGE)
        return
    except ImageNotFound:
        sys.stderr.write(f"building {STOCK_IMAGE}, once\n")
    file = io.BytesIO(STOCK_DOCKERFILE.format(**versions).encode())
    for line in engine.build(fileobj=file, tag=STOCK_IMAGE, network_mode="host", rm=True, decode=True):
        if "error" in line:
            raise SystemExit(f"the stock image cannot be built: {line['error']}")


def free_port() -> int:
    """A port on which nothing listened a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def await_that(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds, looking often: it is timed."""
    until = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > until:
            raise SystemExit(f"{what} did not come within {LIMIT_S:g} s")
        time.sleep(POLL_S)


class HubClient:
    """An operator of a hub who starts and stops servers, and how long that takes."""

    def __init__(self, api_url: str, token: str) -> None:
        self._http = httpx.Client(
            base_url=api_url, headers={"Authorization": f"Bearer {token}"}, timeout=LIMIT_S
        )

    def add(self, name: str) -> None:
        """Make a person known."""
        assert self._http.post(f"/users/{name}").status_code in (201, 409)

    def start(self, name: str, options: dict[str, Any] | None = None) -> float:
        """Start a person's server; seconds from the request until the hub says that it answers HTTP."""
        began = time.perf_counter()
        answer = self._http.post(f"/users/{name}/server", json={"user_options": options or {}})
        if answer.status_code == 202:
            await_that(lambda: self._is_ready(name), f"the server of {name}")
        elif answer.status_code != 201:
            raise SystemExit(f"HTTP {answer.status_code}: {answer.text[:500]}")
        return time.perf_counter() - began

    def stop(self, name: str) -> None:
        """Stop it, and wait until it is gone."""
        self._http.delete(f"/users/{name}/server")
        await_that(lambda: not self._server(name), f"the end of {name}'s server")

    def metrics(self) -> str:
        """The hub's metrics; empty where it shows them to nobody."""
        answer = self._http.get(f"{str(self._http.base_url).removesuffix('/api/')}/metrics")
        return answer.text if answer.status_code == 200 else ""

    def _is_ready(self, name: str) -> bool:
        server = self._server(name)
        if not server:
            raise SystemExit(f"the start of {name} failed")
        return bool(server["ready"])

    def _server(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._http.get(f"/users/{name}").json()["servers"].get("", {})
        return found


@contextmanager
def plain_hub(engine: Any, folder: Path) -> Iterator[tuple[HubClient, int]]:
    """JupyterHub with DockerSpawner as its documentation sets it up; and the hub's process id."""
    folder.mkdir()
    port, token, prefix = free_port(), secrets.token_hex(16), f"bench-plain-{secrets.token_hex(3)}"
    gateway = engine.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"]
    common = HUB_CONFIG.format(port=port, public=free_port(), token=token, host=gateway)
    plain = PLAIN_CONFIG.format(image=STOCK_IMAGE, prefix=prefix)
    (folder / "jupyterhub_config.py").write_text(common + plain)
    with (folder / "plain.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", "jupyterhub_config.py"],
            cwd=folder, stdout=log, stderr=log, env={**os.environ, "JUPYTERHUB_CRYPT_KEY": "ab" * 32},
        )  # fmt: skip
    api_url = f"http://127.0.0.1:{port}/hub/api"
    try:
        await_that(lambda: _answers(f"{api_url}/"), "the plain hub")
        yield HubClient(api_url, token), process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        for container in engine.containers(all=True, filters={"name": f"{prefix}-"}):
            engine.remove_container(container["Id"], force=True, v=True)


def bare_start(engine: Any, image: str) -> float:
    """Seconds of `docker run` of an image until its JupyterLab answers HTTP; it is removed again."""
    command = STOCK_COMMAND if image == STOCK_IMAGE else BASE_COMMAND
    options = {"labels": {"beamhub.bench": "bare"}, "environment": {"HOME": "/tmp"}}  # noqa: S108 - the container's
    began = time.perf_counter()
    made = engine.create_container(image, list(command), detach=True, **options)["Id"]
    try:
        engine.start(made)
        network = engine.inspect_container(made)["NetworkSettings"]["Networks"]["bridge"]
        url = f"http://{network['IPAddress']}:8888/api"
        await_that(lambda: _answers(url), f"a bare server of {image}")
        return time.perf_counter() - began
    finally:
        engine.remove_container(made, force=True, v=True)


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2).status_code < 500
    return False
