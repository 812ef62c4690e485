"""Tells web what clusters have used: sums from the gateway's database, so that nothing is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice

from beamhub_core.errors import Unavailable
from beamhub_core.rights import Refused
from beamhub_core.session_usage import MAX_TOLD, ClusterUsage, UsageReport
from beamhub_spawners.dask_usage import Usage

log = logging.getLogger(__name__)

EVERY_S = 30.0
"""What is not told yet stands in the gateway's database: one that was killed tells it when it is back."""


class UsageTeller:
    """Tells what changed since the last time that web listened; belongs to the gateway's event loop."""

    def __init__(
        self, usage: Callable[[], Mapping[str, Usage]], tell: Callable[[UsageReport], Awaitable[None]]
    ) -> None:
        self._usage, self._tell = usage, tell
        self._told: dict[str, Usage] = {}

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.tell_once()
            except (Unavailable, Refused) as error:
                log.warning("web was not told what clusters used; the next report tells it: %s", error)
            except Exception:  # the outermost layer of a task: the next report must come
                log.exception("web was not told what clusters used")

    async def tell_once(self) -> None:
        """Tell every sum that is new.

        Raises
        ------
        Unavailable, Refused
            If web does not take it; then it is told again.
        """
        now = dict(self._usage())
        new = [(plan_id, used) for plan_id, used in sorted(now.items()) if self._told.get(plan_id) != used]
        rest = iter(new)
        while some := tuple(islice(rest, MAX_TOLD)):
            sessions = tuple(
                ClusterUsage(plan_id=plan_id, core_s=used.core_s, memory_gib_s=used.memory_gib_s)
                for plan_id, used in some
            )
            await self._tell(UsageReport(sessions=sessions))
            self._told.update(some)
        for plan_id in self._told.keys() - now.keys():  # its rows are gone, days after its end
            del self._told[plan_id]
