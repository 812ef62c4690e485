"""The demo platform as a child process: started with its own state folder and ports, stopped at the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

REPOSITORY = Path(__file__).resolve().parents[2]
N_PORTS = 5


def free_block() -> int:
    """The first of five consecutive free ports on loopback."""
    for first in range(21000, 29000, 10):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + N_PORTS):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no block of five free ports on loopback between 21000 and 29000")


@dataclass(frozen=True, slots=True)
class Platform:
    """A running demo."""

    root: Path
    url: str
    web_url: str
    hub_url: str
    pids: dict[str, int]
    harvest: dict[str, Any]
    setup_seconds: float
    process: subprocess.Popen[str]

    def internal(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of web's internal API to the demo's own client."""
        token = (self.root / "secrets" / "demo-client-token").read_text().strip()
        answer = httpx.request(
            method,
            f"{self.web_url}/internal{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )
        answer.raise_for_status()
        return answer.json()


@contextlib.contextmanager
def running_platform(root: Path) -> Iterator[Platform]:
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
        facts = json.loads(line)
        yield Platform(
            root=root,
            url=facts["url"],
            web_url=f"http://127.0.0.1:{port + 2}",
            hub_url=f"http://127.0.0.1:{port + 4}",
            pids=facts["processes"],
            harvest=facts["harvest"],
            setup_seconds=round(time.monotonic() - started, 1),
            process=process,
        )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def kill(pid: int) -> None:
    """SIGKILL: no process can catch it."""
    os.kill(pid, signal.SIGKILL)
