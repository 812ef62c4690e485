"""The phases of a start in plain words, told to whoever watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any


class StartProgress:
    """One start: phases are added by it, and read by any number of watchers from the first on."""

    def __init__(self) -> None:
        self._phases: list[dict[str, Any]] = []
        self.is_done = False
        self._changed = asyncio.Event()

    def say(self, percent: int, message: str) -> None:
        """Begin a phase; the message holds no path and no account."""
        self._phases.append({"progress": percent, "message": message})
        self._wake()

    def end(self) -> None:
        """Nothing follows."""
        self.is_done = True
        self._wake()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Every phase as it begins, as JupyterHub's progress page takes it, until the end."""
        n_told = 0
        while True:
            changed = self._changed
            for phase in self._phases[n_told:]:
                yield phase
                n_told += 1
            if self.is_done and n_told == len(self._phases):
                return
            await changed.wait()

    def _wake(self) -> None:
        """Wake all watchers; those who wait next wait for the next change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
