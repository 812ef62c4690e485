"""What the hub keeps, encrypted, of an account's logins: enough to ask its providers again and to log out."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field, ValidationError

from beamhub_core.identity import Identity, Principal
from beamhub_core.linked_identity import MAX_LINKED
from beamhub_core.word import Word
from beamhub_hub.provider import Tokens

MAX_IDENTITIES = MAX_LINKED + 1


class IdentityRecord(Word):
    """What one provider said last of one identity."""

    provider: str
    principal: Principal = Field(description="The identity alone: its own account, nothing linked.")
    access_token: str | None = None
    refresh_token: str | None = None
    id_token: str | None = None
    signed_claims: dict[str, str | int | float] = {}
    logged_in_at: datetime | None = Field(default=None, description="When the person last logged in with it.")

    @property
    def identity(self) -> Identity:
        """Who it is about."""
        return Identity(issuer=self.principal.issuer, subject=self.principal.subject)

    def is_fresh(self, now: datetime, age_s: float) -> bool:
        """Whether the provider's last answer is at most this old."""
        return now - self.principal.checked_at <= timedelta(seconds=age_s)

    def tokens(self) -> Tokens:
        """The tokens of the last answer."""
        return Tokens(self.access_token or "", self.id_token, self.refresh_token)


class LoginRecord(Word):
    """JupyterHub's `auth_state` of an account; never handed to a session.

    The first identity is the one that logged in last. `principal` is what web was told of the account.
    """

    principal: Principal
    identities: tuple[IdentityRecord, ...] = Field(min_length=1, max_length=MAX_IDENTITIES)

    @property
    def current(self) -> IdentityRecord:
        """The identity that logged in last."""
        return self.identities[0]

    def is_fresh(self, now: datetime, age_s: float) -> bool:
        """Whether the last answer of the current identity's provider is at most this old."""
        return self.current.is_fresh(now, age_s)


SIGNED_AND_LASTING = ("acr", "auth_time", "sid")
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
