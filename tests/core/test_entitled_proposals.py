"""Entitlements name proposals only where a provider of the person may say so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config.login import LoginConfig
from beamhub_core.entitled_proposals import MAX_PROPOSAL, entitled_roles
from beamhub_core.identity import Entitlement, Identity, Principal, account_name

ONE, TWO, ONLY_WHO = (f"https://{name}.example" for name in ("one", "two", "who"))


def provider(issuer: str, **fields: Any) -> dict[str, Any]:
    """A provider's part of a configuration."""
    name = issuer.removeprefix("https://").removesuffix(".example")
    known = {"name": name, "title": name, "issuer": issuer, "client_id": "c", "client_secret_file": "/secret"}
    return known | fields


LOGIN = LoginConfig.model_validate(
    {
        "providers": [
            provider(ONE, entitlement_namespaces=["urn:geant:one.example"]),
            provider(TWO, entitlement_namespaces=["urn:geant:two.example"], proposal_group="visits"),
            provider(ONLY_WHO, is_identity_only=True),
        ]
    }
)


def person(issuer: str, *said: str, linked: tuple[str, ...] = ()) -> Principal:
    """Somebody with memberships `namespace group subgroup [role]`."""
    words = [text.split() for text in said]
    return Principal(
        issuer=issuer,
        subject="a",
        account=account_name(issuer, "a"),
        display_name="A",
        linked=tuple(Identity(issuer=other, subject="b") for other in linked),
        entitlements=tuple(
            Entitlement(
                namespace=f"urn:geant:{w[0]}.example",
                group=w[1],
                subgroups=(w[2],),
                role="".join(w[3:]) or None,
            )
            for w in words
        ),
        checked_at=datetime(2026, 11, 21, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("who", "found"),
    [
        (person(ONE, "one proposals P1", "one proposals P2 pi"), {"P1": "member", "P2": "pi"}),
        (person(ONE, "two visits P1"), {}),
        (person(ONE, "two visits P1", linked=(TWO,)), {"P1": "member"}),
        (person(TWO, "one proposals P1", "two visits P1 pi", linked=(ONE,)), {"P1": "pi"}),
        (person(ONE, "two proposals P1", "one visits P2", linked=(TWO,)), {}),
        (person(ONLY_WHO, "one proposals P1"), {}),
        (person(ONLY_WHO, "one proposals P1", linked=(ONE,)), {"P1": "member"}),
        (person("https://gone.example", "one proposals P1"), {}),
        (person(ONE, "one proposals P1 PI", "one proposals P2 leader"), {}),
        (
            person(ONE, f"one proposals {'P' * (MAX_PROPOSAL + 1)}", "one proposals é", "one proposals \x00"),
            {},
        ),
    ],
)
def test_a_namespace_counts_for_the_providers_of_ones_identities(
    who: Principal, found: dict[str, str]
) -> None:
    assert entitled_roles(who, LOGIN) == found


@given(
    st.lists(
        st.sampled_from(["one proposals P1", "one proposals P1 pi", "two visits P1", "one proposals P2 x"])
    )
)
def test_neither_order_nor_repetition_counts(said: list[str]) -> None:
    one, other = person(ONE, *said, linked=(TWO,)), person(ONE, *reversed(said), *said, linked=(TWO,))
    assert entitled_roles(one, LOGIN) == entitled_roles(other, LOGIN)
