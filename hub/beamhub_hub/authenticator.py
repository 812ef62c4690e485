"""The hub's authenticator: one provider's verified answer becomes a `Principal`, and web is told of it."""

from __future__ import annotations

import asyncio
import weakref
from datetime import datetime
from typing import Any

from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from oauthenticator.generic import GenericOAuthenticator
from traitlets import Any as AnyTrait
from traitlets import default

from beamhub_core.audit_notice import AuditNotice, new_reference
from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.errors import ConfigInvalid, Unavailable
from beamhub_core.identity import Principal
from beamhub_core.rights import Refused
from beamhub_hub.claims import merge_claims, principal_from_claims
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.handlers import LoginCallbackHandler, LoginStartHandler, ProviderLogoutHandler
from beamhub_hub.login_attempt import LoginAttempt
from beamhub_hub.login_record import LoginRecord, lasting_claims, read_record
from beamhub_hub.pages import PageError
from beamhub_hub.provider import OpenIdProvider, Tokens
from beamhub_hub.role_assignments import RoleAssignments, group_of, read_roles
from beamhub_hub.static_files import STATIC_FOLDER, STATIC_PATH
from beamhub_spawners.web_client import WebClient

SAME_ANSWER_S = 2.0
"""An answer this young is not asked for again: several requests of one page need one."""
_TOKEN_REFUSED = frozenset(("userinfo_refused", "code_refused"))


