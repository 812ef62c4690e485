"""A host name for each person, and cookies that only this very host could have set."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from hub.hub_parts import RunningHub, running_hub  # the folder of these tests, not the room

pytestmark = pytest.mark.hub

HOST = "hub.example.test"


class HereTransport(httpx.HTTPTransport):
    """Reaches every name below `example.test` on this machine, as a wildcard DNS entry and a proxy would."""

    def __init__(self, port: int, scheme: str) -> None:
        super().__init__()
        self._port, self._scheme = port, scheme

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request for such a name to the hub, with the name kept in its header."""
        if not request.url.host.endswith("example.test"):
            return super().handle_request(request)
        here = httpx.Request(
            request.method,
            request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port),
            headers={**request.headers, "X-Forwarded-Proto": self._scheme},
            stream=request.stream,
            extensions=request.extensions,
        )
        return super().handle_request(here)


@contextmanager
def hub_with_names(folder: Path, scheme: str) -> Iterator[tuple[RunningHub, httpx.Client]]:
    """A hub below `hub.example.test`, and a browser for it."""

    def below_a_name(fields: dict[str, Any]) -> None:
        port = "" if scheme == "https" else f":{fields['hub']['listen_port']}"
        fields["hub"] |= {"public_url": f"{scheme}://{HOST}{port}", "subdomain_host": HOST}

    with running_hub(folder, change=below_a_name) as hub:
        public = f"{scheme}://{HOST}" + ("" if scheme == "https" else f":{hub.port}")
        headers = {"Sec-Fetch-Mode": "navigate"}
        transport = HereTransport(hub.port, scheme)
        with httpx.Client(transport=transport, follow_redirects=True, headers=headers, timeout=30) as client:
            yield replace(hub, public_url=public), client


@pytest.fixture(scope="module")
def hub_with_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningHub, httpx.Client]]:
    """Such a hub behind TLS."""
    with hub_with_names(tmp_path_factory.mktemp("tls"), "https") as made:
        yield made


@pytest.fixture
def with_tls(hub_with_tls: tuple[RunningHub, httpx.Client]) -> tuple[RunningHub, httpx.Client]:
    """The hub behind TLS, and a browser without cookies."""
    hub, client = hub_with_tls
    client.cookies.clear()
    client.follow_redirects = True
    return hub, client


def names(client: httpx.Client) -> set[str]:
    """The names of the browser's cookies."""
    return {cookie.name for cookie in client.cookies.jar}


def set_cookies(answer: httpx.Response) -> list[str]:
    """The cookies that an answer and those before it set, but for those that end one."""
    found = [c for r in [*answer.history, answer] for c in r.headers.get_list("set-cookie")]
    return [c for c in found if not c.split(";")[0].endswith(('=""', "="))]


def test_with_tls_every_cookie_of_the_login_is_this_hosts_alone(
    with_tls: tuple[RunningHub, httpx.Client],
) -> None:
    hub, client = with_tls
    answer = client.get(f"{hub.public_url}/hub/oauth_login", params={"next": "/hub/token"})
    assert (answer.status_code, answer.url.path) == (200, "/hub/token"), hub.log[-2000:]
    assert "__Host-jupyterhub-hub-login" in names(client)
    assert "__Host-beamhub-provider" in names(client)
    cookies = [c for c in set_cookies(answer) if not c.startswith("_xsrf")]
    assert [c for c in cookies if "Secure" not in c] == []
    ours = [c for c in cookies if "session-id" not in c]
    assert [c for c in ours if not c.startswith("__Host-") or "Domain" in c or "Path=/;" not in c + ";"] == []
    # What a session's own host sets for the parent domain carries no such name, so it is not read.
    assert not any(name.startswith("beamhub-login-") for name in names(client))
    end = client.get(f"{hub.public_url}/hub/logout", headers={"Sec-Fetch-Site": "same-origin"})
    assert end.json()["logged_out"]
    assert "__Host-jupyterhub-hub-login" not in names(client)
    assert client.get(f"{hub.public_url}/hub/home").url.path == "/hub/login"


def test_a_tossed_attempt_cookie_is_not_read(with_tls: tuple[RunningHub, httpx.Client]) -> None:
    hub, client = with_tls
    client.follow_redirects = False
    start = client.get(f"{hub.public_url}/hub/oauth_login")
    callback = client.get(start.headers["location"]).headers["location"]
    (kept,) = [(c.name, c.value) for c in client.cookies.jar if "beamhub-login-" in c.name]
    client.cookies.clear()
    client.cookies.set(kept[0].removeprefix("__Host-"), kept[1] or "", domain=HOST)
    assert client.get(callback).status_code == 403


def test_the_portal_stays_on_the_hubs_host_and_people_have_their_own(tmp_path: Path) -> None:
    with hub_with_names(tmp_path, "http") as (hub, client):
        answer = client.get(f"{hub.public_url}/hub/oauth_login", params={"next": "/hub/token"})
        assert (answer.status_code, answer.url.path) == (200, "/hub/token"), hub.log[-2000:]
        assert {route.strip("/") for route in hub.proxy.routes} == {"", f"{HOST}/services/web"}
        (account,) = hub.web.principals
        client.follow_redirects = False
        challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 64).digest()).rstrip(b"=").decode()
        redirect_uri = f"{hub.public_url}/services/web/oauth_callback"
        code = client.get(
            f"{hub.public_url}/hub/api/oauth2/authorize",
            params={
                "client_id": "service-web",
                "redirect_uri": redirect_uri,
                "response_type": "code",
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            },
        )
        assert code.headers["location"].startswith(redirect_uri)
        token = httpx.post(
            f"http://127.0.0.1:{hub.port}/hub/api/oauth2/token",
            data={
                "grant_type": "authorization_code",
                "client_id": "service-web",
                "client_secret": "web-service-token-of-the-test",
                "code": parse_qs(urlsplit(code.headers["location"]).query)["code"][0],
                "redirect_uri": redirect_uri,
                "code_verifier": "v" * 64,
            },
        ).json()["access_token"]
        me = httpx.get(
            f"http://127.0.0.1:{hub.port}/hub/api/user", headers={"Authorization": f"Bearer {token}"}
        ).json()
        assert me["name"] == account
        page = client.get(f"{hub.public_url}/hub/login", params={"acr": "x"})
        assert f"form-action 'self' http://*.{HOST}:{hub.port};" in page.headers["content-security-policy"]
