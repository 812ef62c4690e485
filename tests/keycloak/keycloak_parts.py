"""A real Keycloak with a realm of ours, and the steps that a person and an administrator take there."""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import os
import re
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from beamhub_core.identity import account_name
from hub.hub_parts import NAMESPACE, RunningHub, running_hub  # the folder of these tests, not the room

ROOT = Path(__file__).resolve().parents[2]
REALM_FILE = Path(__file__).parent / "realm.json"
BASE = f"http://127.0.0.1:{os.environ.get('KEYCLOAK_PORT', '18080')}"
CLIENT, PROVIDER, DATA_SERVICE = "beamhub", "keycloak", "data-service"
START_PATH = "/hub/oauth_login"
CALLBACK_PATH = f"/hub/login/{PROVIDER}/callback"
BACKCHANNEL_PATH = f"/hub/login/{PROVIDER}/backchannel"
AFTER_LOGOUT_PATHS = (f"/hub/login/{PROVIDER}/loggedout",)
MFA, SFA = "https://refeds.org/profile/mfa", "https://refeds.org/profile/sfa"
Change = Callable[[dict[str, Any]], None]


def _answers() -> bool:
    try:
        url = f"{BASE}/realms/master/.well-known/openid-configuration"
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def keycloak_server(log: Path) -> Iterator[str]:
    """The address of a Keycloak: one that runs already, or one that we start and stop."""
    if _answers():
        yield BASE
        return
    shared = Path(os.environ.get("BEAMHUB_SHARED", ROOT.parent / "shared"))
    script = Path(os.environ.get("BEAMHUB_KEYCLOAK", shared / "keycloak" / "keycloak"))
    if not script.is_file():
        pytest.skip("no Keycloak answers, and BEAMHUB_KEYCLOAK does not name a script that starts one")
    with log.open("wb") as output:
        subprocess.run([script, "up"], stdout=output, stderr=output, check=False, timeout=300)
    if not _answers():
        pytest.fail(f"Keycloak did not start: {log.read_text(errors='replace')[-2000:]}")
    try:
        yield BASE
    finally:
        subprocess.run([script, "down"], capture_output=True, check=True, timeout=60)


