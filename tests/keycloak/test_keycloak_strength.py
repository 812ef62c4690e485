"""A second factor, where it is asked for: the realm's levels become the acr that web is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hub.hub_parts import login_cookies  # the folder of these tests, not the room
from keycloak.keycloak_parts import (  # the folder of these tests, not a library
    MFA,
    PROVIDER,
    SFA,
    KeycloakHub,
    Realm,
    asks_for_one_time_code,
    asks_for_password,
    keycloak_hub,
    log_in,
    one_time_code,
    person,
    send_form,
    start,
)

pytestmark = [pytest.mark.hub, pytest.mark.keycloak]
STEP_UP_PATH = f"/hub/login/{PROVIDER}"


def strength(at_realm: KeycloakHub, username: str) -> str | None:
    """How strong web thinks that a user's last login was."""
    acr: str | None = at_realm.hub.web.principals[at_realm.realm.account(username)]["acr"]
    return acr


def test_a_password_alone_is_one_factor(at_realm: KeycloakHub) -> None:
    with person() as client:
        assert log_in(at_realm.hub, client, "mira").url.path == "/hub/home"
    assert strength(at_realm, "mira") == SFA


def test_a_demand_for_a_second_factor_reaches_the_realm_and_web(at_realm: KeycloakHub) -> None:
    with person() as client:
        form = start(at_realm.hub, client, STEP_UP_PATH, acr=MFA)
        page = send_form(client, form, username="mira", password="mira-password")
        assert asks_for_one_time_code(page)
        assert login_cookies(client) == set()
        assert send_form(client, page, otp=one_time_code("mira")).url.path == "/hub/home"
    assert strength(at_realm, "mira") == MFA


def test_who_is_logged_in_already_gives_the_second_factor_only(at_realm: KeycloakHub) -> None:
    with person() as client:
        log_in(at_realm.hub, client, "mira")
        page = start(at_realm.hub, client, STEP_UP_PATH, acr=MFA)
        assert asks_for_one_time_code(page)
        assert not asks_for_password(page)
        assert send_form(client, page, otp=one_time_code("mira")).url.path == "/hub/home"
    assert strength(at_realm, "mira") == MFA


def test_a_wrong_code_is_no_second_factor(at_realm: KeycloakHub) -> None:
    with person() as client:
        form = start(at_realm.hub, client, STEP_UP_PATH, acr=MFA)
        page = send_form(client, form, username="mira", password="mira-password")
        wrong = f"{(int(one_time_code('mira')) + 500_000) % 1_000_000:06d}"
        assert asks_for_one_time_code(send_form(client, page, otp=wrong))
        assert login_cookies(client) == set()


def test_who_has_no_second_factor_is_not_let_in_by_the_demand(at_realm: KeycloakHub) -> None:
    with person() as client:
        form = start(at_realm.hub, client, STEP_UP_PATH, acr=MFA)
        page = send_form(client, form, username="ines", password="ines-password")
        assert page.url.path.startswith("/realms/")  # Keycloak offers to set one up
        assert login_cookies(client) == set()


@pytest.fixture(scope="module")
def strict_at_realm(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakHub]:
    """A hub where every login needs a second factor."""

    def demand(fields: dict[str, object]) -> None:
        login = fields["login"]
        assert isinstance(login, dict)
        login["providers"][0]["acr_values"] = [MFA]

    with keycloak_hub(tmp_path_factory.mktemp("strict"), realm, demand) as hub:
        yield hub


def test_where_every_login_needs_two_factors_the_realm_asks_for_both(strict_at_realm: KeycloakHub) -> None:
    with person() as client:
        page = log_in(strict_at_realm.hub, client, "mira")
        assert asks_for_one_time_code(page)
        assert send_form(client, page, otp=one_time_code("mira")).url.path == "/hub/home"
        assert login_cookies(client) != set()
    assert strength(strict_at_realm, "mira") == MFA
