"""Who calls the gateway: the running session that a token's digest belongs to.

A hub token of a server names its user *and* its server, because the hub tells web the digest of each running
server's token. Scopes are not looked at: a user can make tokens that hold any scope of a server. What web
said is believed for some seconds, by digest, never by a user's name.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from dask_gateway_server.auth import Authenticator
from dask_gateway_server.models import User

from beamhub_core.clock import Clock
from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_core.session import SessionPlan, StoredSession
from beamhub_core.session_usage import UsageReport
from beamhub_spawners.session_environment import token_digest
from beamhub_spawners.web_client import WebClient

log = logging.getLogger(__name__)

MAX_TOKEN = 200
FRESH_S = 0.2
_BEARER = re.compile(r"(?:jupyterhub|bearer|token) ([\x21-\x7e]{8,200})", re.IGNORECASE)
MAY_HAVE_CLUSTERS = ("starting", "running", "unknown")


class SessionUser(User):  # type: ignore[misc]  # dask-gateway has no types
    """A running session. Its name is its plan's id: clusters belong to sessions, not to people."""

    def __init__(self, stored: StoredSession) -> None:
        super().__init__(stored.plan.id)
        self.stored = stored

    @property
    def plan(self) -> SessionPlan:
        """The plan that its clusters are made from."""
        return self.stored.plan


class SessionDirectory:
    """The live sessions as web last told them, for as long as that may be believed.

    One question to web at a time, however many ask. All methods belong to one event loop.
    """

    def __init__(self, client: WebClient, clock: Clock, cache_s: float) -> None:
        self._web, self._clock, self._cache_s = client, clock, cache_s
        self._asking = asyncio.Lock()
        self._sessions: tuple[StoredSession, ...] = ()
        self._asked_at = -float("inf")

    @property
    def known(self) -> tuple[StoredSession, ...]:
        """What web said last, however long ago: for counting what is held."""
        return self._sessions

    async def look(self, *, at_most_s: float | None = None) -> tuple[StoredSession, ...]:
        """Every live session, of an answer no older than the cache's time.

        Raises
        ------
        Unavailable
            If web does not answer.
        """
        limit_s = self._cache_s if at_most_s is None else at_most_s
        began = time.monotonic()
        async with self._asking:
            if self._asked_at < began - limit_s:
                self._sessions = await self._web.live_sessions()
                self._asked_at = began
            return self._sessions

    async def by_token(self, token: str) -> StoredSession | None:
        """The session that a token belongs to, if it may have clusters now.

        A digest that is not known is looked for once more, in an answer of this moment: its session may
        have started since.
        """
        wanted = token_digest(token)
        found = _with_token(await self.look(), wanted)
        if found is None:
            await asyncio.sleep(FRESH_S)  # guesses at tokens shall not each cost web a question
            found = _with_token(await self.look(at_most_s=FRESH_S), wanted)
        return found if found is not None and self.may_have_clusters(found) else None

    async def plan(self, plan_id: str) -> StoredSession | None:
        """A session as web has it at this moment, if it may have clusters."""
        try:
            stored = await self._web.session(plan_id)
        except Refused:
            return None
        return stored if self.may_have_clusters(stored) else None

    async def tell_usage(self, report: UsageReport) -> None:
        """Tell web what clusters have used.

        Raises
        ------
        Unavailable, Refused
        """
        await self._web.tell_usage(report)

    def may_have_clusters(self, stored: StoredSession) -> bool:
        """Whether a session runs, and its time is not over."""
        return stored.record.state in MAY_HAVE_CLUSTERS and stored.ends_at > self._clock()

    async def close(self) -> None:
        """Give the connections back."""
        await self._web.close()


def _with_token(sessions: tuple[StoredSession, ...], wanted: str) -> StoredSession | None:
    return next((one for one in sessions if one.record.token_digest == wanted), None)


class SessionAuthenticator(Authenticator):  # type: ignore[misc]  # dask-gateway has no types
    """Lets running sessions in, and nobody else. `directory` is set before the gateway starts."""

    directory: SessionDirectory

    async def authenticate_and_handle(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Handle a request of a session. No cookie is set or read: the engine's are cached by user."""
        request["user"] = SessionUser(await self._session_of(request))
        return await handler(request)

    async def _session_of(self, request: Any) -> StoredSession:
        match = _BEARER.fullmatch(request.headers.get("Authorization", "")[: MAX_TOKEN + 20])
        if match is None:
            raise web.HTTPUnauthorized(
                headers={"WWW-Authenticate": "jupyterhub"}, reason="No token of a session came."
            )
        try:
            stored = await self.directory.by_token(match[1])
        except Unavailable as error:
            log.warning("the sessions are not known now: %s", error)
            raise web.HTTPServiceUnavailable(
                reason="The platform cannot look up your session now. Try again in a minute."
            ) from None
        if stored is None:
            raise web.HTTPForbidden(
                reason="This token belongs to no running session. Restart the session from the portal."
            )
        return stored
