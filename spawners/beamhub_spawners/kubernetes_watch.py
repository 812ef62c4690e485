"""A fresh view of a cluster: what the API server holds of one kind, followed, and red when it is not fresh.

A watch of the API server may stop without a sign: the connection stays open and nothing comes. So each
stream is asked to end after a while, and the server sends its position before it does: one that says
nothing for longer than that is dead, whatever its connection says. Then, and after every other fault, it is
opened anew at the last known position, with growing pauses; without a position everything is listed again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import aiohttp

from beamhub_core.errors import BeamhubError, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")
Read = Callable[[Mapping[str, Any], aiohttp.ClientTimeout], Awaitable[aiohttp.ClientResponse]]
"""A list call with its scope: takes the other parameters of its query, and the limits of the connection."""

MAX_OBJECT = 8 * 2**20
"""Bytes of one event. etcd takes 1.5 MiB by default. Source: etcd, --max-request-bytes."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
STEADY_S = 5.0
"""A stream that lived so long was a good one: the next fault's pauses begin anew."""


class WatchFault(BeamhubError):
    """A list or a stream that failed.

    `is_expired` says that its position is not known any more (410), `is_forbidden` that this account may not
    read it (403).
    """

    def __init__(self, reason: str, *, is_expired: bool = False, is_forbidden: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.is_expired, self.is_forbidden = reason, is_expired, is_forbidden


@dataclass(frozen=True, slots=True)
class WatchHealth:
    """How fresh a view is. `since_s` counts seconds since the first fault that none healed; `reason` why.

    `silent_s` counts seconds since the last sign of the API server. `n_restarts` and `n_lists` count what
    the view cost so far.
    """

    is_fresh: bool
    since_s: float
    silent_s: float
    reason: str
    n_items: int
    n_restarts: int
    n_lists: int


class Watched(Generic[T]):
    """Objects of one kind, by name, as the API server has them now. Belongs to one event loop.

    Parameters
    ----------
    kind:
        What it is, for messages and logs: 'pods'.
    read:
        The list call.
    keep:
        What is kept of one object, from its JSON; the rest is dropped at once.
    silence_s:
        Seconds without a sign after which the view is not fresh any more.
    page:
        Objects asked for at once.
    """

    def __init__(
        self,
        kind: str,
        read: Read,
        keep: Callable[[Mapping[str, Any]], T],
        *,
        silence_s: float,
        page: int = 250,
    ) -> None:
        self.kind = kind
        self._read, self._keep, self._silence_s, self._page = read, keep, silence_s, page
        self._items: dict[str, T] = {}
        self._position: str | None = None
        self._was_listed = False
        self._heard_at = self._began_at = time.monotonic()
        self._fault, self._fault_since = "nothing was read yet", time.monotonic()
        self._n_restarts = self._n_lists = 0
        self.is_forbidden = False
        """Whether the API server said last that this account may not read it."""
        self._turn, self._news = 0, asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- what is known ------------------------------------------------------------------------------

    def items(self) -> Mapping[str, T]:
        """What there is, by name; not to be changed.

        Raises
        ------
        Unavailable
            When the view is not fresh; it says for how long nothing came, and why.
        """
        health = self.health()
        if not health.is_fresh:
            raise Unavailable("cluster", f"{health.reason}; no sign of it for {health.silent_s:.0f} s")
        return self._items

    def last_known(self) -> Mapping[str, T]:
        """What there was when the view was fresh last; for pages, never for decisions."""
        return self._items

    def health(self) -> WatchHealth:
        """How fresh the view is now."""
        now = time.monotonic()
        silent_s = now - self._heard_at
        reason, since_s = self._fault, now - self._fault_since if self._fault else 0.0
        if not reason and silent_s > self._silence_s:
            reason, since_s = "its API server says nothing", silent_s
        return WatchHealth(
            is_fresh=not reason,
            since_s=since_s,
            silent_s=silent_s,
            reason=reason,
            n_items=len(self._items),
            n_restarts=self._n_restarts,
            n_lists=self._n_lists,
        )

    def stale_s(self) -> float:
        """Seconds since the view is not fresh; 0 while it is, or while nobody asked for it."""
        return self.health().since_s if self.is_started else 0.0

    @property
    def turn(self) -> int:
        """Counts changes of what is known, and of whether it is fresh."""
        return self._turn

    async def wait_change(self, after: int, timeout_s: float) -> int:
        """The turn, as soon as it is another than `after`, or when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._turn == after:
                    await self._news.wait()
        except TimeoutError:
            pass
        return self._turn

    async def wait_for(self, position: str | None, timeout_s: float) -> None:
        """Return when what is known is as new as a resource version, or is known not to be fresh.

        Resource versions of one kind grow. Source: Kubernetes API concepts, "Resource versions".

        Raises
        ------
        Unavailable
            When that does not happen in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self._is_as_new_as(position):
                    await self._news.wait()
        except TimeoutError:
            raise Unavailable("cluster", f"nothing new of its {self.kind} for {timeout_s:g} s") from None

    async def wait_fresh(self, timeout_s: float) -> None:
        """Return when the view is fresh, or when the time is over."""
        end = time.monotonic() + timeout_s
        while not self.health().is_fresh and (left_s := end - time.monotonic()) > 0:
            turn = self._turn
            await self.wait_change(turn, left_s)

    def _is_as_new_as(self, position: str | None) -> bool:
        if not self._was_listed:
            return bool(self._n_restarts)  # whoever asks is told what is wrong
        if position is None or self._position is None or not position.isdecimal():
            return True
        return self._fault != "" or int(self._position) >= int(position)

    @property
    def is_started(self) -> bool:
        """Whether it follows."""
        return self._task is not None

    # -- its life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to follow, on the running loop; a second call changes nothing."""
        if self._task is None:
            self._heard_at = self._fault_since = time.monotonic()
            self._task = asyncio.get_running_loop().create_task(self._follow_for_ever(), name=self.kind)

    async def close(self) -> None:
        """Stop following."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow_for_ever(self) -> None:
        n_failed = 0
        while True:
            began = time.monotonic()
            try:
                if self._position is None:
                    await self._list()
                await self._follow()
                n_failed = 0
                continue
            except WatchFault as fault:
                is_expired, reason = fault.is_expired, fault.reason
                self.is_forbidden = fault.is_forbidden
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                is_expired, reason = False, f"its API server does not answer ({type(error).__name__})"
            except Exception as error:  # the outermost layer of the task: it must not end unseen
                log.exception("the view of %s failed", self.kind)
                is_expired, reason = (
                    True,
                    f"its API server says what nobody understands ({type(error).__name__})",
                )
            n_failed = 0 if time.monotonic() - began > STEADY_S else n_failed + 1
            self._failed(reason, is_expired=is_expired, was_heard=self._heard_at > began)
            await asyncio.sleep(pause_s(n_failed))

    def _failed(self, reason: str, *, is_expired: bool, was_heard: bool) -> None:
        """Note a fault. A stream that is cut is no fault yet: that nobody answers after it is."""
        self._n_restarts += 1
        if is_expired:
            self._position = None
        was_heard = was_heard and time.monotonic() - self._heard_at < self._silence_s / 2
        if was_heard and self._was_listed and not is_expired:
            return
        if not self._fault:
            log.warning("the view of %s is not fresh: %s", self.kind, reason)
            self._fault_since = time.monotonic()
        self._fault = reason
        self._changed()

    # -- one list, one stream --------------------------------------------------------------------------

    async def _list(self) -> None:
        """Everything there is, page by page; what is known is replaced at once, at the end."""
        found: dict[str, T] = {}
        more: dict[str, Any] = {}
        while True:
            page = await self._page_of(more)
            meta = page.get("metadata") or {}
            for raw in page.get("items") or ():
                found[str(raw["metadata"]["name"])] = self._keep(raw)
            self._heard_at = time.monotonic()
            if not meta.get("continue"):
                break
            more = {"continue": meta["continue"]}
        self._n_lists += 1
        self._items, self._position, self._was_listed = found, str(meta["resourceVersion"]), True
        self._healed()
        self._changed()

    async def _page_of(self, more: dict[str, Any]) -> dict[str, Any]:
        limit = aiohttp.ClientTimeout(total=self._silence_s)
        response = await self._read({"limit": self._page, **more}, limit)
        async with response:
            await _check(response)
            page: dict[str, Any] = json.loads(await response.read())
        return page

    async def _follow(self) -> None:
        """Take events from the last position until the server ends the stream in order."""
        limit = aiohttp.ClientTimeout(total=None, connect=self._silence_s, sock_read=self._silence_s)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._position,
            "timeoutSeconds": max(1, int(self._silence_s / 2)),
        }
        response = await self._read(query, limit)
        async with response:
            await _check(response)
            self._heard()  # what happened since the position comes at once
            async for line in _lines(response):
                self._take(json.loads(line))
        self._heard()

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, raw = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            code = raw.get("code")
            # Whatever else it is: what came before it is not known to be everything.
            raise WatchFault(f"its API server ended the watch ({code})", is_expired=True)
        self._heard()
        meta = raw["metadata"]
        self._position = str(meta["resourceVersion"])
        if kind in ("ADDED", "MODIFIED"):
            self._items[str(meta["name"])] = self._keep(raw)
        elif kind == "DELETED":
            self._items.pop(str(meta["name"]), None)
        self._changed()  # also for a bookmark, which moves the position

    def _heard(self) -> None:
        self._heard_at = time.monotonic()
        if self._fault:
            self._healed()
            self._changed()

    def _healed(self) -> None:
        self.is_forbidden = False
        if self._fault and self._was_listed:
            log.info("the view of %s is fresh again", self.kind)
        self._fault = ""

    def _changed(self) -> None:
        self._turn += 1
        news, self._news = self._news, asyncio.Event()
        news.set()


def pause_s(n_failed: int) -> float:
    """Seconds to wait after so many faults in a row: growing, bounded, never the same for two hubs."""
    limit = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(n_failed, 10))
    return limit * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    text = (await response.content.read(MAX_OBJECT))[:500]
    log.debug("HTTP %d: %r", response.status, text)
    is_expired = response.status in (400, 410, 422) or response.status == 504
    raise WatchFault(
        f"its API server answers with HTTP {response.status}",
        is_expired=is_expired,
        is_forbidden=response.status == 403,
    )


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The lines of a stream, of any length up to a bound."""
    rest = bytearray()
    async for part in response.content.iter_any():
        rest += part
        if b"\n" in part:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in whole:
                if line.strip():
                    yield line
        if len(rest) > MAX_OBJECT:
            raise WatchFault(f"an object of more than {MAX_OBJECT} bytes", is_expired=True)
    if rest.strip():
        raise WatchFault("the stream was cut within an object")
