"""What the hub keeps, encrypted, of one login: enough to ask the provider again and to log out."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import ValidationError

from beamhub_core.identity import Principal
from beamhub_core.word import Word
from beamhub_hub.provider import Tokens


class LoginRecord(Word):
    """JupyterHub's `auth_state` of an account; never handed to a session."""

    provider: str
    principal: Principal
    access_token: str
    refresh_token: str | None
    id_token: str | None
    signed_claims: dict[str, str | int | float] = {}

    def is_fresh(self, now: datetime, age_s: float) -> bool:
        """Whether the provider's last answer is at most this old."""
        return now - self.principal.checked_at <= timedelta(seconds=age_s)

    def tokens(self) -> Tokens:
        """The tokens of the last answer."""
        return Tokens(self.access_token, self.id_token, self.refresh_token)


SIGNED_AND_LASTING = ("acr", "auth_time")
"""Claims of the login's ID token that stay true when only userinfo is read again. Groups are not among them:
a group that userinfo no longer names is gone."""


def lasting_claims(claims: dict[str, object]) -> dict[str, str | int | float]:
    """The signed claims worth keeping."""
    return {
        name: value
        for name in SIGNED_AND_LASTING
        if isinstance(value := claims.get(name), str | int | float) and not isinstance(value, bool)
    }


def read_record(auth_state: object) -> LoginRecord | None:
    """The record in a stored `auth_state`; None for none or another version's: then the person logs in."""
    try:
        return LoginRecord.model_validate(auth_state)
    except ValidationError:
        return None
