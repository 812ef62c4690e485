"""Full OIDC logins a second over real HTTP: our hub, and JupyterHub with oauthenticator's generic class.

One login is what a browser does: the hub's start, the provider, the hub's callback with its login cookie.
Provider, hubs and the doubles of web and proxy are processes of their own; the provider signs with RS256.
The peer reads userinfo and checks no ID token; both keep an encrypted auth state on SQLite. The limit is the
processor time that one login takes in the hub's process: one process has one core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from beamhub_core.process_table import read_process  # noqa: E402
from hub.hub_parts import (  # noqa: E402  # the tests' folder, not the room
    CLIENT_ID,
    CLIENT_SECRET,
    SECRETS,
    Addresses,
    await_hub,
    facility_fields,
    free_port,
    start_hub,
    stop,
    write_facility,
)

P95_LIMIT_S = 2.0
STEPS = (5, 10, 15, 20, 30, 40, 60, 80)
PLAIN = """
from oauthenticator.generic import GenericOAuthenticator
c = get_config()
c.JupyterHub.bind_url = "{url}/"
c.JupyterHub.hub_bind_url = "{url}"
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie-secret"
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = "{proxy}"
c.ConfigurableHTTPProxy.auth_token = "{proxy_token}"
c.JupyterHub.authenticator_class = GenericOAuthenticator
a = c.GenericOAuthenticator
a.client_id, a.client_secret = {client_id!r}, {client_secret!r}
a.authorize_url, a.token_url = "{issuer}/authorize", "{issuer}/token"
a.userdata_url, a.oauth_callback_url = "{issuer}/userinfo", "{url}/hub/oauth_callback"
a.scope, a.username_claim, a.basic_auth = ["openid", "profile", "email"], "sub", False
a.allow_all, a.enable_auth_state, a.enable_pkce = True, True, True
"""


@dataclass(frozen=True)
class Target:
    """A running hub that is measured."""

    name: str
    url: str
    pid: int

    def cpu_s(self) -> float:
        """Processor time that its process took so far."""
        facts = read_process(self.pid)
        assert facts is not None, "it ended"
        return facts.processor_ticks / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """What it holds in memory now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def peer_process(role: str) -> Iterator[dict[str, int]]:
    """A process of `login_peers.py` and the ports it serves."""
    command = [sys.executable, str(ROOT / "benchmarks" / "login_peers.py"), role]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


@contextmanager
def ours(folder: Path, issuer: str, ports: dict[str, int]) -> Iterator[Target]:
    """Our hub."""
    port = free_port()
    addresses = Addresses(
        issuer=issuer,
        hub_port=port,
        proxy_api=f"http://127.0.0.1:{ports['proxy']}",
        web=f"http://127.0.0.1:{ports['web']}",
        public_url=f"http://127.0.0.1:{port}",
    )
    fields = facility_fields(folder, addresses)
    fields["login"]["refresh_s"] = 300
    write_facility(folder, fields)
    process = start_hub(folder)
    try:
        await_hub(process, addresses.public_url, folder)
        yield Target("ours", addresses.public_url, process.pid)
    finally:
        stop(process)


@contextmanager
def plain(folder: Path, issuer: str, ports: dict[str, int]) -> Iterator[Target]:
    """The peer: JupyterHub and oauthenticator's generic class."""
    folder.mkdir()
    url = f"http://127.0.0.1:{free_port()}"
    settings = PLAIN.format(
        url=url,
        folder=folder,
        proxy=f"http://127.0.0.1:{ports['plain_proxy']}",
        proxy_token=SECRETS["proxy"],
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        issuer=issuer,
    )
    (folder / "jupyterhub_config.py").write_text(settings)
    with (folder / "hub.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(folder / "jupyterhub_config.py")],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "JUPYTERHUB_CRYPT_KEY": SECRETS["crypt-key"]},
        )
    try:
        await_hub(process, url, folder)
        yield Target("plain oauthenticator", url, process.pid)
    finally:
        stop(process, signal.SIGTERM)


async def one_login(transport: httpx.AsyncBaseTransport, url: str) -> float:
    """Seconds from the first request to the login cookie; raises if there is none."""
    started = time.perf_counter()
    client = httpx.AsyncClient(transport=transport, timeout=30)  # never closed: the connections are shared
    address = f"{url}/hub/oauth_login?next=/hub/home"
    for _ in range(8):
        answer = await client.get(address)
        if any(name.startswith("jupyterhub-hub-login") for name in answer.cookies):
            return time.perf_counter() - started
        if answer.status_code not in (302, 303):
            raise RuntimeError(f"HTTP {answer.status_code}")
        address = str(answer.url.join(answer.headers["location"]))
    raise RuntimeError("no end of redirects")


