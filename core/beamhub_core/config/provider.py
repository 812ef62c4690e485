"""An identity provider: how it is reached, what its claims are called, and what they count for here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from beamhub_core.config.section import HttpUrl, SecretFile, Section, SectionName

SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Only algorithms with a public key: with HS* the public key itself would sign (CVE-2022-29217)."""
Preset = Literal["eduteams", "geant", "myaccessid", "egi", "umbrella", "keycloak", "oidc"]

_NAMESPACE = re.compile(r"urn:[A-Za-z0-9][A-Za-z0-9-]{0,31}(:[A-Za-z0-9._~@/-]+)+")
_ID_SCOPE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_CLAIM = r"^[A-Za-z][A-Za-z0-9_.:/-]{0,199}$"
_COMMUNITY = ("openid", "profile", "email", "eduperson_entitlement", "voperson_id")
PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "eduteams": {"scopes": _COMMUNITY, "id_scopes": ("eduteams.org",)},
    "geant": {"scopes": ("openid", "aarc"), "id_scopes": ("aai.geant.org",)},
    "myaccessid": {"scopes": ("openid", "aarc"), "id_scopes": ("myaccessid.org",)},
    "egi": {
        "scopes": (
            *_COMMUNITY,
            "aarc",
            "eduperson_scoped_affiliation",
            "eduperson_assurance",
            "orcid",
        ),
        "id_scopes": ("egi.eu",),
    },
    "umbrella": {"scopes": _COMMUNITY, "is_identity_only": True},
    "keycloak": {"idp_hint_name": "kc_idp_hint"},
    "oidc": {},
}
"""What an operator's clients have in common: values for keys that the configuration leaves out. Addresses are
not among them; they come from discovery. Source: the operators' pages for relying parties, as of 2026."""


class ClaimNames(Section):
    """Under which names a provider sends what we look for."""

    entitlements: tuple[str, ...] = Field(
        default=("entitlements", "eduperson_entitlement"),
        max_length=8,
        description="Claims with groups and capabilities; their union counts (AARC-G069, AARC-G002).",
    )
    identifiers: tuple[str, ...] = Field(
        default=("voperson_id", "sub"),
        min_length=1,
        max_length=4,
        description="Claims with the community's identifier, whose scope is checked (AARC-G026).",
    )
    assurance: str = Field(
        default="eduperson_assurance", pattern=_CLAIM, description="Claim with assurance values (REFEDS RAF)."
    )
    home_organisation: str = Field(
        default="schac_home_organization", pattern=_CLAIM, description="Claim with the home organisation."
    )
    orcid: str = Field(default="orcid", pattern=_CLAIM, description="Claim with the ORCID iD.")
    facility_account: str | None = Field(
        default=None,
        pattern=_CLAIM,
        description="Claim that holds the account at the facility, only where this provider may say so.",
    )
    uid: str | None = Field(
        default=None,
        pattern=_CLAIM,
        description="Claim that holds the numeric user id at the facility.",
    )
    gid: str | None = Field(
        default=None, pattern=_CLAIM, description="Claim that holds the numeric primary group id."
    )
    gids: str | None = Field(
        default=None, pattern=_CLAIM, description="Claim that holds the list of numeric group ids."
    )

    @field_validator("entitlements", "identifiers")
    @classmethod
    def _claim_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(_CLAIM, name):
                raise ValueError(f"{name!r} is no name of a claim")
        return names


