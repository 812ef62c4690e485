"""Maps of a fly scan: region sums and centre of mass of every frame on the scan's grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Field

from beamhub_core.techniques import SPATIAL_MAP
from beamhub_reduction.errors import NothingLeft
from beamhub_reduction.kernels.decode import reason_of
from beamhub_reduction.kernels.fly_scan import StoredMapper, can_map_stored
from beamhub_reduction.kernels.statistics_regions import frame_moments, region_sums
from beamhub_reduction.mask_file import read_labels
from beamhub_reduction.nexus.masks import ValueLimits
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.fly_scan_grid import ScanGrid, choose_grid, read_positions
from beamhub_reduction.pipeline.frame_statistics import (
    FrameSource,
    RegionTexts,
    decoded_by,
    frame_counts,
)
from beamhub_reduction.pipeline.frames import FrameTally, frame_batches, stored_batches
from beamhub_reduction.pipeline.step import CorruptPolicy, Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.units import FrameUnit
from beamhub_reduction.steps.fly_scan import centre_of_mass, grid_places, scan_map
from beamhub_reduction.steps.frame_regions import Regions, build_regions
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray
from beamhub_reduction.steps.signal import Signal
from beamhub_reduction.steps.statistics import NO_LIMITS, NumberArray, count_type, prepare_frames

BATCH_BYTES = 4 * 1024**2
"""Decoded bytes of a batch: it stays in the cache between decoder and sums."""
STORED_BATCH_BYTES = 32 * 1024**2
"""Decoded bytes of a batch that is decoded frame by frame: as many as share the cost of one reading."""
MAX_STORED_FRAMES = 256


class FlyScanParameters(StepParameters):
    """What the caller may choose. `mask` (ny, nx), non-zero = masked, is joined with the file's own."""

    scan_shape: tuple[int, int] | None = Field(
        default=None, description="lines and points of a line; without it the axes of the file's NXdata"
    )
    snake: bool = Field(default=False, description="every second line runs backwards")
    regions: RegionTexts = Field(
        default=(), description="rectangles to map: y0:y1,x0:x1 or name=y0:y1,x0:x1, ends excluded"
    )
    labels: Any = Field(
        default=None, description="a .npy file or an array of whole numbers: each above 0 is a region"
    )
    moments: bool = Field(default=True, description="the centre of mass of every frame too")
    mask: Any = Field(
        default=None, description="a .npy file or an array, shape of a frame, non-zero = masked"
    )


@dataclass(frozen=True, slots=True)
class FlyScanTask:
    """What all units share."""

    masked: BoolArray
    regions: Regions
    moments: bool
    corrupt: CorruptPolicy
    valid: ValueLimits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class FlyScanPart:
    """The result of one unit, or of several: of each frame its number, total, moments (y, x) and regions."""

    numbers: IntArray
    totals: NumberArray
    moments: FloatArray
    region_sums: NumberArray
    n_blank: int
    tally: FrameTally


def reduce_points(unit: FrameUnit, task: FlyScanTask) -> FlyScanPart:
    """Sums of the frames of one unit.

    Frames that are stored as one bitshuffle-LZ4 chunk each are summed one by one, while they are in the
    cache; in every other layout batches are decoded first. The numbers are the same.

    Raises
    ------
    CorruptChunk, FilesChanged, CountsTooLarge
    """
    found = _reduce_stored(unit, task) or _reduce_decoded(unit, task)
    numbers, sums, n_valid, moments = (np.concatenate(column) for column in zip(*found.rows, strict=True))
    n_blank = numbers.size * int(np.count_nonzero(~task.masked)) - int(n_valid.sum())
    return FlyScanPart(numbers, sums[:, 0], moments, sums[:, 1:], n_blank, found.tally)


@dataclass
class _Found:
    """Of each batch: numbers of frames, sums of regions, values of the first one, moments; the first region
    is the whole frame."""

    rows: list[tuple[IntArray, NumberArray, IntArray, FloatArray]] = field(default_factory=list)
    tally: FrameTally = field(default_factory=FrameTally)


