"""Detectors that were histogrammed over time of flight when they were measured: one curve for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamhub_core.techniques import TOF_POWDER_DIFFRACTION
from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.nexus.errors import GeometryMissing
from beamhub_reduction.nexus.event_histograms import HistogramBank, HistogramRun, read_histogram_run
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.events import AXES, AxisParameters
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import CorruptPolicy, Reduced, Source, StepKind
from beamhub_reduction.pipeline.time_of_flight_beam import (
    Divisor,
    charge_divisor,
    monitor_divisor,
    spectrum_divisor,
)
from beamhub_reduction.pipeline.units import TARGET_UNIT_BYTES, Segment
from beamhub_reduction.steps.frames import FloatArray, IntArray
from beamhub_reduction.steps.signal import Axis, Signal
from beamhub_reduction.steps.time_of_flight import (
    EventAxis,
    d_spacing,
    histogram_curve,
    rebin_counts,
    wavelength,
)
from beamhub_reduction.storage_chunks import read_chunk_index, read_rows


class TofHistogramParameters(AxisParameters):
    """What the caller may choose. On the axis 'tof' the file's own bins are kept."""

    axis: EventAxis = Field(
        default="tof",
        description="'tof' keeps the file's bins; 'd' and 'wavelength' need the file's geometry",
    )
    bank: str | None = Field(default=None, description="only the detector of this name; without it all")
    normalise_to: Literal["charge", "monitor", "monitor_spectrum"] | None = Field(
        default=None,
        description="divide by 'charge' (proton charge, uC), 'monitor' (its counts) or 'monitor_spectrum' "
        "(its counts in each bin); without it counts stay counts",
    )


@dataclass(frozen=True, slots=True)
class HistogramPiece:
    """Rows (first axis) of one detector's counts, and the place of their first pixel."""

    number: int
    i_bank: int
    segment: Segment


@dataclass(frozen=True, slots=True)
class BankTask:
    """One detector: `edges` and `factor` (n_pixels,) are None where the file's own bins are kept."""

    n_tof: int
    time_edges_s: FloatArray
    edges: FloatArray | None
    factor: FloatArray | None


@dataclass(frozen=True, slots=True)
class HistogramTask:
    """What all units share."""

    banks: tuple[BankTask, ...]
    corrupt: CorruptPolicy


@dataclass(frozen=True, slots=True)
class HistogramPart:
    """For each detector met: exact sums in the file's bins, (n_tof,) int64, and in new bins or None."""

    by_bank: dict[int, tuple[IntArray, FloatArray | None]]
    n_corrupt: int
    problems: tuple[str, ...]


def sum_histograms(piece: HistogramPiece, task: HistogramTask) -> HistogramPart:
    """Sum the pixels of one unit.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    """
    bank, segment = task.banks[piece.i_bank], piece.segment
    rows = read_rows(segment.index, segment.start, segment.stop)
    if rows.problems and task.corrupt == "fail":
        raise rows.problems[0]
    per_row = int(np.prod(segment.index.shape[1:-1], dtype=np.int64))
    counts = rows.data[rows.good].reshape(-1, bank.n_tof)
    total = counts.sum(axis=0, dtype=np.int64)
    rebinned = None
    if bank.edges is not None and bank.factor is not None:
        factor = bank.factor.reshape(-1, per_row)[segment.at : segment.at + segment.n_rows][rows.good].ravel()
        rebinned = rebin_counts(counts, time_edges_s=bank.time_edges_s, factor=factor, edges=bank.edges)
    n_corrupt = int(np.count_nonzero(~rows.good)) * per_row
    return HistogramPart(
        {piece.i_bank: (total, rebinned)}, n_corrupt, tuple(str(p) for p in rows.problems[:100])
    )


def merge_histograms(left: HistogramPart, right: HistogramPart) -> HistogramPart:
    """Both parts together; call in the order of the units."""
    merged = dict(left.by_bank)
    for i, (total, rebinned) in right.by_bank.items():
        if i in merged:
            before, earlier = merged[i]
            both = None if rebinned is None or earlier is None else earlier + rebinned
            merged[i] = (before + total, both)
        else:
            merged[i] = (total, rebinned)
    return HistogramPart(merged, left.n_corrupt + right.n_corrupt, (*left.problems, *right.problems)[:100])


