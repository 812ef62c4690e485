"""The hub's authenticator: verified answers become an account's `Principal`, and web is told."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any

from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from oauthenticator.generic import GenericOAuthenticator
from tornado.httputil import url_concat
from traitlets import Any as AnyTrait
from traitlets import default

from beamhub_core.audit_notice import AuditNotice, new_reference
from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig
from beamhub_core.errors import ConfigInvalid, Unavailable
from beamhub_core.identity import Identity
from beamhub_core.rights import Refused
from beamhub_hub.account_links import AccountLinks
from beamhub_hub.backchannel_handler import BackchannelLogoutHandler
from beamhub_hub.data_starts import data_answer_age_s, names_data, too_old_page, unconfirmed_page
from beamhub_hub.deprovisioning import AccountEnding
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
from beamhub_hub.linking import joined_record
from beamhub_hub.login_addresses import addresses_of
from beamhub_hub.login_kinds import LoginKind
from beamhub_hub.login_record import IdentityRecord, LoginRecord, read_record
from beamhub_hub.logins_by_sid import LoginsBySid
from beamhub_hub.logout_handler import LoggedOutHandler, ProviderLogoutHandler
from beamhub_hub.openid_kind import OpenIdKind
from beamhub_hub.renewal import Renewals
from beamhub_hub.role_assignments import RoleAssignments, group_of, read_roles
from beamhub_hub.service_token_handler import ServiceTokenHandler
from beamhub_hub.static_files import STATIC_FOLDER, STATIC_PATH
from beamhub_hub.token_exchange import TokenBroker
from beamhub_spawners.web_client import WebClient

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
        self._kinds: dict[str, LoginKind] | None = None
        self._identity_map: IdentityMap | None = None
        self.logins_by_sid = LoginsBySid()
        self.links = AccountLinks(self)
        self.renewals = Renewals(self)
        self.ending = AccountEnding(self.parent, self.log)
        self.broker = TokenBroker(self)

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
        """The redirect URI of one provider."""
        return addresses_of(self.facility, name).redirect_uri

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
            (rf"/login/({_NAME})/backchannel", BackchannelLogoutHandler),
            (rf"/login/({_NAME})/loggedout", LoggedOutHandler),
            (r"/identities", IdentitiesHandler),
            (r"/logout", ProviderLogoutHandler),
            (r"/api/beamhub/token", ServiceTokenHandler),
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
        self.logins_by_sid.note(record)
        return self.auth_model(record)

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
        before = known.identities if known else ()
        return await self.mapped(
            joined_record(before, latest, answer, now=self.clock(), grace_s=self.grace_s)
        )

    async def mapped(self, record: LoginRecord) -> LoginRecord:
        """The record with what the facility itself says of the account's own identity.

        Raises
        ------
        LoginDenied, IdentityMapUnavailable
            As the map's answer deserves.
        """
        if self.identity_map is None:
            return record
        principal = record.principal
        found = self.identity_map.apply(principal, await self.identity_map.find(principal))
        return record.model_copy(update={"principal": found})

    def _roles(self) -> RoleAssignments:
        """Read at each login: the list may change while the hub runs. A broken list gives no role."""
        try:
            return read_roles(self.facility.login)
        except ConfigInvalid as error:
            self.log.error("role assignments not usable, nobody has a facility role: %s", error)
            return RoleAssignments({})

    def auth_model(self, record: LoginRecord) -> dict[str, Any]:
        """An account's record as JupyterHub takes a login."""
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

    def logged_out_url(self, name: str) -> str:
        """The post-logout redirect URI of one provider, to be registered there."""
        return addresses_of(self.facility, name).post_logout_redirect_uri

    async def provider_logout_url(self, user: Any, state: str) -> str | None:
        """Where an account's last login ends at its provider, if that has such a place.

        The provider gives `state` back (OpenID Connect RP-Initiated Logout 1.0, section 3).

        Raises
        ------
        ProviderUnavailable
            If the provider cannot be asked.
        """
        record = read_record(await user.get_auth_state())
        kind = self.kinds.get(record.current.provider) if record else None
        if record is None or kind is None:
            return None
        url = await kind.logout_url(record.current, return_to=self.logged_out_url(kind.name))
        return url_concat(url, {"state": state}) if url is not None else None

    # -- after the login ----------------------------------------------------------------------------

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> bool | dict[str, Any]:
        """What the account's providers say now, as JupyterHub takes it; see `Renewals.refresh`."""
        return await self.renewals.refresh(user)

    async def account_of(self, identity: Identity) -> str:
        """The account that an identity logs in to; its own where web cannot say."""
        try:
            return (await self.web.identity(identity.account)).signs_in_as
        except (Unavailable, Refused) as error:
            self.log.warning("web does not say as whom an identity signs in: %s", error)
            return identity.account

    async def delete_user(self, user: Any) -> None:
        """Everything of an account that an operator deletes in the hub ends first, at web, too."""
        super().delete_user(user)
        async with self.renewals.lock(user.name):
            await self.ending.end(user, "deleted")
        await self.ending.finish_one(user.name)

    async def pre_spawn_start(self, user: Any, spawner: Any) -> None:
        """Nothing starts from an answer older than the time of grace, and no data without a current one.

        Whoever asks for the start: a form, a token, an administrator.

        Raises
        ------
        PageError
            403 for a login that is too old for anything, 503 while nobody can confirm rights on data.
        """
        record = read_record(await user.get_auth_state())
        if record is None or not record.is_fresh(self.clock(), self.grace_s):
            raise too_old_page()
        age_s = data_answer_age_s(self.facility.login)
        if names_data(spawner.user_options) and not self.renewals.has_rights_confirmed(record, age_s):
            raise unconfirmed_page()