async def load(target: Target, rate: float, seconds: float) -> dict[str, Any]:
    """Logins started at a fixed rate, whether or not the earlier ones have ended."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    transport = httpx.AsyncHTTPTransport(limits=limits, verify=False)
    cpu, begin, tasks = target.cpu_s(), time.perf_counter(), []
    for i in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begin + i / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one_login(transport, target.url)))
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    wall = time.perf_counter() - begin
    await transport.aclose()
    times = sorted(value for value in ended if isinstance(value, float))
    failed = [repr(value)[:80] for value in ended if not isinstance(value, float)]
    return {
        "rate": rate,
        "logins": len(tasks),
        "errors": len(failed),
        "error_kinds": sorted(set(failed))[:3],
        "p50_s": round(statistics.median(times), 4) if times else None,
        "p95_s": round(times[int(0.95 * (len(times) - 1))], 4) if times else None,
        "max_s": round(times[-1], 4) if times else None,
        "per_s": round(len(times) / wall, 2),
        "hub_cpu_ms_each": round(1000 * (target.cpu_s() - cpu) / len(tasks), 1),
    }


def highest_rate(target: Target, seconds: float) -> list[dict[str, Any]]:
    """Each step up to the first that fails or is too slow."""
    steps = []
    for rate in STEPS:
        steps.append(asyncio.run(load(target, rate, seconds)))
        say(target, steps[-1])
        if steps[-1]["errors"] or (steps[-1]["p95_s"] or P95_LIMIT_S) >= P95_LIMIT_S:
            break
    return steps


def starts_only(target: Target, count: int) -> dict[str, Any]:
    """What a crowd that starts logins and never ends them leaves in the hub's memory."""

    def start(number: int) -> None:
        with httpx.Client(timeout=30) as client:
            for _ in range(number):
                client.cookies.clear()
                assert client.get(f"{target.url}/hub/oauth_login").status_code == 302

    start(500)  # what is made once is made now
    before = target.memory_mib()
    start(count)
    return {"starts": count, "memory_growth_mib": round(target.memory_mib() - before, 2)}


def say(target: Target, result: dict[str, Any]) -> None:
    """One line for one measured thing."""
    print(
        f"{target.name}: {result['rate']:g}/s, {result['logins']} logins, {result['errors']} errors, "
        f"p50 {result['p50_s']} s, p95 {result['p95_s']} s, max {result['max_s']} s, "
        f"hub's processor {result['hub_cpu_ms_each']} ms each",
        flush=True,
    )


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in info.splitlines() if "model name" in line), "")
    return {"processor": model, "cores": os.cpu_count(), "python": platform.python_version()}


def main() -> None:
    """Measure both, print a line for each thing, and write the JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5.0, help="logins a second")
    parser.add_argument("--seconds", type=float, default=120.0, help="for how long")
    parser.add_argument("--step-seconds", type=float, default=15.0, help="length of each step of the search")
    parser.add_argument("--starts", type=int, default=10_000, help="logins that are started and never ended")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/bench_login.py " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "load_average": os.getloadavg(),
    }
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        provider = stack.enter_context(peer_process("provider"))
        doubles = stack.enter_context(peer_process("doubles"))
        issuer = f"http://127.0.0.1:{provider['provider']}"
        for make in (ours, plain):
            with make(Path(folder) / make.__name__, issuer, doubles) as target:
                asyncio.run(load(target, 2, 5))  # what is made once is made now
                steady = asyncio.run(load(target, arguments.rate, arguments.seconds))
                say(target, steady)
                steps = highest_rate(target, arguments.step_seconds)
                good = [s for s in steps if not s["errors"] and s["p95_s"] and s["p95_s"] < P95_LIMIT_S]
                found[make.__name__] = {
                    "steady": steady,
                    "highest_rate_with_p95_below_2_s": max((s["rate"] for s in good), default=None),
                    "steps": steps,
                }
                if make is ours and arguments.starts:
                    found["starts_only"] = starts_only(target, arguments.starts)
                    print(f"{target.name}: {found['starts_only']}", flush=True)
    found["ratio_of_processor_time"] = round(
        found["ours"]["steady"]["hub_cpu_ms_each"] / found["plain"]["steady"]["hub_cpu_ms_each"], 2
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
        print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
