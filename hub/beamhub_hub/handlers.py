"""Login, callback and logout as browsers meet them."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, cast

from jupyterhub.handlers import BaseHandler, LogoutHandler

from beamhub_core.audit_notice import AuditNotice, new_reference
from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.login_attempt import (
    COOKIE_PREFIX,
    MAX_AGE_S,
    MAX_ATTEMPTS,
    LoginAttempt,
    cookie_name_of,
    new_attempt,
    read_attempt,
)
from beamhub_hub.pages import PageError, denied_page, provider_down_page, web_down_page, web_refused_page

if TYPE_CHECKING:
    from beamhub_hub.authenticator import BeamhubAuthenticator

_ERROR_CODE = re.compile(r"[a-z_]{1,60}")


class _LoginPages(BaseHandler):  # type: ignore[misc]  # JupyterHub is untyped
    """What login and callback share."""

    @property
    def _authenticator(self) -> BeamhubAuthenticator:
        return cast("BeamhubAuthenticator", self.authenticator)

    @property
    def _attempt_path(self) -> str:
        return str(self.hub.base_url)

    def _request_summary(self) -> str:
        """What tornado logs of a failed request: the path only, since the query holds a code."""
        summary: str = f"{self.request.method} {self.request.path}"
        return summary

    def _provider_down(self, error: ProviderUnavailable) -> PageError:
        self.log.warning(
            "provider not available: reference=%s provider=%s reason=%s",
            error.reference,
            error.provider,
            error.reason,
        )
        return provider_down_page(self._authenticator.provider.config.title, error)

    def _denied(self, denied: LoginDenied) -> PageError:
        self.log.warning(
            "login denied: reference=%s reason=%s %s", denied.reference, denied.code, denied.detail
        )
        return denied_page(denied)


class LoginStartHandler(_LoginPages):
    """Send the browser to the provider."""

    async def get(self) -> None:
        """Start an attempt; its secrets wait in a signed cookie for the answer."""
        attempt = new_attempt(self._validate_next_url(self.get_argument("next", "")))
        try:
            url = await self._authenticator.provider.authorization_url(
                redirect_uri=self._authenticator.oauth_callback_url,
                state=attempt.state,
                nonce=attempt.nonce,
                code_challenge=attempt.code_challenge,
            )
        except ProviderUnavailable as error:
            raise self._provider_down(error) from None
        self._forget_old_attempts()
        self._set_cookie(
            attempt.cookie_name,
            attempt.to_cookie(),
            expires_days=None,
            max_age=MAX_AGE_S,
            path=self._attempt_path,
            samesite="Lax",
        )
        self.redirect(url)

    def _forget_old_attempts(self) -> None:
        names = [name for name in self.request.cookies if name.startswith(COOKIE_PREFIX)]
        for name in names[MAX_ATTEMPTS - 1 :]:
            self.clear_cookie(name, path=self._attempt_path)


UNATTESTED = frozenset(
    ("attempt_missing", "code_missing", "code_refused", "provider_refused", "response_issuer")
)
"""Denials for which no provider vouched that there was a login: anybody can cause them, without end."""


class LoginCallbackHandler(_LoginPages):
    """Take the provider's answer."""

    async def get(self) -> None:
        """Log the person in, or say on a page why not; a login cookie is set at the very end only."""
        try:
            attempt = self._take_attempt()
            code = await self._read_code()
            user = await self.login_user({"code": code, "attempt": attempt})
            if user is None:
                raise LoginDenied("not_allowed")
        except LoginDenied as denied:
            if denied.code not in UNATTESTED:
                issuer = self._authenticator.provider.config.issuer
                notice = AuditNotice(
                    reference=new_reference(), kind="login_refused", code=denied.code, issuer=issuer
                )
                await self._authenticator.tell(notice)
            raise self._denied(denied) from None
        except ProviderUnavailable as error:
            raise self._provider_down(error) from None
        except (Unavailable, Refused) as error:
            reference = secrets.token_hex(4)
            self.log.warning("login failed, web did not take it: reference=%s reason=%s", reference, error)
            page = web_down_page if isinstance(error, Unavailable) else web_refused_page
            raise page(reference) from None
        self.redirect(self._validate_next_url(attempt.next_url) or self.settings["default_url"])

    def _take_attempt(self) -> LoginAttempt:
        """The attempt that this answer belongs to; its cookie is spent by looking."""
        state = self.get_query_argument("state", "")
        name = cookie_name_of(state)
        if name is None:
            raise LoginDenied("attempt_missing")
        # A day is the shortest age that tornado checks; the cookie itself lives MAX_AGE_S.
        cookie = self.get_secure_cookie(name, max_age_days=1)
        self.clear_cookie(name, path=self._attempt_path)
        attempt = read_attempt(cookie, state)
        if attempt is None:
            raise LoginDenied("attempt_missing")
        return attempt

    async def _read_code(self) -> str:
        """The authorization code. Source: RFC 6749, 4.1.2; RFC 9207 for the issuer beside it."""
        provider = self._authenticator.provider
        metadata = await provider.metadata()
        issuer = self.get_query_argument("iss", None)
        if issuer != metadata.issuer and (issuer is not None or metadata.names_issuer_in_response):
            raise LoginDenied("response_issuer")
        error = self.get_query_argument("error", None)
        if error is not None:
            raise LoginDenied("provider_refused", error if _ERROR_CODE.fullmatch(error) else "")
        code: str = self.get_query_argument("code", "")
        if not 0 < len(code) <= 4096:
            raise LoginDenied("code_missing")
        return code


class ProviderLogoutHandler(LogoutHandler):  # type: ignore[misc]  # JupyterHub is untyped
    """End the session here, with every token that came of it, then at the provider."""

    async def get(self) -> Any:
        """Read the ID token before the session is gone: it tells the provider whose session ends."""
        user = self.current_user
        authenticator = cast("BeamhubAuthenticator", self.authenticator)
        self._provider_url: str | None = None
        if user is not None:
            id_token = await authenticator.id_token_of(user)
            try:
                self._provider_url = await authenticator.provider.end_session_url(
                    id_token=id_token, return_to=authenticator.facility.hub.public_url.rstrip("/") + "/"
                )
            except ProviderUnavailable as error:
                self.log.warning("provider not told of a logout: reason=%s", error.reason)
        return await super().get()

    async def render_logout_page(self) -> None:
        """Go on to the provider, or say that the session here has ended."""
        if self._provider_url is not None:
            self.redirect(self._provider_url)
            return
        self.finish(await self.render_template("logout.html"))
