"""Identity providers and what their claims mean here."""

from __future__ import annotations

from pydantic import Field

from beamhub_core.config.section import AbsolutePath, HttpUrl, SecretFile, Section, SectionName
from beamhub_core.identity import FacilityRole


class ProviderConfig(Section):
    """One OpenID provider; endpoints always come from its discovery document."""

    name: SectionName
    title: str
    issuer: HttpUrl
    client_id: str
    client_secret_file: SecretFile
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    algorithms: tuple[str, ...] = Field(
        default=("RS256", "ES256"), min_length=1, description="Accepted ID-token algorithms."
    )
    entitlement_namespaces: tuple[str, ...] = Field(
        default=(), description="Complete namespaces whose groups count, e.g. 'urn:geant:example.org'."
    )
    proposal_group: str = Field(default="proposals", description="Group whose subgroups are proposal ids.")
    required_claims: tuple[str, ...] = ()
    unsafe_allow_http: bool = Field(
        default=False, description="Accept an issuer without TLS; for loopback only."
    )


class LoginConfig(Section):
    """Who may log in and for how long an answer of the provider counts."""

    providers: tuple[ProviderConfig, ...] = Field(min_length=1)
    role_assignments: AbsolutePath | None = Field(
        default=None,
        description="CSV 'issuer,subject,role' that gives facility roles; never made from claims.",
    )
    leeway_s: float = Field(default=60.0, ge=0, le=300)
    refresh_s: float = Field(default=300.0, gt=0)
    grace_h: float = Field(default=12.0, ge=0)


RoleName = FacilityRole
