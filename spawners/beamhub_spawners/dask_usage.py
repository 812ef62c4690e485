"""How many core-seconds and GiB-seconds the clusters of each session have used. Pure.

The gateway's database has a row for each scheduler and worker, with when it was asked for and when it was
gone: sums over the rows are right also after the gateway was killed. A part counts from the moment at which
room is held for it, as for the limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from beamhub_core.config.gateway import GatewayConfig
from beamhub_spawners.dask_options import size_in

MILLISECOND = 1e-3


@dataclass(frozen=True, slots=True)
class PartTime:
    """One scheduler or worker: whose it is, what it holds, and since when.

    Parameters
    ----------
    plan_id:
        The plan of its session.
    started_s, ended_s:
        Seconds since 1970, by the machine's own clock; a part that is there has no end.
    """

    plan_id: str
    cpu: float
    memory_gib: float
    started_s: float
    ended_s: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What clusters have used: processor cores and GiB of memory, each by the second, held or busy."""

    core_s: float = 0.0
    memory_gib_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.core_s + other.core_s, self.memory_gib_s + other.memory_gib_s)


def usage_by_session(parts: Iterable[PartTime], *, now_s: float) -> dict[str, Usage]:
    """What the parts of each session have used until now, by its plan's id.

    A part whose start lies after `now_s` (a clock was set back) counts as nothing, never below it.
    """
    used: dict[str, Usage] = {}
    for part in parts:
        lasted_s = max(0.0, (now_s if part.ended_s is None else min(part.ended_s, now_s)) - part.started_s)
        mine = Usage(part.cpu * lasted_s, part.memory_gib * lasted_s)
        used[part.plan_id] = used.get(part.plan_id, Usage()) + mine
    return used


def part_times(row: Any, config: GatewayConfig) -> Iterator[PartTime]:
    """The scheduler and every worker that a cluster ever had, from its row of the gateway's database."""
    plan_id, size = row.config.plan_id, size_in(row.config)
    yield PartTime(
        plan_id,
        config.scheduler_cpu,
        config.scheduler_memory_gib,
        *_from_until(row.start_time, row.stop_time),
    )
    for worker in row.workers.values():
        yield PartTime(
            plan_id, size.threads, size.memory_gib, *_from_until(worker.start_time, worker.stop_time)
        )


def _from_until(start_ms: int, stop_ms: int | None) -> tuple[float, float | None]:
    return start_ms * MILLISECOND, None if stop_ms is None else stop_ms * MILLISECOND
