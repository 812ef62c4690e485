"""Choice of a provider, login and callback as browsers meet them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs, urlsplit

from jupyterhub.handlers import BaseHandler
from tornado.httputil import url_concat
from tornado.web import HTTPError

from beamhub_core.audit_notice import AuditNotice, new_reference
from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_core.trace import HEADER, read_trace_id
from beamhub_hub.denial import LoginDenied, ProviderUnavailable
from beamhub_hub.login_attempt import (
    COOKIE_PREFIX,
    MAX_AGE_S,
    MAX_ATTEMPTS,
    Demand,
    LoginAttempt,
    cookie_name_of,
    new_attempt,
    read_acr_values,
    read_attempt,
)
from beamhub_hub.login_kinds import LoginKind
from beamhub_hub.pages import (
    PageError,
    denied_page,
    no_such_provider_page,
    no_text_page,
    provider_down_page,
    stale_form_page,
    web_down_page,
    web_refused_page,
)

if TYPE_CHECKING:
    from beamhub_hub.authenticator import BeamhubAuthenticator

REMEMBERED = "beamhub-provider"
"""The cookie with the name of the provider that this browser logged in with last: a preference, no secret."""
REMEMBERED_DAYS = 180
MAX_HINT = 512
MAX_NEXT = 1500
"""Characters of the address to come back to: with it, an attempt's cookie stays below the 4,096 bytes that
browsers keep (RFC 6265, 6.1). A longer one is dropped, not cut."""
MAX_SEARCH = 100
N_WITHOUT_SEARCH = 8
"""Ways to log in that one can look through; for more there is a search."""
HOST_PREFIX = "__Host-"
"""A cookie so named was set by this very host, not by a sibling of it (RFC 6265bis, 4.1.3.2)."""


def login_headers(subdomain_host: str) -> dict[str, str]:
    """The headers of the login's pages; a form may end, by redirects, at a person's own host name."""
    parts = urlsplit(subdomain_host)
    own = f" {parts.scheme}://*.{parts.netloc}" if parts.netloc else ""
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; base-uri 'none'; connect-src 'self'; "
        f"font-src 'self'; form-action 'self'{own}; frame-ancestors 'none'; img-src 'self' data:; "
        "script-src 'self'; style-src 'self'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def trace_of(address: str) -> str | None:
    """The trace that an address to come back to names: the portal puts one there. None without one."""
    try:
        named = parse_qs(urlsplit(address).query, max_num_fields=40).get(HEADER, [])
    except ValueError:
        return None
    return read_trace_id(named[0]) if len(named) == 1 else None


class _LoginPages(BaseHandler):  # type: ignore[misc]  # JupyterHub is untyped
    """What choice, login and callback share."""

    @property
    def _authenticator(self) -> BeamhubAuthenticator:
        return cast("BeamhubAuthenticator", self.authenticator)

    def set_default_headers(self) -> None:
        """What holds for pages of the login: nothing kept, nothing framed, no foreign script, no referrer.

        The address of a callback holds a code, so it is told to nobody, not even to our own static files.
        """
        super().set_default_headers()
        for name, value in login_headers(self.settings.get("subdomain_host", "")).items():
            self.set_header(name, value)

    def check_xsrf_cookie(self) -> None:
        """Only forms of our own pages; anything else gets a page that says so, and a reference."""
        try:
            super().check_xsrf_cookie()
            # JupyterHub lets a "websocket" pass, whatever its method; no form is one.
            if self.request.method == "POST" and self.request.headers.get("Sec-Fetch-Mode") == "websocket":
                raise HTTPError(403)
        except HTTPError as error:
            page = stale_form_page(secrets.token_hex(4))
            self.log.warning("form refused: reference=%s reason=xsrf", page.reference)
            raise page from error

    @property
    def _attempt_path(self) -> str:
        return str(self.hub.base_url)

    def _cookie(self, name: str) -> str:
        """The name under which a cookie of the login is kept."""
        return HOST_PREFIX + name if self.settings.get("cookie_host_prefix_enabled") else name

    def _request_summary(self) -> str:
        """What tornado logs of a failed request: the path only, since the query holds a code."""
        summary: str = f"{self.request.method} {self.request.path}"
        return summary

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """A parameter as text; what is none is refused without being quoted on the page and in the log."""
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise no_text_page() from None

    def _kind(self, name: str) -> LoginKind:
        kind = self._authenticator.kinds.get(name)
        if kind is None:
            raise no_such_provider_page()
        return kind

    @property
    def _remembered(self) -> str | None:
        """The provider of this browser's last login, as long as it is configured."""
        name = self.get_cookie(self._cookie(REMEMBERED), "")
        return name if name in self._authenticator.kinds else None

    def _login_query(self) -> dict[str, str]:
        """What of this request goes on to the start of a login."""
        wanted = {"next": MAX_NEXT, "acr": MAX_HINT, "aarc_idp_hint": MAX_HINT}
        found = {name: self.get_query_argument(name, "") for name in wanted}
        return {name: value for name, value in found.items() if 0 < len(value) <= wanted[name]}

    def _provider_down(self, kind: LoginKind, error: ProviderUnavailable) -> PageError:
        self.log.warning(
            "provider not available: reference=%s provider=%s reason=%s",
            error.reference,
            error.provider,
            error.reason,
        )
        return provider_down_page(kind.title, error)

    def _denied(self, denied: LoginDenied) -> PageError:
        self.log.warning(
            "login denied: reference=%s reason=%s %s", denied.reference, denied.code, denied.detail
        )
        return denied_page(denied)


