"""A run: one measured dataset, opened by its pid or path, ready to be reduced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from beamhub_core.session import PlannedDataset, SessionInfo
from beamhub_reduction.batch import Job
from beamhub_reduction.errors import RunNotFound
from beamhub_reduction.long_jobs import SubmittedJob, submit
from beamhub_reduction.nexus import Header, open_header
from beamhub_reduction.nexus.access import real_file
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.execute import Client
from beamhub_reduction.pipeline.progress import Display, ProgressCallback, silent
from beamhub_reduction.pipeline.step import (
    Reduced,
    Source,
    StepKind,
    parse_parameters,
    step_kind,
)
from beamhub_reduction.result import Result
from beamhub_reduction.run_azimuthal import AzimuthalSteps
from beamhub_reduction.run_events import EventSteps
from beamhub_reduction.run_frame_batches import FrameBatches
from beamhub_reduction.run_frames import FrameSteps
from beamhub_reduction.run_scans import ScanSteps
from beamhub_reduction.run_summary import StepList, run_html
from beamhub_reduction.session_info import find_dataset, read_session


def open_run(name: str | Path) -> Run:
    """The run of a dataset of this session (its pid), or of a file ('FILE' or 'FILE::/path/of/frames').

    Nothing is read but the session's own description.

    Raises
    ------
    RunNotFound
        If the name is neither.
    FileMissing
        If the session names a file that is not there.
    SessionFileInvalid
    """
    session = read_session()
    text = str(name)
    file, _, inside = text.partition("::")
    planned = find_dataset(session, text) or find_dataset(session, file)
    if planned is None and not Path(file).exists():
        raise RunNotFound(text, tuple(d.pid for d in session.datasets) if session else ())
    path = real_file(planned.file if planned else file, None)
    return Run(path, inside or None, planned, session)


@dataclass(frozen=True)
class Run(AzimuthalSteps, ScanSteps, EventSteps, FrameSteps, FrameBatches):
    """One measured dataset."""

    file: str
    dataset: str | None = None
    planned: PlannedDataset | None = None
    session: SessionInfo | None = None

    @property
    def pid(self) -> str | None:
        """The dataset's pid in this session, if it has one."""
        return self.planned.pid if self.planned else None

    @cached_property
    def header(self) -> Header:
        """What the file says of itself; reads the file."""
        return open_header(self.file)

    def __repr__(self) -> str:
        """The pid or the file."""
        return f"Run({self.pid or self.file!r})"

    def _repr_html_(self) -> str:
        """What the file says of itself, for notebooks."""
        return run_html(self)

    def steps(self) -> StepList:
        """Every step of the engine with its parameters; shows itself as a table."""
        return StepList.all()

    def reduce(
        self,
        step: str,
        *,
        client: Client | None = None,
        progress: ProgressCallback | None = None,
        journal: str | Path | None = None,
        engine: Engine | None = None,
        **parameters: Any,
    ) -> Result:
        """Any step of the engine by its name, with its parameters as keywords.

        Parameters
        ----------
        client:
            From `connect()`, or of any other Dask cluster; without it threads of this process do the work.
        progress:
            Called with (parts done, parts in all) instead of the progress bar.
        journal:
            A folder in which finished parts are kept: the same call goes on where it was ended.
        engine:
            Everything else about how it is run: threads, memory, who may cancel. `client`, `progress` and
            `journal` replace what it says.

        Raises
        ------
        BadParameter
            If there is no such step, or a parameter of it is unknown or wrong.
        Cancelled, ClusterLost, PartKilledWorkers, MemoryTooSmall, JournalUnusable
            What can happen to any reduction.
        """
        kind = step_kind(step)
        chosen = parse_parameters(kind, parameters)
        engine = engine or Engine()
        shown = progress or (engine.progress if engine.progress is not silent else None)
        display = Display(kind.title, counted=kind.counted) if shown is None else None
        engine = replace(
            engine,
            client=client if client is not None else engine.client,
            progress=shown or display or silent,
            journal=Path(journal) if journal else engine.journal,
        )
        try:
            reduced = kind.reduce(Source(self.file, self.dataset), chosen, engine)
        except BaseException:
            if display is not None:
                display.fail()
            raise
        if display is not None:
            display.finish(_summary(kind, reduced))
        return Result.of(reduced, kind, self.header, self.planned, self.session)

    def submit(
        self,
        step: str,
        output: str | Path,
        *,
        workers: int | None = None,
        title: str = "",
        **parameters: Any,
    ) -> SubmittedJob:
        """As `reduce`, then `write`, done by the session's server: without this kernel, without a browser.

        Parameters
        ----------
        output:
            A new file for the product.
        workers:
            Of a cluster of the job's own; without it threads of the session do the work.
        title:
            How it is called in lists.

        Raises
        ------
        NotInSession
            Outside of a session.
        BadParameter, ProductExists, ProductNotWritten
        """
        file = self.pid or (self.file if self.dataset is None else f"{self.file}::{self.dataset}")
        job = Job(step=step, file=file, output=str(output), parameters=parameters)
        return submit([job], workers=workers, title=title)


def _summary(kind: StepKind, reduced: Reduced) -> str:
    """What was done, in one line."""
    counts, execution = reduced.statistics, reduced.execution
    n = f"{counts.counts_total} events used" if kind.counted == "events" else f"{counts.n_frames_read} frames"
    resumed = f", {execution.n_resumed} of them from the journal" if execution.n_resumed else ""
    left_out = f", {len(reduced.warnings)} warnings" if reduced.warnings else ""
    return f"{n} in {execution.n_units} parts{resumed}, {execution.wall_s:.1f} s{left_out}"
