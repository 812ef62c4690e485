"""The real proxy, the real hub and the demo's provider: a person's way in and out through one address."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from beamhub_core.demo.people import CLIENT_ID, NAMESPACE, PEOPLE
from beamhub_core.identity import account_name
from beamhub_hub.demo_provider import demo_accounts
from hub.hostile_provider import served  # the folder of these tests, not the room
from hub.hub_parts import (
    SECRETS,
    Addresses,
    WebDouble,
    await_hub,
    browser,
    facility_fields,
    free_port,
    login_cookies,
    start_hub,
    stop,
    write_facility,
)

pytestmark = pytest.mark.hub
WAIT_S = 30.0


@dataclass
class Platform:
    """What runs."""

    public_url: str
    issuer: str
    web: WebDouble
    logs: Path


def find_proxy() -> list[str]:
    """The command line of the proxy."""
    script = Path(sys.prefix) / "chp/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
    beside = Path(sys.prefix) / "bin" / "node"
    node = str(beside) if beside.exists() else shutil.which("node")
    if node is None or not script.exists():
        pytest.skip("configurable-http-proxy or node is missing beside this Python")
    return [node, str(script)]


def await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once anything answers HTTP there."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url)
            return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Provider, proxy and hub as processes; a double for web."""
    command, folder, web = find_proxy(), tmp_path_factory.mktemp("platform"), WebDouble()
    public, api, provider_port, hub_port = (free_port() for _ in range(4))
    with ExitStack() as stack:
        addresses = Addresses(
            issuer=f"http://127.0.0.1:{provider_port}",
            hub_port=hub_port,
            proxy_api=f"http://127.0.0.1:{api}",
            web=f"http://127.0.0.1:{stack.enter_context(served(web.handler()))}",
            public_url=f"http://127.0.0.1:{public}",
        )
        fields = facility_fields(folder, addresses)
        provider = fields["login"]["providers"][0]
        provider |= {"client_id": CLIENT_ID, "entitlement_namespaces": [NAMESPACE]}
        write_facility(folder, fields)
        (folder / "accounts.json").write_text(demo_accounts(addresses.issuer).model_dump_json())

        def run(name: str, arguments: list[str], url: str) -> None:
            log = folder / f"{name}.log"
            with log.open("wb") as output:
                environment = {**os.environ, "CONFIGPROXY_AUTH_TOKEN": SECRETS["proxy"]}
                process = subprocess.Popen(arguments, stdout=output, stderr=output, env=environment)
            stack.callback(stop, process)
            await_answer(url, process, log)

        run(
            "provider",
            [
                *(sys.executable, "-m", "beamhub_hub.demo_provider", "--port", str(provider_port)),
                *("--accounts", str(folder / "accounts.json")),
                *("--client-secret-file", str(folder / "secrets" / "provider")),
                *("--redirect-uri", f"{addresses.public_url}/hub/login/hostile/callback"),
            ],
            addresses.issuer,
        )
        run(
            "proxy",
            [
                *(*command, "--ip", "127.0.0.1", "--port", str(public)),
                *("--api-ip", "127.0.0.1", "--api-port", str(api)),
            ],
            addresses.public_url,
        )
        hub = start_hub(folder)
        stack.callback(stop, hub)
        await_hub(hub, f"http://127.0.0.1:{hub_port}", folder)
        yield Platform(addresses.public_url, addresses.issuer, web, folder)


def choose(client: httpx.Client, page: httpx.Response, subject: str) -> httpx.Response:
    """Press a person's button on the provider's login page."""
    assert f'value="{subject}"' in page.text
    return client.post(page.url, data={"sub": subject})


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.subject)
def test_every_demo_person_logs_in_through_the_providers_own_page(platform: Platform, person: object) -> None:
    assert hasattr(person, "subject")
    with browser() as client:
        page = client.get(f"{platform.public_url}/hub/login?next=%2Fhub%2Fhome")
        link = re.search(r'href="([^"]*/login/hostile[^"]*)"', page.text)
        assert link is not None
        form = client.get(f"{platform.public_url}{link[1].replace('&amp;', '&')}")
        assert str(form.url).startswith(platform.issuer)
        home = choose(client, form, person.subject)
        assert str(home.url) == f"{platform.public_url}/hub/home"
    principal = platform.web.principals[account_name(platform.issuer, person.subject)]
    wanted = next(known for known in PEOPLE if known is person)
    assert principal["display_name"] == wanted.name
    assert len(principal["entitlements"]) == len(wanted.entitlements)
    assert principal["ignored_entitlements"] == 0


