"""A run: one measured dataset, opened by its pid or path, ready to be reduced."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from beamhub_core.session import PlannedDataset, SessionInfo
from beamhub_core.techniques import POWDER_DIFFRACTION, TOF_POWDER_DIFFRACTION
from beamhub_reduction.errors import BadParameter, RunNotFound
from beamhub_reduction.nexus import Geometry, Header, open_header
from beamhub_reduction.nexus.access import real_file
from beamhub_reduction.pipeline import (
    AzimuthalParameters,
    Reduced,
    TimeOfFlightParameters,
    reduce_azimuthal,
    reduce_time_of_flight,
)
from beamhub_reduction.pipeline.execute import Client
from beamhub_reduction.pipeline.progress import Display, ProgressCallback
from beamhub_reduction.pipeline.work import Policy
from beamhub_reduction.result import Axis, Result, azimuthal_axis
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
class Run:
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

    def azimuthal(  # noqa: PLR0913  # each is a keyword of the notebook's one call
        self,
        *,
        bins: int = 1000,
        unit: str = "q_nm^-1",
        mask: Any = None,
        normalise: bool = True,
        geometry: Geometry | None = None,
        missing: Policy = "fail",
        corrupt: Policy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Intensity over q (or two-theta) of all frames together.

        Parameters
        ----------
        bins:
            Number of bins of equal width.
        unit:
            'q_nm^-1', 'q_A^-1', '2th_deg' or '2th_rad'.
        mask:
            Pixels to leave out besides those the file names, shape (ny, nx), non-zero = masked.
        normalise:
            Whether to divide by the entry's monitor, frame by frame.
        geometry:
            Used instead of the file's.
        missing, corrupt:
            'fail' raises on a missing linked file or an undecodable chunk; 'skip' leaves those frames out,
            counts them and names them in `result.warnings`.
        client:
            From `connect()`; without it the work is done in this thread.
        progress:
            Called with (parts done, parts in all) instead of the progress bar.

        Raises
        ------
        LinkMissing, CorruptChunk, GeometryMissing, MaskShapeWrong, FrameCountError, NoFrames, BadParameter
        """
        _check_policies(missing=missing, corrupt=corrupt)
        parameters = AzimuthalParameters(bins, unit, mask, normalise, geometry, missing, corrupt)
        display = Display("Azimuthal integration") if progress is None else None
        reduced = reduce_azimuthal(
            self.file, self.dataset, parameters, client=client, progress=progress or _shown(display)
        )
        n_frames = reduced.statistics.n_frames_read
        _finish(display, f"{n_frames} frames", reduced)
        return self._result("azimuthal", POWDER_DIFFRACTION, azimuthal_axis(unit), reduced)

    def time_of_flight(
        self,
        *,
        bins: int = 1000,
        d_range: tuple[float, float] | None = None,
        normalise: bool = True,
        corrupt: Policy = "fail",
        client: Client | None = None,
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Counts over lattice spacing of the neutron events of all banks together.

        Parameters
        ----------
        bins:
            Number of bins of equal width.
        d_range:
            Smallest and largest d-spacing in angstrom; without it the bins span all events.
        normalise:
            Whether to divide by the proton charge.
        corrupt, client, progress:
            As in `azimuthal`.

        Raises
        ------
        NoEvents, EventsInvalid, GeometryMissing, UnitUnknown, CorruptChunk, BadParameter, NothingLeft
        """
        _check_policies(corrupt=corrupt)
        parameters = TimeOfFlightParameters(bins, d_range, normalise, corrupt)
        display = Display("Time of flight") if progress is None else None
        reduced = reduce_time_of_flight(
            self.file, parameters, client=client, progress=progress or _shown(display)
        )
        _finish(display, f"{reduced.statistics.counts_total} events used", reduced)
        return self._result("time_of_flight", TOF_POWDER_DIFFRACTION, Axis("d_spacing", "angstrom"), reduced)

    def _result(self, step: str, technique: str, axis: Axis, reduced: Reduced) -> Result:
        if self.planned is not None and self.planned.technique:
            technique = self.planned.technique
        return Result(
            step=step,
            axis=axis,
            curve=reduced.curve,
            statistics=reduced.statistics,
            parameters=reduced.parameters,
            execution=reduced.execution,
            warnings=reduced.warnings,
            technique=technique,
            header=self.header,
            planned=self.planned,
            session=self.session,
        )


def _check_policies(**policies: str) -> None:
    for name, value in policies.items():
        if value not in ("fail", "skip"):
            raise BadParameter(name, value, "'fail' or 'skip'")


def _shown(display: Display | None) -> ProgressCallback:
    if display is None:
        raise ValueError("there is a display exactly when the caller gave no progress")
    return display


def _finish(display: Display | None, what: str, reduced: Reduced) -> None:
    if display is not None:
        left_out = f", {len(reduced.warnings)} warnings" if reduced.warnings else ""
        execution = reduced.execution
        display.finish(f"{what} in {execution.n_units} parts, {execution.wall_s:.1f} s{left_out}")
