"""Is this identifier one that the provider may assert, and may its bearer log in at all?"""

from __future__ import annotations

import re

from beamhub_core.config.provider import ProviderConfig
from beamhub_hub.claim_values import Claims, text_of, texts_of
from beamhub_hub.denial import LoginDenied

_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")
_ALWAYS = ("sub", "voperson_id")
_MONITORING = "test@"


def subject_of(claims: Claims) -> str:
    """The subject: 1 to 255 visible ASCII characters (OpenID Connect Core 1.0, 2).

    Raises
    ------
    LoginDenied
        If it is anything else: the account is made from it.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise LoginDenied("token_subject")
    return subject


def check_identifiers(claims: Claims, provider: ProviderConfig) -> None:
    """Nothing when no identifier is blocked and every scoped one has an allowed scope.

    Where the configuration lists scopes, at least one identifier must be scoped: INDIGO IAM sends a `sub`
    without a scope beside a scoped `voperson_id`, so not every one need be.
    Source: AARC-G026; operators' pages for relying parties (allowed scopes, monitoring accounts).

    Raises
    ------
    LoginDenied
        `subject_blocked` or `subject_scope`.
    """
    names = dict.fromkeys((*provider.claims.identifiers, *_ALWAYS))
    if any(_is_blocked(provider, text) for name in names for text in texts_of(claims, name)):
        raise LoginDenied("subject_blocked")
    if not provider.id_scopes:
        return
    scoped = [text for name in provider.claims.identifiers for text in texts_of(claims, name) if "@" in text]
    if not scoped:
        raise LoginDenied("subject_scope", "no identifier has a scope")
    if not all(_has_scope(text, provider.id_scopes) for text in scoped):
        raise LoginDenied("subject_scope", "scope of another operator")


def _is_blocked(provider: ProviderConfig, identifier: str) -> bool:
    is_monitoring = identifier.strip().lower().startswith(_MONITORING)
    return (provider.blocks_monitoring_accounts and is_monitoring) or identifier in provider.blocked_subjects


def _has_scope(identifier: str, scopes: tuple[str, ...]) -> bool:
    """Whether what follows the last '@' is one of the scopes, as a whole, letter case aside."""
    person, _, scope = identifier.rpartition("@")
    # Outside ASCII, lower() makes letters meet that no domain's owner would call the same (U+212A and 'k').
    return bool(person) and scope.isascii() and scope.lower() in scopes


def home_organisation_of(claims: Claims, provider: ProviderConfig) -> str | None:
    """The home organisation that the provider names, as text for people.

    Raises
    ------
    LoginDenied
        `organisation_not_allowed` if the configuration lists organisations and this is none of them. Names
        are compared whole, letter case aside, before anything in them is made readable.
    """
    named = texts_of(claims, provider.claims.home_organisation)
    name = named[0] if len(named) == 1 else None  # two homes are none that a rule could hold to
    if provider.home_organisations:
        allowed = {organisation.lower() for organisation in provider.home_organisations}
        if name is None or not name.isascii() or name.lower() not in allowed:
            raise LoginDenied("organisation_not_allowed")
    return text_of(name) or None
