"""What a login with given claims would be: decided by the functions that decide a login, in their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from beamhub_core.config import FacilityConfig
from beamhub_core.config.provider import ProviderConfig
from beamhub_core.entitled_proposals import entitled_roles
from beamhub_core.identity import FacilityRole, Principal
from beamhub_core.rights import ProposalRole
from beamhub_hub.claim_values import Claims
from beamhub_hub.claims import merge_claims, principal_from_claims
from beamhub_hub.denial import DenialCode, LoginDenied
from beamhub_hub.role_assignments import group_of, read_roles
from beamhub_hub.strength import check_strength

MapIdentity = Callable[[Principal], Principal]
"""The facility's identity map: the person with what it says, or LoginDenied for one whom it must name."""
EntitlementSource = Literal["entitlement"]
Rule = DenialCode | Literal["issuer_unknown", "verified_principal"]
"""The denial of a login; or that its issuer is nobody's here; or that nothing denied it."""


@dataclass(frozen=True, slots=True)
class ClaimSet:
    """What a provider said in one login, already verified."""

    id_token: Claims
    userinfo: Claims
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class EntitledProposal:
    """A proposal that an entitlement names."""

    id: str
    role: ProposalRole
    source: EntitlementSource = "entitlement"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer that a login would get."""

    rule: Rule
    reason: str | None = None
    """Why it is denied, for people; no claim's value."""
    principal: Principal | None = None
    provider: ProviderConfig | None = None
    proposals: tuple[EntitledProposal, ...] = ()

    @property
    def is_allowed(self) -> bool:
        """Whether somebody would be logged in."""
        return self.principal is not None

    @property
    def roles(self) -> tuple[FacilityRole, ...]:
        """Facility roles."""
        return self.principal.roles if self.principal else ()

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups in the hub."""
        return tuple(group_of(role) for role in self.roles)

    def as_json(self) -> dict[str, object]:
        """The answer as the command prints it; keys of version 1."""
        person = self.principal
        answer: dict[str, object] = {
            "version": 1,
            "decision": "allow" if person else "deny",
            "rule": self.rule,
            "username": person.account if person else None,
            "groups": list(self.groups),
            "proposals": [{"id": p.id, "role": p.role, "source": p.source} for p in self.proposals],
            "roles": list(self.roles),
            "ignored_entitlements": person.ignored_entitlements if person else 0,
        }
        return answer if person else {**answer, "reason": self.reason}


def explain(
    said: ClaimSet,
    config: FacilityConfig,
    *,
    now: datetime,
    provider_name: str | None = None,
    map_identity: MapIdentity | None = None,
) -> Explanation:
    """What a login would be.

    Parameters
    ----------
    said:
        The claims; signature, audience, nonce and times count as verified.
    config:
        The facility's configuration; its list of roles is read.
    now:
        The moment of the login where the ID token names none (`iat`), aware.
    provider_name:
        Which provider spoke, where the claims do not say; None for the first.
    map_identity:
        The facility's identity map, where the configuration has one.

    Raises
    ------
    ConfigInvalid
        If the list of facility roles cannot be read; a login then gives nobody a role.
    """
    provider = _provider(said, config, provider_name)
    if provider is None:
        return Explanation(
            "issuer_unknown", "No configured provider has this issuer; its word counts for nobody."
        )
    try:
        principal = _principal(said, config, provider, _moment(said, now))
        if map_identity is not None:
            principal = map_identity(principal)
    except LoginDenied as denied:
        reason = f"{denied.advice} ({denied.detail})" if denied.detail else denied.advice
        return Explanation(denied.code, reason, provider=provider)
    proposals = tuple(
        EntitledProposal(proposal, role)
        for proposal, role in sorted(entitled_roles(principal, config.login).items())
    )
    return Explanation("verified_principal", principal=principal, provider=provider, proposals=proposals)


def _provider(said: ClaimSet, config: FacilityConfig, name: str | None) -> ProviderConfig | None:
    """The provider of the issuer; only where none is named, the one of the name, or the first."""
    issuer = said.issuer if said.issuer is not None else said.id_token.get("iss")
    for provider in config.login.providers:
        if issuer is None and name in (None, provider.name):
            return provider
        if issuer is not None and provider.issuer == issuer and name in (None, provider.name):
            return provider
    return None


def _moment(said: ClaimSet, now: datetime) -> datetime:
    """When the ID token was issued: an older file is judged as its login was."""
    issued = said.id_token.get("iat")
    if isinstance(issued, bool) or not isinstance(issued, int | float):
        return now
    try:
        return datetime.fromtimestamp(issued, UTC)
    except (ValueError, OverflowError, OSError):
        return now


def _principal(
    said: ClaimSet, config: FacilityConfig, provider: ProviderConfig, moment: datetime
) -> Principal:
    """The steps of BeamhubAuthenticator's login after the ID token's own verification."""
    if "iss" in said.id_token and said.id_token["iss"] != provider.issuer:
        raise LoginDenied("token_issuer")
    check_strength(
        said.id_token,
        acr_values=provider.acr_values,
        max_age_s=provider.max_age_s,
        now=moment,
        leeway_s=config.login.leeway_s,
    )
    claims = merge_claims(said.id_token, said.userinfo)
    return principal_from_claims(claims, provider=provider, roles=read_roles(config.login), checked_at=moment)