class LoginChoiceHandler(_LoginPages):
    """The page where one says with which provider to log in."""

    async def get(self) -> None:
        """Show the ways to log in, the one of last time first."""
        if self.current_user is not None and "acr" not in self.request.query_arguments:
            self.redirect(self.get_next_url(self.current_user))
            return
        query, remembered = self._login_query(), self._remembered
        known = self._authenticator.kinds.values()
        # Whoever makes an account on the spot cannot show a second factor.
        kinds = sorted(
            (kind for kind in known if not (kind.starts_by_post and "acr" in query)),
            key=lambda kind: kind.name != remembered,
        )
        text = self.get_query_argument("search", "")[:MAX_SEARCH]
        ways = [
            {
                "title": kind.title,
                "url": url_concat(f"{self.hub.base_url}login/{kind.name}", query),
                "by_post": kind.starts_by_post,
                "is_remembered": kind.name == remembered,
            }
            for kind in kinds
            if text.casefold() in kind.title.casefold()
        ]
        self.finish(
            await self.render_template(
                "login.html",
                ways=ways,
                query=query,
                needs_more="acr" in query,
                search=text,
                can_search=len(kinds) > N_WITHOUT_SEARCH,
            )
        )


class LoginStartHandler(_LoginPages):
    """Send the browser to a provider."""

    async def get(self, name: str) -> None:
        """Start an attempt; its secrets wait in a signed cookie for the answer."""
        kind = self._kind(name)
        if kind.starts_by_post:
            self.redirect(url_concat(f"{self.hub.base_url}login", self._login_query()))
            return
        await self._begin(kind, Demand(acr_values=read_acr_values(self.get_query_argument("acr", ""))))

    async def post(self, name: str) -> None:
        """Start an attempt that makes something; the hub checked the form's token."""
        await self._begin(self._kind(name), Demand())

    async def _begin(self, kind: LoginKind, demand: Demand) -> None:
        query = self._login_query()
        attempt = new_attempt(kind.name, self._validate_next_url(query.get("next", "")), demand)
        hint = query.get("aarc_idp_hint")
        try:
            url = await kind.begin(
                attempt, return_to=self._authenticator.callback_url(kind.name), idp_hint=hint
            )
        except ProviderUnavailable as error:
            raise self._provider_down(kind, error) from None
        self._forget_old_attempts()
        self._set_cookie(
            self._cookie(attempt.cookie_name),
            attempt.to_cookie(),
            expires_days=None,
            max_age=MAX_AGE_S,
            path=self._attempt_path,
            samesite="Lax",
        )
        self.redirect(url)

    def _forget_old_attempts(self) -> None:
        prefix = self._cookie(COOKIE_PREFIX)
        names = [name for name in self.request.cookies if name.startswith(prefix)]
        for name in names[MAX_ATTEMPTS - 1 :]:
            self.clear_cookie(name, path=self._attempt_path)


