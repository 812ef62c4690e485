"""Blocking lookups beside the hub's event loop: bounded in number and time, and none of them keeps the hub.

A thread cannot be stopped. One that hangs holds its place until it returns, so that at most `MAX_LOOKUPS`
ever hang, and being a daemon it does not delay the hub's end, as a thread of a pool would.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

MAX_LOOKUPS = 8
_Answer = TypeVar("_Answer")


class LookupThreads:
    """Runs functions in threads of their own. Belongs to one event loop; not thread-safe."""

    def __init__(self, n_threads: int = MAX_LOOKUPS) -> None:
        self._places = asyncio.Semaphore(n_threads)

    async def run(self, limit_s: float, function: Callable[..., _Answer], *args: Any) -> _Answer:
        """What the function returns or raises; the time counts from now, also while all places are taken.

        Raises
        ------
        TimeoutError
            If it takes longer. The function goes on unseen.
        """
        async with asyncio.timeout(limit_s):
            await self._places.acquire()
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[_Answer] = loop.create_future()

            def finish(result: Any, error: BaseException | None) -> None:
                self._places.release()
                if answer.done():
                    return  # nobody waits any more
                if error is None:
                    answer.set_result(result)
                else:
                    answer.set_exception(error)

            def work() -> None:
                result, error = None, None
                try:
                    result = function(*args)
                except BaseException as caught:  # noqa: BLE001  # carried over to the one who waits
                    error = caught
                with suppress(RuntimeError):  # the loop is closed: the hub has ended meanwhile
                    loop.call_soon_threadsafe(finish, result, error)

            threading.Thread(target=work, name="identity-lookup", daemon=True).start()
            return await answer
