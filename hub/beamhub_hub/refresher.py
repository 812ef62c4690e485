"""While sessions run: ask the providers and web again, and stop what lost its rights or outlived its plan."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from beamhub_core.errors import BeamhubError
from beamhub_core.rights import Refused
from beamhub_core.session import SessionUpdate, SessionVerdict
from beamhub_hub.authenticator import BeamhubAuthenticator
from beamhub_hub.guest_accounts import remove_old_guests
from beamhub_hub.server_stop import stop_server
from beamhub_spawners.sweeper import sweep_once

SWEEP_INTERVAL_S = 60.0
GUEST_INTERVAL_S = 60.0
STEPS = 20
"""Looks per interval at whose turn it is."""
SHORTEST_STEP_S, LONGEST_STEP_S = 0.2, 5.0
SHORTEST_PAUSE_S = 0.5
MAX_STOPS_AT_ONCE = 8
Accounts = Callable[[], Awaitable[Collection[str]]]


async def nobody() -> Collection[str]:
    """No accounts."""
    return ()


class Refresher:
    """Tasks of the hub's own event loop, where users and servers live; no error ends them.

    Accounts that do not click are never refreshed by the hub itself, and revoking rights never reaches an
    open notebook: this does both, for every account with a live server, a session that web knows of, or a
    cluster. Each account has its own turn, and after a restart of the hub the turns are spread over one
    interval: a provider is never asked about everybody at once.
    """

    def __init__(self, app: Any, *, interval_s: float, accounts_with_clusters: Accounts = nobody) -> None:
        self._app, self._interval_s = app, interval_s
        self._accounts_with_clusters = accounts_with_clusters
        self._authenticator: BeamhubAuthenticator = app.authenticator
        self._started = time.monotonic()
        self._asked: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._in_sessions: frozenset[str] = frozenset()
        self.log = app.log

    async def run(self) -> None:
        """Work until cancelled."""
        step_s = min(max(self._interval_s / STEPS, SHORTEST_STEP_S), LONGEST_STEP_S)
        ending, changed = self._authenticator.ending, self._authenticator.renewals.rights_changed
        at_once = asyncio.Event()
        at_once.set()  # a hub or proxy that was made anew reaches no session before the first sweep
        await self._logged("look for unfinished ends of accounts", ending.find_unfinished)
        await asyncio.gather(
            self._forever("refresh of accounts", self.refresh_due, step_s),
            self._forever("re-check of sessions", self.recheck, self._interval_s, changed),
            self._forever("end of accounts", ending.finish, self._interval_s, ending.wanted),
            self._forever("sweep of sessions", self.sweep, SWEEP_INTERVAL_S, at_once),
            self._forever("end of guests", self.remove_guests, min(GUEST_INTERVAL_S, self._interval_s)),
        )

    async def _forever(
        self,
        name: str,
        once: Callable[[], Awaitable[None]],
        interval_s: float,
        wanted: asyncio.Event | None = None,
    ) -> None:
        """Do something once per interval, and soon after it is wanted."""
        wanted = wanted or asyncio.Event()
        while True:
            try:
                await asyncio.wait_for(wanted.wait(), interval_s)
                wanted.clear()
            except TimeoutError:
                pass
            await self._logged(name, once)
            await asyncio.sleep(min(SHORTEST_PAUSE_S, interval_s / 2))

    async def _logged(self, name: str, once: Callable[[], Awaitable[None]]) -> None:
        try:
            await once()
        except BeamhubError as error:
            self.log.warning("%s put off: %s", name, error)
        except Exception:
            # The outermost layer: the next round may succeed, and a dead task would revoke nothing.
            self.log.exception("%s failed", name)

    # -- accounts ---------------------------------------------------------------------------------

    async def refresh_due(self) -> None:
        """Begin to ask about the accounts whose turn it is; does not wait for providers."""
        users = await self._covered()
        now = time.monotonic()
        self._asked = {name: at for name, at in self._asked.items() if name in users}
        for name, user in users.items():
            if name not in self._asking and self._turn_of(user) <= now:
                self._asked[name] = now
                task = asyncio.create_task(self._refresh(user), name=f"beamhub-refresh-{name}")
                self._asking[name] = task
                task.add_done_callback(functools.partial(self._asked_about, name))

    def _asked_about(self, name: str, task: asyncio.Task[None]) -> None:
        self._asking.pop(name, None)

    async def _covered(self) -> dict[str, Any]:
        """The accounts that something runs for, by name."""
        users = {
            user.name: user
            for user in list(self._app.users.values())
            if any(spawner.active for spawner in user.spawners.values())
        }
        for name in {*self._in_sessions, *await self._accounts_with_clusters()} - set(users):
            user = self._app.users.get(name)
            if user is not None:
                users[name] = user
        return users

    def _turn_of(self, user: Any) -> float:
        """When an account is to be asked about, on the monotonic clock."""
        last = max(user._auth_refreshed or 0.0, self._asked.get(user.name, 0.0))
        if last:
            return last + self._interval_s
        return self._started + phase_of(user.name) * self._interval_s

    async def _refresh(self, user: Any) -> None:
        async def once() -> None:
            if await self._authenticator.refresh_user(user):
                user._auth_refreshed = time.monotonic()

        await self._logged("refresh of an account", once)

    # -- sessions ---------------------------------------------------------------------------------

    async def recheck(self) -> None:
        """Ask web about every live session, and stop those that web says to stop.

        Raises
        ------
        Unavailable
            If web gives no verdicts; then nothing is stopped.
        """
        verdicts = await self._authenticator.web.recheck()
        # Web speaks of every live session, also of one that the hub lost sight of.
        self._in_sessions = frozenset(verdict.account for verdict in verdicts)
        await self._stop_all([verdict for verdict in verdicts if verdict.action == "stop"])

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

    async def _stop_all(self, verdicts: Sequence[SessionVerdict]) -> None:
        places = asyncio.Semaphore(MAX_STOPS_AT_ONCE)

        async def stop(verdict: SessionVerdict) -> bool:
            async with places:
                if await self._stop(verdict.account, verdict.server_name, verdict.reason):
                    return False
                return await self._close_row(verdict)

        if any(await asyncio.gather(*(stop(verdict) for verdict in verdicts))):
            await self.sweep()  # ends what runs without a row

    async def _stop(self, account: str, server_name: str, reason: str) -> bool:
        """Stop a server; whether there is one of this name that the hub takes for live."""
        user = self._app.users.get(account)
        spawner = user.spawners.get(server_name) if user is not None else None
        if user is None or spawner is None or not spawner.active:
            return False
        await stop_server(self._app, user, server_name, reason)
        return True

    async def _close_row(self, verdict: SessionVerdict) -> bool:
        """Close the row of a session without a server in the hub: the sweeper ends what still runs of it."""
        update = SessionUpdate(state="ended", reason=verdict.reason)
        try:
            await self._authenticator.web.update_session(verdict.plan_id, update)
        except Refused as error:
            self.log.warning("row of a lost session not closed: %s", error)
            return False
        return True


def phase_of(account: str) -> float:
    """An account's share of an interval, in [0, 1): the same in every hub, spread over accounts."""
    return int.from_bytes(hashlib.sha256(account.encode()).digest()[:4], "big") / 2**32
