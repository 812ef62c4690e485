"""Running work units: on a Dask client, or one after the other in this process."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from distributed import as_completed

from beamhub_reduction.pipeline.progress import ProgressCallback

Client = Any
"""A distributed.Client: the library has no types."""

Unit = TypeVar("Unit")
Task = TypeVar("Task")
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Execution:
    """How a reduction was run; for people and for evidence, never part of the result."""

    n_units: int
    wall_s: float
    scheduler_id: str | None
    n_workers: int

    def __add__(self, other: Execution) -> Execution:
        n_workers = max(self.n_workers, other.n_workers)
        return Execution(
            self.n_units + other.n_units, self.wall_s + other.wall_s, other.scheduler_id, n_workers
        )


def run_units(
    work: Callable[[Unit, Task], Part],
    units: Sequence[Unit],
    task: Task,
    *,
    merge: Callable[[Part, Part], Part],
    client: Client | None,
    progress: ProgressCallback,
) -> tuple[Part, Execution]:
    """Do the work on every unit and merge the parts in the order of the units.

    The order of merging is fixed, so the result is bit-equal for any number of workers; finished parts
    wait only for those before them. Memory: one part per unit that is out of order.

    Raises
    ------
    Whatever the work raises
        As the worker raised it; the other units are cancelled.
    """
    began = time.perf_counter()
    merged = _Merged(merge)
    if client is None:
        for i, unit in enumerate(units):
            merged.add(i, work(unit, task))
            progress(i + 1, len(units))
        execution = Execution(len(units), time.perf_counter() - began, None, 0)
    else:
        _run_on(client, work, units, task, merged, progress)
        info: dict[str, Any] = client.scheduler_info(n_workers=-1)
        n_workers = len(info["workers"])
        execution = Execution(len(units), time.perf_counter() - began, str(info.get("id")), n_workers)
    part: Part = merged.total()
    return part, execution


def _run_on(
    client: Client,
    work: Callable[[Unit, Task], Part],
    units: Sequence[Unit],
    task: Task,
    merged: _Merged,
    progress: ProgressCallback,
) -> None:
    # By name, not by content: the same task again must not share a key with one that is being released.
    shared = client.scatter(task, broadcast=True, hash=False)
    batch = f"{work.__name__}-{uuid.uuid4().hex[:12]}"
    futures = {
        client.submit(work, unit, shared, key=f"{batch}-{i}", pure=False): i for i, unit in enumerate(units)
    }
    try:
        finished = as_completed(list(futures), loop=client.loop)  # type: ignore[no-untyped-call]  # distributed
        for n_done, future in enumerate(finished, start=1):
            merged.add(futures[future], future.result())
            future.release()
            progress(n_done, len(units))
    finally:
        client.cancel([future for future in futures if not future.done()])


class _Merged:
    """Parts that come in any order and are merged in one."""

    def __init__(self, merge: Callable[[Any, Any], Any]) -> None:
        self._merge = merge
        self._waiting: dict[int, Any] = {}
        self._total: Any = None
        self._n_merged = 0

    def add(self, i: int, part: Any) -> None:
        """Take the part of unit i."""
        self._waiting[i] = part
        while self._n_merged in self._waiting:
            part = self._waiting.pop(self._n_merged)
            self._total = part if self._n_merged == 0 else self._merge(self._total, part)
            self._n_merged += 1

    def total(self) -> Any:
        """Everything merged."""
        if self._waiting or self._n_merged == 0:
            raise ValueError("there are no parts, or one is missing")
        return self._total
