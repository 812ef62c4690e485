"""While sessions run: ask the provider and web again, and stop what lost its rights or outlived its plan."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from beamhub_core.errors import BeamhubError
from beamhub_hub.authenticator import BeamhubAuthenticator
from beamhub_hub.guest_accounts import remove_old_guests
from beamhub_spawners.sweeper import sweep_once

SWEEP_INTERVAL_S = 60.0
GUEST_INTERVAL_S = 60.0
STOP_TIMEOUT_S = 60.0


class Refresher:
    """Tasks of the hub's own event loop, where users and servers live; no error ends them.

    Accounts that do not click are never refreshed by the hub itself, and revoking rights never
    reaches an open notebook: this does both, for every account with a live server.
    """

    def __init__(self, app: Any, *, interval_s: float) -> None:
        self._app, self._interval_s = app, interval_s
        self._authenticator: BeamhubAuthenticator = app.authenticator
        self.log = app.log

    async def run(self) -> None:
        """Work until cancelled."""
        await asyncio.gather(
            self._forever("re-check of sessions", self.recheck, self._interval_s),
            self._forever("sweep of sessions", self.sweep, SWEEP_INTERVAL_S),
            self._forever("end of guests", self.remove_guests, min(GUEST_INTERVAL_S, self._interval_s)),
        )

    async def _forever(self, name: str, once: Callable[[], Awaitable[None]], interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await once()
            except BeamhubError as error:
                self.log.warning("%s put off: %s", name, error)
            except Exception:
                # The outermost layer: the next round may succeed, and a dead task would revoke nothing.
                self.log.exception("%s failed", name)

    async def recheck(self) -> None:
        """Refresh every account with a live server, then stop the servers that web says to stop.

        Raises
        ------
        Unavailable
            If web gives no verdicts; then nothing is stopped.
        """
        for user in list(self._app.users.values()):
            if any(spawner.active for spawner in user.spawners.values()):
                await self._refresh(user)
        for verdict in await self._authenticator.web.recheck():
            if verdict.action == "stop":
                await self._stop(verdict.account, verdict.server_name, verdict.reason)

    async def sweep(self) -> None:
        """Make web's table and the backends agree, and stop the sessions whose plan has ended.

        Raises
        ------
        Unavailable
            If web does not answer; then nothing is ended.
        """
        web = self._authenticator.web
        decision = await sweep_once(self._authenticator.facility, web)
        for found in decision.expired:
            plan = (await web.session(found.plan_id)).plan
            await self._stop(plan.account, plan.server_name, "its time is over")

    async def remove_guests(self) -> None:
        """Remove the guests whose time is over. Raises `Unavailable` if web does not answer."""
        await remove_old_guests(self._app)

    async def _refresh(self, user: Any) -> None:
        age = self._authenticator.auth_refresh_age
        if user._auth_refreshed and time.monotonic() - user._auth_refreshed < age:
            return
        answer = await self._authenticator.refresh_user(user)
        if isinstance(answer, dict):
            user.sync_groups(answer["groups"])
        if answer:
            user._auth_refreshed = time.monotonic()

    async def _stop(self, account: str, server_name: str, reason: str) -> None:
        if account not in self._app.users:
            return  # the hub's cache holds every account with a live server
        user = self._app.users[account]
        spawner = user.spawners.get(server_name)
        if spawner is None or not spawner.active or spawner.pending:
            return
        self.log.warning("stopping a session: account=%s server=%s reason=%s", account, server_name, reason)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._app.proxy.delete_user(user, server_name)
                await user.stop(server_name)
        except Exception:
            # One server that does not stop must not keep the others running; the next round tries again.
            self.log.exception("session %s of %s did not stop", server_name, account)