class BeamhubAuthenticator(GenericOAuthenticator):  # type: ignore[misc]  # oauthenticator is untyped
    """Authorization code with PKCE, ID token verified by us, then userinfo of the same subject.

    Of the generic class it keeps traits and routes; `authenticate` and `refresh_user` are ours,
    because the generic ones never look at the ID token when they read userinfo.
    """

    login_handler = LoginStartHandler
    callback_handler = LoginCallbackHandler
    logout_handler = ProviderLogoutHandler

    platform = AnyTrait(help="A function without arguments that gives the Platform.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._provider: OpenIdProvider | None = None

    @default("any_allow_config")
    def _default_any_allow_config(self) -> bool:
        return True  # check_allowed below decides; the hub's warning about missing lists does not apply

    @property
    def provider(self) -> OpenIdProvider:
        """The provider that people log in with: the first one, as long as there is one."""
        if self._provider is None:
            login = self.facility.login
            self._provider = OpenIdProvider(login.providers[0], leeway_s=login.leeway_s)
        return self._provider

    @property
    def facility(self) -> FacilityConfig:
        """The facility's configuration."""
        config: FacilityConfig = self.platform().config
        return config

    @property
    def web(self) -> WebClient:
        """The client of the web service."""
        web: WebClient = self.platform().web
        return web

    def clock(self) -> datetime:
        """The machine's own time: a provider's answer does not age by a demonstration's shifted clock."""
        return utc_now()

    def get_handlers(self, app: Any) -> list[Any]:
        """The routes of login and logout, and our pages' static files."""
        static = (rf"{STATIC_PATH}/(.*)", CacheControlStaticFilesHandler, {"path": str(STATIC_FOLDER)})
        return [*super().get_handlers(app), static]

    # -- login ------------------------------------------------------------------------------------

    async def authenticate(self, handler: Any, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        """The account of a callback's code, after web knows its Principal.

        Raises
        ------
        LoginDenied, ProviderUnavailable
            As the provider's answer deserves.
        Unavailable
            If web cannot be told: without it no right would be current, so nobody is logged in.
        """
        attempt, code = data["attempt"], data["code"]
        record = await self._record_of_code(self.provider, code, attempt)
        await self.web.push_principal(record.principal)
        account, issuer = record.principal.account, record.principal.issuer
        await self.tell(AuditNotice(reference=new_reference(), kind="login", account=account, issuer=issuer))
        return self._auth_model(record)

    async def tell(self, notice: AuditNotice) -> None:
        """Have something kept in the audit; where that fails, the log says so and work goes on."""
        try:
            await self.web.tell(notice)
        except (Unavailable, Refused) as error:
            self.log.error("audit not told: kind=%s reason=%s", notice.kind, error)

    async def _record_of_code(
        self, provider: OpenIdProvider, code: str, attempt: LoginAttempt
    ) -> LoginRecord:
        tokens = await provider.exchange_code(
            code=code, redirect_uri=self.oauth_callback_url, code_verifier=attempt.code_verifier
        )
        signed = await provider.verified_claims(tokens, nonce=attempt.nonce)
        return await self._record(provider, tokens, signed)

    async def _record(
        self, provider: OpenIdProvider, tokens: Tokens, signed: dict[str, object]
    ) -> LoginRecord:
        checked_at = self.clock()
        claims = merge_claims(signed, await provider.userinfo(tokens.access_token))
        principal = principal_from_claims(
            claims, provider=provider.config, roles=self._roles(), checked_at=checked_at
        )
        return LoginRecord(
            provider=provider.config.name,
            principal=principal,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            id_token=tokens.id_token,
            signed_claims=lasting_claims(signed),
        )

    def _roles(self) -> RoleAssignments:
        """Read at each login: the list may change while the hub runs. A broken list gives no role."""
        try:
            return read_roles(self.facility.login)
        except ConfigInvalid as error:
            self.log.error("role assignments not usable, nobody has a facility role: %s", error)
            return RoleAssignments({})

    def _auth_model(self, record: LoginRecord) -> dict[str, Any]:
        principal = record.principal
        name = principal.display_name
        return {
            "name": principal.account,
            "admin": False,
            "groups": [group_of(role) for role in principal.roles],
            "user_info": {"name": name, "display_name": name},
            "auth_state": record.model_dump(mode="json"),
        }

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Whoever has a verified Principal of this very account, and nobody else."""
        record = read_record(auth_model["auth_state"]) if auth_model else None
        return record is not None and record.principal.account == username

    async def id_token_of(self, user: Any) -> str | None:
        """The ID token of an account's last login, for the provider's logout only."""
        record = read_record(await user.get_auth_state())
        return record.id_token if record else None

    # -- refresh ----------------------------------------------------------------------------------

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> bool | dict[str, Any]:
        """Ask the provider again who this is, and tell web.

        Returns
        -------
        The new auth model; True when the last answer still counts (the provider is unreachable and
        the time of grace is not over); False when the person must log in again.
        """
        # One at a time per account: a refresh token that rotates can be used once.
        async with self._lock(user.name):
            record = read_record(await user.get_auth_state())
            if record is None or record.principal.account != user.name:
                return False
            if record.is_fresh(self.clock(), SAME_ANSWER_S):
                return True
            try:
                renewed = await self._renewed(self.provider, record)
            except ProviderUnavailable as error:
                counts = record.is_fresh(self.clock(), self.facility.login.grace_h * 3600)
                self.log.warning("refresh: reason=%s, last answer counts: %s", error.reason, counts)
                return counts
            except LoginDenied as denied:
                await self._take_denial(record.principal, denied)
                return False
            model = self._auth_model(renewed)
            await user.save_auth_state(model["auth_state"])
        await self._push_quietly(renewed.principal)
        return model

    def _lock(self, account: str) -> asyncio.Lock:
        lock = self._locks.get(account)
        if lock is None:
            lock = self._locks[account] = asyncio.Lock()
        return lock

    async def _renewed(self, provider: OpenIdProvider, record: LoginRecord) -> LoginRecord:
        if record.provider != provider.config.name or record.principal.issuer != provider.config.issuer:
            raise LoginDenied("token_issuer")
        subject: dict[str, object] = {"sub": record.principal.subject}
        try:
            return await self._record(provider, record.tokens(), {**record.signed_claims, **subject})
        except LoginDenied as denied:
            if denied.code not in _TOKEN_REFUSED or record.refresh_token is None:
                raise
        tokens = await provider.refresh(record.refresh_token)
        signed: dict[str, object] = {**record.signed_claims, **subject}
        if tokens.id_token is not None:
            signed = await provider.verified_claims(tokens, nonce=None)
            if signed["sub"] != record.principal.subject:  # OpenID Connect Core 1.0, 12.2
                raise LoginDenied("token_subject")
        else:
            tokens = Tokens(tokens.access_token, record.id_token, tokens.refresh_token)
        return await self._record(provider, tokens, signed)

    async def _take_denial(self, principal: Principal, denied: LoginDenied) -> None:
        """A token that is not accepted any more leaves the time of grace; any other denial ends it now."""
        self.log.warning(
            "refresh denied: reference=%s reason=%s account=%s",
            denied.reference,
            denied.code,
            principal.account,
        )
        if denied.code in _TOKEN_REFUSED:
            return
        try:
            await self.web.remove_principal(principal.account)
        except (Unavailable, Refused) as error:
            self.log.warning("web not told of a removed principal: reason=%s", error)

    async def _push_quietly(self, principal: Principal) -> None:
        try:
            await self.web.push_principal(principal)
        except (Unavailable, Refused) as error:
            # Web goes on with the older answer, whose age it knows.
            self.log.warning("web not told of a refreshed principal: reason=%s", error)

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """Nothing starts from an answer older than the time of grace, whoever asks for the start."""
        record = read_record(await user.get_auth_state())
        if record is None or not record.is_fresh(self.clock(), self.facility.login.grace_h * 3600):
            advice = "Your login is too old to start something. Log out and in again."
            raise PageError(403, "Your login is too old", advice)
