"""XFEL pulses of a whole run: match the modules' trains, correct each memory cell, mean and intensities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamhub_core.techniques import PHOTON_AND_NEUTRON_TECHNIQUE
from beamhub_reduction.errors import BadParameter, FilesChanged, NothingLeft
from beamhub_reduction.kernels.xfel import StoredFrame
from beamhub_reduction.nexus.access import real_file
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.nexus.xfel import ModuleFrames, XfelRun, match_frames, read_xfel_run
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import CorruptPolicy, Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.units import TARGET_UNIT_BYTES
from beamhub_reduction.pipeline.xfel_read import BATCH_FRAMES, FrameReader
from beamhub_reduction.steps.signal import Axis, Signal
from beamhub_reduction.steps.xfel import (
    CellConstants,
    FloatArray,
    IntArray,
    ModuleSums,
    add_modules,
    build_constants,
    mean_image,
    unit_constants,
)
from beamhub_reduction.storage_chunks import (
    ChunkIndex,
    FileIdentity,
    file_identity,
    read_chunk_index,
)


class XfelPulsesParameters(StepParameters):
    """What the caller may choose."""

    trains: Literal["all", "any"] = Field(
        default="all", description="pulses that 'all' modules have, or that 'any' module has"
    )
    constants: str | None = Field(
        default=None,
        description="HDF5 file with module_N/offset, gain and bad_pixels, each (n_cells, ny, nx)",
    )


@dataclass(frozen=True, slots=True)
class XfelPiece:
    """Frames of one unit: rows of one dataset, with the cell, train and pulse of each, all (n_frames,)."""

    number: int
    module: int
    index: ChunkIndex
    rows: IntArray
    cell: IntArray
    i_train: IntArray
    i_pulse: IntArray


@dataclass(frozen=True, slots=True)
class XfelTask:
    """What all units share: the constants' file, its identity, and the shape of a frame."""

    constants: str | None
    identity: FileIdentity | None
    shape: tuple[int, int]
    corrupt: CorruptPolicy


@dataclass(frozen=True, slots=True)
class Intensities:
    """The corrected intensity of single frames of a module, all of shape (n_frames,)."""

    module: int
    i_train: IntArray
    i_pulse: IntArray
    value: FloatArray


@dataclass(frozen=True, slots=True)
class XfelPart:
    """Sums of one unit or of several: one for each module, in the order in which they were met."""

    sums: tuple[ModuleSums, ...]
    intensities: tuple[Intensities, ...]
    n_corrupt: int
    n_without_constants: int
    problems: tuple[str, ...]


def reduce_pulses(piece: XfelPiece, task: XfelTask) -> XfelPart:
    """Sum the frames of one unit.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    FilesChanged, BadParameter
    """
    constants = load_constants(task, piece.module)
    sums = ModuleSums.empty(piece.module, constants)
    cells = piece.cell if task.constants else np.zeros(piece.cell.size, dtype=np.int64)
    known = (cells >= 0) & (cells < constants.n_cells)
    value, problems = np.full(piece.rows.size, np.nan), []
    n_corrupt, reader = 0, FrameReader(piece.index)
    chosen = np.flatnonzero(known)
    for low in range(0, chosen.size, BATCH_FRAMES):
        batch = chosen[low : low + BATCH_FRAMES]
        frames: list[StoredFrame] = []
        readable: list[int] = []
        for i, frame in zip(batch.tolist(), reader.read(piece.rows[batch]), strict=True):
            if isinstance(frame, StoredFrame):
                frames.append(frame)
                readable.append(i)
                continue
            if task.corrupt == "fail":
                raise frame
            n_corrupt += 1
            problems.append(str(frame))
        if frames:
            value[readable] = sums.add(frames, cells[readable], constants)
    good = np.isfinite(value)
    intensities = Intensities(piece.module, piece.i_train[good], piece.i_pulse[good], value[good])
    n_unknown = int(np.count_nonzero(~known))
    return XfelPart((sums,), (intensities,), n_corrupt, n_unknown, tuple(problems[:100]))


