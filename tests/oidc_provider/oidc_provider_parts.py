"""The npm package `oidc-provider`, a certified strict provider, as a process beside a running hub."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from beamhub_core.identity import account_name
from hub.hostile_provider import CLIENT_ID, CLIENT_SECRET  # the folder of these tests, not the room
from hub.hub_parts import NAMESPACE, RunningHub, free_port, running_hub, stop

HERE = Path(__file__).parent
PROVIDER = "strict"
START_PATH = "/hub/oauth_login"
STEP_UP_PATH = f"/hub/login/{PROVIDER}"
CALLBACK_PATH = f"/hub/login/{PROVIDER}/callback"
BACKCHANNEL_PATH = f"/hub/login/{PROVIDER}/backchannel"
AFTER_LOGOUT_PATHS = (f"/hub/login/{PROVIDER}/loggedout",)
MFA, SFA = "https://refeds.org/profile/mfa", "https://refeds.org/profile/sfa"
ACCESS_TOKEN_S = 2
START_S = 30.0


def installed_package() -> Path:
    """The folder with the locked packages, which npm installs once; never in the checkout."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node or npm is missing")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "beamhub-ci" / "oidc-provider"
    folder = Path(os.environ.get("BEAMHUB_OIDC_PROVIDER", cache))
    locked = (HERE / "package-lock.json").read_text("utf-8")
    done = folder / "installed"
    if not done.is_file() or done.read_text("utf-8") != locked:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder / name)
        command = ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
        answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        if answer.returncode != 0:
            pytest.skip(f"npm could not install oidc-provider: {answer.stderr.strip()[-300:]}")
        done.write_text(locked, "utf-8")
    return folder


def accounts() -> dict[str, dict[str, Any]]:
    """Two people: one with a second factor, one without."""
    ines = {
        "name": "Ines Ferreira",
        "voperson_id": "ines-0c7d@example.org",
        "entitlements": [f"{NAMESPACE}:group:proposals:MA-1"],
        "eduperson_assurance": ["https://refeds.org/assurance/IAP/medium"],
        "schac_home_organization": "example-university.org",
    }
    oscar = {"name": "Oscar Lindqvist", "voperson_id": "oscar-0c7d@example.org", "entitlements": []}
    return {"ines": {"acr": [SFA, MFA], "claims": ines}, "oscar": {"acr": [SFA], "claims": oscar}}


@dataclass
class StrictProvider:
    """The running provider."""

    issuer: str
    log: Path

    def set_accounts(self, known: dict[str, dict[str, Any]]) -> None:
        """From now on these are the accounts."""
        httpx.post(f"{self.issuer}/control", json=known).raise_for_status()

    def happened(self, what: str) -> Any:
        """What the provider counted so far."""
        return httpx.get(f"{self.issuer}/control").raise_for_status().json()[what]


@contextmanager
def strict_provider(folder: Path, hub_url: str) -> Iterator[StrictProvider]:
    """A provider that knows a hub at an address."""
    port, package = free_port(), installed_package()
    client = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": [hub_url + CALLBACK_PATH],
        "post_logout_redirect_uris": [hub_url + path for path in AFTER_LOGOUT_PATHS],
        "backchannel_logout_uri": hub_url + BACKCHANNEL_PATH,
        "backchannel_logout_session_required": True,
    }
    settings, log = folder / "provider.json", folder / "provider.log"
    known = {"port": port, "client": client, "access_token_s": ACCESS_TOKEN_S, "accounts": accounts()}
    settings.write_text(json.dumps(known), "utf-8")
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["node", HERE / "provider.mjs", settings], cwd=package, stdout=output, stderr=output
        )
    try:
        _await_answer(process, f"http://127.0.0.1:{port}/control", log)
        yield StrictProvider(f"http://127.0.0.1:{port}", log)
    finally:
        stop(process)


def _await_answer(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url)
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


@dataclass
class StrictHub:
    """A running hub whose provider is the strict one."""

    hub: RunningHub
    provider: StrictProvider

    def account(self, subject: str) -> str:
        """The hub's account of somebody."""
        return account_name(self.provider.issuer, subject)

    def proposals(self, subject: str) -> list[str] | None:
        """The proposals that web knows of somebody; None if it knows no such account."""
        principal = self.hub.web.principals.get(self.account(subject))
        return principal and sorted(item["subgroups"][0] for item in principal["entitlements"])


@contextmanager
def strict_hub(folder: Path, change: Callable[[dict[str, Any]], None] | None = None) -> Iterator[StrictHub]:
    """A hub that logs people in at a strict provider; `change` edits the provider's configuration."""
    with ExitStack() as stack:
        started: list[StrictProvider] = []

        def use_provider(fields: dict[str, Any]) -> None:
            provider = stack.enter_context(strict_provider(folder, fields["hub"]["public_url"]))
            started.append(provider)
            ours = fields["login"]["providers"][0]
            ours |= {
                "name": PROVIDER,
                "issuer": provider.issuer,
                "scopes": ["openid", "profile", "aarc"],
                "id_scopes": ["example.org"],
            }
            if change is not None:
                change(ours)

        hub = stack.enter_context(running_hub(folder, change=use_provider))
        yield StrictHub(hub, started[0])


def start(hub: RunningHub, client: httpx.Client, path: str = START_PATH, **query: str) -> httpx.Response:
    """Where a click on the login ends: the provider's form, or the hub, if the provider knows the browser."""
    return client.get(hub.public_url + path, params={"next": "/hub/home", **query})


def send_form(client: httpx.Client, page: httpx.Response, **fields: str) -> httpx.Response:
    """Send the one form of a page, with the fields that it hides."""
    action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
    assert action is not None, f"no form at {page.url.path}"
    hidden = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    return client.post(page.url.join(html.unescape(action[1])), data=hidden | fields)


def log_in(hub: RunningHub, client: httpx.Client, subject: str, **query: str) -> httpx.Response:
    """Walk from the hub through the provider's form to where the login ends."""
    form = start(hub, client, **query)
    assert "/interaction/" in form.url.path, form.url.path
    return send_form(client, form, subject=subject)
