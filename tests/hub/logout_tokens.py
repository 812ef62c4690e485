"""Logout tokens and token exchange of the hostile provider: each correct unless a test says otherwise."""

from __future__ import annotations

import secrets
import time
from typing import Any

import httpx

from hub.hostile_provider import (  # the folder of these tests, not the room
    CLIENT_ID,
    HostileProvider,
    Signer,
    honest,
)
from hub.hub_parts import RunningHub

EVENT = "http://schemas.openid.net/event/backchannel-logout"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


def logout_claims(provider: HostileProvider, **changes: Any) -> dict[str, Any]:
    """The claims of a logout token that names ines; None removes one."""
    now = int(time.time())
    claims = {
        "iss": provider.issuer,
        "aud": CLIENT_ID,
        "iat": now,
        "exp": now + 120,
        "jti": secrets.token_hex(8),
        "sub": "ines",
        "events": {EVENT: {}},
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def logout_token(provider: HostileProvider, *, typ: str | None = "logout+jwt", **changes: Any) -> str:
    """A signed logout token."""
    return honest(provider, logout_claims(provider, **changes), typ=typ)


def signed_by(provider: HostileProvider, sign: Signer, **changes: Any) -> str:
    """A logout token as another signer makes it."""
    return sign(provider, logout_claims(provider, **changes))


def send_logout(hub: RunningHub, token: str, name: str = "hostile", **kwargs: Any) -> httpx.Response:
    """What a provider sends."""
    url = f"{hub.public_url}/hub/login/{name}/backchannel"
    return httpx.post(url, data={"logout_token": token}, timeout=30, **kwargs)


class ExchangingProvider:
    """Adds the grant of RFC 8693 to a hostile provider; `answer` replaces parts of what it says.

    It takes the place of the provider's `token`, so every other grant goes on as before.
    """

    def __init__(self, provider: HostileProvider) -> None:
        self._provider, self._others = provider, provider.token
        self.answer: dict[str, Any] = {}
        self.status = 200
        self.forms: list[dict[str, str]] = []
        provider.token = self.token  # type: ignore[method-assign]  # the handler asks this object

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        """The token endpoint."""
        if form.get("grant_type") != EXCHANGE:
            return self._others(form, authorization)
        if not self._provider._is_client(form, authorization):
            return 401, {"error": "invalid_client"}
        self.forms.append(form)
        if form.get("subject_token") not in self._provider.access:
            return 400, {"error": "invalid_grant"}
        if self.status != 200:
            return self.status, {"error": "invalid_target"}
        token = secrets.token_urlsafe(24)
        self._provider.secrets_sent.append(token)
        return 200, {
            "access_token": token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": 600,
            "scope": "raw:read",
            "refresh_token": "never-for-a-session",
            **self.answer,
        }
