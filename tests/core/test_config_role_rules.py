"""A rule for a facility role can be met, or the configuration does not start."""

from __future__ import annotations

from typing import Any

import pytest

from beamhub_core.config.facility import disagreements
from beamhub_core.config.login import LoginConfig

NAMESPACE = "urn:geant:example.org"
PROVIDER = {
    "name": "aai",
    "title": "AAI",
    "issuer": "https://aai.example.org",
    "client_id": "beamhub",
    "client_secret_file": "/nowhere",
    "entitlement_namespaces": [NAMESPACE],
}


def problems(rule: dict[str, str], **provider: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """What disagrees in a login with one rule."""
    fields = {"provider": "aai", "role": "trainer", "entitlement": f"{NAMESPACE}:group:staff"} | rule
    login = LoginConfig.model_validate({"providers": [PROVIDER | provider], "role_rules": [fields]})
    return list(disagreements({"login": login}))


@pytest.mark.parametrize(
    "entitlement",
    [f"{NAMESPACE}:group:staff", "URN:GEANT:example.org:group:a:b:role=pi#x", f"{NAMESPACE}:group:a%3Ab"],
)
def test_a_group_of_the_providers_namespace_is_a_rule(entitlement: str) -> None:
    assert problems({"entitlement": entitlement}) == []


@pytest.mark.parametrize(
    "entitlement",
    [
        "staff",
        f"{NAMESPACE}:group",
        f"{NAMESPACE}:group:staff:role=",
        f"{NAMESPACE}:sub:group:staff",
        f"{NAMESPACE}:res:staff#authority",
        "urn:geant:other.org:group:staff",
    ],
)
def test_what_no_login_can_meet_is_a_problem(entitlement: str) -> None:
    [(place, message)] = problems({"entitlement": entitlement})
    assert place == ("login", "role_rules", 0, "entitlement")
    assert "is no group of a namespace of 'aai' (there: urn:geant:example.org)" in message


def test_an_unknown_provider_is_named_with_the_nearest() -> None:
    [(place, message)] = problems({"provider": "aia"})
    assert place == ("login", "role_rules", 0, "provider")
    assert message == "no provider is called 'aia' (did you mean 'aai'?)"


def test_a_provider_that_only_says_who_somebody_is_has_no_rule() -> None:
    [(_, message)] = problems({}, is_identity_only=True, entitlement_namespaces=[])
    assert "(there: none)" in message


def test_guests_have_no_rule() -> None:
    [(_, message)] = problems({}, are_guests=True)
    assert "are guests and have no other role" in message
