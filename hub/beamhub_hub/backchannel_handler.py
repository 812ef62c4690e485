"""Where a provider tells that somebody's session there ended: no browser, no cookie, only a signed token."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs

from jupyterhub import orm
from jupyterhub.handlers import BaseHandler
from tornado.web import stream_request_body

from beamhub_core.identity import Identity
from beamhub_hub.backchannel_logout import (
    Logout,
    LogoutRefused,
    MemoryFull,
    SeenLogouts,
    read_logout,
)
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.deprovisioning import end_logins
from beamhub_hub.id_token import Expected
from beamhub_hub.login_record import read_record
from beamhub_hub.openid_kind import OpenIdKind
from beamhub_hub.rate_limit import RateLimit

if TYPE_CHECKING:
    from beamhub_hub.authenticator import BeamhubAuthenticator

MAX_BODY_BYTES = 64 * 1024
BURST, PER_S = 100, 20.0
"""Logout tokens per provider that are looked at; a forged one costs a signature check."""


class _Desk:
    """What one hub remembers of one provider's logouts."""

    def __init__(self, leeway_s: float) -> None:
        self.seen = SeenLogouts(leeway_s=leeway_s)
        self.rate = RateLimit(burst=BURST, per_s=PER_S)


@stream_request_body
class BackchannelLogoutHandler(BaseHandler):  # type: ignore[misc]  # JupyterHub is untyped
    """`POST login/NAME/backchannel`, as OpenID Connect Back-Channel Logout 1.0, 2.5 to 2.8 says.

    Nothing that a browser sends counts here: cookies are not read, so the hub's check against forged
    requests, which protects cookies, has nothing to protect.
    """

    @property
    def _authenticator(self) -> BeamhubAuthenticator:
        return cast("BeamhubAuthenticator", self.authenticator)

    def check_xsrf_cookie(self) -> None:
        """Nothing to check: the signature says who speaks."""

    async def get_current_user(self) -> None:
        """Nobody, whatever the request carries."""
        self._jupyterhub_user = None

    async def prepare(self) -> None:
        """Refuse a body that is too large before it is read."""
        self._body, self._is_too_large = bytearray(), False
        self.request.connection.set_max_body_size(MAX_BODY_BYTES)
        await super().prepare()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", "application/json")
        length = self.request.headers.get("Content-Length", "0")
        self._is_too_large = not length.isdigit() or int(length) > MAX_BODY_BYTES
        if self._is_too_large:
            self._refuse(400, "too_large")

    def data_received(self, chunk: bytes) -> None:
        """Keep what is in bounds, drop the rest."""
        if len(self._body) + len(chunk) > MAX_BODY_BYTES:
            self._is_too_large = True
        if not self._is_too_large:
            self._body += chunk

    async def post(self, name: str) -> None:
        """End every login of whom the token names; to name nobody whom we know is no fault."""
        kind = self._authenticator.kinds.get(name)
        if not isinstance(kind, OpenIdKind):
            self._refuse(404, "no_such_provider")
            return
        desk = self._desk(name)
        if not desk.rate.allows(time.monotonic()):
            self._refuse(429, "too_many")
            return
        token = self._logout_token()
        if token is None:
            self._refuse(400, "too_large" if self._is_too_large else "no_token")
            return
        now, leeway_s = self._authenticator.clock(), self._authenticator.facility.login.leeway_s
        expected = Expected(kind.issuer, kind.config.client_id, None, now, leeway_s)
        try:
            logout = await read_logout(kind.provider, token, expected)
            desk.seen.take(logout, now.timestamp())
        except (LoginDenied, LogoutRefused) as refused:
            self._refuse(400, refused.code)
        except ProviderUnavailable as error:
            self._refuse(503, "keys_unavailable", error.reason)
        except MemoryFull:
            self._refuse(503, "too_many")
        else:
            await self._end_logins(kind, logout)
            self.finish("{}")

    def _desk(self, name: str) -> _Desk:
        desks: dict[str, _Desk] = self.settings.setdefault("beamhub_logout_desks", {})
        return desks.setdefault(name, _Desk(self._authenticator.facility.login.leeway_s))

    def _logout_token(self) -> str | None:
        """The form's token; None unless there is exactly one."""
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if self._is_too_large or kind != "application/x-www-form-urlencoded":
            return None
        try:
            form = parse_qs(self._body.decode("ascii"), max_num_fields=16, strict_parsing=True)
        except ValueError:
            return None
        found = form.get("logout_token", [])
        return found[0] if len(found) == 1 else None

    async def _end_logins(self, kind: OpenIdKind, logout: Logout) -> None:
        account = await self._account(kind, logout)
        user = self.find_user(account) if account is not None else None
        if user is None:
            self.log.info("back-channel logout of nobody here: provider=%s", kind.name)
            return
        n_tokens = end_logins(user)
        self.log.info("back-channel logout: provider=%s account=%s tokens=%d", kind.name, user.name, n_tokens)

    async def _account(self, kind: OpenIdKind, logout: Logout) -> str | None:
        if logout.subject is not None:
            return await self._authenticator.account_of(Identity(issuer=kind.issuer, subject=logout.subject))
        by_sid = self._authenticator.logins_by_sid
        if not by_sid.is_complete:
            by_sid.is_complete = True  # before the first pause: one scan is enough
            await self._note_older_logins()
        return by_sid.find(kind.name, logout.sid or "")

    async def _note_older_logins(self) -> None:
        by_sid = self._authenticator.logins_by_sid
        stored = orm.User.encrypted_auth_state.is_not(None)
        for (user_name,) in self.db.query(orm.User.name).filter(stored).all():
            user = self.find_user(user_name)
            record = read_record(await user.get_auth_state()) if user is not None else None
            if record is not None:
                by_sid.note(record)

    def _refuse(self, status: int, code: str, detail: str = "") -> None:
        """Say what was wrong, as the section 2.8 asks, and leave a line that the reference finds."""
        reference = secrets.token_hex(4)
        self.log.warning("back-channel logout refused: reference=%s reason=%s %s", reference, code, detail)
        self.set_status(status)
        word = "invalid_request" if status in (400, 404) else "temporarily_unavailable"
        self.finish({"error": word, "error_description": f"{code} [reference {reference}]"})