def reduce_tof_histogram(source: Source, parameters: TofHistogramParameters, engine: Engine) -> Reduced:
    """Counts of every detector over time (in the file's bins, exact), wavelength or d-spacing (rebinned).

    Each detector is a signal of its own: files hold merged detectors beside their parts.

    Raises
    ------
    NoEvents, GeometryMissing, EventsInvalid, BadParameter, NothingLeft, CorruptChunk
    """
    with NexusFile(source.file, engine.roots) as nexus:
        run = read_histogram_run(nexus)
    banks = tuple(bank for bank in run.banks if parameters.bank in (None, bank.name))
    if not banks:
        raise BadParameter("bank", parameters.bank, "one of " + ", ".join(bank.name for bank in run.banks))
    for bank in banks:
        if np.dtype(bank.counts.dtype).kind not in "iu":
            raise BadParameter("bank", bank.name, f"a detector of integer counts, not {bank.counts.dtype}")
    task = HistogramTask(tuple(_bank_task(run, bank, parameters) for bank in banks), parameters.corrupt)
    pieces = _plan(banks)
    if not pieces:
        raise NothingLeft(source.file, "counts")
    part, execution = engine.run(sum_histograms, pieces, task, merge=merge_histograms)
    divisors = tuple(_divisor(run, of, parameters) for of in task.banks)
    signals = tuple(
        _signal(bank, of, part.by_bank[i], parameters.axis, divisors[i])
        for i, (bank, of) in enumerate(zip(banks, task.banks, strict=True))
        if i in part.by_bank
    )
    statistics = Statistics(
        counts_total=sum(int(total.sum()) for total, _ in part.by_bank.values()),
        n_frames_corrupt=part.n_corrupt,
    )
    facts: dict[str, Any] = {
        "axis": parameters.axis, "entry": run.entry, "banks": [bank.name for bank in banks],
        "primary_flight_path_m": run.primary_flight_path_m, "corrupt": parameters.corrupt,
    }  # fmt: skip
    facts |= next((divisor.facts() for divisor in divisors if divisor), {"normalised_to": None})
    warnings = list(part.problems)
    if parameters.normalise_to and None in divisors:
        wanted = parameters.normalise_to.replace("_", "'s ")
        warnings.append(f"The file does not give the {wanted}: counts are not normalised.")
    return Reduced(signals, statistics, execution, facts, tuple(warnings))


def _bank_task(run: HistogramRun, bank: HistogramBank, parameters: TofHistogramParameters) -> BankTask:
    n_tof = bank.time_edges_s.size - 1
    if parameters.axis == "tof":
        return BankTask(n_tof, bank.time_edges_s, None, None)
    wanted: dict[str, Any] = {"distance": bank.distance_m, "moderator/distance": run.primary_flight_path_m}
    if parameters.axis == "d":
        wanted["polar_angle"] = bank.two_theta_rad
    missing = tuple(name for name, value in wanted.items() if value is None)
    if missing or bank.distance_m is None or run.primary_flight_path_m is None:
        raise GeometryMissing(run.file, f"{run.entry}/.../{bank.name}", missing)
    path = run.primary_flight_path_m + bank.distance_m
    if parameters.axis == "d" and bank.two_theta_rad is not None:
        factor = d_spacing(np.ones(1), flight_path_m=path, two_theta_rad=bank.two_theta_rad)
    else:
        factor = wavelength(np.ones(1), flight_path_m=path)
    return BankTask(n_tof, bank.time_edges_s, _edges(parameters, bank.time_edges_s, factor), factor)


def _edges(parameters: TofHistogramParameters, times: FloatArray, factor: FloatArray) -> FloatArray:
    if parameters.edges is not None:
        return np.asarray(parameters.edges, dtype=np.float64)
    usable = factor[np.isfinite(factor) & (factor > 0)]
    if parameters.chosen_range is not None:
        return parameters.edges_within(*parameters.chosen_range)
    low, high = float(times[0]) * float(usable.min(initial=np.inf)), float(times[-1] * usable.max(initial=0))
    return parameters.edges_within(max(low, 0.0), high)


def _plan(banks: tuple[HistogramBank, ...]) -> tuple[HistogramPiece, ...]:
    pieces: list[HistogramPiece] = []
    for i, bank in enumerate(banks):
        for piece in bank.counts.pieces:
            if piece.missing is not None:
                raise piece.missing
            index = read_chunk_index(piece.file, piece.dataset)
            whole = max(1, TARGET_UNIT_BYTES // max(index.row_bytes, 1)) // index.rows_per_chunk
            step = max(1, whole) * index.rows_per_chunk
            for low in range(0, piece.n_rows, step):
                start, stop = piece.first + low, piece.first + min(low + step, piece.n_rows)
                segment = Segment(index.select(start, stop), start, stop, piece.at + low)
                pieces.append(HistogramPiece(len(pieces), i, segment))
    return tuple(pieces)


def _divisor(run: HistogramRun, task: BankTask, parameters: TofHistogramParameters) -> Divisor | None:
    if parameters.normalise_to == "charge":
        return charge_divisor(run.beam.charge_pC)
    if parameters.normalise_to == "monitor":
        return monitor_divisor(run.beam)
    if parameters.normalise_to is None:
        return None
    edges = task.time_edges_s * 1e6 if task.edges is None else task.edges
    path = run.primary_flight_path_m
    return spectrum_divisor(
        run.beam, file=run.file, axis=parameters.axis, edges=edges, primary_flight_path_m=path
    )


def _signal(
    bank: HistogramBank, task: BankTask, found: tuple[IntArray, FloatArray | None], axis: EventAxis,
    divisor: Divisor | None,
) -> Signal:  # fmt: skip
    name, units = AXES[axis]
    total, rebinned = found
    counts: IntArray | FloatArray
    if rebinned is None or task.edges is None:
        edges, counts = task.time_edges_s * 1e6, total
    else:
        edges, counts = task.edges, rebinned
    axes = (Axis(name, units, edges),)
    if divisor is None:
        return Signal(f"counts_{bank.name}", counts, np.sqrt(counts), "counts", axes)
    curve = histogram_curve(edges, counts=counts, divisor=divisor.value, variance=divisor.variance)
    return Signal(f"intensity_{bank.name}", curve.intensity, curve.errors, divisor.units, axes)


KIND = StepKind(
    "tof_histogram",
    "Time-of-flight histograms",
    TOF_POWDER_DIFFRACTION,
    TofHistogramParameters,
    reduce_tof_histogram,
    counted="events",
)
