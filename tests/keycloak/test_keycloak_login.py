"""Logins at a real Keycloak: whose rights web is told of, and what may change while the hub runs."""

from __future__ import annotations

import argparse
import json
import re

import pytest

from beamhub_hub import check_provider
from hub.hub_parts import login_cookies  # the folder of these tests, not the room
from hub.session_parts import await_that
from keycloak.keycloak_parts import (  # the folder of these tests, not a library
    CALLBACK_PATH,
    PROVIDER,
    KeycloakHub,
    asks_for_password,
    log_in,
    person,
    send_form,
    start,
)

pytestmark = [pytest.mark.hub, pytest.mark.keycloak]


def test_a_group_of_the_realm_is_a_proposal_at_web(at_realm: KeycloakHub) -> None:
    with person() as client:
        home = log_in(at_realm.hub, client, "ines")
        assert home.url.path == "/hub/home"
        assert login_cookies(client) != set()
    principal = at_realm.hub.web.principals[at_realm.realm.account("ines")]
    assert principal["display_name"] == "Ines Ferreira"
    assert principal["home_organisation"] == "example-university.org"
    assert "https://refeds.org/assurance/IAP/medium" in principal["assurance"]
    assert at_realm.proposals("ines") == ["MA-1"]
    assert principal["ignored_entitlements"] == 1  # of a namespace that does not count here


def test_a_name_beyond_ascii_arrives_whole(at_realm: KeycloakHub) -> None:
    with person() as client:
        log_in(at_realm.hub, client, "mira")
    assert at_realm.hub.web.principals[at_realm.realm.account("mira")]["display_name"] == "Mira Kovács"
    assert at_realm.proposals("mira") == ["MA-1", "MA-2"]


def test_a_wrong_password_logs_nobody_in(at_realm: KeycloakHub) -> None:
    with person() as client:
        form = start(at_realm.hub, client)
        page = send_form(client, form, username="ines", password="not this one")
        assert asks_for_password(page)
        assert login_cookies(client) == set()


def test_the_operators_monitoring_account_is_refused(at_realm: KeycloakHub) -> None:
    with person() as client:
        page = log_in(at_realm.hub, client, "test")
        assert page.status_code == 403
        assert login_cookies(client) == set()


def test_who_is_known_to_the_realm_logs_in_without_a_form(at_realm: KeycloakHub) -> None:
    with person() as client:
        log_in(at_realm.hub, client, "ines")
        for cookie in [each for each in client.cookies.jar if each.name.startswith("jupyterhub")]:
            client.cookies.delete(cookie.name, cookie.domain, cookie.path)
        assert login_cookies(client) == set()
        assert start(at_realm.hub, client).url.path == "/hub/home"


def test_a_new_signing_key_of_the_realm_is_taken_while_the_hub_runs(at_realm: KeycloakHub) -> None:
    with person() as before:
        log_in(at_realm.hub, before, "ines")
        at_realm.realm.add_signing_key(1000)

        def logs_in() -> bool:
            with person() as client:
                return log_in(at_realm.hub, client, "oscar").url.path == "/hub/home"

        await_that(logs_in, "a login with the new key")
        assert before.get(f"{at_realm.hub.public_url}/hub/home").url.path == "/hub/home"


def test_the_check_finds_nothing_wrong_with_the_realm(
    at_realm: KeycloakHub, capsys: pytest.CaptureFixture[str]
) -> None:
    config = at_realm.hub.folder / "facility.yaml"
    assert check_provider.run(argparse.Namespace(name=PROVIDER, config=config, json=True)) == 0
    answer = json.loads(capsys.readouterr().out)
    verdicts = {item["subject"]: item["verdict"] for item in answer["findings"]}
    for subject in ("PKCE", "issuer in the response", "refresh", "back-channel logout", "token exchange"):
        assert verdicts[subject] == "ok", subject
    assert verdicts["claims"] == "warn"  # Keycloak announces no claim of a mapper
    assert answer["register"]["redirect_uri"] == at_realm.hub.public_url + CALLBACK_PATH


def test_no_secret_of_these_logins_is_in_the_log(at_realm: KeycloakHub) -> None:
    with person() as client:
        log_in(at_realm.hub, client, "ines")
    log = at_realm.hub.log
    assert "eyJ" not in log
    assert not re.search(r"[?&]code=(?!\[(?:secret|…)\])", log)
    assert "-0c7d@example.org" not in log
