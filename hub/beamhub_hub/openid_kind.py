"""Login at an OpenID provider: code with PKCE, a verified ID token, then userinfo of the same subject."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from beamhub_core.clock import Clock, utc_now
from beamhub_core.config.login import LoginConfig
from beamhub_core.config.provider import ProviderConfig
from beamhub_hub.claims import merge_claims, principal_from_claims
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.login_attempt import LoginAttempt
from beamhub_hub.login_kinds import RenewalCut
from beamhub_hub.login_record import IdentityRecord, lasting_claims
from beamhub_hub.provider import OpenIdProvider, Tokens
from beamhub_hub.role_assignments import RoleAssignments
from beamhub_hub.strength import check_strength

TOKEN_REFUSED = frozenset(("userinfo_refused", "code_refused"))
"""The provider does not take a token any more, which says nothing of the person."""
_ERROR_CODE = re.compile(r"[a-z_]{1,60}")
_MAX_CODE = 4096


class OpenIdKind:
    """One OpenID provider as a way to log in. Belongs to one event loop."""

    starts_by_post = False

    def __init__(
        self,
        config: ProviderConfig,
        login: LoginConfig,
        *,
        roles: Callable[[], RoleAssignments],
        clock: Clock = utc_now,
    ) -> None:
        self.config, self._roles, self._clock = config, roles, clock
        self._leeway_s = login.leeway_s
        self.provider = OpenIdProvider(config, leeway_s=login.leeway_s)

    @property
    def name(self) -> str:
        """Name in addresses, logs and records."""
        return self.config.name

    @property
    def title(self) -> str:
        """What people call it."""
        return self.config.title

    @property
    def refused_token_ends_account(self) -> bool:
        """Whether a token that is not taken any more is a word on the person."""
        return self.config.refused_token_ends_account

    @property
    def issuer(self) -> str:
        """The provider's issuer identifier."""
        return self.config.issuer

    async def begin(self, attempt: LoginAttempt, *, return_to: str, idp_hint: str | None) -> str:
        """The provider's authorization endpoint with our request; a hint only where it is an allowed one."""
        hint = idp_hint if idp_hint in self.config.idp_hints else self.config.default_idp_hint
        return await self.provider.authorization_url(
            redirect_uri=return_to, attempt=attempt, idp_hint=hint or None
        )

    async def finish(
        self, answer: Mapping[str, str], attempt: LoginAttempt, *, return_to: str
    ) -> IdentityRecord:
        """The identity of a code. Raises `LoginDenied` and `ProviderUnavailable`."""
        code = await self._read_code(answer)
        tokens = await self.provider.exchange_code(
            code=code, redirect_uri=return_to, code_verifier=attempt.code_verifier
        )
        signed = await self.provider.verified_claims(tokens, nonce=attempt.nonce)
        self._check_strength(signed, self.config.acr_values, self.config.max_age_s)
        self._check_strength(signed, attempt.acr_values, None)
        record = await self._record(tokens, signed)
        return record.model_copy(update={"logged_in_at": self._clock()})

    async def _read_code(self, answer: Mapping[str, str]) -> str:
        """The authorization code. Source: RFC 6749, 4.1.2; RFC 9207 for the issuer beside it."""
        metadata = await self.provider.metadata()
        issuer = answer.get("iss")
        if issuer != metadata.issuer and (issuer is not None or metadata.names_issuer_in_response):
            raise LoginDenied("response_issuer")
        error = answer.get("error")
        if error is not None:
            raise LoginDenied("provider_refused", error if _ERROR_CODE.fullmatch(error) else "")
        code = answer.get("code", "")
        if not 0 < len(code) <= _MAX_CODE:
            raise LoginDenied("code_missing")
        return code

    async def renew(self, record: IdentityRecord) -> IdentityRecord:
        """What userinfo says now; a refresh token is used only where the access token does not serve."""
        if record.principal.issuer != self.config.issuer:
            raise LoginDenied("token_issuer")
        subject: dict[str, object] = {"sub": record.principal.subject}
        try:
            return await self._again(record, record.tokens(), {**record.signed_claims, **subject})
        except LoginDenied as denied:
            if denied.code not in TOKEN_REFUSED or record.refresh_token is None:
                raise
        tokens = await self.provider.refresh(record.refresh_token)
        try:
            return await self._refreshed(record, tokens, {**record.signed_claims, **subject})
        except ProviderUnavailable as error:
            renewed = {"access_token": tokens.access_token, "refresh_token": tokens.refresh_token}
            raise RenewalCut(error, record.model_copy(update=renewed)) from None

    async def _refreshed(
        self, record: IdentityRecord, tokens: Tokens, signed: dict[str, object]
    ) -> IdentityRecord:
        if tokens.id_token is None:
            tokens = Tokens(tokens.access_token, record.id_token, tokens.refresh_token)
            return await self._again(record, tokens, signed)
        fresh = await self.provider.verified_claims(tokens, nonce=None)
        if fresh["sub"] != record.principal.subject:  # OpenID Connect Core 1.0, 12.2
            raise LoginDenied("token_subject")
        return await self._again(record, tokens, {**signed, **fresh})

    def _check_strength(
        self, signed: dict[str, object], acr_values: tuple[str, ...], max_age_s: float | None
    ) -> None:
        check_strength(
            signed,
            acr_values=acr_values,
            max_age_s=max_age_s,
            now=self._clock(),
            leeway_s=self._leeway_s,
        )

    async def _again(
        self, before: IdentityRecord, tokens: Tokens, signed: dict[str, object]
    ) -> IdentityRecord:
        # How long ago the person authenticated counts at a login; a session may outlast it.
        self._check_strength(signed, self.config.acr_values, None)
        record = await self._record(tokens, signed)
        return record.model_copy(update={"logged_in_at": before.logged_in_at})

    async def _record(self, tokens: Tokens, signed: dict[str, object]) -> IdentityRecord:
        checked_at = self._clock()
        claims = merge_claims(signed, await self.provider.userinfo(tokens.access_token))
        principal = principal_from_claims(
            claims, provider=self.config, roles=self._roles(), checked_at=checked_at
        )
        return IdentityRecord(
            provider=self.config.name,
            principal=principal,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            id_token=tokens.id_token,
            signed_claims=lasting_claims(signed),
        )

    async def logout_url(self, record: IdentityRecord | None, *, return_to: str) -> str | None:
        """The provider's end-session endpoint with a hint of whose session ends."""
        if not self.config.ends_provider_session:
            return None
        return await self.provider.end_session_url(
            id_token=record.id_token if record else None, return_to=return_to
        )
