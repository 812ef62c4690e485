"""How well a person's identity was proofed: what the provider asserts, and what that implies.

Source: REFEDS Assurance Framework (https://refeds.org/assurance); EGI's levels of assurance; AARC-G021 and
AARC-G031 (the proxy combines linked identities' assurance, a relying party never does).
"""

from __future__ import annotations

from collections.abc import Mapping

from beamhub_core.config.provider import ProviderConfig
from beamhub_hub.claim_values import Claims, texts_of
from beamhub_hub.denial import LoginDenied

MAX_VALUES = 64
"""Asserted values that are kept; those that mean something to us come first."""
_MAX_LENGTH = 300
_RAF = "https://refeds.org/assurance"
_EGI = "https://aai.egi.eu/LoA#"

IMPLIED: Mapping[str, tuple[str, ...]] = {
    f"{_RAF}/IAP/high": (f"{_RAF}/IAP/medium",),
    f"{_RAF}/IAP/medium": (f"{_RAF}/IAP/low",),
    f"{_RAF}/ATP/ePA-1d": (f"{_RAF}/ATP/ePA-1m",),
    f"{_RAF}/profile/espresso": (
        f"{_RAF}/profile/cappuccino",
        f"{_RAF}/ID/unique",
        f"{_RAF}/IAP/high",
        f"{_RAF}/ATP/ePA-1m",
    ),
    f"{_RAF}/profile/cappuccino": (f"{_RAF}/ID/unique", f"{_RAF}/IAP/medium", f"{_RAF}/ATP/ePA-1m"),
    f"{_EGI}High": (f"{_EGI}Substantial",),
    f"{_EGI}Substantial": (f"{_EGI}Low",),
}
"""What each value implies at once. `IAP/local-enterprise` stands in no order with the others, and values of a
profile's parts do not make the profile: only the provider can say that."""


def assurance_of(claims: Claims, provider: ProviderConfig) -> tuple[str, ...]:
    """The assurance of this login, sorted: values as sent, and all that they imply.

    A value that nobody knows is kept as it is and implies nothing.

    Raises
    ------
    LoginDenied
        `assurance_missing` if the configuration requires a value that is not among them: a value that was
        not sent was not asserted.
    """
    required = provider.required_assurance
    known = {*IMPLIED, *provider.assurance_implies, *required}
    sent = {
        text
        for text in texts_of(claims, provider.claims.assurance)
        if 0 < len(text) <= _MAX_LENGTH and text.isprintable()
    }
    kept = sorted(sent, key=lambda value: (value not in known, value))[:MAX_VALUES]
    found = _closure(kept, provider.assurance_implies)
    if not found.issuperset(required):
        raise LoginDenied("assurance_missing")
    return tuple(sorted(found))


def _closure(values: list[str], own: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The values with everything that they imply, by the general order and by the provider's own."""
    found: set[str] = set()
    open_ends = list(values)
    while open_ends:
        value = open_ends.pop()
        if value not in found:
            found.add(value)
            open_ends += (*IMPLIED.get(value, ()), *own.get(value, ()))
    return found
