"""One login on its way through the browser: kept in a signed cookie of its own, so tabs do not collide."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass

MAX_AGE_S = 900
MAX_ATTEMPTS = 8
"""Unfinished logins that one browser may have; older cookies are cleared."""
COOKIE_PREFIX = "beamhub-login-"
_STATE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """What must come back, and what goes on afterwards."""

    state: str
    nonce: str
    code_verifier: str
    next_url: str

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
        return json.dumps(asdict(self))


def new_attempt(next_url: str) -> LoginAttempt:
    """An attempt that nobody can guess: three values of 256 bits."""
    state, nonce, code_verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return LoginAttempt(state=state, nonce=nonce, code_verifier=code_verifier, next_url=next_url)


def cookie_name_of(state: str) -> str | None:
    """The cookie that would hold the attempt of a state from a URL; None if it is no state of ours."""
    return COOKIE_PREFIX + state[:16] if _STATE.fullmatch(state) else None


def read_attempt(cookie: bytes | None, state: str) -> LoginAttempt | None:
    """The attempt in a cookie whose signature was checked, if it is the state's."""
    if cookie is None:
        return None
    try:
        attempt = LoginAttempt(**json.loads(cookie))
    except (ValueError, TypeError):
        return None
    return attempt if secrets.compare_digest(attempt.state.encode(), state.encode()) else None
