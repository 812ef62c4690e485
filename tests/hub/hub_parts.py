"""A real hub process for tests, with doubles of the proxy's API and of the web service beside it.

ProxyDouble keeps routes and proxies nothing; WebDouble notes principals and answers re-checks as told.
Neither proves anything about the real ones: `test_hub_behind_proxy.py` and the journey do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from facility_file import FacilityFile, facility_data_in, write_folders_and_secrets
from hub.hostile_provider import (  # the folder of these tests, not the room
    CLIENT_ID,
    CLIENT_SECRET,
    HostileProvider,
    hostile_provider,
    served,
)
from kept_processes import kept_processes

NAMESPACE = "urn:geant:example.org"
SECRETS = {
    "provider": CLIENT_SECRET,
    "crypt-key": "ab" * 32,
    "hub-cookie": "cd" * 32,
    "web-cookie": "ef" * 32,
    "proxy": "proxy-token-of-the-test",
    "web-service": "web-service-token-of-the-test",
    "hub-client": "hub-client-token-of-the-test",
}
START_S = 60.0
BY_CLICK = {"Sec-Fetch-Site": "same-origin"}
"""What a browser sends along with a click on one of our own pages."""


class _JsonHandler(BaseHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, body: Any = None) -> None:
        """Send JSON."""
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> Any:
        """The request's JSON."""
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return json.loads(data) if data else None


@dataclass
class ProxyDouble:
    """The API of the proxy, without a proxy."""

    routes: dict[str, Any] = field(default_factory=dict)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """The request handler of this object."""
        routes = self.routes

        class Handler(_JsonHandler):
            def route(self) -> str:
                """The route of the path."""
                return unquote(urlsplit(self.path).path).removeprefix("/api/routes") or "/"

            def do_GET(self) -> None:
                """All routes."""
                self.answer(200, routes)

            def do_POST(self) -> None:
                """A new route."""
                routes[self.route()] = self.body()
                self.answer(201)

            def do_DELETE(self) -> None:
                """No such route any more."""
                routes.pop(self.route(), None)
                self.answer(204)

        return Handler


