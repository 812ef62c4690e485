"""What all reductions of neutron events share: parameters, the plan, and the counting of one unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.kernels.event_plan import EventPlan, Fate
from beamhub_reduction.kernels.events import event_range, new_counts
from beamhub_reduction.nexus.errors import GeometryMissing
from beamhub_reduction.nexus.event_pulses import (
    BoolArray,
    IntArray,
    count_pulses,
    event_runs,
    pulse_seconds,
    pulses_within,
)
from beamhub_reduction.nexus.events import EventBank, EventRun
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.events_read import EventPiece, count_piece, event_blocks
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.progress import ProgressCallback
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import CorruptPolicy, StepParameters
from beamhub_reduction.pipeline.units import TARGET_UNIT_BYTES, plan_event_units
from beamhub_reduction.steps.curve import MAX_BINS
from beamhub_reduction.steps.frames import FloatArray
from beamhub_reduction.steps.signal import Axis
from beamhub_reduction.steps.time_of_flight import (
    NO_TABLE,
    EventAxis,
    PixelTable,
    bin_edges,
    bin_edges_by_width,
    build_pixel_table,
    d_spacing,
    event_plan,
    wavelength,
)

DEFAULT_BINS = 1000
AXES = {
    "d": ("d_spacing", "angstrom"),
    "wavelength": ("wavelength", "angstrom"),
    "tof": ("time_of_flight", "us"),
}


class AxisParameters(StepParameters):
    """The axis on which neutrons are counted, and its bins. Without a range the bins span all events."""

    axis: EventAxis = Field(
        default="d",
        description="'d' or 'wavelength' in angstrom, 'tof' (plain time of flight) in microseconds",
    )
    bins: int | None = Field(default=None, ge=1, le=MAX_BINS, description="number of bins (default 1000)")
    bin_width: float | None = Field(
        default=None,
        gt=0,
        description="width of a bin instead of their number; with log, relative to its edge",
    )
    log: bool = Field(default=False, description="bins of equal ratio instead of equal width")
    edges: tuple[float, ...] | None = Field(default=None, description="all edges of the bins, ascending")
    axis_range: tuple[float, float] | None = Field(
        default=None, description="smallest and largest value, in the axis's unit; without it all events"
    )
    d_range: tuple[float, float] | None = Field(
        default=None, description="the same for the axis 'd', in angstrom"
    )

    @field_validator("axis_range", "d_range")
    @classmethod
    def check_range(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        """Refuse what is no range."""
        if value is not None and not (np.isfinite(value).all() and value[0] < value[1]):
            raise ValueError("two finite numbers, the smaller first")
        return value

    @field_validator("edges")
    @classmethod
    def check_edges(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        """Refuse what are no edges."""
        if value is not None:
            edges = np.asarray(value)
            good = 2 <= edges.size <= MAX_BINS + 1 and np.isfinite(edges).all() and (np.diff(edges) > 0).all()
            if not good:
                raise ValueError(f"2 to {MAX_BINS + 1} finite numbers that ascend")
        return value

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """Options that exclude each other are refused."""
        if sum(x is not None for x in (self.bins, self.bin_width, self.edges)) > 1:
            raise ValueError("only one of bins, bin_width and edges")
        if sum(x is not None for x in (self.axis_range, self.d_range, self.edges)) > 1:
            raise ValueError("only one of axis_range, d_range and edges")
        if self.d_range is not None and self.axis != "d":
            raise ValueError("d_range belongs to the axis 'd'; axis_range to any")
        return self

    @property
    def chosen_range(self) -> tuple[float, float] | None:
        """The range in the axis's unit, if one was given."""
        return self.axis_range or self.d_range

    def edges_within(self, low: float, high: float) -> FloatArray:
        """The edges for a range.

        Raises
        ------
        BadParameter
        """
        if self.bin_width is not None:
            return bin_edges_by_width(low, high, width=self.bin_width, log=self.log)
        return bin_edges(low, high, n_bins=self.bins or DEFAULT_BINS, log=self.log)


