"""From verified claims to a `Principal`: pure, and denying by one typed error only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime

from beamhub_core.config.provider import ProviderConfig
from beamhub_core.entitlements import parse_entitlements
from beamhub_core.identity import Principal, account_name
from beamhub_hub.denial import LoginDenied
from beamhub_hub.role_assignments import RoleAssignments

Claims = Mapping[str, object]

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
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")
_ORCID = re.compile(r"(?:https?://orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])", re.ASCII)
_FACILITY_ACCOUNT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_ASSURANCE = 64


def merge_claims(id_token: Claims, userinfo: Claims) -> dict[str, object]:
    """What the ID token and the userinfo answer say together.

    Raises
    ------
    LoginDenied
        If the two do not speak of the same subject.
        Source: OpenID Connect Core 1.0, 5.3.2.
    """
    if userinfo.get("sub") != id_token.get("sub"):
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
        Who made the claims; decides which namespaces count and which claims are required.
    roles:
        The facility's own list; claims never give a facility role.
    checked_at:
        When the provider said so, aware.

    Returns
    -------
    The Principal. Optional claims that do not make sense are left out; values of a list that do
    not parse are counted in `ignored_entitlements`.

    Raises
    ------
    LoginDenied
        If the subject is unusable or blocked, or a required claim is missing or of the wrong type.
        Nothing else, whatever the claims hold.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise LoginDenied("token_subject")
    for name in provider.required_claims:
        _check_required(claims, name)
    community_id = claims.get("voperson_id")
    if _is_blocked(provider, subject) or _is_blocked(provider, community_id):
        raise LoginDenied("subject_blocked")
    groups = parse_entitlements(_union(claims), provider.entitlement_namespaces)
    return Principal(
        issuer=provider.issuer,
        subject=subject,
        account=account_name(provider.issuer, subject),
        display_name=_display_name(claims, subject),
        home_organisation=_text(claims.get("schac_home_organization")) or None,
        orcid=_orcid(claims.get("orcid")),
        facility_account=_facility_account(claims, provider),
        entitlements=groups.entitlements,
        ignored_entitlements=groups.ignored,
        roles=roles.of(provider.issuer, subject),
        assurance=_assurance(claims.get("eduperson_assurance")),
        acr=_text(claims.get("acr")) or None,
        checked_at=checked_at,
    )


def _is_blocked(provider: ProviderConfig, identifier: object) -> bool:
    """Whether an identifier never logs in. Operators ask that their monitoring accounts do not."""
    if not isinstance(identifier, str):
        return False
    is_monitoring = provider.blocks_monitoring_accounts and identifier.lower().startswith("test@")
    return is_monitoring or identifier in provider.blocked_subjects


def _check_required(claims: Claims, name: str) -> None:
    value = claims.get(name)
    if value is None or value in ("", [], {}):
        raise LoginDenied("claim_missing", f"claim {name!r}")
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if (name in _STRING_CLAIMS and not isinstance(value, str)) or (
        name in _LIST_CLAIMS and not (is_list or isinstance(value, str))
    ):
        raise LoginDenied("claim_type", f"claim {name!r}")


def _union(claims: Claims) -> list[object]:
    """Both names under which communities send groups. Source: AARC-G069 and AARC-G002."""
    values: list[object] = []
    for name in ("entitlements", "eduperson_entitlement"):
        value = claims.get(name)
        if isinstance(value, list):
            values.extend(value)
        elif value is not None:
            values.append(value)
    return values


def _text(value: object, limit: int = 200) -> str:
    """One line of text that shows what it says: no control or direction-changing characters."""
    if not isinstance(value, str):
        return ""
    plain = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in value[: 4 * limit])
    return " ".join(plain.split())[:limit].rstrip()


def _display_name(claims: Claims, subject: str) -> str:
    given_and_family = f"{_text(claims.get('given_name'))} {_text(claims.get('family_name'))}".strip()
    for candidate in (
        _text(claims.get("name")),
        given_and_family[:200],
        _text(claims.get("preferred_username")),
    ):
        if candidate:
            return candidate
    return subject if len(subject) <= 40 else subject[:39] + "…"


def _orcid(value: object) -> str | None:
    """A researcher's ORCID iD whose check digit fits, else None.

    Source: ISO/IEC 7064 MOD 11-2, as ORCID uses it.
    """
    match = _ORCID.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    digits = match[1].replace("-", "")
    total = 0
    for digit in digits[:-1]:
        total = (total + int(digit)) * 2
    check = (12 - total % 11) % 11
    return match[1] if digits[-1] == ("X" if check == 10 else str(check)) else None


def _facility_account(claims: Claims, provider: ProviderConfig) -> str | None:
    if provider.claims.facility_account is None:
        return None
    value = claims.get(provider.claims.facility_account)
    return value if isinstance(value, str) and _FACILITY_ACCOUNT.fullmatch(value) else None


def _assurance(value: object) -> tuple[str, ...]:
    """Assurance URIs as sent; an unknown one carries nothing, so nothing is guessed here."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        return ()
    kept = {item for item in items if isinstance(item, str) and 0 < len(item) <= 300 and item.isprintable()}
    return tuple(sorted(kept))[:_MAX_ASSURANCE]
