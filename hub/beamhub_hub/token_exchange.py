"""Narrow tokens for sessions: the hub exchanges the login's token, and nobody else ever sees that one.

Source: RFC 8693.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from beamhub_core.errors import BeamhubError
from beamhub_hub.denial import ProviderUnavailable
from beamhub_hub.id_token import MAX_TOKEN_BYTES
from beamhub_hub.login_record import LoginRecord, read_record
from beamhub_hub.openid_kind import OpenIdKind

if TYPE_CHECKING:
    from beamhub_hub.authenticator import BeamhubAuthenticator

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  # a name of RFC 8693, section 3
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
LONGEST_LIFE_S = 24 * 3600
_TOKEN = re.compile(r"[\x21-\x7e]+")
BrokerFault = Literal["audience_not_allowed", "login_too_old", "exchange_refused", "provider_unavailable"]


class NoServiceToken(BeamhubError):
    """There is no token for this audience; `code` says why."""

    exit_code = 4

    def __init__(self, code: BrokerFault) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return _SAID[self.code]

    @property
    def status(self) -> int:
        """The HTTP status of this refusal."""
        return 503 if self.code == "provider_unavailable" else 403


_SAID: dict[BrokerFault, str] = {
    "audience_not_allowed": "The facility does not let sessions ask for tokens for this service.",
    "login_too_old": "Your login is too old for a token. Log out and in again.",
    "exchange_refused": "The identity provider gives no token for this service.",
    "provider_unavailable": "The identity provider is not available. Try again in a few minutes.",
}


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """A token for one service. Its text form does not show it."""

    access_token: str
    expires_in: int | None
    """Seconds; None where the provider does not say."""

    def __repr__(self) -> str:
        return "ServiceToken(...)"

    def answer(self) -> dict[str, Any]:
        """What the session gets."""
        return {"access_token": self.access_token, "expires_in": self.expires_in, "token_type": "Bearer"}


def exchange_form(access_token: str, audience: str) -> dict[str, str]:
    """The fields of an exchange request. Source: RFC 8693, 2.1."""
    return {
        "grant_type": EXCHANGE,
        "subject_token": access_token,
        "subject_token_type": ACCESS_TOKEN,
        "requested_token_type": ACCESS_TOKEN,
        "audience": audience,
    }


def read_exchange(document: object, login_token: str) -> ServiceToken | None:
    """The token in a provider's answer; None for one that we must not hand on.

    The login's own token sent back would be far more than a token for one service. Source: RFC 8693, 2.2.1.
    """
    if not isinstance(document, dict):
        return None
    token, life_s = document.get("access_token"), document.get("expires_in")
    kind, issued = document.get("token_type"), document.get("issued_token_type", ACCESS_TOKEN)
    if not isinstance(token, str) or len(token) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(token):
        return None
    if token == login_token or issued != ACCESS_TOKEN:
        return None
    if not isinstance(kind, str) or kind.lower() != "bearer":
        return None
    if isinstance(life_s, bool) or not isinstance(life_s, int) or life_s <= 0:
        life_s = None
    return ServiceToken(token, life_s if life_s is None else min(life_s, LONGEST_LIFE_S))


class TokenBroker:
    """Exchanges login tokens, one account at a time. Belongs to the hub's event loop."""

    def __init__(self, authenticator: BeamhubAuthenticator) -> None:
        self._authenticator = authenticator

    async def token(self, user: Any, audience: str) -> ServiceToken:
        """A token of this account for one service that the facility allows.

        Raises
        ------
        NoServiceToken
            With the reason, as far as a session may know it.
        """
        renewals = self._authenticator.renewals
        async with renewals.lock(user.name):
            record = await self._record(user)
            kind = self._kind(record, audience)
            token = await self._exchange(kind, record, audience)
            if token is not None:
                return token
            # The access token may have ended: a renewal finds out, and gets a new one where it can.
            if not await renewals.renew(user, record):
                raise NoServiceToken("login_too_old")
            renewed = await self._record(user)
            if renewed.current.access_token != record.current.access_token:
                token = await self._exchange(self._kind(renewed, audience), renewed, audience)
        if token is None:
            raise NoServiceToken("exchange_refused")
        return token

    async def _record(self, user: Any) -> LoginRecord:
        record = read_record(await user.get_auth_state())
        if record is None or not record.is_fresh(self._authenticator.clock(), self._authenticator.grace_s):
            raise NoServiceToken("login_too_old")
        return record

    def _kind(self, record: LoginRecord, audience: str) -> OpenIdKind:
        kind = self._authenticator.kinds.get(record.current.provider)
        if not isinstance(kind, OpenIdKind) or audience not in kind.config.exchange_audiences:
            raise NoServiceToken("audience_not_allowed")
        return kind

    async def _exchange(self, kind: OpenIdKind, record: LoginRecord, audience: str) -> ServiceToken | None:
        """The provider's answer; None where it gives no token."""
        login_token = record.current.access_token or ""
        form = exchange_form(login_token, audience)
        try:
            gate = self._authenticator.renewals.gate(kind.name)
            status, document = await gate.ask(lambda: kind.provider.ask_token_endpoint(form))
        except ProviderUnavailable as error:
            self._authenticator.log.warning("no token exchange: %s", error)
            raise NoServiceToken("provider_unavailable") from None
        return read_exchange(document, login_token) if status == 200 else None