class EventParameters(AxisParameters):
    """What every reduction of events lets the caller choose."""

    pulses: tuple[float, float] | None = Field(
        default=None,
        description="only pulses of this window: seconds after the first pulse, the end excluded",
    )

    @field_validator("pulses")
    @classmethod
    def check_pulses(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        """Refuse what is no window."""
        if value is not None and not (np.isfinite(value).all() and value[0] < value[1]):
            raise ValueError("two finite times, the earlier first")
        return value


@dataclass(frozen=True, slots=True)
class EventTask:
    """What all units of an event reduction share: one plan for each bank."""

    plans: tuple[EventPlan, ...]
    corrupt: CorruptPolicy
    above: float = -np.inf


@dataclass(frozen=True, slots=True)
class EventPart:
    """Counts of one unit or of several: bins, then fates, shape (n_bins + 4,)."""

    counts: IntArray
    n_corrupt: int
    problems: tuple[str, ...]


def reduce_events(piece: EventPiece, task: EventTask) -> EventPart:
    """Count the events of one unit.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    """
    plan = task.plans[piece.i_bank]
    counts = new_counts(plan)
    found = count_piece(piece, plan=plan, counts=counts, corrupt=task.corrupt)
    return EventPart(counts, found.n_corrupt, tuple(str(problem) for problem in found.problems[:100]))


def merge_events(left: EventPart, right: EventPart) -> EventPart:
    """Both parts together."""
    return EventPart(
        left.counts + right.counts, left.n_corrupt + right.n_corrupt, (*left.problems, *right.problems)[:100]
    )


def find_range(piece: EventPiece, task: EventTask) -> tuple[float, float]:
    """Smallest and largest place on the axis in a unit."""
    plan = task.plans[piece.i_bank]
    low, high = float("inf"), float("-inf")
    for block in event_blocks(piece, with_ids=plan.state is not None, corrupt=task.corrupt):
        found = event_range(block.ids, block.offsets, plan=plan, above=task.above)
        low, high = min(low, found[0]), max(high, found[1])
    return low, high


def merge_range(left: tuple[float, float], right: tuple[float, float]) -> tuple[float, float]:
    """The range that holds both."""
    return min(left[0], right[0]), max(left[1], right[1])


@dataclass(frozen=True, slots=True)
class EventJob:
    """A run and how its events will be counted: everything but the edges."""

    run: EventRun
    parameters: EventParameters
    tables: tuple[PixelTable, ...]
    units: tuple[float, ...]
    kept: tuple[BoolArray, ...]
    runs: tuple[IntArray, ...]

    @property
    def n_events(self) -> int:
        """Events of the pulses that count."""
        return sum(int((runs[:, 1] - runs[:, 0]).sum()) for runs in self.runs)

    @property
    def axis(self) -> tuple[str, str]:
        """Name and units of the axis."""
        return AXES[self.parameters.axis]

    def pieces(self, target_bytes: int = TARGET_UNIT_BYTES) -> tuple[EventPiece, ...]:
        """The work units, without those whose events all lie in pulses that do not count."""
        found: list[EventPiece] = []
        for i, (bank, runs) in enumerate(zip(self.run.banks, self.runs, strict=True)):
            for unit in plan_event_units(
                i, bank.event_id, bank.event_time_offset, first_number=len(found), target_bytes=target_bytes
            ):
                start, stop = unit.ids[0].at, unit.ids[-1].at + unit.ids[-1].n_rows
                inside = np.clip(runs, start, stop)
                inside = inside[inside[:, 1] > inside[:, 0]]
                if len(inside):
                    found.append(EventPiece(len(found), i, unit.ids, unit.offsets, inside))
        return tuple(found)

    def find_edges(
        self, pieces: tuple[EventPiece, ...], engine: Engine
    ) -> tuple[FloatArray, Execution | None]:
        """The edges of the bins; without a given range all events are read for it.

        Raises
        ------
        NothingLeft, BadParameter, CorruptChunk
        """
        chosen = self.parameters
        if chosen.edges is not None:
            return np.asarray(chosen.edges, dtype=np.float64), None
        if chosen.chosen_range is not None:
            return chosen.edges_within(*chosen.chosen_range), None
        unit_edges = np.array([0.0, 1.0])
        plans = tuple(
            event_plan(t, edges=unit_edges, unit=u) for t, u in zip(self.tables, self.units, strict=True)
        )
        above = -np.inf if chosen.axis == "tof" and not chosen.log else 0.0
        (low, high), execution = engine.run(
            find_range, pieces, EventTask(plans, chosen.corrupt, above), merge=merge_range
        )
        if low > high:
            raise NothingLeft(self.run.file, "events")
        return chosen.edges_within(low, high), execution

    def statistics(self, fates: IntArray, n_used: int, n_corrupt: int) -> Statistics:
        """The tally of all events and pulses."""
        banks = self.run.banks
        n_pulses, n_empty = count_pulses(banks, self.kept)
        n_all = sum(bank.n_events for bank in banks)
        return Statistics(
            n_pixels_masked=sum(int(np.count_nonzero(bank.masked)) for bank in banks),
            counts_total=n_used,
            n_pulses=n_pulses,
            n_empty_pulses=n_empty,
            n_pulses_filtered=count_pulses(banks)[0] - n_pulses,
            n_events=n_all,
            n_events_masked=int(fates[Fate.MASKED]),
            n_events_unknown_id=int(fates[Fate.UNKNOWN]),
            n_events_outside=int(fates[Fate.OUTSIDE]),
            n_events_not_finite=int(fates[Fate.NOT_FINITE]),
            n_events_filtered=n_all - self.n_events,
            n_events_corrupt=n_corrupt,
        )

    def describe(self, edges: FloatArray) -> dict[str, Any]:
        """The parameters as they stand in the product."""
        chosen = self.parameters
        facts: dict[str, Any] = {
            "axis": chosen.axis,
            "bins": int(edges.size - 1),
            "axis_range": [float(edges[0]), float(edges[-1])],
            "log": chosen.log,
            "pulses_s": list(chosen.pulses) if chosen.pulses else None,
            "corrupt": chosen.corrupt,
            "entry": self.run.entry,
            "banks": [bank.name for bank in self.run.banks],
            "primary_flight_path_m": self.run.primary_flight_path_m,
        }
        if chosen.axis == "d":
            facts["d_range_angstrom"] = facts["axis_range"]
        return facts

    def axis_of(self, edges: FloatArray) -> Axis:
        """The edges as an axis."""
        return Axis(*self.axis, edges)


def prepare_events(run: EventRun, parameters: EventParameters) -> EventJob:
    """How the events of a run are to be counted.

    Raises
    ------
    GeometryMissing
        If the axis needs angles or distances that the file does not give.
    BadParameter
    """
    seconds = pulse_seconds(run.banks)
    if parameters.pulses is not None and not any(s.size for s in seconds):
        raise BadParameter("pulses", parameters.pulses, "left out: this file has no event_time_zero")
    kept = tuple(
        pulses_within(s, parameters.pulses, bank.event_index.size - 1)
        for s, bank in zip(seconds, run.banks, strict=True)
    )
    tables = tuple(_table(run, bank, parameters.axis) for bank in run.banks)
    runs = tuple(event_runs(bank.event_index, k) for bank, k in zip(run.banks, kept, strict=True))
    units = tuple(axis_unit(bank.time_unit_s, parameters.axis) for bank in run.banks)
    return EventJob(run, parameters, tables, units, kept, runs)


def axis_unit(time_unit_s: float, axis: EventAxis) -> float:
    """What a stored time is multiplied by before the pixel's factor: to seconds, for plain times to us."""
    return float(f"{time_unit_s * 1e6:.15g}") if axis == "tof" else time_unit_s


def _table(run: EventRun, bank: EventBank, axis: EventAxis) -> PixelTable:
    if bank.detector_number is None:
        if axis == "tof":
            return NO_TABLE
        raise GeometryMissing(run.file, bank.path, ("detector_number",))
    return build_pixel_table(bank.detector_number, factor=axis_factor(run, bank, axis), masked=bank.masked)


def axis_factor(run: EventRun, bank: EventBank, axis: EventAxis) -> FloatArray | None:
    """Angstrom per second of every pixel, shape (n_pixels,); None for plain times.

    Raises
    ------
    GeometryMissing
    """
    if axis == "tof":
        return None
    wanted = {"distance": bank.distance_m, "moderator/distance": run.primary_flight_path_m}
    if axis == "d":
        wanted["polar_angle"] = bank.two_theta_rad
    missing = tuple(name for name, value in wanted.items() if value is None)
    if missing or bank.distance_m is None or run.primary_flight_path_m is None:
        raise GeometryMissing(run.file, bank.path, missing)
    path = run.primary_flight_path_m + bank.distance_m
    if axis == "wavelength" or bank.two_theta_rad is None:
        return wavelength(np.ones(1), flight_path_m=path)
    return d_spacing(np.ones(1), flight_path_m=path, two_theta_rad=bank.two_theta_rad)


def half(progress: ProgressCallback, i_pass: int) -> Callable[[int, int], None]:
    """Progress of one of two passes."""

    def show(n_done: int, n_total: int) -> None:
        progress(i_pass * n_total + n_done, 2 * n_total)

    return show
