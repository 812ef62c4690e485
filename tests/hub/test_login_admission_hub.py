"""A running hub that asks for scope, organisation and assurance, and gives roles by a rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from beamhub_core.identity import account_name
from hub.hub_parts import (  # the folder of these tests, not the room
    NAMESPACE,
    RunningHub,
    browser,
    log_in,
    login_cookies,
    running_hub,
)

pytestmark = pytest.mark.hub

RAF = "https://refeds.org/assurance"
STAFF = f"{NAMESPACE}:group:staff"
GOOD: dict[str, Any] = {
    "voperson_id": "5f1c@example.org",
    "schac_home_organization": "Example.org",
    "eduperson_assurance": [f"{RAF}/profile/cappuccino"],
    "entitlements": [STAFF, f"{NAMESPACE}:res:staff:act:use#x", None, "x"],
    "unix_id": "5001",
}


@pytest.fixture(scope="module")
def strict_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub that asks for everything that a configuration can ask of claims."""

    def change(fields: dict[str, Any]) -> None:
        fields["login"]["providers"][0] |= {
            "id_scopes": ["example.org"],
            "home_organisations": ["example.org"],
            "required_assurance": [f"{RAF}/IAP/low"],
            "claims": {"uid": "unix_id"},
        }
        fields["login"]["role_rules"] = [{"provider": "hostile", "entitlement": STAFF, "role": "support"}]

    with running_hub(tmp_path_factory.mktemp("hub"), change=change) as hub:
        yield hub


def test_a_person_with_everything_is_in_with_the_role_of_the_rule(strict_hub: RunningHub) -> None:
    strict_hub.provider.reset().userinfo |= GOOD
    with browser() as client:
        assert log_in(strict_hub, client).status_code == 200
        assert login_cookies(client)
    person = strict_hub.web.principals[account_name(strict_hub.provider.issuer, "ines")]
    assert (person["roles"], person["uid"], person["ignored_entitlements"]) == (["support"], 5001, 2)
    assert person["assurance"] == [
        f"{RAF}/ATP/ePA-1m",
        f"{RAF}/IAP/low",
        f"{RAF}/IAP/medium",
        f"{RAF}/ID/unique",
        f"{RAF}/profile/cappuccino",
    ]
    assert [item["actions"] for item in person["capabilities"]] == [["use"]]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"voperson_id": "5f1c@evil.org"}, "subject_scope"),
        ({"voperson_id": None}, "subject_scope"),
        ({"voperson_id": "test@example.org"}, "subject_blocked"),
        ({"schac_home_organization": "evil.org"}, "organisation_not_allowed"),
        ({"eduperson_assurance": [f"{RAF}/IAP/local-enterprise"]}, "assurance_missing"),
    ],
)
def test_whoever_lacks_one_thing_is_not_in(strict_hub: RunningHub, change: dict[str, Any], code: str) -> None:
    strict_hub.provider.reset().userinfo |= GOOD | change
    strict_hub.web.pushes.clear()
    with browser() as client:
        answer = log_in(strict_hub, client)
        assert answer.status_code == 403
        assert not login_cookies(client)
    assert strict_hub.web.pushes == []
    assert f"reason={code}" in strict_hub.log
    for value in (value for value in change.values() if isinstance(value, str)):
        assert value not in answer.text
        assert value not in strict_hub.log
