"""One OpenID provider as the hub talks to it: bounded in time and size, never following a redirect."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from beamhub_core.clock import Clock, utc_now
from beamhub_core.config.provider import ProviderConfig
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.id_token import (
    MAX_TOKEN_BYTES,
    Expected,
    TokenHeader,
    check_access_token_hash,
    check_claims,
    choose_key,
    read_header,
    read_verified,
)
from beamhub_hub.login_attempt import LoginAttempt
from beamhub_hub.provider_http import ProviderHttp
from beamhub_hub.provider_metadata import ProviderMetadata, SigningKey, parse_keys, parse_metadata
from beamhub_hub.strength import claims_parameter

METADATA_AGE_S = 600.0
KEYS_REFETCH_S = 30.0
"""An unknown key id causes one look at the key set per this time: forged ids cannot make us flood it."""


_TOKEN = re.compile(r"[\x20-\x7e]+")  # RFC 6749, appendices A.12 and A.17


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token endpoint's answer. Its text form shows no token."""

    access_token: str
    id_token: str | None
    refresh_token: str | None

    def __repr__(self) -> str:
        return "Tokens(...)"


class OpenIdProvider:
    """The provider of one `ProviderConfig`. Belongs to one event loop; not thread-safe."""

    def __init__(
        self, config: ProviderConfig, *, leeway_s: float, clock: Clock = utc_now, secret: str | None = None
    ) -> None:
        self.config, self._leeway_s, self._clock = config, leeway_s, clock
        self._secret = secret if secret is not None else config.client_secret_file.read_text().strip()
        self._http = ProviderHttp(config.name)
        self._metadata: tuple[float, ProviderMetadata] | None = None
        self._metadata_asked: asyncio.Task[ProviderMetadata] | None = None
        self._keys: tuple[float, tuple[SigningKey, ...]] | None = None
        self._keys_asked: asyncio.Task[tuple[SigningKey, ...]] | None = None
        self._refetched_at = float("-inf")

    @property
    def date(self) -> str | None:
        """What the provider's clock said in its last answer (the Date header)."""
        return self._http.date

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.close()

    async def metadata(self) -> ProviderMetadata:
        """The discovery document, at most METADATA_AGE_S old.

        Raises
        ------
        ProviderUnavailable
            If there is no usable one.
        """
        if self._metadata is not None and time.monotonic() - self._metadata[0] <= METADATA_AGE_S:
            return self._metadata[1]
        # Logins that come while one asks wait for that answer: a crowd is one request, also at a failure.
        if self._metadata_asked is None or self._metadata_asked.done():
            self._metadata_asked = asyncio.create_task(self._fetch_metadata())
        return await asyncio.shield(self._metadata_asked)

    async def _fetch_metadata(self) -> ProviderMetadata:
        metadata = parse_metadata(await self.discovery(), self.config)
        self._metadata = (time.monotonic(), metadata)
        return metadata

    async def discovery(self) -> object:
        """The discovery document as it came, unchecked. Raises `ProviderUnavailable` if there is none."""
        status, document = await self._json(
            "GET", self.config.issuer.rstrip("/") + "/.well-known/openid-configuration"
        )
        if status != 200:
            raise ProviderUnavailable(self.config.name, f"discovery document: HTTP {status}")
        return document

    async def key_set(self) -> object:
        """The signing keys as they came, unchecked. Raises `ProviderUnavailable` if there are none."""
        status, document = await self._json("GET", (await self.metadata()).jwks_uri)
        if status != 200:
            raise ProviderUnavailable(self.config.name, f"signing keys: HTTP {status}")
        return document

    async def authorization_url(
        self, *, redirect_uri: str, attempt: LoginAttempt, idp_hint: str | None = None
    ) -> str:
        """Where the browser goes to log in.

        Source: RFC 6749, 4.1.1; RFC 7636 (S256); OpenID Connect Core 1.0, 3.1.2.1; AARC-G061 for the hint.
        """
        endpoint = (await self.metadata()).authorization_endpoint
        query = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.config.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.code_challenge,
            "code_challenge_method": "S256",
        }
        if idp_hint is not None:
            query[self.config.idp_hint_name] = idp_hint
        # What the link asks for beyond the configuration replaces the wish; both are checked in the answer.
        wanted = claims_parameter(attempt.acr_values or self.config.acr_values)
        if wanted is not None:
            query["claims"] = wanted
        if self.config.max_age_s is not None:
            query["max_age"] = str(self.config.max_age_s)
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def end_session_url(self, *, id_token: str | None, return_to: str) -> str | None:
        """Where the browser goes to log out, if the provider offers it.

        Source: OpenID Connect RP-Initiated Logout 1.0.
        """
        endpoint = (await self.metadata()).end_session_endpoint
        if endpoint is None:
            return None
        query = {"client_id": self.config.client_id, "post_logout_redirect_uri": return_to}
        if id_token:
            query["id_token_hint"] = id_token
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def exchange_code(self, *, code: str, redirect_uri: str, code_verifier: str) -> Tokens:
        """The tokens for an authorization code.

        Raises
        ------
        LoginDenied
            If the provider does not accept the code or answers without an ID token.
        ProviderUnavailable
            If it does not answer, or with a fault of its own.
        """
        tokens = await self._tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": redirect_uri,
                "code_verifier": code_verifier,
            }
        )
        if tokens.id_token is None:
            raise LoginDenied("token_response", "no ID token")
        return tokens

    async def refresh(self, refresh_token: str) -> Tokens:
        """New tokens for a refresh token; the scope is named, as EGI Check-in documents it to be required."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        tokens = await self._tokens({**form, "scope": " ".join(self.config.scopes)})
        kept = tokens.refresh_token or refresh_token
        return Tokens(tokens.access_token, tokens.id_token, kept)

    async def userinfo(self, access_token: str) -> dict[str, object]:
        """What the provider says of the token's subject.

        Raises
        ------
        LoginDenied
            If the provider does not accept the token, or answers with something else than claims.
        ProviderUnavailable
            If it does not answer, or with a fault of its own.
        """
        url = (await self.metadata()).userinfo_endpoint
        status, document = await self._json("GET", url, headers={"Authorization": f"Bearer {access_token}"})
        if status != 200:
            raise LoginDenied("userinfo_refused", f"HTTP {status}")
        if not isinstance(document, dict):
            raise LoginDenied("userinfo_malformed")
        return document

    async def verified_claims(self, tokens: Tokens, *, nonce: str | None) -> dict[str, object]:
        """The claims of the answer's ID token, once every rule holds.

        Raises
        ------
        LoginDenied
            With the code of the rule that does not.
        ProviderUnavailable
            If the provider's keys cannot be had.
        """
        token = tokens.id_token or ""
        header = read_header(token, self.config.algorithms)
        claims = await self.signed_claims(token, header)
        check_claims(
            claims,
            Expected(
                issuer=self.config.issuer,
                client_id=self.config.client_id,
                nonce=nonce,
                now=self._clock(),
                leeway_s=self._leeway_s,
            ),
        )
        check_access_token_hash(claims, header, tokens.access_token)
        return claims

    async def signed_claims(self, token: str, header: TokenHeader) -> dict[str, object]:
        """What a key of the provider signed; one that we do not know yet is looked for once."""
        key = choose_key(header, await self.keys())
        if key is not None:
            try:
                return read_verified(token, header, key)
            except LoginDenied as denied:
                if denied.code != "token_signature":
                    raise
        # The provider may have changed its keys, also without a new key id (Core 1.0, 10.1.1).
        renewed = choose_key(header, await self.keys(refetch=True))
        if renewed is None:
            raise LoginDenied("token_key" if key is None else "token_signature")
        return read_verified(token, header, renewed)

    async def keys(self, *, refetch: bool = False) -> tuple[SigningKey, ...]:
        """The provider's signing keys; `refetch` looks again, but once per KEYS_REFETCH_S at most.

        Raises
        ------
        ProviderUnavailable
            If there is no key set.
        """
        now = time.monotonic()
        is_kept = self._keys is not None and now - self._keys[0] <= METADATA_AGE_S
        may_refetch = refetch and now - self._refetched_at > KEYS_REFETCH_S
        if self._keys is not None and is_kept and not may_refetch:
            return self._keys[1]
        if self._keys_asked is None or self._keys_asked.done():
            if is_kept:  # counted before the request: one that fails is not repeated at once either
                self._refetched_at = now
            self._keys_asked = asyncio.create_task(self._fetch_keys())
        return await asyncio.shield(self._keys_asked)

    async def _fetch_keys(self) -> tuple[SigningKey, ...]:
        keys = parse_keys(await self.key_set())
        self._keys = (time.monotonic(), keys)
        return keys

    async def _tokens(self, form: Mapping[str, str]) -> Tokens:
        status, document = await self.ask_token_endpoint(form)
        if status != 200:
            raise LoginDenied("code_refused", f"HTTP {status}")
        return _tokens_of(document)

    async def ask_token_endpoint(self, form: Mapping[str, str]) -> tuple[int, Any]:
        """Status and JSON of a request by this client; raises `ProviderUnavailable`."""
        metadata = await self.metadata()
        headers, fields = {}, dict(form)
        if metadata.uses_basic_auth:
            # Both halves are form-encoded before they are joined: RFC 6749, 2.3.1.
            user, password = quote(self.config.client_id, safe=""), quote(self._secret, safe="")
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        else:
            fields |= {"client_id": self.config.client_id, "client_secret": self._secret}
        return await self._json("POST", metadata.token_endpoint, headers=headers, form=fields)

    async def _json(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and JSON body (None for an error's body) of one request; raises `ProviderUnavailable`."""
        return await self._http.json(method, url, headers=headers, form=form)


def _tokens_of(document: object) -> Tokens:
    if not isinstance(document, dict):
        raise LoginDenied("token_response")
    access, kind = document.get("access_token"), document.get("token_type")
    id_token, refresh = document.get("id_token"), document.get("refresh_token") or None
    if not isinstance(access, str) or not _TOKEN.fullmatch(access):
        raise LoginDenied("token_response", "no access token")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise LoginDenied("token_response", "token type")
    if not all(
        each is None or (isinstance(each, str) and _TOKEN.fullmatch(each)) for each in (id_token, refresh)
    ):
        raise LoginDenied("token_response")
    if max(len(access), len(id_token or ""), len(refresh or "")) > MAX_TOKEN_BYTES:
        raise LoginDenied("token_too_large")
    return Tokens(access_token=access, id_token=id_token, refresh_token=refresh)
