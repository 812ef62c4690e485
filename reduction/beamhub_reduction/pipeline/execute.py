"""Running work units in any place, merged in one order: the same bits for any number of workers."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from beamhub_reduction.pipeline.amount import Amount, amount_of, bytes_of
from beamhub_reduction.pipeline.errors import Cancelled, ClusterLost, EntryInvalid, PartKilledWorkers
from beamhub_reduction.pipeline.inputs import Inputs
from beamhub_reduction.pipeline.journal import Journal, write_entry
from beamhub_reduction.pipeline.limit import Limit
from beamhub_reduction.pipeline.pools import Client, DataLost, Done, Pool, is_transient
from beamhub_reduction.pipeline.progress import Meter

MAX_RETRIES = 2
"""How often a unit whose read failed for a passing reason is begun again; never for a corrupt chunk."""
MAX_LOSSES = 3
"""How often a unit may be lost together with all copies of the task; from the first time on it runs alone."""
WINDOW = 4
"""Parts that may wait out of order, for each unit in flight."""
POLL_S = 0.2
PATIENCE_S = 600.0
"""How long a cluster may have no worker at all: a gateway takes minutes to start one."""

__all__ = ["Client", "Execution", "Runner"]


@dataclass(frozen=True, slots=True)
class Execution:
    """How a reduction was run; for people and for evidence, never part of the result."""

    n_units: int
    wall_s: float
    scheduler_id: str | None
    n_workers: int
    n_threads: int = 1
    n_resumed: int = 0
    n_retried: int = 0
    inputs: Inputs | None = None
    limit: Limit | None = None
    kernels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Execution) -> Execution:
        """Both passes of a reduction as one; inputs are those of the last."""
        return replace(
            other,
            n_units=self.n_units + other.n_units,
            wall_s=self.wall_s + other.wall_s,
            n_workers=max(self.n_workers, other.n_workers),
            n_threads=max(self.n_threads, other.n_threads),
            n_resumed=self.n_resumed + other.n_resumed,
            n_retried=self.n_retried + other.n_retried,
            inputs=other.inputs or self.inputs,
            limit=other.limit or self.limit,
            kernels=tuple(sorted({*self.kernels, *other.kernels})),
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
        )


@dataclass
class Runner:
    """One run over all units: hands them out in order, bounds what waits, merges in order.

    The calling thread merges and writes nothing else's state; futures come through a queue.
    """

    units: Sequence[Any]
    merge: Callable[[Any, Any], Any]
    meter: Meter
    journal: Journal | None = None
    cancelled: Callable[[], bool] | None = None
    memory_bytes: int = 0
    ended: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    n_resumed: int = 0
    n_retried: int = 0
    notes: list[str] = field(default_factory=list)
    kernels: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Which units are in the journal already."""
        self._amounts: list[Amount] = [amount_of(unit) for unit in self.units]
        self._kept = self.journal.numbers(len(self.units)) if self.journal else set()
        self._todo = deque(i for i in range(len(self.units)) if i not in self._kept)
        self._flying: dict[Any, tuple[int, int]] = {}
        self._writes = True
        self._losses: dict[int, int] = {}
        self._suspects: deque[int] = deque()
        self._waiting: dict[int, Any] = {}
        self._n_merged = 0
        self._total: Any = None
        self._window = 0

    def run(self, pool: Pool) -> Any:
        """Everything merged.

        Raises
        ------
        Cancelled, ClusterLost, PartKilledWorkers
        Whatever the work raises
            As the worker raised it, for the first unit in time; the others are cancelled.
        """
        if not self.units:
            raise ValueError("there are no units")
        alone_since: float | None = None
        try:
            self._advance()
            while self._n_merged < len(self.units):
                if self.cancelled is not None and self.cancelled():
                    raise Cancelled(*self._state(), str(self.journal.folder) if self.journal else None)
                slots = pool.slots()
                self._submit(pool, slots)
                alone_since = self._watch(pool, slots, alone_since)
                self._take(pool)
        finally:
            pool.stop([future for future in self._flying if not future.done()])
        return self._total

    def _state(self) -> tuple[int, int]:
        return self.meter.n_done, len(self.units)

    def _submit(self, pool: Pool, slots: int) -> None:
        if self._suspects:
            # One of them may have ended the workers: alone, it is known which.
            if slots and not self._flying:
                self._begin(pool, self._suspects.popleft(), attempt=0)
            return
        window = max(slots, min(self._window or slots * WINDOW, slots * WINDOW))
        while self._todo and len(self._flying) < slots and self._todo[0] < self._n_merged + window:
            self._begin(pool, self._todo.popleft(), attempt=0)

    def _begin(self, pool: Pool, i: int, *, attempt: int) -> None:
        ticket = self.journal.ticket(i, self.units[i]) if self.journal and self._writes else None
        future = pool.submit(i, self.units[i], ticket, attempt + 10 * self._losses.get(i, 0))
        self._flying[future] = (i, attempt)

    def _watch(self, pool: Pool, slots: int, alone_since: float | None) -> float | None:
        """Raise when the cluster is gone, or has had no worker for too long."""
        if not pool.is_connected():
            raise ClusterLost("the scheduler does not answer", *self._state())
        if slots:
            return None
        now = time.monotonic()
        if alone_since is not None and now - alone_since > PATIENCE_S:
            raise ClusterLost(f"no worker for {PATIENCE_S:.0f} s", *self._state())
        return alone_since or now

    def _take(self, pool: Pool) -> None:
        """Wait a moment for a unit to end, and take its part."""
        try:
            future = self.ended.get(timeout=POLL_S)
        except queue.Empty:
            return
        if future not in self._flying:
            return
        i, attempt = self._flying.pop(future)
        try:
            done = pool.result(future)
        except DataLost as lost:
            self._suspect(pool, i, 1, lost)
        except Exception as error:  # the type decides whether it is begun again  # noqa: BLE001
            self._again_or_raise(pool, i, attempt, error)
        else:
            self._keep(i, done)

    def _suspect(self, pool: Pool, i: int, n_losses: int, error: Exception) -> None:
        """A unit was lost with its worker: begin it again, alone, unless it was lost too often."""
        if not pool.is_connected():
            raise ClusterLost(str(error), *self._state()) from error
        self._losses[i] = self._losses.get(i, 0) + n_losses
        if self._losses[i] > MAX_LOSSES:
            raise PartKilledWorkers(i, self._amounts[i].where, self._losses[i]) from error
        self._suspects.append(i)

    def _again_or_raise(self, pool: Pool, i: int, attempt: int, error: Exception) -> None:
        if type(error).__name__ == "KilledWorker":
            # Dask blames all units that waited at the workers that died: this one may be innocent.
            self._suspect(pool, i, MAX_LOSSES, error)
            return
        if not is_transient(error) or attempt >= MAX_RETRIES:
            raise error
        self.n_retried += 1
        self._begin(pool, i, attempt=attempt + 1)

    def _keep(self, i: int, done: Done) -> None:
        if self.journal is not None and self._writes and not done.kept:
            reason = write_entry(self.journal.ticket(i, self.units[i]), done.part)
            if reason is not None:
                self.notes.append(f"the journal could not be written ({reason}); the rest is not kept")
                self._writes = False
        if not self._window and self.memory_bytes:
            self._window = max(1, self.memory_bytes // max(1, bytes_of(done.part)))
        self.kernels.add(done.kernels)
        self._waiting[i] = done.part
        self.meter.add(self._amounts[i])
        self._advance()

    def _advance(self) -> None:
        """Merge what is next, from memory or from the journal; an entry that is broken is done again."""
        while self._n_merged < len(self.units):
            i = self._n_merged
            if i in self._waiting:
                part = self._waiting.pop(i)
            elif i in self._kept and self.journal is not None:
                self._kept.discard(i)
                try:
                    part = self.journal.read(i)
                except EntryInvalid as error:
                    self.notes.append(str(error))
                    self._todo.appendleft(i)
                    return
                self.n_resumed += 1
                self.meter.add(self._amounts[i], kept=True)
            else:
                return
            self._total = part if i == 0 else self.merge(self._total, part)
            self._n_merged += 1
