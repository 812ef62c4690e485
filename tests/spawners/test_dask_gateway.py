"""The gateway with local parts: the real server, its proxy, real schedulers and workers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_gateway import GatewayCluster

from contracts.gateway_parts import GatewayPart, local_gateway_facility, parts_of, running_gateway
from contracts.web_stand_in import StandIn, serving_stand_in

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayPart]:
    folder = tmp_path_factory.mktemp("gateway")
    with serving_stand_in() as stand_in:
        fields = local_gateway_facility(folder, stand_in)
        with running_gateway(folder, fields, stand_in) as part:
            yield part


async def until(what: Callable[[], bool | Awaitable[bool]], timeout_s: float = DEADLINE_S) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            now = what()
            if now is True or (not isinstance(now, bool) and await now):
                return
            await asyncio.sleep(0.1)


def test_a_cluster_computes_beside_its_session_and_ends_with_it(gateway: GatewayPart) -> None:
    async def work() -> Any:
        plan, token = gateway.session()
        async with gateway.client(token) as client:
            began = time.monotonic()
            cluster = await client.new_cluster(shutdown_on_close=False)
            await cluster.scale(2)
            dask = await cluster.get_client(set_as_default=False)
            await dask.wait_for_workers(2, timeout=DEADLINE_S)
            print("cluster of 2 ready in", time.monotonic() - began)
            seen = await asyncio.gather(*(dask.submit(os.getuid, pure=False) for _ in range(2)))
            granted = next(mount for mount in plan.mounts if mount.purpose == "raw")
            listed = await dask.submit(os.listdir, granted.target)
            await dask.close()
            assert len(parts_of(gateway)) == 3
            gateway.end_session(plan)
            await until(lambda: not parts_of(gateway))
            await cluster.close()
            return seen, listed

    seen, listed = asyncio.run(work())
    assert seen == [os.getuid()] * 2
    assert listed
