"""Statistics over the frames of a run: images of pixels, curves of frames and regions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from beamhub_core.techniques import X_RAY_PROBE
from beamhub_reduction.errors import NothingLeft
from beamhub_reduction.kernels.statistics_stored import can_sum_stored, pack_regions
from beamhub_reduction.mask_file import read_labels, read_mask
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack, read_pixel_mask
from beamhub_reduction.nexus.masks import ValueLimits, read_value_limits
from beamhub_reduction.nexus.scanned import read_frame_times
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.azimuthal_input import join_masks
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.frame_statistics_work import (
    FrameStatisticsPart,
    FrameStatisticsTask,
    merge_frame_statistics,
    reduce_frame_statistics,
)
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.units import FRAME_UNIT_BYTES, MIN_UNITS, FrameUnit, plan_frame_units
from beamhub_reduction.steps.frame_regions import Regions, build_regions, rectangle_text
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray
from beamhub_reduction.steps.signal import Axis, Signal
from beamhub_reduction.steps.statistics import (
    PixelStatistics,
    clip_bounds,
    count_type,
    find_defects,
    finish_statistics,
)

UNIT_BYTES = 4 * 1024**3
"""Decoded bytes of a unit with images: its part is as large as ten frames, so it should hold many more."""
MIN_IMAGE_UNITS = 2
"""For the same reason a small run with images is cut into two units only."""


def _rectangles(value: Any) -> Any:
    return tuple(rectangle_text(one) for one in value) if isinstance(value, (list, tuple)) else value


RegionTexts = Annotated[tuple[str, ...], BeforeValidator(_rectangles)]


class FrameStatisticsParameters(StepParameters):
    """What the caller may choose. `mask` (ny, nx), non-zero = masked, is joined with the file's own."""

    images: bool = Field(
        default=True, description="statistics of each pixel; without: frames and regions only"
    )
    regions: RegionTexts = Field(
        default=(), description="rectangles to follow: y0:y1,x0:x1 or name=y0:y1,x0:x1, ends excluded"
    )
    labels: Any = Field(
        default=None, description="a .npy file or an array of whole numbers: each above 0 is a region"
    )
    mask: Any = Field(
        default=None, description="a .npy file or an array, shape of a frame, non-zero = masked"
    )
    sigma_clip: float | None = Field(
        default=None, gt=0, le=1000, description="reject values this many deviations from their pixel's mean"
    )
    clip_passes: int = Field(default=3, ge=1, le=20, description="most passes of rejection over the frames")
    defects: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="mark pixels this many deviations from their neighbours' median",
    )


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Frames of a run and the pixels that do not count: what the steps over frames begin with."""

    stack: FrameStack
    masked: BoolArray
    valid: ValueLimits
    times: FloatArray | None = None
    """Of each frame, (n_frames,) in seconds, where the file says."""

    @classmethod
    def read(cls, source: Source, parameters: Any, engine: Engine) -> FrameSource:
        """The frames, with the file's mask joined with `parameters.mask`.

        Raises
        ------
        LinkMissing, NoFrames, MaskShapeWrong, NothingLeft
        """
        with NexusFile(source.file, engine.roots) as nexus:
            stack = read_frame_stack(nexus, source.dataset)
            if stack.missing and parameters.missing == "fail":
                raise stack.missing[0]
            masked = read_pixel_mask(nexus, stack.detector, stack.shape)
            valid = read_value_limits(nexus, stack.detector, stack.dtype)
            detector = nexus.find(stack.detector)
            times = read_frame_times(nexus.node(stack.entry), detector, stack.n_frames)
        if stack.n_present == 0:
            raise NothingLeft(source.file, "frames")
        return cls(
            stack,
            join_masks(source.file, masked, read_mask(parameters.mask, file=source.file, roots=engine.roots)),
            valid,
            times,
        )

    def units(
        self, target_bytes: int = FRAME_UNIT_BYTES, min_units: int = MIN_UNITS
    ) -> tuple[FrameUnit, ...]:
        """The present frames as units of about this many decoded bytes."""
        weights = np.ones(self.stack.n_frames)
        return plan_frame_units(self.stack, weights=weights, target_bytes=target_bytes, min_units=min_units)


def reduce_run_statistics(source: Source, parameters: FrameStatisticsParameters, engine: Engine) -> Reduced:
    """Statistics over all frames of a file (or of one dataset in it).

    With `sigma_clip` the frames are read again for each pass of rejection, until nothing new is rejected.

    Raises
    ------
    LinkMissing, CorruptChunk, CountsTooLarge, MaskShapeWrong, NoFrames, BadParameter, NothingLeft, ...
    """
    frames = FrameSource.read(source, parameters, engine)
    stack, masked = frames.stack, frames.masked
    regions = build_regions(
        parameters.regions,
        labels=read_labels(parameters.labels, file=source.file, roots=engine.roots),
        masked=masked,
    )
    counted = regions if parameters.images else regions.and_all(masked)
    task = FrameStatisticsTask(
        stack.dtype, masked, counted, parameters.images, None, parameters.corrupt, frames.valid
    )
    if task.is_fused and can_sum_stored(np.dtype(stack.dtype)):
        bits = pack_regions(counted.spans, n_regions=counted.n_regions, n_pixels=masked.size)
        task = replace(task, bits=bits)
    units = frames.units(UNIT_BYTES, MIN_IMAGE_UNITS) if parameters.images else frames.units()
    part, execution = engine.run(reduce_frame_statistics, units, task, merge=merge_frame_statistics)
    if part.tally.n_read == 0:
        raise NothingLeft(source.file, "frames")
    signals: list[Signal] = []
    n_passes = 0
    if part.sums is not None:
        found = finish_statistics(part.sums, shape=stack.shape)
        if parameters.sigma_clip is not None:
            found, again, n_passes = _clip(found, parameters, engine, units, task)
            execution = execution + again if again else execution
        signals += _images(found, masked, parameters)
    signals += _curves(part, regions)
    if frames.times is not None:
        signals.append(frame_times_signal(frames.times, part.numbers))
    chosen = {
        **parameters.model_dump(mode="json", exclude={"mask", "labels"}),
        "mask": "file" if parameters.mask is None else "file and caller",
        "labels": None if parameters.labels is None else "caller",
        "region_names": list(regions.names),
        "clip_passes_done": n_passes,
        "entry": stack.entry,
        "detector": stack.detector,
        "decoded_by": sorted({decoded_by(s.index) for unit in units for s in unit.segments}),
    }
    statistics = frame_counts(stack, part, masked)
    warnings = (*(str(error) for error in stack.missing), *part.tally.problems)
    return Reduced(tuple(signals), statistics, execution, chosen, warnings)


def decoded_by(index: Any) -> str:
    """The way a dataset is read, in words."""
    return "storage chunks" if index.way == "direct" else f"HDF5 ({index.reason})"


def frame_counts(stack: FrameStack, part: Any, masked: BoolArray) -> Statistics:
    """What was read and left out, of a part with totals of frames."""
    return Statistics(
        n_frames_read=part.tally.n_read,
        n_frames_missing=stack.n_missing + part.tally.n_unwritten,
        n_frames_corrupt=part.tally.n_corrupt,
        n_frames_without_flux=part.tally.n_without_flux,
        n_pixels_masked=int(np.count_nonzero(masked)),
        n_values_blank=part.n_blank,
        counts_total=round(part.totals.sum().item()),
    )


def _clip(
    found: PixelStatistics,
    parameters: FrameStatisticsParameters,
    engine: Engine,
    units: tuple[FrameUnit, ...],
    task: FrameStatisticsTask,
) -> tuple[PixelStatistics, Execution | None, int]:
    """(statistics without outliers, how that was run, number of passes)."""
    kind = count_type(np.dtype(task.dtype), task.valid)
    without_regions = replace(task, bits=None, regions=Regions((), np.zeros((0, 3), dtype=np.int64)))
    bounds, execution, n_rejected, n_done = None, None, 0, 0
    while n_done < parameters.clip_passes:
        n_done += 1
        n_sigma = parameters.sigma_clip or np.inf
        bounds = clip_bounds(found, n_sigma=n_sigma, kind=kind, before=bounds)
        clipped = replace(without_regions, bounds=bounds)
        part, more = engine.run(reduce_frame_statistics, units, clipped, merge=merge_frame_statistics)
        execution = execution + more if execution else more
        if part.sums is None:
            raise ValueError("a pass of rejection has images")
        found = finish_statistics(part.sums, shape=(task.masked.shape[0], task.masked.shape[1]))
        now = int(found.n_rejected.sum())
        if now == n_rejected:
            break
        n_rejected = now
    return found, execution, n_done


def _images(found: PixelStatistics, masked: BoolArray, parameters: FrameStatisticsParameters) -> list[Signal]:
    axes = image_axes(masked.shape)
    signals = [
        Signal("mean", found.mean, found.mean_errors, "counts", axes),
        Signal("sum", found.sum, None, "counts", axes),
        Signal("variance", found.variance, None, "counts^2", axes),
        Signal("minimum", found.minimum, None, "counts", axes),
        Signal("maximum", found.maximum, None, "counts", axes),
        Signal("n_valid", found.n_valid, None, "", axes),
    ]
    if parameters.sigma_clip is not None:
        signals.append(Signal("n_rejected", found.n_rejected, None, "", axes))
    if parameters.defects is not None:
        mean = np.where(masked, np.nan, found.mean)
        marked = find_defects(mean, errors=found.mean_errors, n_sigma=parameters.defects)
        signals.append(Signal("defects", marked, None, "", axes))
    return signals


def image_axes(shape: tuple[int, ...]) -> tuple[Axis, Axis]:
    """Rows and columns of a frame."""
    y, x = (np.arange(n, dtype=np.int64) for n in shape)
    return Axis("y", "pixel", y), Axis("x", "pixel", x)


def frame_times_signal(times: FloatArray, numbers: IntArray) -> Signal:
    """When the frames of these numbers were taken."""
    return Signal("frame_time", times[numbers], None, "s", (Axis("frame", "", numbers),))


def _curves(part: FrameStatisticsPart, regions: Regions) -> list[Signal]:
    """Counts of frames and regions with Poisson uncertainties."""
    frame = Axis("frame", "", part.numbers)
    signals = [Signal("total_counts", part.totals, _poisson(part.totals), "counts", (frame,))]
    if regions.n_regions:
        axes = (frame, Axis("region", "", np.arange(regions.n_regions, dtype=np.int64)))
        signals += [
            Signal("region_counts", part.region_sums, _poisson(part.region_sums), "counts", axes),
            Signal("region_pixels", part.region_valid, None, "", axes),
        ]
    return signals


def _poisson(counts: Any) -> Any:
    return np.sqrt(np.maximum(counts, 0).astype(np.float64))


KIND = StepKind(
    "frame_statistics", "Statistics over frames", X_RAY_PROBE, FrameStatisticsParameters,
    reduce_run_statistics,
)  # fmt: skip
