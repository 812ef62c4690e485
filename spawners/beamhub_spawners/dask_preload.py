"""Inside a scheduler: end the cluster when its clients are gone for longer than its grace.

Loaded by `--preload`, after dask-gateway's own. A kernel that is killed says nothing; what the scheduler sees
is that its last client went. One that comes back within the grace finds the cluster as it was.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

from dask_gateway.scheduler_preload import make_gateway_client

log = logging.getLogger("distributed.scheduler")

GRACE_VARIABLE = "BEAMHUB_CLUSTER_GRACE_S"
FIRST_CLIENT_S = 300.0
"""For the first client: a cluster may start while its maker's kernel still loads."""
LOOK_S = 1.0
_NOBODY = {"fire-and-forget"}


def dask_setup(scheduler: Any) -> None:
    """Watch the clients of a scheduler. dask-gateway's own preload has the command line to itself."""
    grace_s = float(os.environ[GRACE_VARIABLE])
    scheduler._ongoing_background_tasks.call_soon(_watch, scheduler, make_gateway_client(), grace_s)


async def _watch(scheduler: Any, gateway: Any, grace_s: float) -> None:
    alone_since, limit_s = time.monotonic(), max(grace_s, FIRST_CLIENT_S)
    while True:
        await asyncio.sleep(min(LOOK_S, grace_s))
        if set(scheduler.clients) - _NOBODY:
            alone_since, limit_s = time.monotonic(), grace_s
        elif time.monotonic() - alone_since > limit_s:
            log.warning("No client for %.0f seconds: the cluster ends", limit_s)
            try:
                await gateway.shutdown()
            except OSError as error:  # the gateway restarts: it is asked again
                log.warning("The gateway was not told: %s", error)
            except Exception:  # tornado's HTTP errors share no other base; nothing above catches them
                log.exception("The gateway was not told")
