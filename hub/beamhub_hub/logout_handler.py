"""Logging out, as the person at the browser asks for it, and the way back from the provider."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, cast

from jupyterhub import orm
from jupyterhub.handlers import BaseHandler, LogoutHandler

from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_hub.denial import ProviderUnavailable

if TYPE_CHECKING:
    from beamhub_hub.authenticator import BeamhubAuthenticator

STATE_COOKIE = "beamhub-logout"
STATE_AGE_S = 600


class ProviderLogoutHandler(LogoutHandler):  # type: ignore[misc]  # JupyterHub is untyped
    """End the login here, with every token that came of it, then at the provider."""

    async def get(self) -> Any:
        """Log out where the person clicked a link of ours; else ask first.

        Any page of the web can send a browser here. Browsers say where a request comes from (Fetch
        Metadata); only a navigation by the person, or from this very origin, is taken for a wish.
        """
        if self.get_current_user_cookie() is not None and not self._is_own_navigation():
            self.finish(await self.render_template("logout_confirm.html", xsrf=self.xsrf_token.decode()))
            return
        await self._log_out()

    async def post(self) -> Any:
        """Log out by our own form, whose token the hub checked."""
        await self._log_out()

    def _is_own_navigation(self) -> bool:
        headers = self.request.headers
        is_own = headers.get("Sec-Fetch-Site") in ("same-origin", "none")
        return is_own and headers.get("Sec-Fetch-Mode", "navigate") == "navigate"

    async def _log_out(self) -> None:
        """Read the login's record before the login is gone: it tells the provider whose session ends."""
        self._provider_url: str | None = None
        # By the cookie: somebody whose refresh failed is no current user, and can log out all the same.
        user = self.get_current_user_cookie()
        if user is not None:
            self._jupyterhub_user = user
            self._provider_url = await self._find_provider_url(user)
            self._drop_codes(user)
            await self._leave_queue(user)
        await super().get()

    async def _find_provider_url(self, user: Any) -> str | None:
        authenticator, state = cast("BeamhubAuthenticator", self.authenticator), secrets.token_urlsafe(32)
        try:
            url = await authenticator.provider_logout_url(user, state)
        except ProviderUnavailable as error:
            self.log.warning("provider not told of a logout: reason=%s", error.reason)
            return None
        if url is not None:
            path = str(self.hub.base_url)
            self._set_cookie(
                STATE_COOKIE, state, expires_days=None, max_age=STATE_AGE_S, path=path, samesite="Lax"
            )
        return url

    async def _leave_queue(self, user: Any) -> None:
        """Nothing starts by itself for somebody who logged out."""
        authenticator = cast("BeamhubAuthenticator", self.authenticator)
        try:
            await authenticator.web.drop_tickets(user.name)
        except (Refused, Unavailable) as error:
            self.log.warning("the queue was not left at a logout: %s", error)

    def _drop_codes(self, user: Any) -> None:
        """Delete this browser's authorization codes: another tab must not make a token of one now.

        The tokens of the browser's session are deleted by the hub (CVE-2021-41247).
        """
        codes = self.db.query(orm.OAuthCode).filter_by(user_id=user.id, session_id=self.get_session_cookie())
        for code in codes:
            self.db.delete(code)
        self.db.commit()

    async def render_logout_page(self) -> None:
        """Go on to the provider, or say that the login here has ended."""
        if self._provider_url is not None:
            self.redirect(self._provider_url)
            return
        self.finish(await self.render_template("logout.html"))


class LoggedOutHandler(BaseHandler):  # type: ignore[misc]  # JupyterHub is untyped
    """Where a provider sends the browser after its logout."""

    async def get(self, name: str) -> None:
        """Say that the login ended; also at the provider, if this is the answer to a logout of ours.

        Without the right `state` the page is the same but for that sentence, and nothing else happens.
        """
        kept = self.get_secure_cookie(STATE_COOKIE, max_age_days=1) or b""
        state = self.get_query_argument("state", "")
        is_answer = bool(kept) and secrets.compare_digest(kept, state.encode())
        if is_answer:
            self.clear_cookie(STATE_COOKIE, path=str(self.hub.base_url))
        self.finish(await self.render_template("logout.html", is_ended_at_provider=is_answer))
