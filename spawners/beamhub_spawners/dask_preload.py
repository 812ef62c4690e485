"""Inside a scheduler: end the cluster when its clients are gone for longer than its grace.

Loaded by `--preload`, after dask-gateway's own. A kernel that is killed says nothing; what the scheduler sees
is that its last client went. One that comes back within the grace finds the cluster as it was.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from typing import Any

from dask_gateway.scheduler_preload import make_gateway_client
from distributed.diagnostics.plugin import SchedulerPlugin

log = logging.getLogger("distributed.scheduler")

GRACE_VARIABLE = "BEAMHUB_CLUSTER_GRACE_S"
FIRST_CLIENT_S = 300.0
"""For the first client: a cluster may start while its maker's kernel still loads."""
LOOK_S = 1.0
_NOBODY = {"fire-and-forget"}


class Absence(SchedulerPlugin):
    """Since when a scheduler has been without a client, and for how long it may be.

    Clients tell of themselves: one that stays for less than the time between two looks counts as well.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self.since, self.limit_s = time.monotonic(), max(grace_s, FIRST_CLIENT_S)

    def add_client(self, scheduler: Any, client: str) -> None:
        """From now on the grace counts."""
        self.limit_s = self._grace_s

    def remove_client(self, scheduler: Any, client: str) -> None:
        """It counts from here."""
        self.since = time.monotonic()

    def is_over(self, clients: Iterable[str]) -> bool:
        """Whether the cluster ends, with these clients."""
        return not set(clients) - _NOBODY and time.monotonic() - self.since > self.limit_s


def dask_setup(scheduler: Any) -> None:
    """Watch the clients of a scheduler. dask-gateway's own preload has the command line to itself."""
    absence = Absence(float(os.environ[GRACE_VARIABLE]))
    scheduler.add_plugin(absence)
    scheduler._ongoing_background_tasks.call_soon(_watch, scheduler, make_gateway_client(), absence)


async def _watch(scheduler: Any, gateway: Any, absence: Absence) -> None:
    while True:
        await asyncio.sleep(min(LOOK_S, absence.limit_s))
        if absence.is_over(scheduler.clients):
            log.warning("No client for %.0f seconds: the cluster ends", absence.limit_s)
            try:
                await gateway.shutdown()
            except OSError as error:  # the gateway restarts: it is asked again
                log.warning("The gateway was not told: %s", error)
            except Exception:  # tornado's HTTP errors share no other base; nothing above catches them
                log.exception("The gateway was not told")
