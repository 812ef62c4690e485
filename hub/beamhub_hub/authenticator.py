"""The hub's authenticator: verified answers become an account's `Principal`, and web is told."""

from __future__ import annotations

import asyncio
import functools
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
from beamhub_hub.account_principal import account_principal, with_identity
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.guest_accounts import count_guests
from beamhub_hub.guest_kind import GuestKind
from beamhub_hub.handlers import (
    LinkStartHandler,
    LoginCallbackHandler,
    LoginChoiceHandler,
    LoginHereHandler,
    LoginStartHandler,
)
from beamhub_hub.identities_handler import IdentitiesHandler
from beamhub_hub.identity_map import IdentityMap
from beamhub_hub.linking import check_may_link, identities_of, joined_record
from beamhub_hub.login_attempt import LoginAttempt
from beamhub_hub.login_kinds import LoginKind
from beamhub_hub.login_record import IdentityRecord, LoginRecord, read_record
from beamhub_hub.logout_handler import ProviderLogoutHandler
from beamhub_hub.openid_kind import TOKEN_REFUSED, OpenIdKind
from beamhub_hub.pages import PageError
from beamhub_hub.role_assignments import RoleAssignments, group_of, read_roles
from beamhub_hub.static_files import STATIC_FOLDER, STATIC_PATH
from beamhub_spawners.web_client import WebClient

SAME_ANSWER_S = 2.0
"""An answer this young is not asked for again: several requests of one page need one."""
_NAME = "[a-z][a-z0-9-]{0,40}"


