"""How the units of a reduction are run: where, watched by whom, stopped by whom."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from beamhub_reduction.nexus.access import Roots
from beamhub_reduction.pipeline.amount import amount_of
from beamhub_reduction.pipeline.execute import Client, Execution, Runner
from beamhub_reduction.pipeline.inputs import inputs_of
from beamhub_reduction.pipeline.journal import open_journal
from beamhub_reduction.pipeline.limit import Limit, measure_limit
from beamhub_reduction.pipeline.memory import SHARE, memory_limit, processor_count, units_that_fit
from beamhub_reduction.pipeline.pools import DaskPool, ThreadPool
from beamhub_reduction.pipeline.progress import Meter, ProgressCallback, silent

Unit = TypeVar("Unit")
Task = TypeVar("Task")
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Engine:
    """Everything about a run that does not change its numbers.

    Parameters
    ----------
    client:
        A Dask client; without it the units run in this process, in `threads` threads.
    threads:
        Threads of this process when there is no client; None for as many as there are processors.
    journal:
        A folder in which finished units are kept, so that the same reduction goes on where it was ended.
    cancelled:
        Asked between units; when it says True the reduction ends with `Cancelled`.
    roots:
        Folders whose files may be read; None leaves it to the operating system.
    memory_bytes:
        What the units of this process, or of one worker, may take together; None for a share of the limit
        that the machine, a control group or the worker sets.
    resources:
        Dask resources that a unit takes on its worker, as {"io": 1}: caps readers on a node.
    measure_limit:
        Whether to measure, for about 0.2 s, what reading and decoding alone could reach.
    """

    client: Client | None = None
    threads: int | None = None
    progress: ProgressCallback = silent
    journal: Path | None = None
    cancelled: Callable[[], bool] | None = None
    roots: Roots = None
    memory_bytes: int | None = None
    resources: Mapping[str, float] | None = None
    measure_limit: bool = False

    def run(
        self,
        work: Callable[[Unit, Task], Part],
        units: Sequence[Unit],
        task: Task,
        *,
        merge: Callable[[Part, Part], Part],
    ) -> tuple[Part, Execution]:
        """Do the work on every unit and merge the parts in the order of the units: bit-equal everywhere.

        `work` and `merge` are functions of a module; units, task and parts can be pickled. For a journal,
        parts are made of dataclasses, tuples, lists, dicts, numbers, words and arrays. `merge` may change
        its left argument.

        Raises
        ------
        MemoryTooSmall
            If one unit does not fit; before anything is read.
        Cancelled, ClusterLost, PartKilledWorkers, JournalUnusable
        Whatever the work raises
            As the worker raised it; the other units are cancelled. Only passing errors of the storage
            (OSError) are tried again, twice.
        """
        began = time.perf_counter()
        journal, notes = open_journal(self.journal, work, units, task) if self.journal else (None, ())
        amounts = [amount_of(unit) for unit in units]
        runner = Runner(
            units=units, merge=merge, meter=Meter(amounts, self.progress), journal=journal,
            cancelled=self.cancelled, notes=list(notes),
        )  # fmt: skip
        execution = Execution(len(units), 0.0, None, 0)
        own = self.memory_bytes if self.memory_bytes is not None else int(memory_limit() * SHARE)
        if self.client is None:
            wanted = self.threads or processor_count()
            runner.memory_bytes = own
            n_threads = max(1, min(wanted, units_that_fit(amounts, own), len(units))) if units else 1
            part: Part = runner.run(ThreadPool(work, task, n_threads, runner.ended.put))
            execution = replace(execution, n_threads=n_threads)
        else:
            dask = DaskPool(self.client, work, task, runner.ended.put, self.resources)
            runner.memory_bytes = self.memory_bytes or dask.memory_bytes(memory_limit())
            units_that_fit(amounts, runner.memory_bytes)
            dask.working_bytes = max((a.working_bytes for a in amounts), default=0)
            part = runner.run(dask)
            n_threads = sum(threads for threads, _ in dask.workers().values())
            scheduler = str(self.client.scheduler_info(n_workers=0).get("id"))
            execution = replace(
                execution, scheduler_id=scheduler, n_workers=dask.n_workers, n_threads=max(1, n_threads)
            )
        wall_s = time.perf_counter() - began
        limit = measure_limit(units) if self.measure_limit else None
        if limit is not None and not runner.n_resumed:
            limit = _with_share(limit, sum(a.n_bytes for a in amounts), wall_s, n_threads)
        return part, replace(
            execution, wall_s=wall_s, n_resumed=runner.n_resumed, n_retried=runner.n_retried,
            inputs=inputs_of(units), limit=limit, kernels=tuple(sorted(runner.kernels)),
            notes=tuple(runner.notes),
        )  # fmt: skip

    def with_progress(self, progress: ProgressCallback) -> Engine:
        """The same engine with another display, for a reduction in several passes."""
        return replace(self, progress=progress)


def _with_share(limit: Limit, n_bytes: int, wall_s: float, n_threads: int) -> Limit:
    achieved = n_bytes / wall_s / n_threads
    return replace(limit, threads=n_threads, share=achieved / max(1.0, limit.decode_bytes_per_s))