@dataclass
class WebDouble:
    """The part of web's internal API that a login and the refresher speak to."""

    principals: dict[str, dict[str, Any]] = field(default_factory=dict)
    pushes: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    left_queue: list[str] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)
    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    updates: list[tuple[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    phases: set[str] = field(default_factory=set)
    rechecks: int = 0
    is_down: bool = False
    refusal: dict[str, Any] | None = None
    """What it answers who asks for rights, instead of none."""

    def identity(self, account: str) -> dict[str, Any]:
        """As whom an identity signs in, as web would say it."""
        to = self.links[account]["signs_in_as"] if account in self.links else account
        own = self.principals.get(to)
        since = "2026-11-21T00:00:00Z"
        linked = [
            {"account": name, "issuer": body["issuer"], "subject": body["subject"], "linked_at": since}
            for name, body in self.links.items()
            if body["signs_in_as"] == to
        ]
        identity = {"issuer": own["issuer"], "subject": own["subject"]} if own else None
        return {"account": account, "signs_in_as": to, "identity": identity, "linked": linked}

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """The request handler of this object."""
        return type("WebHandler", (_WebHandler,), {"web": self})


class _WebHandler(_JsonHandler):
    web: WebDouble

    def may(self) -> bool:
        """Whether the caller is the hub and web is up."""
        if self.web.is_down:
            self.answer(503, {"detail": "down"})
        elif self.headers.get("Authorization") != f"Bearer {SECRETS['hub-client']}":
            self.answer(401, {"detail": "unknown"})
        else:
            return True
        return False

    def do_GET(self) -> None:
        """No live sessions, who signs in as whom, and an answer to the hub's look at its services."""
        if "/identities/" in self.path and self.may():
            self.answer(200, self.web.identity(self.path.rsplit("/", 1)[1]))
        elif "/identities/" not in self.path:
            self.answer(200, [])

    def do_PUT(self) -> None:
        """Note a principal, or accept a plan."""
        body = self.body()
        if not self.may():
            return
        if "/principals/" in self.path:
            self.web.principals[body["account"]] = body
            self.web.pushes.append(body["account"])
        elif "/identities/" in self.path:
            self.web.links[self.path.rsplit("/", 1)[1]] = body
        self.answer(204)

    def do_DELETE(self) -> None:
        """Forget a principal."""
        if self.may():
            account = self.path.rsplit("/", 1)[1]
            if "/tickets/" in self.path:
                self.web.left_queue.append(account)
                self.answer(204)
                return
            if "/identities/" in self.path:
                self.web.links.pop(account, None)
                self.answer(204)
                return
            self.web.principals.pop(account, None)
            self.web.removed.append(account)
            self.answer(204)

    def do_POST(self) -> None:
        """Re-check; rights on no datasets; what the hub says of its sessions."""
        body = self.body()
        if not self.may():
            return
        if self.path.endswith("/recheck"):
            self.web.rechecks += 1
            self.answer(200, self.web.verdicts)
        elif self.path.endswith("/audit"):
            self.web.notices.append(body)
            self.answer(201, {"seq": len(self.web.notices)})
        elif self.path.endswith("/grants") and self.web.refusal is not None:
            self.answer(403, {"refusal": self.web.refusal})
        elif self.path.endswith("/grants"):
            self.answer(200, no_grants(body["account"]))
        elif self.path.endswith("/update"):
            self.web.updates.append((self.path.split("/")[-2], body["state"]))
            self.web.reasons += [body["reason"]] if body.get("reason") else []
            self.web.phases |= set(body.get("phases_s") or ())
            self.answer(204)
        else:
            self.answer(204)


def no_grants(account: str) -> dict[str, Any]:
    """Rights on no dataset: enough for a session with nothing but a home."""
    return {
        "account": account,
        "datasets": [],
        "grants": [],
        "policy_version": "test",
        "decided_at": "2026-11-21T00:00:00Z",
    }


@dataclass
class RunningHub:
    """A hub process with what stands beside it."""

    folder: Path
    port: int
    public_url: str
    provider: HostileProvider
    proxy: ProxyDouble
    web: WebDouble
    process: subprocess.Popen[bytes]
    log_start: int = 0
    """Where in the file the log of the present test begins."""

    @property
    def url(self) -> str:
        """Where the hub itself listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything the hub said so far, since `forget_log`."""
        return (self.folder / "hub.log").read_bytes()[self.log_start :].decode(errors="replace")

    def forget_log(self) -> None:
        """Begin the log anew, for the next test."""
        self.log_start = (self.folder / "hub.log").stat().st_size


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Addresses:
    """Where everything of one test platform listens."""

    issuer: str
    hub_port: int
    proxy_api: str
    web: str
    public_url: str


def facility_fields(folder: Path, addresses: Addresses) -> dict[str, Any]:
    """The smallest `facility.yaml` with a hub that is real and what stands beside it."""

    fields = facility_data_in(folder)
    (provider,) = fields["login"]["providers"]
    provider |= {
        "name": "hostile",
        "issuer": addresses.issuer,
        "client_id": CLIENT_ID,
        "entitlement_namespaces": [NAMESPACE],
        "unsafe_allow_http": True,
    }
    fields["login"] |= {"role_assignments": str(folder / "roles.csv"), "refresh_s": 1}
    fields["hub"] |= {"public_url": addresses.public_url, "listen_port": addresses.hub_port}
    fields["hub"]["proxy"]["api_url"] = addresses.proxy_api
    fields["web"] |= {
        "listen_port": urlsplit(addresses.web).port,
        "internal_url": addresses.web,
        "hub_api_url": f"http://127.0.0.1:{addresses.hub_port}/hub/api",
    }
    fields["web"]["clients"][0]["scopes"] = ["principals:write"]
    fields["sessions"]["web_url"] = addresses.web
    return fields


def write_facility(folder: Path, fields: dict[str, Any]) -> Path:
    """The configuration with every file and folder that it names."""
    write_folders_and_secrets(folder, SECRETS)
    roles = folder / "roles.csv"
    if not roles.exists():
        roles.write_text("issuer,subject,role\n")
    return FacilityFile(folder, fields).write()


def start_hub(folder: Path) -> subprocess.Popen[bytes]:
    """The hub's process; its output goes to hub.log."""
    with (folder / "hub.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "beamhub_hub", "--config", str(folder / "facility.yaml")],
            stdout=log,
            stderr=log,
            cwd=folder,
        )


def await_hub(process: subprocess.Popen[bytes], url: str, folder: Path) -> None:
    """Return once the hub answers."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/hub/health").status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    said = (folder / "hub.log").read_text()[-4000:]
    raise AssertionError(f"the hub does not answer (exit status {process.poll()}):\n{said}")


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """End a process that we started, also one that is suspended."""
    if process.poll() is None:
        os.kill(process.pid, number)
        os.kill(process.pid, signal.SIGCONT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    kept_processes.discard(process.pid)


@contextmanager
def running_hub(
    folder: Path, *, change: Callable[[dict[str, Any]], None] | None = None
) -> Iterator[RunningHub]:
    """A hub with a hostile provider and the two doubles, reached directly."""
    proxy, web = ProxyDouble(), WebDouble()
    with ExitStack() as stack:
        provider = stack.enter_context(hostile_provider())
        proxy_port = stack.enter_context(served(proxy.handler()))
        web_port = stack.enter_context(served(web.handler()))
        port = free_port()
        addresses = Addresses(
            issuer=provider.issuer,
            hub_port=port,
            proxy_api=f"http://127.0.0.1:{proxy_port}",
            web=f"http://127.0.0.1:{web_port}",
            public_url=f"http://127.0.0.1:{port}",
        )
        fields = facility_fields(folder, addresses)
        if change is not None:
            change(fields)
        write_facility(folder, fields)
        hub = RunningHub(folder, port, addresses.public_url, provider, proxy, web, start_hub(folder))
        stack.callback(lambda: stop(hub.process))  # another one than now, where a test started it anew
        await_hub(hub.process, addresses.public_url, folder)
        yield hub


def log_in(hub: RunningHub, client: httpx.Client, next_url: str = "/hub/home") -> httpx.Response:
    """Walk from the hub's login page to where the login ends; the client must follow redirects."""
    return client.get(f"{hub.public_url}/hub/oauth_login", params={"next": next_url})


def browser() -> httpx.Client:
    """A browser: cookies and redirects."""
    return httpx.Client(follow_redirects=True, timeout=30, headers={"Sec-Fetch-Mode": "navigate"})


def login_cookies(client: httpx.Client) -> set[str]:
    """The names of cookies that make somebody logged in."""
    return {cookie.name for cookie in client.cookies.jar} & {"jupyterhub-hub-login", "jupyterhub-session-id"}
