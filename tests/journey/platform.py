"""What the journey asks of a platform, and the embedded demo as a child process."""

from __future__ import annotations

import abc
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from beamhub_core.demo import DemoLayout
from beamhub_core.process_table import is_running
from journey.names import BrowserTransport

REPOSITORY = Path(__file__).resolve().parents[2]
N_PORTS = 5


def free_block(first: int = 21000) -> int:
    """The first of five consecutive free ports on loopback."""
    for port in range(first, first + 8000, 10):
        with contextlib.ExitStack() as stack:
            try:
                for one in range(port, port + N_PORTS):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", one))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no block of five free ports on loopback between {first} and {first + 8000}")


class Platform(abc.ABC):
    """A running platform with the demo facility; `setup_seconds` is how long its start took."""

    layout: DemoLayout
    url: str
    issuer: str
    short_name = "demo"
    places: tuple[str, ...] = ("hall-a", "hall-b")
    """In which sessions may run; the last has the second technique's data."""
    harvest: dict[str, Any]
    setup_seconds: float
    has_gateway = False
    """Whether notebooks get Dask clusters beside their session."""

    @property
    @abc.abstractmethod
    def web_url(self) -> str:
        """Web's internal address from here."""

    @property
    @abc.abstractmethod
    def hub_database(self) -> Path:
        """A file of the hub's database, which no session may read."""

    @abc.abstractmethod
    def hub_pid(self) -> int:
        """The hub's process, as this machine counts."""

    @abc.abstractmethod
    def server_pid(self, backend_id: str) -> int:
        """The process of a session, as this machine counts; 0 for none."""

    def cluster_parts(self, plan_id: str) -> list[str]:
        """Roles of the schedulers and workers beside a session, as its backend shows them."""
        del plan_id
        return []

    def take_in(self, proposal: Path, subject: str) -> None:
        """Give the folder of a new proposal the owners that the facility gives it; one user needs none."""
        del proposal, subject

    def kill_hub(self) -> None:
        """SIGKILL the hub, which no process can catch, and see it gone."""
        pid = self.hub_pid()
        os.kill(pid, signal.SIGKILL)
        while is_running(pid):
            time.sleep(0.02)

    def hub_answers(self) -> bool:
        """Whether the hub is well, seen through the proxy."""
        with contextlib.suppress(httpx.HTTPError), httpx.Client(transport=BrowserTransport()) as client:
            return client.get(f"{self.url}/hub/health", timeout=2).status_code == 200
        return False

    def internal(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of web's internal API to the demo's own client."""
        token = self.layout.secret("demo-client-token").read_text().strip()
        answer = httpx.request(
            method,
            f"{self.web_url}/internal{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )
        answer.raise_for_status()
        return answer.json()


class EmbeddedPlatform(Platform):
    """`beamhub demo`, which said where it is."""

    def __init__(self, root: Path, port: int, facts: dict[str, Any], setup_seconds: float) -> None:
        self.layout = DemoLayout(root)
        self.url, self.harvest, self.setup_seconds = facts["url"], facts["harvest"], setup_seconds
        self.issuer = f"http://127.0.0.1:{port + 3}"
        self._web_url, self._hub_pid = f"http://127.0.0.1:{port + 2}", int(facts["processes"]["hub"])

    @property
    def web_url(self) -> str:
        """Web's internal address from here."""
        return self._web_url

    @property
    def hub_database(self) -> Path:
        """The hub's SQLite file."""
        return self.layout.state("hub") / "hub.sqlite"

    def hub_pid(self) -> int:
        """The hub that the demo started first."""
        return self._hub_pid

    def server_pid(self, backend_id: str) -> int:
        """The number in `pid:NUMBER`."""
        kind, _, number = backend_id.rpartition(":")
        return int(number) if kind == "pid" else 0


@contextlib.contextmanager
def embedded_platform(root: Path) -> Iterator[Platform]:
    """Start `beamhub demo` in `root`, and stop it with what a person sends: an interrupt."""
    port = free_block()
    started = time.monotonic()
    command = [sys.executable, "-m", "beamhub_core.command", "demo", "--json"]
    command += [
        "--state-folder",
        str(root),
        "--port",
        str(port),
        "--templates",
        str(REPOSITORY / "notebooks"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, cwd=REPOSITORY)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the demo did not start (exit code {process.wait(timeout=30)}); see {root / 'logs'}"
            )
        yield EmbeddedPlatform(root, port, json.loads(line), round(time.monotonic() - started, 1))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
