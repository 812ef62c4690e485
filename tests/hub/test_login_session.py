"""A login that is right: who is in, what web is told, what the portal may do, and how it ends."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from beamhub_core.identity import account_name
from hub.hub_parts import (  # the folder of these tests, not the room
    BY_CLICK,
    NAMESPACE,
    SECRETS,
    RunningHub,
    browser,
    log_in,
    login_cookies,
)
from hub.stored_logins import restart

pytestmark = pytest.mark.hub

PORTAL = "service-web"
"""What browsers say of a click on a link of our own page."""


def portal_token(hub: RunningHub, client: httpx.Client) -> str:
    """The token that the portal gets for a logged-in browser: authorization code with PKCE at the hub."""
    verifier = "v" * 64
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    redirect_uri = f"{hub.public_url}/services/web/oauth_callback"
    client.follow_redirects = False
    answer = client.get(
        f"{hub.public_url}/hub/api/oauth2/authorize",
        params={
            "client_id": PORTAL,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "state": "s",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        },
    )
    client.follow_redirects = True
    assert answer.status_code == 302, answer.text
    location = answer.headers["location"]
    assert location.startswith(redirect_uri), location
    exchanged = httpx.post(
        f"{hub.url}/hub/api/oauth2/token",
        data={
            "grant_type": "authorization_code",
            "client_id": PORTAL,
            "client_secret": SECRETS["web-service"],
            "code": parse_qs(urlsplit(location).query)["code"][0],
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        },
    )
    token: str = exchanged.json()["access_token"]
    return token


def hub_user(hub: RunningHub, token: str) -> httpx.Response:
    """What the hub's API says of a token."""
    return httpx.get(f"{hub.url}/hub/api/user", headers={"Authorization": f"Bearer {token}"})


def test_a_login_ends_where_it_was_meant_to_with_the_principal_at_web(hub: RunningHub) -> None:
    hub.provider.script.userinfo |= {
        "eduperson_entitlement": [f"{NAMESPACE}:group:proposals:MA-1:role=member#x", "nonsense"],
        "schac_home_organization": "example-university.org",
    }
    account = account_name(hub.provider.issuer, "ines")
    with browser() as client:
        answer = log_in(hub, client, "/hub/token")
        assert answer.url.path == "/hub/token"
        assert "Ines Ferreira" in answer.text
    principal = hub.web.principals[account]
    assert principal["home_organisation"] == "example-university.org"
    assert [item["subgroups"] for item in principal["entitlements"]] == [["MA-1"]]
    assert principal["ignored_entitlements"] == 1
    assert hub.web.pushes == [account]
    told = [(notice["kind"], notice["account"], notice["issuer"]) for notice in hub.web.notices]
    assert told == [("login", account, hub.provider.issuer)]


def test_the_request_has_state_nonce_and_an_s256_challenge(hub: RunningHub) -> None:
    with browser() as client:
        client.follow_redirects = False
        location = log_in(hub, client).headers["location"]
    query = {key: values[0] for key, values in parse_qs(urlsplit(location).query).items()}
    assert query["code_challenge_method"] == "S256"
    assert len({query["state"], query["nonce"], query["code_challenge"]}) == 3
    assert all(len(query[name]) == 43 for name in ("state", "nonce", "code_challenge"))


@pytest.mark.parametrize(
    "next_url",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "///evil.example", "javascript:alert(1)"],
)
def test_a_login_never_leads_to_another_site(hub: RunningHub, next_url: str) -> None:
    with browser() as client:
        client.follow_redirects = False
        callback = client.get(log_in(hub, client, next_url).headers["location"]).headers["location"]
        location = client.get(callback).headers["location"]
    assert location.startswith("/")
    assert urlsplit(location.replace("\\", "/")).netloc == ""


def test_two_tabs_log_in_side_by_side(hub: RunningHub) -> None:
    with browser() as client:
        client.follow_redirects = False
        first, second = (
            log_in(hub, client, path).headers["location"] for path in ("/hub/home", "/hub/token")
        )
        for start, path in ((first, "/hub/home"), (second, "/hub/token")):
            answer = client.get(client.get(start).headers["location"])
            assert (answer.status_code, answer.headers["location"]) == (302, path)


def test_the_login_page_names_the_provider_and_says_that_the_demo_is_for_one_person(hub: RunningHub) -> None:
    with browser() as client:
        page = client.get(f"{hub.public_url}/hub/login")
    assert page.status_code == 200
    assert "Log in with Community login" in page.text
    assert "This demo is for one person." in page.text


@pytest.mark.parametrize("path", ["/hub/login", "/hub/nowhere", "/hub/home", "/hub/token"])
def test_no_page_has_inline_event_handlers_or_foreign_files(hub: RunningHub, path: str) -> None:
    with browser() as client:
        if path in ("/hub/home", "/hub/token"):
            log_in(hub, client)
        page = client.get(f"{hub.public_url}{path}")
    assert " onclick=" not in page.text
    assert " onload=" not in page.text
    assert 'src="http' not in page.text
    assert "/hub/beamhub-static/beamhub.css" in page.text


