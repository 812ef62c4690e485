"""How the units of a reduction are run: where, watched by whom, stopped by whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from beamhub_reduction.nexus.access import Roots
from beamhub_reduction.pipeline.execute import Client, Execution, run_units
from beamhub_reduction.pipeline.progress import ProgressCallback, silent

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
    """

    client: Client | None = None
    threads: int | None = None
    progress: ProgressCallback = silent
    journal: Path | None = None
    cancelled: Callable[[], bool] | None = None
    roots: Roots = None

    def run(
        self,
        work: Callable[[Unit, Task], Part],
        units: Sequence[Unit],
        task: Task,
        *,
        merge: Callable[[Part, Part], Part],
    ) -> tuple[Part, Execution]:
        """Do the work on every unit and merge the parts in the order of the units: bit-equal everywhere.

        `work` and `merge` are functions of a module; units, task and parts can be pickled.
        """
        return run_units(work, units, task, merge=merge, client=self.client, progress=self.progress)

    def with_progress(self, progress: ProgressCallback) -> Engine:
        """The same engine with another display, for a reduction in several passes."""
        return replace(self, progress=progress)
