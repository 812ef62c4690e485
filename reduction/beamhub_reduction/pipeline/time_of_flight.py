"""Time-of-flight diffraction of a whole run: read what is needed, plan, run, merge."""

from __future__ import annotations

from typing import Any

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
from beamhub_reduction.pipeline.time_of_flight_beam import (
    Divisor,
    Normalisation,
    charge_divisor,
    monitor_divisor,
    spectrum_divisor,
)
from beamhub_reduction.steps.frames import FloatArray
from beamhub_reduction.steps.signal import curve_signal
from beamhub_reduction.steps.time_of_flight import event_plan, histogram_curve


class TimeOfFlightParameters(EventParameters):
    """What the caller may choose."""

    normalise: bool = Field(default=True, description="divide by the beam that came, as normalise_to says")
    normalise_to: Normalisation = Field(
        default="charge",
        description="'charge' (proton charge, uC), 'monitor' (its counts), 'monitor_spectrum' (its counts in "
        "each bin), or 'pulses' (their number)",
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
    divisor, facts, warnings = _normalisation(job, parameters, statistics, edges)
    units = "counts" if divisor is None else divisor.units
    beam = {} if divisor is None else {"divisor": divisor.value, "variance": divisor.variance}
    curve = histogram_curve(edges, counts=bins, **beam)
    name, axis_units = job.axis
    signal = curve_signal(curve, name="intensity", units=units, axis_name=name, axis_units=axis_units)
    execution = earlier + execution if earlier else execution
    return Reduced((signal,), statistics, execution, job.describe(edges) | facts, (*part.problems, *warnings))


def _normalisation(
    job: EventJob, parameters: TimeOfFlightParameters, statistics: Statistics, edges: FloatArray
) -> tuple[Divisor | None, dict[str, Any], tuple[str, ...]]:
    """(what to divide by, facts for the product, warnings)."""
    run, wanted, pulses = job.run, parameters.normalise_to, parameters.pulses
    charge = charge_divisor(charge_within(run.beam, pulses, run.banks)) if parameters.normalise else None
    divisor: Divisor | None = None
    if not parameters.normalise or wanted == "charge":
        divisor = charge
    elif wanted == "pulses" and statistics.n_pulses:
        divisor = Divisor(float(statistics.n_pulses), 0.0, "pulses", "counts/pulse")
    elif pulses is None and wanted == "monitor":
        divisor = monitor_divisor(run.beam)
    elif pulses is None and wanted == "monitor_spectrum":
        path = run.primary_flight_path_m
        divisor = spectrum_divisor(
            run.beam, file=run.file, axis=parameters.axis, edges=edges, primary_flight_path_m=path
        )
    facts = {
        "normalised_to": None, "normalised_by": None, **(divisor.facts() if divisor else {}),
        "proton_charge_uC": charge.value if charge else None,
    }  # fmt: skip
    # Without any charge in the file the counts stay counts, silently: most test runs have none.
    silent = not parameters.normalise or (wanted == "charge" and pulses is None)
    if divisor is not None or silent:
        return divisor, facts, ()
    what = "charge of these pulses" if pulses else wanted.replace("_", "'s ")
    return None, facts, (f"The file does not give the {what}: counts are not normalised.",)


KIND = StepKind(
    "time_of_flight",
    "Time-of-flight diffraction",
    TOF_POWDER_DIFFRACTION,
    TimeOfFlightParameters,
    reduce_time_of_flight,
    counted="events",
)