def merge_pulses(left: XfelPart, right: XfelPart) -> XfelPart:
    """Both parts together; call in the order of the units."""
    by_module = {s.module: s for s in left.sums}
    for sums in right.sums:
        known = by_module.get(sums.module)
        by_module[sums.module] = sums if known is None else add_modules(known, sums)
    return XfelPart(
        tuple(by_module.values()),
        (*left.intensities, *right.intensities),
        left.n_corrupt + right.n_corrupt,
        left.n_without_constants + right.n_without_constants,
        (*left.problems, *right.problems)[:100],
    )


def load_constants(task: XfelTask, module: int) -> CellConstants:
    """The constants of one module.

    Raises
    ------
    FilesChanged
        If their file is not the one that the reduction began with.
    BadParameter
        If the file has none for this module, or of another shape.
    """
    if task.constants is None or task.identity is None:
        return unit_constants(int(np.prod(task.shape)))
    if file_identity(task.constants) != task.identity:
        raise FilesChanged(task.constants)
    return _constants_of(task.constants, task.identity, module, task.shape)


@lru_cache(maxsize=2)
def _constants_of(file: str, identity: FileIdentity, module: int, shape: tuple[int, int]) -> CellConstants:
    with NexusFile(file) as nexus:
        group = nexus.node("/").get(f"module_{module}")
        offset = group.numbers("offset") if group is not None else None
        if (
            group is None
            or offset is None
            or offset.ndim != 3
            or offset.shape[1:] != shape
            or not len(offset)
        ):
            raise BadParameter(
                "constants", file, f"a file with module_{module}/offset of shape (n_cells, *{shape})"
            )
        gain, bad = group.numbers("gain"), group.numbers("bad_pixels")
        gain = np.ones_like(offset) if gain is None else gain
        bad = np.zeros_like(offset) if bad is None else bad
        if bad.shape == shape:
            bad = np.broadcast_to(bad, offset.shape)
        if gain.shape != offset.shape or bad.shape != offset.shape:
            raise BadParameter("constants", file, f"a file with gain and bad_pixels of shape {offset.shape}")
    return build_constants(offset, gain=gain, bad=bad)


def plan_pieces(run: XfelRun, trains: IntArray, pulses: IntArray) -> tuple[XfelPiece, ...]:
    """Frames of each file cut into units, module after module; within a file in the order of the rows."""
    pieces: list[XfelPiece] = []
    for frames in run.frames:
        for piece in _pieces_of(frames, trains, pulses):
            pieces.append(XfelPiece(len(pieces), frames.module, *piece))
    return tuple(pieces)


