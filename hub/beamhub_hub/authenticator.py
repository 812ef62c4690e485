"""The hub's authenticator: verified answers become an account's `Principal`, and web is told."""

from __future__ import annotations

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
from beamhub_core.identity import FacilityRole, Identity
from beamhub_core.rights import Refused
from beamhub_hub.account_principal import account_principal, with_identity
from beamhub_hub.backchannel_handler import BackchannelLogoutHandler
from beamhub_hub.data_starts import data_answer_age_s, names_data, too_old_page, unconfirmed_page
from beamhub_hub.deprovisioning import AccountEnding
from beamhub_hub.handlers import LoginCallbackHandler, LoginChoiceHandler, LoginHereHandler, LoginStartHandler
from beamhub_hub.login_kinds import LoginKind
from beamhub_hub.login_record import IdentityRecord, LoginRecord, read_record
from beamhub_hub.logins_by_sid import LoginsBySid
from beamhub_hub.logout_handler import LoggedOutHandler, ProviderLogoutHandler
from beamhub_hub.openid_kind import OpenIdKind
from beamhub_hub.renewal import Renewals
from beamhub_hub.role_assignments import RoleAssignments, read_role_assignments
from beamhub_hub.service_token_handler import ServiceTokenHandler
from beamhub_hub.static_files import STATIC_FOLDER, STATIC_PATH
from beamhub_hub.token_exchange import TokenBroker
from beamhub_spawners.web_client import WebClient

_NAME = "[a-z][a-z0-9-]{0,40}"


def group_of(role: FacilityRole) -> str:
    """The hub's group of a facility role; prefixed, so that no claim or person can name one."""
    return "beamhub-" + role.replace("_", "-")


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
        self.logins_by_sid = LoginsBySid()
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
            kinds = [OpenIdKind(each, login, roles=self._roles, clock=self.clock) for each in login.providers]
            self._kinds = {kind.name: kind for kind in kinds}
        return self._kinds

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
            (rf"/login/({_NAME})/backchannel", BackchannelLogoutHandler),
            (rf"/login/({_NAME})/loggedout", LoggedOutHandler),
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
        identity = latest.identity
        user = handler.find_user(identity.account)
        known = read_record(await user.get_auth_state()) if user is not None else None
        return self._joined(identity, (), known.identities if known else (), latest)

    def _joined(
        self,
        account: Identity,
        linked: tuple[Identity, ...],
        records: tuple[IdentityRecord, ...],
        latest: IdentityRecord,
    ) -> LoginRecord:
        found = with_identity(records, latest, (account, *linked))
        grace_s = self.facility.login.grace_h * 3600
        principal = account_principal(account, linked, found, now=self.clock(), grace_s=grace_s)
        return LoginRecord(principal=principal, identities=found)

    def _roles(self) -> RoleAssignments:
        """Read at each login: the list may change while the hub runs. A broken list gives no role."""
        try:
            return read_role_assignments(self.facility.login.role_assignments)
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
        return f"{self.facility.hub.public_url.rstrip('/')}/hub/login/{name}/loggedout"

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

    def account_of(self, identity: Identity) -> str:
        """The account that an identity logs in to."""
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
        if record is None or not record.is_fresh(self.clock(), self.facility.login.grace_h * 3600):
            raise too_old_page()
        age_s = data_answer_age_s(self.facility.login)
        if names_data(spawner.user_options) and not self.renewals.has_rights_confirmed(record, age_s):
            raise unconfirmed_page()
