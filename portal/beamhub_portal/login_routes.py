"""Login through the hub (OAuth 2 code flow with PKCE) and logout."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from itsdangerous import BadData

from beamhub_core.trace import HEADER, begin_trace, traceparent
from beamhub_portal.guards import new_reference
from beamhub_portal.local_path import local_path
from beamhub_portal.portal import Portal, SentForm
from beamhub_portal.visits import VISIT_LIFETIME

log = logging.getLogger(__name__)

CLIENT_ID = "service-web"
STATE_COOKIE = "beamhub-login-"
STATE_LIFETIME_S = 600
TRACE_COOKIE = "beamhub-trace"
"""The trace of the login, for the session that is started next; it opens nothing."""
MAX_OPEN_LOGINS = 5
MAX_CODE_LENGTH = 512


def login_router(portal: Portal) -> APIRouter:
    """`login`, `oauth_callback` and `logout`."""
    router = APIRouter()
    way = _LoginWay(portal)

    @router.get("/login")
    def login(request: Request) -> Response:
        return way.begin(request)

    @router.get("/oauth_callback")
    def oauth_callback(request: Request) -> Response:
        return way.finish(request)

    @router.post("/logout")
    def logout(request: Request, form: SentForm) -> Response:
        visitor = portal.require_form(request, form)
        portal.visitors.forget(visitor)
        # A page, not a redirect: browsers hold redirects after a form to our form-action, and the hub
        # may send the person on to the identity provider's own logout.
        response = portal.pages.answer(
            request, "leaving.html", None, target=f"{portal.pages.addresses.hub}/logout"
        )
        way.drop_visit_cookie(response)
        return response

    return router


class _LoginWay:
    """The two halves of a login, joined by a signed cookie of its own for each attempt."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._base = portal.pages.addresses.base
        self._secure = urlsplit(portal.config.hub.public_url).scheme == "https"

    def begin(self, request: Request) -> Response:
        trace_id = begin_trace()
        state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        # No redirect_uri: the client has exactly one registered (RFC 6749 section 3.1.2.3).
        query = {
            "client_id": CLIENT_ID,
            "response_type": "code",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            # Unknown to OAuth, so ignored there; the hub's log names it when the person has logged in.
            HEADER: traceparent(trace_id),
        }
        authorize = urlsplit(self._portal.config.web.hub_api_url).path.rstrip("/") + "/oauth2/authorize"
        response = RedirectResponse(f"{authorize}?{urlencode(query)}", status_code=303)
        attempts = [name for name in request.cookies if name.startswith(STATE_COOKIE)]
        if len(attempts) >= MAX_OPEN_LOGINS:
            for name in attempts:
                response.delete_cookie(name, path=self._base)
        back = local_path(request.query_params.get("next") or _page_before(request), self._base)
        facts = {"state": state, "verifier": verifier, "next": back, "trace": trace_id}
        sealed = self._portal.keys.login_state.dumps(facts)
        assert isinstance(sealed, str)  # noqa: S101  # what itsdangerous' URL-safe serializers give
        self._set_cookie(response, _cookie_of(state), sealed, STATE_LIFETIME_S)
        return response

    def finish(self, request: Request) -> Response:
        state = request.query_params.get("state", "")
        code = request.query_params.get("code", "")
        attempt = self._attempt(request, state)
        if attempt is None:
            return self._failed(request, 400, "expired")
        verifier, back, trace_id = attempt
        if request.query_params.get("error") or not 0 < len(code) <= MAX_CODE_LENGTH:
            return self._failed(request, 403, "denied")
        token = self._portal.hub.exchange(CLIENT_ID, code, verifier)
        user = self._portal.visitors.user(token) if token is not None else None
        if token is None or user is None:
            return self._failed(request, 403, "denied")
        before = self._portal.visits.find(request.cookies.get(self._portal.visitors.cookie_name))
        if before is not None:
            self._portal.visits.end(before.digest)
        name = self._portal.visits.begin(user.name, token)
        log.info("logged in at the portal: trace=%s", trace_id)
        response = RedirectResponse(back, status_code=303)
        response.delete_cookie(_cookie_of(state), path=self._base)
        self._set_cookie(response, TRACE_COOKIE, trace_id, STATE_LIFETIME_S)
        self._set_cookie(
            response, self._portal.visitors.cookie_name, name, int(VISIT_LIFETIME.total_seconds())
        )
        return response

    def drop_visit_cookie(self, response: Response) -> None:
        """Ask the browser to forget its visit."""
        response.delete_cookie(self._portal.visitors.cookie_name, path=self._base)

    def _attempt(self, request: Request, state: str) -> tuple[str, str, str] | None:
        """Verifier, way back and trace of the attempt that this browser began; None for any other."""
        sealed = request.cookies.get(_cookie_of(state)) if state.isascii() else None
        if not state or sealed is None:
            return None
        try:
            facts = self._portal.keys.login_state.loads(sealed, max_age=STATE_LIFETIME_S)
            kept, verifier, back = str(facts["state"]), str(facts["verifier"]), str(facts["next"])
            trace_id = str(facts["trace"])
        except (BadData, KeyError, TypeError):
            return None
        if not hmac.compare_digest(kept.encode(), state.encode()):
            return None
        return verifier, local_path(back, self._base), trace_id

    def _failed(self, request: Request, status: int, why: str) -> Response:
        reference = new_reference()
        log.warning("login at the portal failed [reference %s]", reference, extra={"why": why})
        return self._portal.pages.answer(
            request,
            "login_failed.html",
            None,
            status=status,
            why=why,
            reference=reference,
            login_address=self._portal.pages.addresses.page("login"),
            here="",
        )

    def _set_cookie(self, response: Response, name: str, value: str, max_age_s: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=max_age_s,
            path=self._base,
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )


def _cookie_of(state: str) -> str:
    """The attempt's own cookie, so that logins in two tabs do not meet."""
    return STATE_COOKIE + hashlib.sha256(state.encode()).hexdigest()[:16]


def _page_before(request: Request) -> str | None:
    """The page of ours that the person came from."""
    try:
        parts = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return None
    if parts.netloc != request.headers.get("host"):
        return None
    return parts.path + (f"?{parts.query}" if parts.query else "")
