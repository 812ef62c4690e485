"""From verified claims to a `Principal`: pure, and denying by one typed error only."""

from __future__ import annotations

import logging
from datetime import datetime

from beamhub_core.config.provider import ClaimNames, ProviderConfig
from beamhub_core.entitlements import ParsedEntitlements, parse_entitlements
from beamhub_core.identity import Principal, account_name
from beamhub_hub.assurance import assurance_of
from beamhub_hub.claim_values import (
    Claims,
    display_name,
    facility_account_of,
    id_of,
    ids_of,
    orcid_of,
    text_of,
)
from beamhub_hub.denial import LoginDenied
from beamhub_hub.identifiers import check_identifiers, home_organisation_of, subject_of
from beamhub_hub.role_assignments import RoleAssignments

log = logging.getLogger(__name__)

# fmt: off
ID_TOKEN_ONLY = frozenset((
    "iss", "sub", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "acr", "amr", "auth_time", "sid",
    "at_hash", "c_hash", "s_hash",
))
"""Claims that count only where a signature covers them. Source: OpenID Connect Core 1.0, 3.1.3.7, 5.3.2."""
_STRING_CLAIMS = frozenset((
    "name", "given_name", "family_name", "preferred_username", "email", "voperson_id", "orcid", "acr",
    "schac_home_organization",
))
_LIST_CLAIMS = frozenset((
    "entitlements", "eduperson_entitlement", "eduperson_assurance", "eduperson_scoped_affiliation",
    "voperson_external_affiliation", "voperson_verified_email",
))
# fmt: on


def merge_claims(id_token: Claims, userinfo: Claims) -> dict[str, object]:
    """What the ID token and the userinfo answer say together.

    Raises
    ------
    LoginDenied
        If the two do not speak of the same subject.
        Source: OpenID Connect Core 1.0, 5.3.2.
    """
    subject = id_token.get("sub")
    if not isinstance(subject, str) or userinfo.get("sub") != subject:
        raise LoginDenied("userinfo_subject")
    return {**id_token, **{key: value for key, value in userinfo.items() if key not in ID_TOKEN_ONLY}}


def principal_from_claims(
    claims: Claims, *, provider: ProviderConfig, roles: RoleAssignments, checked_at: datetime
) -> Principal:
    """The person that verified claims speak of.

    Parameters
    ----------
    claims:
        Merged claims of a verified ID token and userinfo answer, any JSON values.
    provider:
        Who made the claims; decides what they are called, what is required, and what counts.
    roles:
        The facility's own list and rules; no claim names a facility role.
    checked_at:
        When the provider said so, aware.

    Returns
    -------
    The Principal. Optional claims that do not make sense are left out; values of a list that do
    not parse are counted in `ignored_entitlements`.

    Raises
    ------
    LoginDenied
        If the subject is unusable, blocked or of another operator, a required claim is missing or of the
        wrong type, or the home organisation or the assurance is not what the configuration asks for.
        Nothing else, whatever the claims hold.
    """
    names = provider.claims
    subject = subject_of(claims)
    for name in provider.required_claims:
        _check_required(claims, name, names)
    check_identifiers(claims, provider)
    home_organisation = home_organisation_of(claims, provider)
    assurance = assurance_of(claims, provider)
    said = _entitlements(claims, provider)
    return Principal(
        issuer=provider.issuer,
        subject=subject,
        account=account_name(provider.issuer, subject),
        display_name=display_name(claims, subject),
        home_organisation=home_organisation,
        orcid=orcid_of(claims.get(names.orcid)),
        facility_account=facility_account_of(_named(claims, names.facility_account)),
        entitlements=said.entitlements,
        capabilities=said.capabilities,
        ignored_entitlements=said.ignored,
        roles=roles.of_person(provider, subject, said.entitlements),
        assurance=assurance,
        acr=text_of(claims.get("acr")) or None,
        uid=id_of(_named(claims, names.uid)),
        gid=id_of(_named(claims, names.gid)),
        gids=ids_of(_named(claims, names.gids)),
        checked_at=checked_at,
    )


def _named(claims: Claims, name: str | None) -> object:
    """The claim that the configuration names; where it names none, nothing."""
    return None if name is None else claims.get(name)


def _check_required(claims: Claims, name: str, names: ClaimNames) -> None:
    value = claims.get(name)
    if value is None or value in ("", [], {}):
        raise LoginDenied("claim_missing", f"claim {name!r}")
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    list_claims = {*_LIST_CLAIMS, *names.entitlements, names.assurance}
    text_claims = {*_STRING_CLAIMS, *names.identifiers, names.orcid, names.facility_account}
    number_claims = {names.uid, names.gid, names.gids}
    if name in number_claims:
        is_usable = bool(ids_of(value)) if name == names.gids else id_of(value) is not None
    elif name in list_claims:
        is_usable = is_list or isinstance(value, str)
    else:
        is_usable = isinstance(value, str) or name not in text_claims
    if not is_usable:
        raise LoginDenied("claim_type", f"claim {name!r}")


def _entitlements(claims: Claims, provider: ProviderConfig) -> ParsedEntitlements:
    """The union of all claims with entitlements. Source: AARC-G069 and AARC-G002 name them differently."""
    values: list[object] = []
    for name in provider.claims.entitlements:
        value = claims.get(name)
        if isinstance(value, list):
            values.extend(value)
        elif value is not None:
            values.append(value)
    # A provider that only says who somebody is has no namespaces: then every value is counted as ignored.
    said = parse_entitlements(values, () if provider.is_identity_only else provider.entitlement_namespaces)
    if said.ignored:
        log.debug("entitlements ignored: provider=%s %s", provider.name, said.faults)
    return said
