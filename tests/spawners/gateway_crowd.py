"""Many people who ask for clusters at once: how soon each is answered, and whether limits are met exactly.

    cd tests && python -m spawners.gateway_crowd --json ../docs/measurements/clusters-crowd.json

Gateway, database and limits are real; schedulers and workers are promises (`contracts.waiting_gateway`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from contracts.gateway_parts import GatewayPart, local_gateway_facility
from contracts.web_stand_in import serving_stand_in
from spawners.soak_facts import soak_facts

ASKS_EACH = 3
CLUSTERS_EACH = 2
WORKERS = 2
ANSWER_S = 60.0
WORKERS_THERE = 'beamhub_gateway_parts{{role="worker",state="{}"}}'


@dataclass
class Crowd:
    """What became of everybody's wishes."""

    users: int
    asks: int
    most_workers: int
    granted: int = 0
    refused_with_numbers: int = 0
    otherwise: list[str] = field(default_factory=list)
    most_clusters_of_one: int = 0
    most_workers_at_a_moment: int = 0
    workers_at_the_end: int = 0
    slowest_grant_s: float = 0.0
    slowest_refusal_s: float = 0.0

    def is_exact(self) -> bool:
        """Whether all were answered in time, and as many workers run as the limit says, never one more."""
        return (
            self.granted == self.most_workers // WORKERS
            and self.granted + self.refused_with_numbers == self.asks
            and self.most_clusters_of_one <= CLUSTERS_EACH
            and self.most_workers_at_a_moment == self.workers_at_the_end == self.most_workers
            and max(self.slowest_grant_s, self.slowest_refusal_s) < ANSWER_S
        )


async def crowd(gateway: GatewayPart, *, users: int, most_workers: int) -> Crowd:
    """Everybody asks for more clusters than one may have, all at once, under one proposal's limit."""
    people = [gateway.session(f"crowd{i}") for i in range(users)]
    found = Crowd(users, users * ASKS_EACH, most_workers)
    granted: Counter[str] = Counter()

    async def ask(plan_id: str, client: Any) -> None:
        began = time.monotonic()
        try:
            name = await client.submit(workers=WORKERS)
            while (await client._cluster_report(name, wait=True)).status.name == "PENDING":
                pass  # the gateway waits for up to 20 s
        except ValueError as refused:
            found.refused_with_numbers += "more were asked for" in str(refused)
            found.slowest_refusal_s = max(found.slowest_refusal_s, time.monotonic() - began)
        except Exception as error:  # noqa: BLE001  # the result says what it was
            found.otherwise.append(f"{type(error).__name__}: {error}"[:200])
        else:
            granted[plan_id] += 1
            found.slowest_grant_s = max(found.slowest_grant_s, time.monotonic() - began)

    async def watch() -> None:
        while True:
            found.most_workers_at_a_moment = max(found.most_workers_at_a_moment, await n_workers(gateway))
            await asyncio.sleep(0.3)

    async def all_of(plan_id: str, token: str) -> None:
        async with gateway.client(token) as client:
            await asyncio.gather(*(ask(plan_id, client) for _ in range(ASKS_EACH)))

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(all_of(plan.id, token) for plan, token in people))
    found.granted, found.most_clusters_of_one = sum(granted.values()), max(granted.values(), default=0)
    until = time.monotonic() + ANSWER_S
    while await n_workers(gateway, "running") < most_workers and time.monotonic() < until:
        await asyncio.sleep(0.3)
    found.workers_at_the_end = await n_workers(gateway, "running")
    watching.cancel()
    for plan, _ in people:
        gateway.end_session(plan)
    while await n_workers(gateway):
        assert time.monotonic() < until, "clusters outlive their sessions"
        await asyncio.sleep(0.3)
    return found


async def n_workers(gateway: GatewayPart, *states: str) -> int:
    """Workers in some states, or that are there at all, as the gateway's metrics have them."""
    told = await asyncio.to_thread(gateway.metrics)
    return int(sum(told[WORKERS_THERE.format(one)] for one in states or ("starting", "running", "stopping")))


def run_crowd(folder: Path, *, users: int, most_workers: int) -> Crowd:
    """The crowd before a gateway of its own, below a folder."""
    with serving_stand_in() as stand_in:
        limits = {"proposal": {"max_workers": most_workers}}
        fields = local_gateway_facility(
            folder, stand_in, limits=limits, max_clusters_per_session=CLUSTERS_EACH
        )
        fields["sessions"]["profiles"][0] |= {"cpu": 4, "memory_gib": 4, "workers": CLUSTERS_EACH * WORKERS}
        gateway = GatewayPart(folder, fields, stand_in, module="contracts.waiting_gateway")
        gateway.start()
        try:
            return asyncio.run(crowd(gateway, users=users, most_workers=most_workers))
        finally:
            gateway.stop()


def main() -> int:
    """Run, print and write; 1 when anything was not exact."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--most-workers", type=int, default=150)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run_crowd(Path(folder), users=arguments.users, most_workers=arguments.most_workers)
    facts = soak_facts("spawners.gateway_crowd", {**asdict(found), "is exact": found.is_exact()})
    text = json.dumps(facts, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    return int(not found.is_exact())


if __name__ == "__main__":
    sys.exit(main())