class ProviderConfig(Section):
    """One OpenID provider; endpoints always come from its discovery document."""

    name: SectionName = Field(description="Name of the provider in addresses, logs and records.")
    title: str = Field(min_length=1, max_length=200, description="What people call it, on the login page.")
    preset: Preset = Field(
        default="oidc",
        description="An operator whose usual scopes and quirks are taken for keys that are left out.",
    )
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
    claims: ClaimNames = Field(
        default_factory=ClaimNames, description="Under which names the provider sends its claims."
    )
    required_claims: tuple[str, ...] = Field(
        default=(), description="Claims without which nobody may log in, e.g. 'voperson_id'."
    )
    id_scopes: tuple[str, ...] = Field(
        default=(),
        description="Scopes (after the '@') that the provider may assert in identifiers; letter case is "
        "ignored. Empty: any. Otherwise an identifier with another scope, or none at all, denies the login.",
    )
    entitlement_namespaces: tuple[str, ...] = Field(
        default=(), description="Complete namespaces whose groups count, e.g. 'urn:geant:example.org'."
    )
    proposal_group: str = Field(default="proposals", description="Group whose subgroups are proposal ids.")
    is_identity_only: bool = Field(
        default=False,
        description="The provider says who somebody is and nothing else: its entitlements are not read.",
    )
    are_guests: bool = Field(
        default=False,
        description="No institution vouches for these people: each has the role 'guest'.",
    )
    home_organisations: tuple[str, ...] = Field(
        default=(), description="Home organisations whose people may log in. Empty: any, also none."
    )
    required_assurance: tuple[str, ...] = Field(
        default=(),
        description="Assurance values that a login needs, all of them (REFEDS RAF), as sent or implied.",
    )
    assurance_implies: dict[str, tuple[str, ...]] = Field(
        default={},
        description="What an assurance value of this provider's own implies; REFEDS RAF's order is known.",
    )
    acr_values: tuple[str, ...] = Field(
        default=(),
        description="Authentication contexts (acr) of which every login needs one, e.g. "
        "'https://refeds.org/profile/mfa'; asked for as essential, and checked in the answer.",
    )
    max_age_s: int | None = Field(
        default=None, ge=1, description="Oldest authentication that counts, in seconds; checked in auth_time."
    )
    idp_hint_name: Literal["aarc_idp_hint", "idphint", "idp_hint", "kc_idp_hint"] = Field(
        default="aarc_idp_hint", description="Under which name the provider takes a hint (AARC-G061)."
    )
    idp_hints: tuple[str, ...] = Field(
        default=(),
        description="Home organisations (entity ids or issuers) that a link may name as `aarc_idp_hint`.",
    )
    default_idp_hint: str | None = Field(
        default=None, max_length=512, description="The hint that is sent where a link names none."
    )
    ends_provider_session: bool = Field(
        default=True, description="Logging out here goes on to the provider's logout, where it has one."
    )
    refused_token_ends_account: bool = Field(
        default=False,
        description="A refresh token that is refused ends the account's rights and sessions at once, not its "
        "login alone. Only where refresh tokens outlive sessions: otherwise long sessions end.",
    )
    exchange_audiences: tuple[str, ...] = Field(
        default=(),
        description="Data services for which a session may ask for a narrow token (RFC 8693). Empty: none.",
    )
    blocked_subjects: tuple[str, ...] = Field(
        default=(), description="Values of an identifier that never log in."
    )
    blocks_monitoring_accounts: bool = Field(
        default=True,
        description="Identifiers 'test@…', the operators' monitoring accounts, never log in.",
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
            if not _NAMESPACE.fullmatch(namespace) or not {"group", "res"}.isdisjoint(namespace.split(":")):
                raise ValueError(f"{namespace!r} is no complete namespace, e.g. 'urn:geant:example.org'")
        return namespaces

    @field_validator("id_scopes")
    @classmethod
    def _lower_case(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        lowered = tuple(scope.lower() for scope in scopes)
        for scope in lowered:
            if not _ID_SCOPE.fullmatch(scope):
                raise ValueError(f"{scope!r} is no scope of an identifier, e.g. 'example.org'")
        return lowered

    @model_validator(mode="after")
    def _with_preset(self) -> ProviderConfig:
        # Not before the fields are read: then they would not be read in JSON's own mode any more.
        for name, value in PRESETS[self.preset].items():
            if name not in self.model_fields_set:
                self.__dict__[name] = value
        return self

    @model_validator(mode="after")
    def _has_transport_security(self) -> ProviderConfig:
        if self.issuer.startswith("http://") and not self.unsafe_allow_http:
            raise ValueError(
                f"the issuer {self.issuer!r} has no TLS; use https, or 'unsafe_allow_http: true' on loopback"
            )
        return self

    @model_validator(mode="after")
    def _reads_groups_or_not(self) -> ProviderConfig:
        if self.is_identity_only and self.entitlement_namespaces:
            raise ValueError("'is_identity_only' and 'entitlement_namespaces' exclude each other")
        return self