class LoginHereHandler(LoginStartHandler):
    """The short way: to the only or the remembered provider, else to the choice."""

    async def get(self) -> None:  # type: ignore[override]  # the address holds no name
        """Start there, or send the browser to the choice."""
        kinds = self._authenticator.kinds
        only = next(iter(kinds)) if len(kinds) == 1 else self._remembered
        if only is None:
            self.redirect(url_concat(f"{self.hub.base_url}login", self._login_query()))
            return
        await super().get(only)


class LinkStartHandler(LoginStartHandler):
    """Send a person who is logged in to a provider, to show one more identity."""

    async def post(self, name: str) -> None:
        """Start an attempt for this account; the hub checked the form's token."""
        kind = self._kind(name)
        if self.current_user is None:
            raise denied_page(LoginDenied("link_too_late"))
        if kind.starts_by_post or not self._authenticator.facility.login.can_link_identities:
            raise no_such_provider_page()
        await self._begin(kind, Demand(links_to=self.current_user.name))

    async def get(self, name: str) -> None:
        """An address that was typed: back to the page with the form."""
        self.redirect(f"{self.hub.base_url}identities")


UNATTESTED = frozenset(
    (
        "attempt_missing",
        "code_missing",
        "code_refused",
        "guests_full",
        "guests_too_fast",
        "provider_refused",
        "response_issuer",
        "response_repeated",
    )
)
"""Denials for which no provider vouched that there was a login: anybody can cause them, without end."""


class LoginCallbackHandler(_LoginPages):
    """Take the provider's answer."""

    async def get(self, name: str) -> None:
        """Log the person in, or say on a page why not; a login cookie is set at the very end only."""
        kind = self._kind(name)
        try:
            answer = self._answer()
            attempt = self._take_attempt(kind)
            if attempt.links_to is not None:
                await self._link(kind, attempt, answer)
                return
            data = {"kind": kind.name, "answer": answer, "attempt": attempt}
            user = await self.login_user(data)
            if user is None:
                raise LoginDenied("not_allowed")
        except LoginDenied as denied:
            if denied.code not in UNATTESTED:
                notice = AuditNotice(
                    reference=new_reference(), kind="login_refused", code=denied.code, issuer=kind.issuer
                )
                await self._authenticator.tell(notice)
            raise self._denied(denied) from None
        except ProviderUnavailable as error:
            raise self._provider_down(kind, error) from None
        except (Unavailable, Refused) as error:
            reference = secrets.token_hex(4)
            self.log.warning("login failed, web did not take it: reference=%s reason=%s", reference, error)
            page = web_down_page if isinstance(error, Unavailable) else web_refused_page
            raise page(reference) from None
        if trace_id := trace_of(attempt.next_url):
            self.log.info("logged in: account=%s trace=%s", user.name, trace_id)
        if not kind.starts_by_post:
            self._set_cookie(
                self._cookie(REMEMBERED),
                kind.name,
                encrypted=False,
                expires_days=REMEMBERED_DAYS,
                path=self._attempt_path,
                samesite="Lax",
            )
        self.redirect(self._validate_next_url(attempt.next_url) or self.settings["default_url"])

    async def _link(self, kind: LoginKind, attempt: LoginAttempt, answer: dict[str, str]) -> None:
        user = self.current_user
        if user is None or user.name != attempt.links_to:
            raise LoginDenied("attempt_missing")
        await self._authenticator.links.link(user, kind, attempt, answer)
        self.redirect(f"{self.hub.base_url}identities")

    def _answer(self) -> dict[str, str]:
        """The answer's parameters; one that stands there twice could mean two things."""
        if any(len(values) != 1 for values in self.request.query_arguments.values()):
            raise LoginDenied("response_repeated")
        return {name: self.get_query_argument(name) for name in self.request.query_arguments}

    def _take_attempt(self, kind: LoginKind) -> LoginAttempt:
        """The attempt that this answer belongs to; its cookie is spent by looking."""
        state = self.get_query_argument("state", "")
        name = cookie_name_of(state)
        if name is None:
            raise LoginDenied("attempt_missing")
        # A day is the shortest age that tornado checks; the cookie itself lives MAX_AGE_S.
        cookie = self.get_secure_cookie(self._cookie(name), max_age_days=1)
        self.clear_cookie(self._cookie(name), path=self._attempt_path)
        attempt = read_attempt(cookie, state)
        if attempt is None or attempt.provider != kind.name:
            raise LoginDenied("attempt_missing")
        return attempt