@dataclass
class Realm:
    """One realm, with what its administrator may do."""

    name: str
    base: str = BASE

    @property
    def issuer(self) -> str:
        """The issuer identifier."""
        return f"{self.base}/realms/{self.name}"

    def admin(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """An answer of the admin API, below this realm."""
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
        url = f"{self.base}/realms/master/protocol/openid-connect/token"
        token = httpx.post(url, data=form, timeout=30).raise_for_status().json()["access_token"]
        answer = httpx.request(
            method,
            f"{self.base}/admin/realms{path}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            **arguments,
        )
        return answer.raise_for_status()

    def create(self) -> None:
        """Make the realm of `realm.json` under this name."""
        realm = json.loads(REALM_FILE.read_text("utf-8")) | {"realm": self.name}
        self.admin("POST", "", json=realm)

    def delete(self) -> None:
        """The realm is gone."""
        self.admin("DELETE", f"/{self.name}")

    def change_client(self, client_id: str, attributes: dict[str, str], **fields: Any) -> None:
        """Set attributes and fields of a client."""
        client = self.admin("GET", f"/{self.name}/clients", params={"clientId": client_id}).json()[0]
        changed = client | fields | {"attributes": client["attributes"] | attributes}
        self.admin("PUT", f"/{self.name}/clients/{client['id']}", json=changed)

    def register(self, public_url: str) -> None:
        """Tell the realm where the hub is: redirect, logout and back-channel addresses."""
        self.change_client(
            CLIENT,
            {
                "post.logout.redirect.uris": "##".join(public_url + path for path in AFTER_LOGOUT_PATHS),
                "backchannel.logout.url": public_url + BACKCHANNEL_PATH,
            },
            redirectUris=[public_url + CALLBACK_PATH],
        )

    def user_id(self, username: str) -> str:
        """The subject of a user."""
        found = self.admin("GET", f"/{self.name}/users", params={"username": username, "exact": "true"})
        return str(found.json()[0]["id"])

    def account(self, username: str) -> str:
        """The hub's account of a user."""
        return account_name(self.issuer, self.user_id(username))

    def change_user(self, username: str, **fields: Any) -> None:
        """Set fields of a user."""
        path = f"/{self.name}/users/{self.user_id(username)}"
        self.admin("PUT", path, json=self.admin("GET", path).json() | fields)

    def log_out(self, username: str) -> None:
        """End a user's sessions, as an administrator does."""
        self.admin("POST", f"/{self.name}/users/{self.user_id(username)}/logout")

    def sessions(self, username: str) -> int:
        """How many sessions a user has here."""
        path = f"/{self.name}/users/{self.user_id(username)}/sessions"
        return len(self.admin("GET", path).json())

    def set_membership(self, username: str, group_path: str, *, is_member: bool) -> None:
        """Put a user into a group, or take the user out."""
        group = self.admin("GET", f"/{self.name}/group-by-path{group_path}").json()["id"]
        path = f"/{self.name}/users/{self.user_id(username)}/groups/{group}"
        self.admin("PUT" if is_member else "DELETE", path)

    def add_signing_key(self, priority: int) -> None:
        """A new RS256 key, which signs if no other has a higher priority."""
        config = {"priority": [str(priority)], "keySize": ["2048"], "algorithm": ["RS256"]}
        component = {
            "name": f"rsa-{priority}",
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": config | {"active": ["true"], "enabled": ["true"]},
        }
        realm = self.admin("GET", f"/{self.name}").json()["id"]
        self.admin("POST", f"/{self.name}/components", json=component | {"parentId": realm})

    def events(self, kind: str, username: str | None = None) -> list[dict[str, Any]]:
        """What happened here, by Keycloak's own record."""
        params = {"type": kind, "max": "500"}
        if username is not None:
            params["user"] = self.user_id(username)
        found: list[dict[str, Any]] = self.admin("GET", f"/{self.name}/events", params=params).json()
        return found


@dataclass
class KeycloakHub:
    """A running hub whose provider is a realm."""

    hub: RunningHub
    realm: Realm

    def proposals(self, username: str) -> list[str] | None:
        """The proposals that web knows of a user; None if it knows no such account."""
        principal = self.hub.web.principals.get(self.realm.account(username))
        return principal and sorted(item["subgroups"][0] for item in principal["entitlements"])


@contextmanager
def keycloak_hub(folder: Path, realm: Realm, change: Change | None = None) -> Iterator[KeycloakHub]:
    """A hub that logs people in at the realm; `change` edits its configuration."""

    def use_realm(fields: dict[str, Any]) -> None:
        fields["login"]["providers"] = [provider_fields(fields, realm)]
        realm.register(fields["hub"]["public_url"])
        if change is not None:
            change(fields)

    with running_hub(folder, change=use_realm) as hub:
        yield KeycloakHub(hub, realm)


def provider_fields(fields: dict[str, Any], realm: Realm) -> dict[str, Any]:
    """The realm as a provider of a `facility.yaml`."""
    return {
        "name": PROVIDER,
        "title": "Example community",
        "preset": "keycloak",
        "issuer": realm.issuer,
        "client_id": CLIENT,
        "client_secret_file": fields["login"]["providers"][0]["client_secret_file"],
        "entitlement_namespaces": [NAMESPACE],
        "id_scopes": ["example.org"],
        "required_claims": ["voperson_id"],
        "unsafe_allow_http": True,
    }


def person() -> httpx.Client:
    """A browser that takes loopback for safe, as real ones do: it sends back Keycloak's Secure cookies."""
    client = httpx.Client(follow_redirects=True, timeout=60, headers={"Sec-Fetch-Mode": "navigate"})

    def trust_loopback(_: httpx.Response) -> None:
        for cookie in client.cookies.jar:
            cookie.secure = False

    client.event_hooks = {"request": [], "response": [trust_loopback]}
    return client


def start(hub: RunningHub, client: httpx.Client, path: str = START_PATH, **query: str) -> httpx.Response:
    """Where a click on the login ends: the form of the realm, or the hub, if the realm knows the browser."""
    return client.get(hub.public_url + path, params={"next": "/hub/home", **query})


def send_form(client: httpx.Client, page: httpx.Response, **fields: str) -> httpx.Response:
    """Send the one form of a page of Keycloak's."""
    action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
    assert action is not None, f"no form at {page.url.copy_with(query=None)}"
    return client.post(html.unescape(action[1]), data=fields)


def asks_for_password(page: httpx.Response) -> bool:
    """Whether this is Keycloak's form for name and password."""
    return page.url.path.startswith("/realms/") and 'name="password"' in page.text


def asks_for_one_time_code(page: httpx.Response) -> bool:
    """Whether this is Keycloak's form for the second factor."""
    return page.url.path.startswith("/realms/") and 'name="otp"' in page.text


def log_in(hub: RunningHub, client: httpx.Client, username: str, **query: str) -> httpx.Response:
    """Walk from the hub through the realm's password form to where the login ends."""
    form = start(hub, client, **query)
    assert asks_for_password(form), form.url.path
    return send_form(client, form, username=username, password=f"{username}-password")


def one_time_code(username: str) -> str:
    """What the user's phone shows now. Source: RFC 6238, 6 digits, 30 s, HMAC-SHA1."""
    message = struct.pack(">Q", int(time.time()) // 30)
    digest = hmac.digest(f"{username}-otp-secret".encode(), message, hashlib.sha1)
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"
