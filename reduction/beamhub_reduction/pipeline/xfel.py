"""XFEL pulses of a whole run: match the modules' trains, correct each memory cell, mean and intensities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamhub_core.techniques import PHOTON_AND_NEUTRON_TECHNIQUE
from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.kernels.xfel import StoredFrame
from beamhub_reduction.kernels.xfel_cells import MAX_BINS, PixelBins
from beamhub_reduction.nexus.access import real_file
from beamhub_reduction.nexus.xfel import ModuleFrames, XfelRun, match_frames, read_xfel_run
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import CorruptPolicy, Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.units import TARGET_UNIT_BYTES
from beamhub_reduction.pipeline.xfel_constants import (
    ConstantsFile,
    GeometryChoice,
    load_constants,
    read_pixel_bins,
)
from beamhub_reduction.pipeline.xfel_read import BATCH_FRAMES, FrameReader
from beamhub_reduction.steps.signal import Axis, Signal
from beamhub_reduction.steps.xfel import (
    FloatArray,
    IntArray,
    ModuleSummer,
    ModuleSums,
    PulseCurves,
    add_curves,
    add_modules,
    mean_image,
)
from beamhub_reduction.storage_chunks import ChunkIndex, file_identity, read_chunk_index

MAX_CURVE_VALUES = 1 << 25
"""Modules times pulses times bins: 512 MiB of sums and counts."""


class XfelPulsesParameters(StepParameters):
    """What the caller may choose."""

    trains: Literal["all", "any"] = Field(
        default="all", description="pulses that 'all' modules have, or that 'any' module has"
    )
    constants: str | None = Field(
        default=None,
        description="HDF5 file with module_N/offset, gain and bad_pixels, each ([n_stages,] n_cells, ny, nx)"
        ", and module_N/threshold of gain stages",
    )
    geometry: str | None = Field(
        default=None, description="HDF5 file with module_N/positions (ny, nx, 3), metres from the sample"
    )
    energy_kev: float | None = Field(
        default=None, gt=0, description="photon energy in keV, where the geometry does not say it"
    )
    bins: int = Field(default=500, ge=1, le=MAX_BINS, description="bins of equal width over q")
    q_range: tuple[float, float] | None = Field(
        default=None, description="limits of q in nm^-1 (default: what the pixels span)"
    )
    solid_angle: bool = Field(default=True, description="correct curves for the solid angle of each pixel")


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
    """What all units share; `bins` are those of each of `modules`, or none."""

    constants: ConstantsFile | None
    shape: tuple[int, int]
    modules: tuple[int, ...]
    n_pulses: int
    bins: tuple[PixelBins, ...]
    corrupt: CorruptPolicy

    def summer(self, module: int) -> ModuleSummer:
        """What adds up frames of a module.

        Raises
        ------
        FilesChanged, BadParameter
        """
        constants = load_constants(self.constants, module, self.shape[0] * self.shape[1])
        bins = self.bins[self.modules.index(module)] if self.bins else None
        return ModuleSummer(module, constants, bins=bins, n_pulses=self.n_pulses)


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
    summer = task.summer(piece.module)
    constants = summer.constants
    cells = piece.cell if task.constants else np.zeros(piece.cell.size, dtype=np.int64)
    known = (cells >= 0) & (cells < constants.n_cells)
    value, problems = np.full(piece.rows.size, np.nan), []
    n_corrupt, reader = 0, FrameReader(piece.index)
    chosen = np.flatnonzero(known)
    if reader.is_single:  # frames of one cell share its constants: they are fetched from memory once a batch
        chosen = chosen[np.argsort(cells[chosen], kind="stable")]
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
            value[readable] = summer.add(frames, cells=cells[readable], pulses=piece.i_pulse[readable])
    good = np.isfinite(value)
    intensities = Intensities(piece.module, piece.i_train[good], piece.i_pulse[good], value[good])
    n_unknown = int(np.count_nonzero(~known))
    return XfelPart((summer.finish(),), (intensities,), n_corrupt, n_unknown, tuple(problems[:100]))


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
    edges, task = _task(parameters, run, pulses, engine)
    part, execution = engine.run(reduce_pulses, plan_pieces(run, trains, pulses), task, merge=merge_pulses)
    n_frames = sum(int(sums.n_of_cell.sum()) for sums in part.sums)
    if not n_frames:
        raise NothingLeft(source.file, "frames with constants for their cell")
    signals = _signals(part, run, trains, pulses)
    if edges is not None:
        signals += _curves(part, pulses, edges)
    n_all = np.unique(np.concatenate([f.train for f in everything.frames])).size
    left_out = run.left_out | {"pulses that not all modules have, trains": n_incomplete}
    statistics = Statistics(
        n_frames_read=n_frames, n_frames_corrupt=part.n_corrupt, n_trains=int(n_all),
        n_trains_used=int(trains.size), n_trains_incomplete=n_incomplete,
        n_trains_left_out=sum(run.left_out.values()), n_frames_without_constants=part.n_without_constants,
    )  # fmt: skip
    facts = {
        **parameters.model_dump(mode="json"), "constants": task.constants.file if task.constants else None,
        "detector": run.detector, "modules": list(run.modules), "left_out": left_out,
    }  # fmt: skip
    return Reduced(signals, statistics, execution, facts, part.problems)


def _task(
    parameters: XfelPulsesParameters, run: XfelRun, pulses: IntArray, engine: Engine
) -> tuple[FloatArray | None, XfelTask]:
    """(edges of the bins over q, where curves are wanted; what all units share)."""
    file = real_file(parameters.constants, engine.roots) if parameters.constants else None
    constants = ConstantsFile(file, file_identity(file), run.shape, run.is_raw) if file else None
    edges: FloatArray | None = None
    bins: tuple[PixelBins, ...] = ()
    if parameters.geometry is not None:
        if len(run.modules) * pulses.size * parameters.bins > MAX_CURVE_VALUES:
            most = max(1, MAX_CURVE_VALUES // (len(run.modules) * pulses.size))
            raise BadParameter("bins", parameters.bins, f"{most} or fewer for so many pulses and modules")
        choice = GeometryChoice(
            parameters.geometry, parameters.energy_kev, parameters.bins, parameters.q_range,
            parameters.solid_angle,
        )  # fmt: skip
        edges, bins = read_pixel_bins(choice, run.modules, run.shape, engine.roots)
    return edges, XfelTask(constants, run.shape, run.modules, pulses.size, bins, parameters.corrupt)


def _curves(part: XfelPart, pulses: IntArray, edges: FloatArray) -> tuple[Signal, ...]:
    """Mean corrected value of pixels by pulse and bin, of all modules and trains together; its counts."""
    curves: PulseCurves | None = None
    for sums in sorted(part.sums, key=lambda s: s.module):
        curves = add_curves(curves, sums.curves)
    if curves is None:
        return ()
    axes = Axis("pulse_id", "", pulses), Axis("q", "nm^-1", (edges[:-1] + edges[1:]) / 2)
    return (
        Signal("azimuthal", curves.mean(), None, "counts", axes),
        Signal("azimuthal_n", curves.n, None, "", axes),
    )


def _signals(part: XfelPart, run: XfelRun, trains: IntArray, pulses: IntArray) -> tuple[Signal, ...]:
    ny, nx = run.shape
    modules = np.array(run.modules)
    image = np.full((modules.size, ny * nx), np.nan)
    for sums in part.sums:
        image[run.modules.index(sums.module)] = mean_image(sums)
    by_module = np.full((modules.size, trains.size, pulses.size), np.nan)
    for found in part.intensities:
        by_module[run.modules.index(found.module), found.i_train, found.i_pulse] = found.value
    axes = Axis("module", "", modules), Axis("train_id", "", trains), Axis("pulse_id", "", pulses)
    mean, errors = _mean_over_trains(by_module)
    rows, columns = Axis("y", "px", np.arange(ny)), Axis("x", "px", np.arange(nx))
    return (
        Signal("mean_image", image.reshape(-1, ny, nx), None, "counts", (axes[0], rows, columns)),
        Signal("pulse_intensity", _over_modules(by_module, part), None, "counts", axes[1:]),
        Signal("module_intensity", mean, errors, "counts", (axes[0], axes[2])),
    )


def _over_modules(by_module: FloatArray, part: XfelPart) -> FloatArray:
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
