"""Logging out at the browser: nobody else can do it, no tab undoes it, and the way back from the provider."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from beamhub_core.identity import account_name
from hub.hub_parts import (  # the folder of these tests, not the room
    BY_CLICK,
    SECRETS,
    RunningHub,
    browser,
    log_in,
    login_cookies,
)
from hub.logout_tokens import logout_token, send_logout
from hub.session_parts import by_token
from hub.stored_logins import restart
from hub.test_login_session import portal_token

pytestmark = pytest.mark.hub


@pytest.fixture
def ines(hub: RunningHub) -> Iterator[httpx.Client]:
    """A browser with a login."""
    with browser() as client:
        assert log_in(hub, client).url.path == "/hub/home"
        yield client


def is_in(hub: RunningHub, client: httpx.Client) -> bool:
    """Whether the browser's login counts."""
    return client.get(f"{hub.public_url}/hub/home").url.path == "/hub/home"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_another_page_cannot_log_anybody_out(
    hub: RunningHub, ines: httpx.Client, headers: dict[str, str]
) -> None:
    page = ines.get(f"{hub.public_url}/hub/logout", headers=headers)
    if "Sec-Fetch-Mode" not in headers:
        assert "nothing has happened yet" in page.text
    assert is_in(hub, ines)


def test_a_form_without_our_token_logs_nobody_out(hub: RunningHub, ines: httpx.Client) -> None:
    assert ines.post(f"{hub.public_url}/hub/logout").status_code == 403
    assert is_in(hub, ines)


def test_our_own_form_logs_out(hub: RunningHub, ines: httpx.Client) -> None:
    page = ines.get(f"{hub.public_url}/hub/logout")
    token = re.findall(r'name="_xsrf" value="([^"]+)"', page.text)[0]
    end = ines.post(f"{hub.public_url}/hub/logout", data={"_xsrf": token})
    assert end.url.path == "/logout"
    assert not is_in(hub, ines)
    assert login_cookies(ines) == set()


def test_the_link_on_the_page_leads_to_the_logout(hub: RunningHub, ines: httpx.Client) -> None:
    page = ines.get(f"{hub.public_url}/hub/home")
    assert re.findall(r'id="logout"[^>]* href="([^"]+)"', page.text) == ["/hub/logout"]


def test_a_tab_that_stayed_open_cannot_revive_the_login(hub: RunningHub, ines: httpx.Client) -> None:
    """The class of CVE-2021-41247: the token of a tab, or a code on its way, outlives the logout."""
    token = portal_token(hub, ines)
    ines.follow_redirects = False
    query = {
        "client_id": "service-web",
        "redirect_uri": f"{hub.public_url}/services/web/oauth_callback",
        "response_type": "code",
        "state": "s",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",  # RFC 7636, appendix B
        "code_challenge_method": "S256",
    }
    location = ines.get(f"{hub.public_url}/hub/api/oauth2/authorize", params=query).headers["location"]
    ines.get(f"{hub.public_url}/hub/logout", headers=BY_CLICK)
    assert by_token(hub, token).status_code == 403
    form = {
        "grant_type": "authorization_code",
        "client_id": "service-web",
        "client_secret": SECRETS["web-service"],
        "code": parse_qs(urlsplit(location).query)["code"][0],
        "redirect_uri": query["redirect_uri"],
        "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    }
    assert httpx.post(f"{hub.url}/hub/api/oauth2/token", data=form).status_code in (400, 401, 403)


def test_who_cannot_be_refreshed_can_log_out_all_the_same(hub: RunningHub, ines: httpx.Client) -> None:
    token = portal_token(hub, ines)
    hub.provider.access.clear()
    hub.provider.refresh.clear()
    ines.get(f"{hub.public_url}/hub/logout", headers=BY_CLICK)
    assert login_cookies(ines) == set()
    assert by_token(hub, token).status_code == 403


def test_the_way_back_from_the_provider_says_where_the_login_ended(
    hub: RunningHub, ines: httpx.Client
) -> None:
    end = ines.get(f"{hub.public_url}/hub/logout", headers=BY_CLICK).json()
    assert end["post_logout_redirect_uri"] == f"{hub.public_url}/hub/login/hostile/loggedout"
    assert len(end["state"]) == 43
    page = ines.get(end["post_logout_redirect_uri"], params={"state": end["state"]})
    assert "Your identity provider ended its login, too." in page.text
    again = ines.get(end["post_logout_redirect_uri"], params={"state": end["state"]})
    assert "You are logged out" in again.text
    assert "ended its login, too" not in again.text


@pytest.mark.parametrize("state", [None, "", "wrong", "é", "x" * 5000])
def test_a_wrong_or_missing_state_shows_the_page_and_does_nothing(
    hub: RunningHub, ines: httpx.Client, state: str | None
) -> None:
    end = ines.get(f"{hub.public_url}/hub/logout", headers=BY_CLICK).json()
    log_in(hub, ines)
    query = {} if state is None else {"state": state}
    page = ines.get(end["post_logout_redirect_uri"], params=query)
    assert page.status_code == 200
    assert "ended its login, too" not in page.text
    assert is_in(hub, ines)


def test_a_session_id_from_before_a_restart_of_the_hub_is_known(hub: RunningHub) -> None:
    with browser() as client:
        hub.provider.script.claims["sid"] = "sid-from-before"
        log_in(hub, client)
        restart(hub)
        assert is_in(hub, client)
        answer = send_logout(hub, logout_token(hub.provider, sub=None, sid="sid-from-before"))
        assert answer.status_code == 200
        assert not is_in(hub, client)
        account = account_name(hub.provider.issuer, "ines")
        assert f"back-channel logout: provider=hostile account={account}" in hub.log
