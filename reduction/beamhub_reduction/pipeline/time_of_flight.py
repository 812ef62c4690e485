"""Time-of-flight diffraction of a whole run: read what is needed, plan, run, merge."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamhub_core.techniques import TOF_POWDER_DIFFRACTION
from beamhub_reduction.errors import NothingLeft
from beamhub_reduction.kernels.event_plan import Fate
from beamhub_reduction.nexus.event_pulses import charge_within
from beamhub_reduction.nexus.events import read_event_run
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.events import (
    EventJob,
    EventParameters,
    EventTask,
    half,
    merge_events,
    prepare_events,
    reduce_events,
)
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import Reduced, Source, StepKind
from beamhub_reduction.steps.signal import curve_signal
from beamhub_reduction.steps.time_of_flight import event_plan, histogram_curve

PC_PER_UC = 1e6

Normalisation = Literal["charge", "monitor", "pulses"]


class TimeOfFlightParameters(EventParameters):
    """What the caller may choose."""

    normalise: bool = Field(default=True, description="divide by the beam that came, as normalise_to says")
    normalise_to: Normalisation = Field(
        default="charge",
        description="'charge' (proton charge, uC), 'monitor' (its counts), or 'pulses' (their number)",
    )


def reduce_time_of_flight(source: Source, parameters: TimeOfFlightParameters, engine: Engine) -> Reduced:
    """Focus the events of all banks onto one axis.

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
    with NexusFile(source.file, engine.roots) as nexus:
        run = read_event_run(nexus, without_geometry=parameters.axis == "tof")
    job = prepare_events(run, parameters)
    pieces = job.pieces()
    if not pieces:
        raise NothingLeft(source.file, "events")
    looks = parameters.chosen_range is None and parameters.edges is None
    edges, earlier = job.find_edges(
        pieces, engine.with_progress(half(engine.progress, 0)) if looks else engine
    )
    plans = tuple(event_plan(t, edges=edges, unit=u) for t, u in zip(job.tables, job.units, strict=True))
    part, execution = engine.with_progress(half(engine.progress, 1) if looks else engine.progress).run(
        reduce_events, pieces, EventTask(plans, parameters.corrupt), merge=merge_events
    )
    bins, fates = part.counts[: -len(Fate)], part.counts[-len(Fate) :]
    statistics = job.statistics(fates, int(bins.sum()), part.n_corrupt)
    divisor, units, facts, warnings = _normalisation(job, parameters, statistics)
    curve = histogram_curve(edges, counts=bins, charge=divisor)
    name, axis_units = job.axis
    signal = curve_signal(curve, name="intensity", units=units, axis_name=name, axis_units=axis_units)
    execution = earlier + execution if earlier else execution
    return Reduced((signal,), statistics, execution, job.describe(edges) | facts, (*part.problems, *warnings))


def _normalisation(
    job: EventJob, parameters: TimeOfFlightParameters, statistics: Statistics
) -> tuple[float, str, dict[str, Any], tuple[str, ...]]:
    """(what to divide by, units, facts for the product, warnings)."""
    beam = job.run.beam
    charge_pc = charge_within(beam, parameters.pulses, job.run.banks)
    charge_uc = charge_pc / PC_PER_UC if charge_pc and charge_pc > 0 else None
    warnings: tuple[str, ...] = ()
    divisor: float | None = None
    words = {"charge": ("proton charge", "counts/uC"), "monitor": (f"monitor {beam.monitor}", "counts/count"),
             "pulses": ("pulses", "counts/pulse")}  # fmt: skip
    if parameters.normalise:
        if parameters.normalise_to == "charge":
            divisor = charge_uc
        elif parameters.normalise_to == "pulses":
            divisor = float(statistics.n_pulses) or None
        elif parameters.pulses is None:
            divisor = beam.monitor_counts
        if divisor is None or not np.isfinite(divisor):
            wanted = "charge of these pulses" if parameters.pulses else parameters.normalise_to
            warnings = (f"The file does not give the {wanted}: counts are not normalised.",)
    title, units = words[parameters.normalise_to]
    facts = {
        "normalised_to": title if divisor else None,
        "normalised_by": divisor,
        "proton_charge_uC": charge_uc if parameters.normalise else None,
    }
    if divisor is None:
        # Without any charge in the file the counts stay counts, silently: most test runs have none.
        silent = parameters.normalise_to == "charge" and parameters.pulses is None
        return 1.0, "counts", facts, () if silent else warnings
    return divisor, units, facts, warnings


KIND = StepKind(
    "time_of_flight",
    "Time-of-flight diffraction",
    TOF_POWDER_DIFFRACTION,
    TimeOfFlightParameters,
    reduce_time_of_flight,
    counted="events",
)
