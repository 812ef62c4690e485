"""Who may log in, and what of it counts for how long."""

from __future__ import annotations

from pydantic import Field, model_validator

from beamhub_core.config.identity_map import IdentityMapConfig
from beamhub_core.config.provider import ProviderConfig
from beamhub_core.config.section import AbsolutePath, Section, SectionName
from beamhub_core.identity import FacilityRole


class RoleRule(Section):
    """A facility role for the members of one group, because the facility says so here."""

    provider: SectionName = Field(description="Whose word counts for this rule.")
    entitlement: str = Field(
        max_length=1024,
        description="Group or role that gives the facility role, e.g. 'urn:geant:example.org:group:staff'.",
    )
    role: FacilityRole = Field(description="What the members are here.")


class GuestConfig(Section):
    """Guests: people without any provider, who see what is open."""

    title: str = Field(
        default="Continue as a guest", min_length=1, max_length=200, description="Text of the button."
    )
    lifetime_h: float = Field(default=8.0, gt=0, le=168, description="Hours after which a guest is gone.")
    max_guests: int = Field(default=50, ge=1, le=10_000, description="Guests at the same time.")


class LoginConfig(Section):
    """Who may log in and for how long an answer of the provider counts."""

    providers: tuple[ProviderConfig, ...] = Field(min_length=1)
    guests: GuestConfig | None = Field(
        default=None, description="Let people in without a provider, to open data only. Absent: nobody."
    )
    identity_map: IdentityMapConfig | None = Field(
        default=None,
        description="Where accounts and numeric ids at the facility come from. Absent: from nowhere.",
    )
    role_assignments: AbsolutePath | None = Field(
        default=None,
        description="CSV 'issuer,subject,role' that gives facility roles; never made from claims.",
    )
    role_rules: tuple[RoleRule, ...] = Field(
        default=(), description="Facility roles for members of exactly named groups."
    )
    can_link_identities: bool = Field(
        default=True,
        description="People may log in to one account with several identities, once they showed both.",
    )
    leeway_s: float = Field(default=60.0, ge=0, le=300, description="Accepted difference of clocks, seconds.")
    refresh_s: float = Field(
        default=300.0,
        ge=1,
        description="Seconds between two looks at the provider, and at live sessions. What was taken away "
        "there is gone here after twice this time at the latest.",
    )
    grace_h: float = Field(
        default=12.0, ge=0, description="Hours for which an unreachable provider's last answer still counts."
    )

    @model_validator(mode="after")
    def _tells_providers_apart(self) -> LoginConfig:
        ldap = self.identity_map.ldap if self.identity_map else None
        if ldap is not None and len(self.providers) > 1 and not ldap.tells_issuers_apart:
            raise ValueError(
                "identity_map.ldap.filter: with several providers, {subject} needs {issuer} beside it; else "
                "a subject of one provider is found as the same subject of another"
            )
        return self
