"""Is this logout token the provider's word that somebody's session ended? Every rule, and only once.

Source: OpenID Connect Back-Channel Logout 1.0, sections 2.4 and 2.6.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jwt

from beamhub_core.errors import BeamhubError
from beamhub_hub.id_token import Expected, check_claims, read_header
from beamhub_hub.provider import OpenIdProvider

EVENT = "http://schemas.openid.net/event/backchannel-logout"
TYPES = ("logout+jwt", "application/logout+jwt", "jwt")
"""Accepted `typ` of the header, letter case ignored; it may be absent (section 2.4 recommends it only)."""
MAX_AGE_S = 600.0
"""Of a token, from its `iat`: an old one is a replay, whatever its `exp` says."""
MAX_REMEMBERED = 20_000
MAX_NAME = 512
LogoutFault = Literal["type", "event", "nonce", "jti", "nobody", "too_old", "replayed"]


class LogoutRefused(BeamhubError):
    """A logout token breaks a rule of its own; rules of every token of a provider are a `LoginDenied`."""

    exit_code = 4

    def __init__(self, code: LogoutFault) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"The logout token was refused: {self.code}"


class MemoryFull(BeamhubError):
    """So many tokens are remembered that the next could not be: it is not acted on."""

    exit_code = 6

    def __str__(self) -> str:
        return "Too many logouts at once; the provider may send this one again."


@dataclass(frozen=True, slots=True)
class Logout:
    """Whose session ended at the provider; at least one of subject and sid is there."""

    subject: str | None
    sid: str | None
    jti: str
    issued_at: float


async def read_logout(provider: OpenIdProvider, token: str, expected: Expected) -> Logout:
    """What a logout token says, once its signature and every rule hold. Remembers nothing.

    Raises
    ------
    LoginDenied, LogoutRefused
        With the code of the rule that does not hold.
    ProviderUnavailable
        If the provider's keys cannot be had.
    """
    header = read_header(token, provider.config.algorithms)
    claims = await provider.signed_claims(token, header)
    kind = jwt.get_unverified_header(token).get("typ")  # verified by now, with the rest of the header
    if kind is not None and (not isinstance(kind, str) or kind.lower() not in TYPES):
        raise LogoutRefused("type")
    return check_logout(claims, expected)


def check_logout(claims: Mapping[str, object], expected: Expected) -> Logout:
    """What verified claims say, if they are those of a logout token for us now.

    Issuer, audience, `exp` and `iat` are held to the rules of an ID token (section 2.6, number 3).

    Raises
    ------
    LoginDenied, LogoutRefused
    """
    subject, sid, jti = claims.get("sub"), claims.get("sid"), claims.get("jti")
    if (subject is None and sid is None) or not (_is_name(subject) and _is_name(sid)):
        raise LogoutRefused("nobody")
    check_claims({**claims, "sub": subject or "-"}, expected)
    if "nonce" in claims:  # so that nobody takes it for an ID token, nor an ID token for it
        raise LogoutRefused("nonce")
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise LogoutRefused("event")
    if jti is None or not _is_name(jti):
        raise LogoutRefused("jti")
    issued_at = float(str(claims["iat"]))
    if expected.now.timestamp() > issued_at + MAX_AGE_S + expected.leeway_s:
        raise LogoutRefused("too_old")
    return Logout(
        subject=str(subject) if subject else None,
        sid=str(sid) if sid else None,
        jti=str(jti),
        issued_at=issued_at,
    )


def _is_name(value: object) -> bool:
    return value is None or (isinstance(value, str) and 0 < len(value) <= MAX_NAME)


class SeenLogouts:
    """The tokens of one provider that were acted on, each until it would be too old anyway.

    Only tokens whose signature holds come here, so nobody but the provider fills it. A full memory refuses
    instead of forgetting: a forgotten token could be used again.
    """

    def __init__(self, *, leeway_s: float, most: int = MAX_REMEMBERED) -> None:
        # One leeway longer than a token counts.
        self._kept_s, self._most = MAX_AGE_S + 2 * leeway_s, most
        self._seen: set[str] = set()
        self._ends: list[tuple[float, str]] = []

    def take(self, logout: Logout, now: float) -> None:
        """Remember a token.

        Raises
        ------
        LogoutRefused
            If it was taken before.
        MemoryFull
            If there is no place left.
        """
        while self._ends and self._ends[0][0] < now:
            self._seen.discard(heapq.heappop(self._ends)[1])
        if logout.jti in self._seen:
            raise LogoutRefused("replayed")
        if len(self._seen) >= self._most:
            raise MemoryFull
        self._seen.add(logout.jti)
        heapq.heappush(self._ends, (logout.issued_at + self._kept_s, logout.jti))
