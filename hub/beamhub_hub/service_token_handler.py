"""`POST /hub/api/beamhub/token`: a running session asks for a narrow token for one data service."""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING, Any, cast

from jupyterhub.apihandlers.base import APIHandler
from pydantic import Field, ValidationError

from beamhub_core.word import Word
from beamhub_hub.rate_limit import RateLimit
from beamhub_hub.token_exchange import NoServiceToken

if TYPE_CHECKING:
    from beamhub_hub.authenticator import BeamhubAuthenticator

MAX_BODY_BYTES = 4096
BURST, PER_S = 20, 0.5
"""Questions of one account: a session that asks for each file instead of once in a while is told so."""
MAX_ACCOUNTS = 10_000


class TokenQuestion(Word):
    """For which service a token is wanted."""

    audience: str = Field(min_length=1, max_length=512)


class ServiceTokenHandler(APIHandler):  # type: ignore[misc]  # JupyterHub is untyped
    """Answers the token of a running server only: not a cookie, nor a token that somebody minted."""

    _accept_cookie_auth = False

    async def post(self) -> None:
        """A token for the audience in the body, or why there is none."""
        self.set_header("Cache-Control", "no-store")
        user = self.current_user
        if user is None or not self._is_of_a_running_server(user):
            self._refuse(403, "not_a_session", "Only a running session may ask for this, with its own token.")
            return
        if not self._rate(user.name).allows(time.monotonic()):
            self._refuse(429, "too_many", "Too many questions; keep a token until it ends.")
            return
        try:
            question = TokenQuestion.model_validate_json(self.request.body[: MAX_BODY_BYTES + 1])
        except ValidationError:
            self._refuse(400, "bad_request", 'The body must be {"audience": "..."} and nothing else.')
            return
        authenticator = cast("BeamhubAuthenticator", self.authenticator)
        try:
            token = await authenticator.broker.token(user, question.audience)
        except NoServiceToken as refused:
            self._refuse(refused.status, refused.code, str(refused))
            return
        self.log.info("service token given: account=%s", user.name)
        self.finish(token.answer())

    def _is_of_a_running_server(self, user: Any) -> bool:
        presented = (self.get_auth_token() or "").encode()
        servers = user.spawners.values() if getattr(user, "kind", "") == "user" else ()
        # One that runs: while it starts, nothing in it can ask yet.
        tokens = [server.api_token.encode() for server in servers if server.ready and server.api_token]
        return any(hmac.compare_digest(presented, token) for token in tokens)

    def _rate(self, account: str) -> RateLimit:
        rates: dict[str, RateLimit] = self.settings.setdefault("beamhub_token_rates", {})
        if account not in rates and len(rates) >= MAX_ACCOUNTS:
            del rates[next(iter(rates))]
        return rates.setdefault(account, RateLimit(burst=BURST, per_s=PER_S))

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.log.warning("no service token: status=%d reason=%s", status, code)
        self.set_status(status)
        self.finish({"error": code, "message": message})