def _reduce_stored(unit: FrameUnit, task: FlyScanTask) -> _Found | None:
    """Straight from stored chunks; None when these are of another kind."""
    shape = task.masked.shape[0], task.masked.shape[1]
    dtype = np.dtype(unit.segments[0].index.dtype)
    alike = all(np.dtype(segment.index.dtype) == dtype for segment in unit.segments)
    if not alike or task.valid.lowest > 0 or not can_map_stored(dtype, shape):
        return None
    n_batch = max(1, min(MAX_STORED_FRAMES, STORED_BATCH_BYTES // max(1, task.masked.size * dtype.itemsize)))
    batches = stored_batches(unit, shape=shape, corrupt=task.corrupt, batch=n_batch)
    if batches is None:
        return None
    with_all = task.regions.and_all(task.masked)
    map_stored = StoredMapper(
        task.masked, dtype=dtype, spans=with_all.spans, n_regions=with_all.n_regions,
        limit=count_type(dtype, task.valid).limit, moments=task.moments,
    )  # fmt: skip
    found = _Found()
    for batch in batches:
        maps = map_stored(batch.data, offsets=batch.offsets, sizes=batch.sizes)
        if maps is None:
            return None
        good = maps.status == 0
        failed = {int(i): reason_of(int(maps.status[i])) or "" for i in np.flatnonzero(~good)}
        found.tally += batch.settle(failed, task.corrupt)
        found.rows.append((batch.numbers[good], maps.sums[good], maps.valid[good, 0], maps.moments[good]))
    return found


def _reduce_decoded(unit: FrameUnit, task: FlyScanTask) -> _Found:
    ny, nx = task.masked.shape
    dtype = np.dtype(unit.segments[0].index.dtype)
    kind, usable = count_type(dtype, task.valid), ~task.masked.ravel()
    with_all = task.regions.and_all(task.masked)
    n_batch = max(1, min(1024, BATCH_BYTES // max(1, ny * nx * dtype.itemsize)))
    found = _Found()
    for batch in frame_batches(unit, shape=(ny, nx), corrupt=task.corrupt, batch=n_batch):
        frames = prepare_frames(batch.data, usable=usable)
        blank = kind.blank(frames, None if batch.blank is None else batch.blank.reshape(frames.shape))
        sums, valid = region_sums(
            frames, limit=kind.limit, spans=with_all.spans, n_regions=with_all.n_regions, blank=blank
        )
        moments = np.zeros((len(frames), 2))
        if task.moments:
            images = frames.reshape(-1, ny, nx)
            hidden = None if blank is None else blank.reshape(images.shape)
            _, moments = frame_moments(images, limit=kind.limit, masked=task.masked, blank=hidden)
        found.rows.append((batch.numbers, sums, valid[:, 0], moments))
        found.tally += batch.tally
    return found


def merge_points(left: FlyScanPart, right: FlyScanPart) -> FlyScanPart:
    """Both parts together; call in the order of the units."""
    return FlyScanPart(
        np.concatenate([left.numbers, right.numbers]),
        np.concatenate([left.totals, right.totals]),
        np.concatenate([left.moments, right.moments]),
        np.concatenate([left.region_sums, right.region_sums]),
        left.n_blank + right.n_blank,
        left.tally + right.tally,
    )


def reduce_fly_scan(source: Source, parameters: FlyScanParameters, engine: Engine) -> Reduced:
    """Map the frames of a file (or of one dataset in it) on the grid of its scan.

    Points without a frame (an incomplete last line, frames left out) are NaN.

    Raises
    ------
    LinkMissing, CorruptChunk, MaskShapeWrong, NoFrames, BadParameter, NothingLeft, ...
    """
    frames = FrameSource.read(source, parameters, engine)
    stack, masked = frames.stack, frames.masked
    with NexusFile(source.file, engine.roots) as nexus:
        candidates = read_positions(nexus, stack.entry) if nexus.node(stack.entry).nx_class else ()
    grid = choose_grid(
        candidates, given=parameters.scan_shape, n_frames=stack.n_frames, snake=parameters.snake
    )
    regions = build_regions(
        parameters.regions,
        labels=read_labels(parameters.labels, file=source.file, roots=engine.roots),
        masked=masked,
    )
    task = FlyScanTask(masked, regions, parameters.moments, parameters.corrupt, frames.valid)
    units = frames.units()
    part, execution = engine.run(reduce_points, units, task, merge=merge_points)
    if part.tally.n_read == 0:
        raise NothingLeft(source.file, "frames")
    chosen = {
        **parameters.model_dump(mode="json", exclude={"mask", "labels"}),
        "mask": "file" if parameters.mask is None else "file and caller",
        "labels": None if parameters.labels is None else "caller",
        "scan_shape": list(grid.shape),
        "region_names": list(regions.names),
        "entry": stack.entry,
        "detector": stack.detector,
        "decoded_by": sorted({decoded_by(s.index) for unit in units for s in unit.segments}),
    }
    warnings = (*(str(error) for error in stack.missing), *part.tally.problems)
    signals = _maps(part, grid, regions, parameters)
    if frames.times is not None:
        places = grid_places(part.numbers, shape=grid.shape, snake=parameters.snake)
        times = scan_map(frames.times[part.numbers], places=places, shape=grid.shape)
        signals = (*signals, Signal("frame_time", times, None, "s", grid.axes))
    return Reduced(signals, frame_counts(stack, part, masked), execution, chosen, warnings)


def _maps(
    part: FlyScanPart, grid: ScanGrid, regions: Regions, parameters: FlyScanParameters
) -> tuple[Signal, ...]:
    places = grid_places(part.numbers, shape=grid.shape, snake=parameters.snake)

    def mapped(values: Any) -> FloatArray:
        return scan_map(values, places=places, shape=grid.shape)

    total = mapped(part.totals)
    signals = [Signal("total_counts", total, np.sqrt(np.maximum(total, 0)), "counts", grid.axes)]
    for i, name in enumerate(regions.names):
        counts = mapped(part.region_sums[:, i])
        signals.append(Signal(f"counts_{name}", counts, np.sqrt(np.maximum(counts, 0)), "counts", grid.axes))
    if parameters.moments:
        centre = centre_of_mass(part.totals, moments=part.moments)
        for i, axis in enumerate("yx"):
            values = mapped(centre[:, i])
            signals.append(Signal(f"centre_{axis}", values, None, "pixel", grid.axes))
    return tuple(signals)


KIND = StepKind("fly_scan_map", "Map of a fly scan", SPATIAL_MAP, FlyScanParameters, reduce_fly_scan)
