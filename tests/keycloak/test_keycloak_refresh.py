"""Rights that end at the realm end here: rotation, removal and disabling, without any click of the person."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from hub.session_parts import (  # the folder of these tests, not the room
    await_that,
    processes_of,
    start_session,
)
from keycloak.keycloak_parts import (  # the folder of these tests, not a library
    KeycloakHub,
    Realm,
    keycloak_hub,
    log_in,
    person,
)

pytestmark = [pytest.mark.hub, pytest.mark.keycloak]
ACCESS_TOKEN_S = 3.0
"""The lifetime in realm.json, rounded up to whole seconds: after it, only the refresh token is left."""


@pytest.fixture(scope="module")
def at_realm(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakHub]:
    """A hub for which a refused token means that the person is gone: this realm's tokens outlive sessions."""

    def change(fields: dict[str, Any]) -> None:
        fields["login"]["providers"][0]["refused_token_ends_account"] = True

    with keycloak_hub(tmp_path_factory.mktemp("hub"), realm, change) as hub:
        yield hub


@pytest.fixture
def ines(at_realm: KeycloakHub) -> Iterator[httpx.Client]:
    """A browser with a login of a member of MA-1."""
    at_realm.hub.web.removed.clear()
    with person() as client:
        assert log_in(at_realm.hub, client, "ines").url.path == "/hub/home"
        assert at_realm.proposals("ines") == ["MA-1"]
        yield client


def visit(at_realm: KeycloakHub, client: httpx.Client) -> str:
    """Where a visit of the home page ends."""
    return client.get(f"{at_realm.hub.public_url}/hub/home").url.path


def await_end_of_access_token() -> None:
    """Return when an access token of now is not accepted any more."""
    end = time.monotonic() + ACCESS_TOKEN_S + 0.2
    await_that(lambda: time.monotonic() > end, "the access token's end")


def test_a_rotating_refresh_token_lasts_over_many_rounds(at_realm: KeycloakHub, ines: httpx.Client) -> None:
    before = len(at_realm.realm.events("REFRESH_TOKEN", "ines"))
    for _ in range(3):
        await_end_of_access_token()
        assert visit(at_realm, ines) == "/hub/home"
    assert len(at_realm.realm.events("REFRESH_TOKEN", "ines")) - before >= 3
    assert at_realm.realm.events("REFRESH_TOKEN_ERROR") == []
    assert at_realm.proposals("ines") == ["MA-1"]


def test_requests_side_by_side_use_a_refresh_token_once(at_realm: KeycloakHub, ines: httpx.Client) -> None:
    def visit_beside(_: int) -> str:
        with person() as tab:
            tab.cookies.update(ines.cookies)
            return visit(at_realm, tab)

    for _ in range(2):
        await_end_of_access_token()
        with ThreadPoolExecutor(8) as tabs:
            assert set(tabs.map(visit_beside, range(8))) == {"/hub/home"}
    assert at_realm.realm.events("REFRESH_TOKEN_ERROR") == []


def test_two_logins_of_one_person_both_go_on(at_realm: KeycloakHub, ines: httpx.Client) -> None:
    with person() as second:
        log_in(at_realm.hub, second, "ines")
        for _ in range(2):
            await_end_of_access_token()
            assert [visit(at_realm, ines), visit(at_realm, second)] == ["/hub/home", "/hub/home"]


def test_who_leaves_a_group_loses_the_proposal_without_a_click(
    at_realm: KeycloakHub, ines: httpx.Client
) -> None:
    start_session(at_realm.hub, ines, at_realm.realm.account("ines"))
    at_realm.realm.set_membership("ines", "/proposals/MA-1", is_member=False)
    try:
        await_that(lambda: at_realm.proposals("ines") == [], "web to know of the lost group")
    finally:
        at_realm.realm.set_membership("ines", "/proposals/MA-1", is_member=True)
    await_that(lambda: at_realm.proposals("ines") == ["MA-1"], "web to know of the group again")


def test_who_is_disabled_loses_everything_without_a_click(at_realm: KeycloakHub, ines: httpx.Client) -> None:
    account = at_realm.realm.account("ines")
    start_session(at_realm.hub, ines, account, "d-2")
    at_realm.realm.change_user("ines", enabled=False)
    try:
        await_that(lambda: account in at_realm.hub.web.removed, "web to know of the end")
        await_that(lambda: processes_of(account) == [], "the end of the sessions")
        assert visit(at_realm, ines) != "/hub/home"
        with person() as client:
            assert log_in(at_realm.hub, client, "ines").url.path != "/hub/home"
    finally:
        at_realm.realm.change_user("ines", enabled=True)
    with person() as client:
        assert log_in(at_realm.hub, client, "ines").url.path == "/hub/home"