def test_the_front_page_is_the_portal(platform: Platform) -> None:
    answer = httpx.get(f"{platform.public_url}/", follow_redirects=True)
    assert str(answer.url) == f"{platform.public_url}/services/web/"
    assert answer.json() == []  # the double's answer


def test_a_typed_stranger_is_somebody_without_rights(platform: Platform) -> None:
    with browser() as client:
        form = client.get(f"{platform.public_url}/hub/oauth_login")
        client.post(form.url, data={"sub": "somebody-new"})
        assert login_cookies(client) != set()
    principal = platform.web.principals[account_name(platform.issuer, "somebody-new")]
    assert (principal["display_name"], principal["entitlements"]) == ("somebody-new", [])


def test_a_login_cancelled_at_the_provider_is_a_page(platform: Platform) -> None:
    with browser() as client:
        form = client.get(f"{platform.public_url}/hub/oauth_login")
        page = client.post(form.url, data={"action": "deny"})
        assert page.status_code == 403
        assert "did not log you in" in page.text


def test_logging_out_passes_the_provider_and_comes_back_to_the_portal(platform: Platform) -> None:
    with browser() as client:
        form = client.get(f"{platform.public_url}/hub/oauth_login")
        choose(client, form, "ines")
        page = client.get(f"{platform.public_url}/hub/logout", headers={"Sec-Fetch-Site": "same-origin"})
        assert str(page.url).startswith(platform.issuer)
        back = client.post(
            f"{platform.issuer}/oauth2/end_session/confirm", data={"redirect_uri": f"{platform.public_url}/"}
        )
        assert str(back.url) == f"{platform.public_url}/services/web/"
        assert login_cookies(client) == set()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/oauth2/clients"),
        ("PUT", "/users/ines"),
        ("POST", "/users/ines/revoke-tokens"),
        ("GET", "/oidc/login"),
        ("GET", "/console"),
        ("GET", "/?__debugger__=yes&cmd=resource&f=style.css"),
    ],
)
def test_what_the_library_offers_for_tests_is_shut(platform: Platform, method: str, path: str) -> None:
    answer = httpx.request(method, platform.issuer + path, json={})
    assert answer.status_code in (404, 405)


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "somebody"},
        {"redirect_uri": "http://evil.example/"},
        {"code_challenge": ""},
        {"code_challenge_method": "plain"},
        {"nonce": ""},
    ],
)
def test_the_demo_provider_takes_no_other_request(platform: Platform, change: dict[str, str]) -> None:
    good = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": f"{platform.public_url}/hub/login/hostile/callback",
        "scope": "openid",
        "state": "s",
        "nonce": "n",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
    asked = {key: value for key, value in {**good, **change}.items() if value}
    url = f"{platform.issuer}/oauth2/authorize"
    assert httpx.get(url, params=good).status_code == 200
    answer = httpx.post(url, params=asked, data={"sub": "ines"})
    assert "code=" not in answer.headers.get("location", "")


def test_a_code_without_its_verifier_gets_no_token(platform: Platform) -> None:
    query = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": f"{platform.public_url}/hub/login/hostile/callback",
        "scope": "openid",
        "state": "s",
        "nonce": "n2",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
    given = httpx.post(f"{platform.issuer}/oauth2/authorize", params=query, data={"sub": "ines"})
    code = httpx.URL(given.headers["location"]).params["code"]
    answer = httpx.post(
        f"{platform.issuer}/oauth2/token",
        data={"grant_type": "authorization_code", "code": code, "redirect_uri": query["redirect_uri"]},
        auth=(CLIENT_ID, SECRETS["provider"]),
    )
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_grant"})


def test_neither_provider_nor_hub_logs_a_secret(platform: Platform) -> None:
    logs = "".join(path.read_text(errors="replace") for path in platform.logs.glob("*.log"))
    for value in SECRETS.values():
        assert value not in logs
    assert not re.search(r"eyJ[A-Za-z0-9_-]{20}", logs)
    assert not re.search(r"[?&]code=(?!\[(?:secret|…)\])", logs)
    accounts = json.loads((platform.logs / "accounts.json").read_text())
    assert {user["subject"] for user in accounts["users"]} == {person.subject for person in PEOPLE}
