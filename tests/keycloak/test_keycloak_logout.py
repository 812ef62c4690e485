"""Logging out ends both sessions, wherever it begins: here, or at the realm."""

from __future__ import annotations

import httpx
import pytest

from hub.hub_parts import BY_CLICK, login_cookies  # the folder of these tests, not the room
from hub.session_parts import await_that
from keycloak.keycloak_parts import (  # the folder of these tests, not a library
    BACKCHANNEL_PATH,
    KeycloakHub,
    asks_for_password,
    log_in,
    person,
    start,
)

pytestmark = [pytest.mark.hub, pytest.mark.keycloak]


def test_logging_out_here_ends_the_session_at_the_realm(at_realm: KeycloakHub) -> None:
    hub = at_realm.hub
    with person() as client:
        log_in(hub, client, "oscar")
        before = at_realm.realm.sessions("oscar")
        page = client.get(f"{hub.public_url}/hub/logout", headers=BY_CLICK)
        assert str(page.url).startswith(hub.public_url), page.url.path
        assert at_realm.realm.sessions("oscar") == before - 1
        assert login_cookies(client) == set()
        assert asks_for_password(start(hub, client))


def test_a_logout_by_the_realms_administrator_ends_the_login_here(at_realm: KeycloakHub) -> None:
    home = f"{at_realm.hub.public_url}/hub/home"
    with person() as client, person() as other:
        log_in(at_realm.hub, client, "ines")
        log_in(at_realm.hub, other, "oscar")
        kept = httpx.Cookies(client.cookies)
        at_realm.realm.log_out("ines")
        await_that(
            lambda: f"POST {BACKCHANNEL_PATH}" in at_realm.hub.log, "the realm's back-channel logout token"
        )
        assert f"200 POST {BACKCHANNEL_PATH}" in at_realm.hub.log
        assert client.get(home).url.path != "/hub/home"
        with person() as thief:
            thief.cookies.update(kept)
            assert thief.get(home).url.path != "/hub/home"
        assert other.get(home).url.path == "/hub/home"  # somebody else's login goes on


def test_a_logout_token_without_a_signature_of_the_realm_ends_nothing(at_realm: KeycloakHub) -> None:
    with person() as client:
        log_in(at_realm.hub, client, "ines")
        forged = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0."
        answer = httpx.post(at_realm.hub.public_url + BACKCHANNEL_PATH, data={"logout_token": forged})
        assert answer.status_code == 400
        assert answer.headers["cache-control"] == "no-store"
        assert client.get(f"{at_realm.hub.public_url}/hub/home").url.path == "/hub/home"