def _pieces_of(frames: ModuleFrames, trains: IntArray, pulses: IntArray) -> Iterator[tuple[Any, ...]]:
    if not frames.rows.size:
        return
    for layout in frames.data.pieces:
        if layout.missing is not None:
            raise layout.missing
        index = read_chunk_index(layout.file, layout.dataset)
        inside = np.flatnonzero((frames.rows >= layout.at) & (frames.rows < layout.at + layout.n_rows))
        inside = inside[np.argsort(frames.rows[inside], kind="stable")]
        step = max(1, TARGET_UNIT_BYTES // max(index.row_bytes, 1))
        for low in range(0, inside.size, step):
            chosen = inside[low : low + step]
            rows = frames.rows[chosen] - layout.at + layout.first
            yield (
                index.select(int(rows[0]), int(rows[-1]) + 1), rows, frames.cell[chosen],
                np.searchsorted(trains, frames.train[chosen]), np.searchsorted(pulses, frames.pulse[chosen]),
            )  # fmt: skip


def reduce_xfel_pulses(source: Source, parameters: XfelPulsesParameters, engine: Engine) -> Reduced:
    """Mean image, intensity of every pulse, and mean intensity of every module and pulse.

    Raises
    ------
    XfelRunInvalid
        If the file and those beside it are no run of detector modules.
    NothingLeft
        If no pulse is left.
    BadParameter, CorruptChunk, FilesChanged
    """
    everything = read_xfel_run(source.file, roots=engine.roots)
    run, trains, pulses, n_incomplete = match_frames(everything, require_all=parameters.trains == "all")
    if not trains.size:
        raise NothingLeft(source.file, "pulses that " + parameters.trains + " modules have")
    constants = real_file(parameters.constants, engine.roots) if parameters.constants else None
    task = XfelTask(constants, file_identity(constants) if constants else None, run.shape, parameters.corrupt)
    part, execution = engine.run(reduce_pulses, plan_pieces(run, trains, pulses), task, merge=merge_pulses)
    n_frames = sum(int(sums.n_of_cell.sum()) for sums in part.sums)
    if not n_frames:
        raise NothingLeft(source.file, "frames with constants for their cell")
    signals = _signals(part, task, run, trains, pulses)
    n_all = np.unique(np.concatenate([f.train for f in everything.frames])).size
    left_out = run.left_out | {"pulses that not all modules have, trains": n_incomplete}
    statistics = Statistics(
        n_frames_read=n_frames, n_frames_corrupt=part.n_corrupt, n_trains=int(n_all),
        n_trains_used=int(trains.size), n_trains_incomplete=n_incomplete,
        n_trains_left_out=sum(run.left_out.values()), n_frames_without_constants=part.n_without_constants,
    )  # fmt: skip
    facts = {
        "trains": parameters.trains, "constants": constants, "corrupt": parameters.corrupt,
        "detector": run.detector, "modules": list(run.modules), "left_out": left_out,
    }  # fmt: skip
    return Reduced(signals, statistics, execution, facts, part.problems)


def _signals(
    part: XfelPart, task: XfelTask, run: XfelRun, trains: IntArray, pulses: IntArray
) -> tuple[Signal, ...]:
    ny, nx = run.shape
    modules = np.array(run.modules)
    image = np.full((modules.size, ny * nx), np.nan)
    for sums in part.sums:
        image[run.modules.index(sums.module)] = mean_image(sums, constants=load_constants(task, sums.module))
    by_module = np.full((modules.size, trains.size, pulses.size), np.nan)
    for found in part.intensities:
        by_module[run.modules.index(found.module), found.i_train, found.i_pulse] = found.value
    axes = Axis("module", "", modules), Axis("train_id", "", trains), Axis("pulse_id", "", pulses)
    mean, errors = _mean_over_trains(by_module)
    rows, columns = Axis("y", "px", np.arange(ny)), Axis("x", "px", np.arange(nx))
    return (
        Signal("mean_image", image.reshape(-1, ny, nx), None, "counts", (axes[0], rows, columns)),
        Signal("pulse_intensity", _over_modules(by_module, task, part), None, "counts", axes[1:]),
        Signal("module_intensity", mean, errors, "counts", (axes[0], axes[2])),
    )


def _over_modules(by_module: FloatArray, task: XfelTask, part: XfelPart) -> FloatArray:
    """The sum of all modules that have the pulse; NaN where none has it, or a frame could not be read."""
    present = np.isfinite(by_module)
    total = np.where(present, by_module, 0.0).sum(axis=0)
    damaged = part.n_corrupt > 0 or part.n_without_constants > 0
    n_wanted = present.sum(axis=0).max(initial=0) if damaged else 1
    return np.where(present.sum(axis=0) >= max(n_wanted, 1), total, np.nan)


def _mean_over_trains(by_module: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(mean, standard error of the mean) over trains, shape (n_modules, n_pulses); NaN without two values."""
    present = np.isfinite(by_module)
    n = present.sum(axis=1)
    mean, errors = np.full(n.shape, np.nan), np.full(n.shape, np.nan)
    np.divide(np.where(present, by_module, 0.0).sum(axis=1), n, out=mean, where=n > 0)
    spread = np.where(present, by_module - mean[:, np.newaxis], 0.0)
    np.divide((spread**2).sum(axis=1), n * (n - 1.0), out=errors, where=n > 1)
    return mean, np.sqrt(errors)


KIND = StepKind(
    "xfel_pulses",
    "XFEL pulses",
    PHOTON_AND_NEUTRON_TECHNIQUE,
    XfelPulsesParameters,
    reduce_xfel_pulses,
    counted="frames",
)
