"""Neutron events as a map of pixel by time of flight, wavelength or d-spacing: exact counts, bounded memory.

A unit gives the cells of its events, sorted by parts of the map; cells wait until there are many, and are
then counted part after part, so that the counts at hand stay in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from beamhub_core.techniques import TOF_POWDER_DIFFRACTION
from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.kernels.event_plan import MAX_CELLS, EventPlan, Fate
from beamhub_reduction.kernels.events import (
    CellSorter,
    SortedCells,
    count_cells,
    count_event_cells,
)
from beamhub_reduction.nexus.errors import GeometryMissing
from beamhub_reduction.nexus.event_pulses import IntArray
from beamhub_reduction.nexus.events import EventRun, read_event_run
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.events import EventJob, EventParameters, EventTask, half, prepare_events
from beamhub_reduction.pipeline.events_read import EventPiece, event_blocks
from beamhub_reduction.pipeline.step import Reduced, Source, StepKind
from beamhub_reduction.steps.frames import FloatArray
from beamhub_reduction.steps.signal import Axis, Signal
from beamhub_reduction.steps.time_of_flight import EventAxis, event_plan

UNIT_BYTES = 64 * 1024**2
SMALL_CELLS = 1 << 19
"""Up to so many cells, 2 MiB, events are counted one by one. Source: benchmarks/bench_events.py"""
WAITING_CELLS = 1 << 26
"""Cells that wait before they are counted: 128 MiB. Source: benchmarks/bench_events.py"""

AnyArray = np.ndarray[Any, np.dtype[Any]]


class EventMapParameters(EventParameters):
    """What the caller may choose; the counts are not normalised."""

    axis: EventAxis = Field(
        default="tof", description="'tof' in microseconds, 'd' or 'wavelength' in angstrom"
    )
    bank: str | None = Field(default=None, description="only the detector of this name; without it all")


@dataclass(frozen=True, slots=True)
class MapTask(EventTask):
    """What all units share, and how many cells the map has; `wide` when a cell may count beyond 32 bits."""

    n_cells: int = 0
    wide: bool = False


@dataclass(frozen=True, slots=True)
class MapPart:
    """Counts of one unit or of several: `counts` (n_cells,) or None, and cells that are not counted yet."""

    n_cells: int
    wide: bool
    counts: AnyArray | None
    waiting: tuple[SortedCells, ...]
    fates: IntArray
    n_used: int
    n_corrupt: int
    problems: tuple[str, ...]


def map_events(piece: EventPiece, task: MapTask) -> MapPart:
    """The cells of the events of one unit, counted when they are more than the map has cells.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    """
    if task.n_cells <= SMALL_CELLS:
        return _small_map(piece, task)
    plan = task.plans[piece.i_bank]
    n_events = int((piece.runs[:, 1] - piece.runs[:, 0]).sum())
    sorter = CellSorter(plan, task.n_cells, np.empty(n_events, dtype=np.uint16))
    n_corrupt, problems = 0, []
    waiting: list[SortedCells] = []
    for block in event_blocks(piece, with_ids=True, corrupt=task.corrupt):
        if block.ids is None:
            raise ValueError("a map needs ids")
        waiting.append(sorter.sort(block.ids, block.offsets))
        n_corrupt += block.n_corrupt
        problems += [str(problem) for problem in block.problems]
    counts = None
    if sorter.n_used >= task.n_cells:
        counts = np.empty(task.n_cells, dtype=np.uint32)  # a unit has fewer than 2^32 events
        count_cells(waiting, counts=counts, fresh=True)
        waiting = []
    return MapPart(
        task.n_cells, task.wide, counts, tuple(waiting), sorter.fates, sorter.n_used, n_corrupt,
        tuple(problems[:100]),
    )  # fmt: skip


def _small_map(piece: EventPiece, task: MapTask) -> MapPart:
    """The counts of one unit; every event is counted at once."""
    counts, fates = np.zeros(task.n_cells, dtype=np.uint32), np.zeros(len(Fate), dtype=np.int64)
    n_used, n_corrupt, problems = 0, 0, []
    for block in event_blocks(piece, with_ids=True, corrupt=task.corrupt):
        if block.ids is None:
            raise ValueError("a map needs ids")
        others = count_event_cells(block.ids, block.offsets, plan=task.plans[piece.i_bank], counts=counts)
        fates += others
        n_used += block.offsets.size - int(others.sum())
        n_corrupt += block.n_corrupt
        problems += [str(problem) for problem in block.problems]
    return MapPart(
        task.n_cells, task.wide, counts, (), fates, n_used, n_corrupt, tuple(problems[:100])
    )  # fmt: skip


def merge_maps(left: MapPart, right: MapPart) -> MapPart:
    """Both parts together; the counts of the left part may be used up."""
    waiting, counts = (*left.waiting, *right.waiting), left.counts
    if right.counts is not None:
        counts = _widened(counts, left)
        counts += right.counts.astype(counts.dtype, copy=False)
    if sum(part.cells.size for part in waiting) > WAITING_CELLS:
        counts, waiting = _counted(counts, waiting, left), ()
    return MapPart(
        left.n_cells, left.wide, counts, waiting, left.fates + right.fates, left.n_used + right.n_used,
        left.n_corrupt + right.n_corrupt, (*left.problems, *right.problems)[:100],
    )  # fmt: skip


def finish_map(part: MapPart) -> AnyArray:
    """The counts of all cells, shape (n_cells,), uint32, or int64 where a run has 2^32 events or more."""
    return _counted(part.counts, part.waiting, part)


def _widened(counts: AnyArray | None, part: MapPart) -> AnyArray:
    dtype = np.int64 if part.wide else np.uint32
    if counts is not None:
        return counts.astype(dtype, copy=False)
    made = np.empty(part.n_cells, dtype=dtype)  # not np.zeros: NumPy asks for huge pages here only
    made.fill(0)
    return made


def _counted(counts: AnyArray | None, waiting: tuple[SortedCells, ...], part: MapPart) -> AnyArray:
    fresh = counts is None
    total = np.empty(part.n_cells, np.int64 if part.wide else np.uint32) if fresh else _widened(counts, part)
    count_cells(waiting, counts=total, fresh=fresh)
    return total


def reduce_event_map(source: Source, parameters: EventMapParameters, engine: Engine) -> Reduced:
    """Counts of every pixel over the axis: one signal for each detector, in the detector's own shape.

    Raises
    ------
    NoEvents, GeometryMissing, EventsInvalid, UnitUnknown
        If the file's events cannot be understood, or have no pixels.
    BadParameter
        If there is no such bank, or the map had more than MAX_CELLS cells.
    CorruptChunk, NothingLeft
    """
    with NexusFile(source.file, engine.roots) as nexus:
        run = _chosen_banks(read_event_run(nexus, without_geometry=parameters.axis == "tof"), parameters.bank)
    job = prepare_events(run, parameters)
    pieces = job.pieces(UNIT_BYTES)
    if not pieces:
        raise NothingLeft(source.file, "events")
    looks = parameters.chosen_range is None and parameters.edges is None
    edges, earlier = job.find_edges(
        pieces, engine.with_progress(half(engine.progress, 0)) if looks else engine
    )
    plans, n_cells = _plans(job, edges)
    task = MapTask(plans, parameters.corrupt, n_cells=n_cells, wide=job.n_events >= 1 << 32)
    part, execution = engine.with_progress(half(engine.progress, 1) if looks else engine.progress).run(
        map_events, pieces, task, merge=merge_maps
    )
    signals = _signals(job, edges, finish_map(part))
    execution = earlier + execution if earlier else execution
    statistics = job.statistics(part.fates, part.n_used, part.n_corrupt)
    return Reduced(signals, statistics, execution, job.describe(edges), part.problems)


def _chosen_banks(run: EventRun, name: str | None) -> EventRun:
    banks = tuple(bank for bank in run.banks if name in (None, bank.name))
    if not banks:
        raise BadParameter("bank", name, "one of " + ", ".join(bank.name for bank in run.banks))
    for bank in banks:
        if bank.detector_number is None:
            raise GeometryMissing(run.file, bank.path, ("detector_number",))
    return EventRun(run.file, run.entry, run.primary_flight_path_m, banks, run.beam)


def _plans(job: EventJob, edges: FloatArray) -> tuple[tuple[EventPlan, ...], int]:
    n_rows = sum(bank.masked.size for bank in job.run.banks)
    n_cells = n_rows * (edges.size - 1)
    if n_cells > MAX_CELLS:
        most = MAX_CELLS // n_rows
        raise BadParameter("bins", edges.size - 1, f"at most {most} for {n_rows} pixels, or choose one bank")
    plans, first = [], 0
    for bank, table, unit in zip(job.run.banks, job.tables, job.units, strict=True):
        plans.append(event_plan(table, edges=edges, unit=unit, first_row=first, n_rows=n_rows))
        first += bank.masked.size
    return tuple(plans), n_cells


def _signals(job: EventJob, edges: FloatArray, counts: AnyArray) -> tuple[Signal, ...]:
    """One signal for each bank. Errors are left out: they are the square root of the counts."""
    rows, first, signals = counts.reshape(-1, edges.size - 1), 0, []
    for bank in job.run.banks:
        values = rows[first : first + bank.masked.size]
        first += bank.masked.size
        if len(bank.shape) > 1:
            names = [*(f"i_{k}" for k in range(len(bank.shape)))]
            axes = tuple(Axis(n, "", np.arange(size)) for n, size in zip(names, bank.shape, strict=True))
            values = values.reshape(*bank.shape, -1)
        elif bank.detector_number is not None:
            axes = (Axis("detector_number", "", bank.detector_number),)
        name = "counts" if len(job.run.banks) == 1 else f"counts_{bank.name}"
        signals.append(Signal(name, values, None, "counts", (*axes, job.axis_of(edges))))
    return tuple(signals)


KIND = StepKind(
    "event_map",
    "Event map",
    TOF_POWDER_DIFFRACTION,
    EventMapParameters,
    reduce_event_map,
    counted="events",
)
