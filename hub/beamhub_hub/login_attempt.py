"""One login on its way through the browser: kept in a signed cookie of its own, so tabs do not collide."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass

from pydantic import Field, ValidationError

from beamhub_core.audit_notice import AccountName
from beamhub_core.config.section import SectionName
from beamhub_core.word import Word

MAX_AGE_S = 900
MAX_ATTEMPTS = 8
"""Unfinished logins that one browser may have; older cookies are cleared."""
COOKIE_PREFIX = "beamhub-login-"
_STATE = re.compile(r"[A-Za-z0-9_-]{43}")
_ACR = re.compile(r"[\x21-\x7e]{1,200}")


@dataclass(frozen=True, slots=True)
class Demand:
    """What one login must show beyond what its provider's configuration asks for; it never asks for less."""

    acr_values: tuple[str, ...] = ()
    idp_hint: str | None = None
    links_to: str | None = None


class LoginAttempt(Word):
    """What must come back, and what goes on afterwards."""

    provider: SectionName
    state: str
    nonce: str
    code_verifier: str
    next_url: str
    acr_values: tuple[str, ...] = Field(default=(), max_length=4)
    """Authentication contexts of which this login must show one."""
    links_to: AccountName | None = None
    """The account that the identity shall be linked to, instead of a login."""

    @property
    def cookie_name(self) -> str:
        """The name of the attempt's own cookie."""
        return COOKIE_PREFIX + self.state[:16]

    @property
    def code_challenge(self) -> str:
        """SHA-256 of the verifier, base64url without padding. Source: RFC 7636, 4.2."""
        digest = hashlib.sha256(self.code_verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def to_cookie(self) -> str:
        """The cookie's value, to be signed."""
        return self.model_dump_json(exclude_defaults=True)


def new_attempt(provider: str, next_url: str, demand: Demand = Demand()) -> LoginAttempt:
    """An attempt that nobody can guess: three values of 256 bits."""
    state, nonce, code_verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return LoginAttempt(
        provider=provider,
        state=state,
        nonce=nonce,
        code_verifier=code_verifier,
        next_url=next_url,
        acr_values=demand.acr_values,
        links_to=demand.links_to,
    )


def read_acr_values(text: str) -> tuple[str, ...]:
    """The authentication contexts in a link, separated by spaces; what is none is left out.

    A link may ask for any: a stronger demand harms nobody, and the provider's answer is checked against it.
    """
    return tuple(dict.fromkeys(word for word in text[:1000].split() if _ACR.fullmatch(word)))[:4]


def cookie_name_of(state: str) -> str | None:
    """The cookie that would hold the attempt of a state from a URL; None if it is no state of ours."""
    return COOKIE_PREFIX + state[:16] if _STATE.fullmatch(state) else None


def read_attempt(cookie: bytes | None, state: str) -> LoginAttempt | None:
    """The attempt in a cookie whose signature was checked, if it is the state's."""
    if cookie is None:
        return None
    try:
        attempt = LoginAttempt.model_validate_json(cookie)
    except ValidationError:
        return None
    return attempt if secrets.compare_digest(attempt.state.encode(), state.encode()) else None
