"""Claims of any shape and size: they are shown as text, counted when they make no sense, and never a 500."""

from __future__ import annotations

from typing import Any

import pytest

from beamhub_core.identity import account_name
from hub.conformance_parts import assert_is_in, denied, group  # the folder of these tests, not the room
from hub.hub_parts import RunningHub, browser, log_in

pytestmark = pytest.mark.hub

SCRIPT = "<script>alert(1)</script>"
MANY: list[Any] = [
    *(group(f"MA-{n}") for n in range(500)),
    *([None, 7, 1.5, True, {}, [], "", "nonsense"] * 125),
    *(f"urn:geant:elsewhere.org:group:proposals:MA-{n}" for n in range(500)),
]
ADMITTED: dict[str, dict[str, Any]] = {
    "no groups claim": {},
    "groups claim is null": {"entitlements": None},
    "groups claim is a number": {"entitlements": 7},
    "groups claim is an object": {"entitlements": {group("MA-1"): True}},
    "groups claim is nested": {"entitlements": [[group("MA-1")]]},
    "groups claim with half a character": {"entitlements": [group("\ud800"), "\udfff"]},
    "name of 10 kB": {"name": "x" * 10_000},
    "name is a list": {"name": ["Ines"]},
    "name is null": {"name": None},
    "name with half a character": {"name": "Ines \ud800 Ferreira"},
    "name with control characters": {"name": "Ines\x00\x1b[31m\r\nSet-Cookie: a=b‮"},
    "script in the name": {"name": f"Ines {SCRIPT}"},
    "script in every claim": dict.fromkeys(
        ("given_name", "family_name", "preferred_username", "email", "schac_home_organization"), SCRIPT
    ),
    "assurance with half a character": {"eduperson_assurance": ["\ud800", 7, None]},
    "home organisation with half a character": {"schac_home_organization": "\ud800"},
    "a claim of 100 kB": {"whatever": "x" * 100_000},
    "security claims in userinfo": {"iss": "https://evil.example", "acr": "x", "aud": 7, "exp": 1},
}


@pytest.mark.parametrize("case", ADMITTED)
def test_odd_claims_let_the_person_in_with_nothing_gained(hub: RunningHub, case: str) -> None:
    hub.provider.script.userinfo |= ADMITTED[case]
    since = len(hub.log)
    with browser() as client:
        page = log_in(hub, client)
        assert_is_in(hub, client, page)
    assert SCRIPT not in page.text
    assert "Traceback" not in hub.log[since:]
    principal = hub.web.principals[account_name(hub.provider.issuer, "ines")]
    assert principal["entitlements"] == []
    assert len(principal["display_name"]) <= 200
    assert principal["display_name"].isprintable()


def test_a_script_in_a_name_is_shown_as_text(hub: RunningHub) -> None:
    hub.provider.script.userinfo["name"] = f"Ines {SCRIPT}"
    with browser() as client:
        page = log_in(hub, client, "/hub/token")
    assert SCRIPT not in page.text
    assert "Ines &lt;script&gt;alert(1)&lt;/script&gt;" in page.text


def test_two_thousand_entitlements_count_where_they_make_sense(hub: RunningHub) -> None:
    hub.provider.script.userinfo |= {"entitlements": MANY[:1000], "eduperson_entitlement": MANY[1000:]}
    with browser() as client:
        assert_is_in(hub, client, log_in(hub, client))
    principal = hub.web.principals[account_name(hub.provider.issuer, "ines")]
    assert len(MANY) == 2000
    assert {item["subgroups"][0] for item in principal["entitlements"]} == {f"MA-{n}" for n in range(500)}
    assert principal["ignored_entitlements"] == 1500


def test_entitlements_in_the_id_token_alone_count_for_the_login(hub: RunningHub) -> None:
    hub.provider.script.claims["entitlements"] = [group("MA-1")]
    with browser() as client:
        assert_is_in(hub, client, log_in(hub, client))
    principal = hub.web.principals[account_name(hub.provider.issuer, "ines")]
    assert [item["subgroups"] for item in principal["entitlements"]] == [["MA-1"]]


@pytest.mark.parametrize("name", ["sub", "voperson_id"])
def test_a_monitoring_account_never_logs_in(hub: RunningHub, name: str) -> None:
    if name == "sub":
        hub.provider.script.subject = "test@aai.geant.org"
    else:
        hub.provider.script.userinfo[name] = "Test@MyAccessID.org"
    denied(hub, "subject_blocked")
