"""Time-of-flight powder diffraction of a whole run: read what is needed, plan, run, merge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from beamhub_core.techniques import TOF_POWDER_DIFFRACTION
from beamhub_reduction.errors import NothingLeft
from beamhub_reduction.nexus.events import EventRun, count_pulses, read_event_run
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.progress import ProgressCallback
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.units import EventUnit, plan_event_units
from beamhub_reduction.pipeline.work import (
    EventPart,
    EventTask,
    find_d_range,
    merge_events,
    merge_range,
    reduce_events,
)
from beamhub_reduction.steps.curve import MAX_BINS
from beamhub_reduction.steps.frames import FloatArray
from beamhub_reduction.steps.signal import curve_signal
from beamhub_reduction.steps.time_of_flight import PixelTable, bin_edges, build_pixel_table, histogram_curve

PC_PER_UC = 1e6


class TimeOfFlightParameters(StepParameters):
    """What the caller may choose. Without `d_range` (angstrom), the bins span all events."""

    bins: int = Field(default=1000, ge=1, le=MAX_BINS, description="number of bins of equal width")
    d_range: tuple[float, float] | None = Field(
        default=None, description="smallest and largest d-spacing in angstrom; without it all events"
    )
    normalise: bool = Field(default=True, description="divide by the proton charge")


def reduce_time_of_flight(source: Source, parameters: TimeOfFlightParameters, engine: Engine) -> Reduced:
    """Focus the events of all banks onto d-spacing.

    Without a given range the events are read twice: once for their range, once to count them.

    Raises
    ------
    NoEvents, GeometryMissing, EventsInvalid, UnitUnknown
        If the file's events cannot be understood.
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    NothingLeft
        If no event is usable.
    """
    file, progress = source.file, engine.progress
    with NexusFile(file, engine.roots) as nexus:
        run = read_event_run(nexus)
    units = _plan(run)
    if not units:
        raise NothingLeft(file, "events")
    times = tuple(bank.time_unit_s for bank in run.banks)
    task = EventTask(tuple(_table(run, i) for i in range(len(run.banks))), times, None, parameters.corrupt)
    earlier: Execution | None = None
    if parameters.d_range is not None:
        low, high = parameters.d_range
    else:
        (low, high), earlier = engine.with_progress(_half(progress, 0)).run(
            find_d_range, units, task, merge=merge_range
        )
        if low > high:
            raise NothingLeft(file, "events")
        progress = _half(progress, 1)
    edges = bin_edges(low, high, n_bins=parameters.bins)
    part, execution = engine.with_progress(progress).run(
        reduce_events, units, replace(task, edges=edges), merge=merge_events
    )
    charge_pc = run.proton_charge_pC if parameters.normalise else None
    charge_uc = charge_pc / PC_PER_UC if charge_pc and charge_pc > 0 else None
    chosen = _chosen(run, parameters, edges, charge_uc)
    curve = histogram_curve(edges, counts=part.histogram.counts, charge=charge_uc or 1.0)
    execution = earlier + execution if earlier else execution
    units_of = "counts/uC" if charge_uc else "counts"
    signal = curve_signal(
        curve, name="intensity", units=units_of, axis_name="d_spacing", axis_units="angstrom"
    )
    return Reduced((signal,), _statistics(run, part), execution, chosen, part.problems)


def _chosen(
    run: EventRun, parameters: TimeOfFlightParameters, edges: FloatArray, charge_uc: float | None
) -> dict[str, Any]:
    """The parameters as they stand in the product."""
    return {
        "bins": parameters.bins,
        "d_range_angstrom": [float(edges[0]), float(edges[-1])],
        "normalised_to": "proton charge" if charge_uc else None,
        "proton_charge_uC": charge_uc,
        "corrupt": parameters.corrupt,
        "entry": run.entry,
        "banks": [bank.name for bank in run.banks],
        "primary_flight_path_m": run.primary_flight_path_m,
    }


def _statistics(run: EventRun, part: EventPart) -> Statistics:
    n_pulses, n_empty = count_pulses(run.banks)
    return Statistics(
        n_pixels_masked=sum(int(np.count_nonzero(bank.masked)) for bank in run.banks),
        counts_total=part.histogram.n_used,
        n_pulses=n_pulses,
        n_empty_pulses=n_empty,
        n_events=sum(bank.n_events for bank in run.banks),
        n_events_masked=part.histogram.n_masked,
        n_events_unknown_id=part.histogram.n_unknown_id,
        n_events_outside=part.histogram.n_outside,
        n_events_corrupt=part.n_corrupt,
    )


def _plan(run: EventRun) -> tuple[EventUnit, ...]:
    units: list[EventUnit] = []
    for i, bank in enumerate(run.banks):
        units.extend(plan_event_units(i, bank.event_id, bank.event_time_offset, first_number=len(units)))
    return tuple(units)


def _table(run: EventRun, i: int) -> PixelTable:
    bank = run.banks[i]
    return build_pixel_table(
        bank.detector_number,
        two_theta_rad=bank.two_theta_rad,
        flight_path_m=run.primary_flight_path_m + bank.distance_m,
        masked=bank.masked,
    )


def _half(progress: ProgressCallback, i_pass: int) -> ProgressCallback:
    """Progress of one of two passes."""

    def show(n_done: int, n_total: int) -> None:
        progress(i_pass * n_total + n_done, 2 * n_total)

    return show


KIND = StepKind(
    "time_of_flight",
    "Time-of-flight diffraction",
    TOF_POWDER_DIFFRACTION,
    TimeOfFlightParameters,
    reduce_time_of_flight,
    counted="events",
)
