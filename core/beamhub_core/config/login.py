"""Identity providers and what their claims mean here."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from beamhub_core.config.section import AbsolutePath, HttpUrl, SecretFile, Section, SectionName

SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Only algorithms with a public key: with HS* the public key itself would sign (CVE-2022-29217)."""

_NAMESPACE = re.compile(r"urn:[A-Za-z0-9][A-Za-z0-9-]{0,31}(:[A-Za-z0-9._~@/-]+)+")


class ProviderConfig(Section):
    """One OpenID provider; endpoints always come from its discovery document."""

    name: SectionName = Field(description="Name of the provider in logs and records.")
    title: str = Field(max_length=200, description="What people call it, on the login page.")
    issuer: HttpUrl = Field(max_length=512, description="Issuer identifier, as the provider writes it.")
    client_id: str = Field(
        min_length=1, max_length=512, description="The platform's client id at the provider."
    )
    client_secret_file: SecretFile
    scopes: tuple[str, ...] = Field(
        default=("openid", "profile", "email"), description="Scopes that the login asks for."
    )
    algorithms: tuple[SigningAlgorithm, ...] = Field(
        default=("RS256", "ES256"), min_length=1, description="Accepted ID-token algorithms."
    )
    entitlement_namespaces: tuple[str, ...] = Field(
        default=(), description="Complete namespaces whose groups count, e.g. 'urn:geant:example.org'."
    )
    proposal_group: str = Field(default="proposals", description="Group whose subgroups are proposal ids.")
    required_claims: tuple[str, ...] = Field(
        default=(), description="Claims without which nobody may log in, e.g. 'voperson_id'."
    )
    facility_account_claim: str | None = Field(
        default=None,
        description="Claim that holds the account at the facility, only where this provider may say so.",
    )
    blocked_subjects: tuple[str, ...] = Field(
        default=("test@eduteams.org", "test@aai.geant.org", "test@myaccessid.org"),
        description="Values of sub or voperson_id that never log in, such as operators' monitoring accounts.",
    )
    unsafe_allow_http: bool = Field(
        default=False, description="Accept an issuer without TLS; for loopback and closed test networks only."
    )

    @field_validator("scopes")
    @classmethod
    def _asks_for_an_id_token(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes:
            raise ValueError("'openid' is missing; without it the provider sends no ID token")
        return scopes

    @field_validator("entitlement_namespaces")
    @classmethod
    def _complete_namespaces(cls, namespaces: tuple[str, ...]) -> tuple[str, ...]:
        for namespace in namespaces:
            if not _NAMESPACE.fullmatch(namespace) or "group" in namespace.split(":"):
                raise ValueError(f"{namespace!r} is no complete namespace, e.g. 'urn:geant:example.org'")
        return namespaces

    @model_validator(mode="after")
    def _has_transport_security(self) -> ProviderConfig:
        if self.issuer.startswith("http://") and not self.unsafe_allow_http:
            raise ValueError(
                f"the issuer {self.issuer!r} has no TLS; use https, or 'unsafe_allow_http: true' on loopback"
            )
        return self


class LoginConfig(Section):
    """Who may log in and for how long an answer of the provider counts."""

    providers: tuple[ProviderConfig, ...] = Field(min_length=1)
    role_assignments: AbsolutePath | None = Field(
        default=None,
        description="CSV 'issuer,subject,role' that gives facility roles; never made from claims.",
    )
    leeway_s: float = Field(default=60.0, ge=0, le=300, description="Accepted difference of clocks, seconds.")
    refresh_s: float = Field(
        default=300.0, ge=1, description="Seconds between two looks at the provider, and at live sessions."
    )
    grace_h: float = Field(
        default=12.0, ge=0, description="Hours for which an unreachable provider's last answer still counts."
    )
