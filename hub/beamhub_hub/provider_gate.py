"""How the hub asks a provider about many accounts: a few at once, none while it does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from beamhub_hub.denial import ProviderUnavailable

MAX_AT_ONCE = 8
ANSWER_TIMEOUT_S = 30.0
"""For all requests of one question; a provider that sends a byte now and then takes no longer either."""
FIRST_PAUSE_S = 0.5
_Answer = TypeVar("_Answer")


class ProviderGate:
    """The way to one provider. Belongs to one event loop.

    Each provider has a gate of its own, so a slow one holds up nobody else's accounts. After a question that
    got no answer nothing is asked for a while, each time for twice as long: a provider that comes back is not
    met by everybody at once, and pages do not wait for one that is known to be away.
    """

    def __init__(
        self, name: str, *, longest_pause_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._longest_pause_s, self._monotonic = name, longest_pause_s, monotonic
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._closed_until, self._pause_s = float("-inf"), FIRST_PAUSE_S

    @property
    def is_open(self) -> bool:
        """Whether a question would be asked now."""
        return self._monotonic() >= self._closed_until

    async def ask(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """The answer to a question.

        Raises
        ------
        ProviderUnavailable
            If the provider does not answer now, or did not a moment ago.
        LoginDenied
            As the question does; that is an answer.
        """
        self._check_open()
        async with self._places:
            self._check_open()  # it may have closed while this one waited for its turn
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answer = await question()
            except TimeoutError:
                self._close()
                raise ProviderUnavailable(self._name, "it answers too slowly") from None
            except ProviderUnavailable:
                self._close()
                raise
        self._pause_s = FIRST_PAUSE_S
        return answer

    def _check_open(self) -> None:
        if not self.is_open:
            raise ProviderUnavailable(self._name, "it did not answer a moment ago")

    def _close(self) -> None:
        if not self.is_open:
            return  # others of the same moment failed, too: one pause for all of them
        pause_s = min(self._pause_s, self._longest_pause_s)
        self._closed_until, self._pause_s = self._monotonic() + pause_s, 2 * pause_s
