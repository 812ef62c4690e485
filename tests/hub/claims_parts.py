"""A provider's configuration and the person that its claims make, for tests without a hub."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from beamhub_core.config.login import RoleRule
from beamhub_core.config.provider import ProviderConfig
from beamhub_core.identity import Principal
from beamhub_hub.claims import principal_from_claims
from beamhub_hub.denial import LoginDenied
from beamhub_hub.role_assignments import RoleAssignments

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ISSUER = "https://aai.example.org"
NAMESPACE = "urn:geant:example.org"


def provider(**changes: Any) -> ProviderConfig:
    """A provider's configuration."""
    fields: dict[str, Any] = {
        "name": "aai",
        "title": "AAI",
        "issuer": ISSUER,
        "client_id": "beamhub",
        "client_secret_file": "/nowhere",
        "entitlement_namespaces": [NAMESPACE],
    }
    return ProviderConfig.model_validate({**fields, **changes})


def principal(
    said: dict[str, object], /, *, rules: Sequence[dict[str, str]] = (), **changes: Any
) -> Principal:
    """The Principal of some claims."""
    roles = RoleAssignments(
        {(ISSUER, "sam"): ("trainer",)}, [RoleRule.model_validate(rule) for rule in rules]
    )
    return principal_from_claims(said, provider=provider(**changes), roles=roles, checked_at=NOW)


def denial(said: dict[str, object], /, **changes: Any) -> str:
    """The code with which some claims are denied."""
    with pytest.raises(LoginDenied) as caught:
        principal(said, **changes)
    for value in said.values():  # the smallest values stand in any sentence
        assert not isinstance(value, str) or len(value) < 4 or value not in str(caught.value)
    return caught.value.code