def test_an_unknown_page_is_a_404_of_ours(hub: RunningHub) -> None:
    page = httpx.get(f"{hub.public_url}/hub/nowhere")
    assert page.status_code == 404
    assert "There is no such page" in page.text


def test_the_stylesheet_is_served_and_nothing_beside_it(hub: RunningHub) -> None:
    base = f"{hub.public_url}/hub/beamhub-static"
    assert "text/css" in httpx.get(f"{base}/beamhub.css").headers["content-type"]
    assert httpx.get(f"{base}/%2e%2e/wiring.py").status_code in (403, 404)


def test_the_portals_token_sees_and_starts_own_servers_and_nothing_else(hub: RunningHub) -> None:
    with browser() as client:
        log_in(hub, client)
        user = hub_user(hub, portal_token(hub, client)).json()
    account = account_name(hub.provider.issuer, "ines")
    scopes = set(user["scopes"])
    assert user["name"] == account
    assert "access:services!service=web" in scopes
    assert {f"servers!user={account}", f"access:servers!user={account}"} <= scopes
    assert not {scope for scope in scopes if scope.startswith(("tokens", "admin", "shares", "list:"))}


def test_an_oauth_client_without_pkce_gets_no_code(hub: RunningHub) -> None:
    with browser() as client:
        log_in(hub, client)
        client.follow_redirects = False
        answer = client.get(
            f"{hub.public_url}/hub/api/oauth2/authorize",
            params={
                "client_id": PORTAL,
                "redirect_uri": f"{hub.public_url}/services/web/oauth_callback",
                "response_type": "code",
            },
        )
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert query["error"] == ["invalid_request"]
    assert "code" not in query


def test_logging_out_ends_the_portals_token_and_goes_on_to_the_provider(hub: RunningHub) -> None:
    with browser() as client:
        log_in(hub, client)
        token = portal_token(hub, client)
        assert hub_user(hub, token).status_code == 200
        end = client.get(f"{hub.public_url}/hub/logout", headers=BY_CLICK)
        assert end.url.path == "/logout"
        assert end.json()["post_logout_redirect_uri"] == (f"{hub.public_url}/hub/login/hostile/loggedout")
        assert end.json()["id_token_hint"].count(".") == 2
        assert end.json()["id_token_hint"] not in hub.log
        assert hub_user(hub, token).status_code == 403
        assert login_cookies(client) == set()
        assert client.get(f"{hub.public_url}/hub/home").url.path == "/hub/login"


def test_logging_out_while_the_provider_is_down_ends_the_session_here(hub: RunningHub) -> None:
    with browser() as client:
        log_in(hub, client)
        hub.provider.script.discovery["end_session_endpoint"] = None
        restart(hub)
        hub.provider.script.status["/.well-known/openid-configuration"] = 500
        page = client.get(f"{hub.public_url}/hub/logout", headers=BY_CLICK)
        assert "You are logged out" in page.text
        assert login_cookies(client) == set()


def test_a_login_that_a_killed_hub_left_half_done_ends_well(hub: RunningHub) -> None:
    with browser() as client:
        client.follow_redirects = False
        callback = client.get(log_in(hub, client).headers["location"]).headers["location"]
        restart(hub)
        assert client.get(callback).status_code == 302
        assert login_cookies(client) != set()


@pytest.fixture
def roles(hub: RunningHub) -> Iterator[Path]:
    """The list of roles, empty again afterwards."""
    path = hub.folder / "roles.csv"
    yield path
    path.write_text("issuer,subject,role\n")


def test_the_admin_page_opens_for_the_listed_role_only(hub: RunningHub, roles: Path) -> None:
    with browser() as client:
        log_in(hub, client)
        assert client.get(f"{hub.public_url}/hub/admin").status_code == 403
    roles.write_text(f"issuer,subject,role\n{hub.provider.issuer},oscar,admin\n")
    hub.provider.script.subject = "oscar"
    with browser() as client:
        log_in(hub, client)
        assert client.get(f"{hub.public_url}/hub/admin").status_code == 200
        scopes = set(hub_user(hub, portal_token(hub, client)).json()["scopes"])
        assert not {scope for scope in scopes if scope.startswith("admin:")}
    account = account_name(hub.provider.issuer, "oscar")
    assert hub.web.principals[account]["roles"] == ["admin"]
    # Taken off the list, the role ends with the next login.
    roles.write_text("issuer,subject,role\n")
    with browser() as client:
        log_in(hub, client)
        assert client.get(f"{hub.public_url}/hub/admin").status_code == 403


def test_the_proxy_learns_the_way_to_hub_and_portal(hub: RunningHub) -> None:
    assert {route.rstrip("/") or "/" for route in hub.proxy.routes} == {"/", "/services/web"}