class BeamhubAuthenticator(GenericOAuthenticator):  # type: ignore[misc]  # oauthenticator is untyped
    """Several ways to log in, each verified by its own kind; one account for all identities of a person.

    Of the generic class it keeps traits; routes, `authenticate` and `refresh_user` are ours, because the
    generic ones never look at the ID token when they read userinfo.
    """

    logout_handler = ProviderLogoutHandler

    platform = AnyTrait(help="A function without arguments that gives the Platform.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._kinds: dict[str, LoginKind] | None = None
        self._identity_map: IdentityMap | None = None

    @default("any_allow_config")
    def _default_any_allow_config(self) -> bool:
        return True  # check_allowed below decides; the hub's warning about missing lists does not apply

    @property
    def kinds(self) -> dict[str, LoginKind]:
        """The ways to log in, by name, in the order of the configuration."""
        if self._kinds is None:
            login = self.facility.login
            kinds: list[LoginKind] = [
                OpenIdKind(each, login, roles=self._roles, clock=self.clock) for each in login.providers
            ]
            if login.guests is not None:
                count = functools.partial(count_guests, self.parent)
                kinds.append(GuestKind(login.guests, login, count=count, clock=self.clock))
            self._kinds = {kind.name: kind for kind in kinds}
        return self._kinds

    @property
    def identity_map(self) -> IdentityMap | None:
        """The facility's own word on accounts and numeric ids, where it has one."""
        config = self.facility.login.identity_map
        if self._identity_map is None and config is not None:
            first = self.facility.sessions.unmapped_uid_first
            self._identity_map = IdentityMap(config, unmapped_uid_first=first)
        return self._identity_map

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

    @property
    def grace_s(self) -> float:
        """For how many seconds the last answer of a provider that is unreachable counts."""
        return self.facility.login.grace_h * 3600

    def clock(self) -> datetime:
        """The machine's own time: a provider's answer does not age by a demonstration's shifted clock."""
        return utc_now()

    def callback_url(self, name: str) -> str:
        """The redirect URI of one provider: each has its own (RFC 9700, 4.4.2.1, against mix-up)."""
        return f"{self.facility.hub.public_url.rstrip('/')}/hub/login/{name}/callback"

    def login_url(self, base_url: str) -> str:
        """Where a login begins: at the only or the remembered provider, else at the choice."""
        return f"{base_url}oauth_login"

    def get_handlers(self, app: Any) -> list[Any]:
        """The routes of login and logout, and our pages' static files."""
        return [
            (r"/login", LoginChoiceHandler),
            (r"/oauth_login", LoginHereHandler),
            (rf"/login/({_NAME})", LoginStartHandler),
            (rf"/login/({_NAME})/callback", LoginCallbackHandler),
            (rf"/login/({_NAME})/link", LinkStartHandler),
            (r"/identities", IdentitiesHandler),
            (r"/logout", ProviderLogoutHandler),
            (rf"{STATIC_PATH}/(.*)", CacheControlStaticFilesHandler, {"path": str(STATIC_FOLDER)}),
        ]

    # -- login ------------------------------------------------------------------------------------

    async def authenticate(self, handler: Any, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        """The account of a callback's answer, after web knows its Principal.

        Raises
        ------
        LoginDenied, ProviderUnavailable
            As the provider's answer deserves.
        Unavailable
            If web cannot be told: without it no right would be current, so nobody is logged in.
        """
        kind, attempt = self.kinds[data["kind"]], data["attempt"]
        latest = await kind.finish(data["answer"], attempt, return_to=self.callback_url(kind.name))
        record = await self._record_with(handler, latest)
        await self.web.push_principal(record.principal)
        account, issuer = record.principal.account, latest.principal.issuer
        await self.tell(AuditNotice(reference=new_reference(), kind="login", account=account, issuer=issuer))
        return self._auth_model(record)

    async def tell(self, notice: AuditNotice) -> None:
        """Have something kept in the audit; where that fails, the log says so and work goes on."""
        try:
            await self.web.tell(notice)
        except (Unavailable, Refused) as error:
            self.log.error("audit not told: kind=%s reason=%s", notice.kind, error)

    async def _record_with(self, handler: Any, latest: IdentityRecord) -> LoginRecord:
        """The record of the account that an identity logs in to, with the account's other identities."""
        answer = await self.web.identity(latest.identity.account)
        user = handler.find_user(answer.signs_in_as)
        known = read_record(await user.get_auth_state()) if user is not None else None
        return await self._mapped(
            joined_record(
                known.identities if known else (), latest, answer, now=self.clock(), grace_s=self.grace_s
            )
        )

    async def _mapped(self, record: LoginRecord) -> LoginRecord:
        """The record with what the facility itself says of the account's own identity."""
        if self.identity_map is None:
            return record
        principal = record.principal
        found = self.identity_map.apply(principal, await self.identity_map.find(principal))
        return record.model_copy(update={"principal": found})

    async def link(self, user: Any, kind: LoginKind, attempt: LoginAttempt, answer: dict[str, str]) -> None:
        """Let the identity of a callback's answer sign in as the account of the person at the browser.

        Raises
        ------
        LoginDenied, ProviderUnavailable, Unavailable
            As for a login; also when the account's own login is not recent, or web does not join the two.
        """
        latest = await kind.finish(answer, attempt, return_to=self.callback_url(kind.name))
        async with self._lock(user.name):
            record = read_record(await user.get_auth_state())
            check_may_link(record, latest, self.clock())
            try:
                await self.web.link_identity(latest.identity, user.name)
            except Refused as refused:
                raise LoginDenied("link_refused", refused.refusal.reference) from None
            await self._keep_identities(user, record, (latest,))

    async def unlink(self, user: Any, account: str) -> None:
        """Let an identity sign in as its own account again; what it asserted is gone at once.

        Raises
        ------
        Unavailable
            If web cannot be told; then nothing changed.
        """
        async with self._lock(user.name):
            await self.web.unlink_identity(account)
            await self._keep_identities(user, read_record(await user.get_auth_state()), ())

    async def _keep_identities(
        self, user: Any, record: LoginRecord | None, new: tuple[IdentityRecord, ...]
    ) -> None:
        """Make the account anew from what web says of its identities; the current one stays the current."""
        answer = await self.web.identity(user.name)
        if record is None:
            return
        left = [r for r in (*record.identities, *new) if r.identity in identities_of(answer)]
        if not left:
            return
        joined = joined_record(left, left[0], answer, now=self.clock(), grace_s=self.grace_s)
        model = self._auth_model(await self._mapped(joined))
        await user.save_auth_state(model["auth_state"])
        user.sync_groups(model["groups"])
        await self.web.push_principal(LoginRecord.model_validate(model["auth_state"]).principal)

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

    async def logout_url(self, user: Any) -> str | None:
        """Where an account's last login ends at its provider, if that has such a place.

        Raises
        ------
        ProviderUnavailable
            If the provider cannot be asked.
        """
        record = read_record(await user.get_auth_state())
        kind = self.kinds.get(record.current.provider) if record else None
        if record is None or kind is None:
            return None
        return_to = self.facility.hub.public_url.rstrip("/") + "/"
        return await kind.logout_url(record.current, return_to=return_to)

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
                renewed = await self._renewed(record)
            except ProviderUnavailable as error:
                counts = record.is_fresh(self.clock(), self.grace_s)
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

    async def _renewed(self, record: LoginRecord) -> LoginRecord:
        kind = self.kinds.get(record.current.provider)
        if kind is None:
            raise LoginDenied("token_issuer")
        account, *linked = record.principal.identities
        latest = await kind.renew(record.current)
        records = with_identity(record.identities, latest, (account, *linked))
        principal = account_principal(account, linked, records, now=self.clock(), grace_s=self.grace_s)
        return await self._mapped(LoginRecord(principal=principal, identities=records))

    async def _take_denial(self, principal: Principal, denied: LoginDenied) -> None:
        """A token that is not accepted any more leaves the time of grace; any other denial ends it now."""
        self.log.warning(
            "refresh denied: reference=%s reason=%s account=%s",
            denied.reference,
            denied.code,
            principal.account,
        )
        if denied.code in TOKEN_REFUSED:
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
        if record is None or not record.is_fresh(self.clock(), self.grace_s):
            advice = "Your login is too old to start something. Log out and in again."
            raise PageError(403, "Your login is too old", advice)
