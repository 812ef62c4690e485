"""When a scheduler counts as left alone: a real scheduler, and real clients that come and go."""

from __future__ import annotations

import asyncio

from distributed import Client, Scheduler

from beamhub_spawners.dask_preload import FIRST_CLIENT_S, Absence

GRACE_S = 0.2


def test_a_client_that_stays_for_a_moment_only_starts_the_grace() -> None:
    async def work() -> None:
        absence = Absence(GRACE_S)
        async with Scheduler(port=0, dashboard_address=":0", host="127.0.0.1") as scheduler:
            scheduler.add_plugin(absence)
            assert absence.limit_s == FIRST_CLIENT_S
            await asyncio.sleep(2 * GRACE_S)
            assert not absence.is_over(scheduler.clients)

            async with Client(scheduler.address, asynchronous=True):
                await asyncio.sleep(2 * GRACE_S)
                assert not absence.is_over(scheduler.clients)
            while len(scheduler.clients) > 1:  # the scheduler's own stays
                await asyncio.sleep(0.01)
            await asyncio.sleep(2 * GRACE_S)
            assert absence.is_over(scheduler.clients)

    asyncio.run(work())
