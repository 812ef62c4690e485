"""A run: one measured dataset, opened by its pid or path, ready to be reduced."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from beamhub_core.session import PlannedDataset, SessionInfo
from beamhub_reduction.errors import RunNotFound
from beamhub_reduction.nexus import Header, open_header
from beamhub_reduction.nexus.access import real_file
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.execute import Client
from beamhub_reduction.pipeline.progress import Display, ProgressCallback
from beamhub_reduction.pipeline.step import Source, parse_parameters, step_kind
from beamhub_reduction.result import Result
from beamhub_reduction.run_azimuthal import AzimuthalSteps
from beamhub_reduction.run_events import EventSteps
from beamhub_reduction.run_frames import FrameSteps
from beamhub_reduction.run_scans import ScanSteps
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
class Run(ScanSteps, EventSteps, FrameSteps, AzimuthalSteps):
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

    def reduce(
        self,
        step: str,
        *,
        client: Client | None = None,
        progress: ProgressCallback | None = None,
        journal: str | Path | None = None,
        **parameters: Any,
    ) -> Result:
        """Any step of the engine by its name, with its parameters as keywords.

        Parameters
        ----------
        client:
            From `connect()`; without it the work is done in this process.
        progress:
            Called with (parts done, parts in all) instead of the progress bar.
        journal:
            A folder in which finished parts are kept: the same call goes on where it was ended.

        Raises
        ------
        BadParameter
            If there is no such step, or a parameter of it is unknown or wrong.
        """
        kind = step_kind(step)
        chosen = parse_parameters(kind, parameters)
        display = Display(kind.title) if progress is None else None
        shown = progress if progress is not None else _shown(display)
        engine = Engine(client=client, progress=shown, journal=Path(journal) if journal else None)
        reduced = kind.reduce(Source(self.file, self.dataset), chosen, engine)
        if display is not None:
            left_out = f", {len(reduced.warnings)} warnings" if reduced.warnings else ""
            execution = reduced.execution
            counts = reduced.statistics
            n = (
                f"{counts.counts_total} events used"
                if kind.counted == "events"
                else f"{counts.n_frames_read} frames"
            )
            display.finish(f"{n} in {execution.n_units} parts, {execution.wall_s:.1f} s{left_out}")
        return Result.of(reduced, kind, self.header, self.planned, self.session)


def _shown(display: Display | None) -> ProgressCallback:
    if display is None:
        raise ValueError("there is a display exactly when the caller gave no progress")
    return display
