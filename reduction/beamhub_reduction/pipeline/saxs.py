"""Small-angle scattering of a whole run: frames compared and averaged, a background run taken away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamhub_core.techniques import SMALL_ANGLE_X_RAY_SCATTERING
from beamhub_reduction.errors import BadParameter, FrameCountError, NothingLeft
from beamhub_reduction.mask_file import read_mask
from beamhub_reduction.nexus.access import real_file
from beamhub_reduction.nexus.errors import FramesDisagree
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack, read_pixel_mask
from beamhub_reduction.nexus.geometry import Geometry, Monitor, read_geometry, read_monitor
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.azimuthal import AXES, frame_weights, join_masks
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.frames import FrameTally, frame_batches
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import CorruptPolicy, Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.units import FrameUnit, plan_frame_units
from beamhub_reduction.steps.azimuthal import AzimuthalMatrix, build_azimuthal_matrix
from beamhub_reduction.steps.curve import MAX_BINS, Curve
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray
from beamhub_reduction.steps.saxs import (
    FrameCurves,
    Test,
    add_curves,
    compare_frames,
    frame_curves,
    keep_frames,
    subtract_background,
)
from beamhub_reduction.steps.signal import Axis, Signal, curve_signal

MAX_CURVE_VALUES = 2**28
"""Frames times bins that are kept at once: three float64 arrays of 2 GiB."""


class SaxsParameters(StepParameters):
    """What the caller may choose. `mask` (ny, nx), non-zero = masked, is joined with the file's own."""

    bins: int = Field(default=1000, ge=1, le=MAX_BINS, description="number of bins of equal width")
    unit: Literal["q_nm^-1", "q_A^-1", "2th_deg", "2th_rad"] = Field(
        default="q_nm^-1", description="unit of the axis"
    )
    mask: Any = Field(
        default=None, description="a .npy file or an array, shape of a frame, non-zero = masked"
    )
    normalise: bool = Field(default=True, description="divide by the entry's monitor, frame by frame")
    transmission: str | float | None = Field(
        default=None,
        description="transmission of the sample: a number, or a path in the file (one, or per frame)",
    )
    test: Test = Field(default="cormap", description="how frames are compared with the first ones")
    n_reference: int = Field(default=1, ge=1, le=1_000_000, description="first frames that are the reference")
    significance: float = Field(
        default=0.01, gt=0, lt=1, description="chance of rejecting any good frame of the run"
    )
    stop_at_first: bool = Field(default=False, description="reject all frames behind the first rejected one")
    background: str | None = Field(
        default=None, description="FILE, FILE::/path/of/frames, or ::/path for frames of the same file"
    )
    background_scale: float = Field(
        default=1.0, ge=0, le=1e6, description="the background is multiplied by it before it is subtracted"
    )
    background_transmission: str | float | None = Field(
        default=None, description="as `transmission`, of the background"
    )
    absolute_scale: float | None = Field(
        default=None, gt=0, description="factor to the scattering cross section in cm^-1, from a standard"
    )
    geometry: Geometry | None = Field(
        default=None, description="used instead of the file's", json_schema_extra={"command_line": False}
    )


@dataclass(frozen=True, slots=True)
class SaxsTask:
    """What all units share."""

    matrix: AzimuthalMatrix
    masked: BoolArray
    corrupt: CorruptPolicy


@dataclass(frozen=True, slots=True)
class SaxsPart:
    """The result of one unit, or of several; the frames in order, `numbers` their places in the stack."""

    curves: FrameCurves
    numbers: IntArray
    tally: FrameTally


@dataclass(frozen=True, slots=True)
class _Series:
    """Frames to average, and what each is divided by."""

    file: str
    stack: FrameStack
    masked: BoolArray
    weights: FloatArray
    reference: float | None
    monitor: Monitor | None


def reduce_curves(unit: FrameUnit, task: SaxsTask) -> SaxsPart:
    """The curves of the frames of one unit.

    Raises
    ------
    CorruptChunk, FilesChanged
    """
    shape = (task.masked.shape[0], task.masked.shape[1])
    curves = frame_curves(
        task.matrix, frames=np.zeros((0, *shape), dtype=unit.segments[0].index.dtype), masked=task.masked,
        weights=np.zeros(0),
    )  # fmt: skip
    numbers, tally = np.zeros(0, dtype=np.int64), FrameTally()
    for batch in frame_batches(unit, shape=shape, corrupt=task.corrupt):
        more = frame_curves(
            task.matrix, frames=batch.data, masked=task.masked, weights=batch.weights, blank=batch.blank
        )
        curves, tally = add_curves(curves, more), tally + batch.tally
        numbers = np.concatenate([numbers, batch.numbers])
    return SaxsPart(curves, numbers, tally)


def merge_curves(left: SaxsPart, right: SaxsPart) -> SaxsPart:
    """Both parts together; call in the order of the units."""
    return SaxsPart(
        add_curves(left.curves, right.curves),
        np.concatenate([left.numbers, right.numbers]),
        left.tally + right.tally,
    )


def reduce_saxs(source: Source, parameters: SaxsParameters, engine: Engine) -> Reduced:
    """Average the frames that agree with the first ones, and subtract the background.

    I(q) = absolute_scale * (sample - background_scale * background); each is the ratio of the sums of
    counts and of flux times transmission times solid angle of its frames that were kept. Frames without
    flux (monitor not above zero) are left out before any comparison.

    Raises
    ------
    LinkMissing, CorruptChunk, FrameCountError, GeometryMissing, MaskShapeWrong, FramesDisagree, NoFrames,
    BadParameter, NothingLeft, ...
    """
    sample, geometry = _read(source, parameters, engine, parameters.transmission)
    masked, background = sample.masked, None
    if parameters.background is not None:
        other = _background_source(source, parameters.background, engine)
        background, _ = _read(other, parameters, engine, parameters.background_transmission, sample.reference)
        if background.stack.shape != sample.stack.shape:
            shapes = [f"{s.file} {s.stack.shape}" for s in (sample, background)]
            raise FramesDisagree(sample.file, *shapes)
        masked = masked | background.masked
    matrix = build_azimuthal_matrix(geometry, masked=masked, n_bins=parameters.bins, unit=parameters.unit)
    task = SaxsTask(matrix, masked, parameters.corrupt)
    part, kept, probability, execution = _average(sample, parameters, engine, task)
    curve = part.curves.mean(kept, matrix.centres)
    empty: Curve | None = None
    extra: dict[str, Any] = {}
    if background is not None:
        other_part, other_kept, _, more = _average(background, parameters, engine, task)
        empty = other_part.curves.mean(other_kept, matrix.centres)
        execution = execution + more
        extra = {
            "background_file": background.file,
            "background_frames_used": int(other_kept.sum()),
            "background_frames_rejected": other_part.numbers[~other_kept][:1000].tolist(),
        }
        part = replace(part, tally=part.tally + replace(other_part.tally, n_read=0))
    scale = parameters.absolute_scale
    final = subtract_background(
        curve, background=empty, scale=parameters.background_scale, factor=scale or 1.0
    )
    signals = _signals(final, curve, empty, parameters, part)
    frame = Axis("frame", "", part.numbers)
    signals.append(Signal("probability", probability, None, "", (frame,)))
    signals.append(Signal("frame_used", kept.astype(np.uint8), None, "", (frame,)))
    chosen = {
        **parameters.model_dump(mode="json", exclude={"mask", "geometry"}),
        "mask": "file" if parameters.mask is None else "file and caller",
        "geometry": {name: getattr(geometry, name) for name in Geometry.__slots__},
        "normalised_to": sample.monitor.name if sample.monitor else None,
        "monitor_reference": sample.reference,
        "frames_used": int(kept.sum()),
        "frames_rejected": part.numbers[~kept][:1000].tolist(),
        **extra,
    }
    return Reduced(
        tuple(signals), _counts(sample, part, masked), execution, chosen, _warnings(sample, part, kept)
    )


def _read(
    source: Source,
    parameters: SaxsParameters,
    engine: Engine,
    transmission: str | float | None,
    reference: float | None = None,
) -> tuple[_Series, Geometry]:
    """Frames, mask and weights of a run; `reference` is the sample's, so that both have the same scale."""
    with NexusFile(source.file, engine.roots) as nexus:
        stack = read_frame_stack(nexus, source.dataset)
        if stack.missing and parameters.missing == "fail":
            raise stack.missing[0]
        geometry = parameters.geometry or read_geometry(nexus, stack.entry, stack.detector)
        masked = read_pixel_mask(nexus, stack.detector, stack.shape)
        monitor = read_monitor(nexus, stack.entry) if parameters.normalise else None
        passed = _transmission(nexus, transmission, stack.n_frames)
    if stack.n_present == 0:
        raise NothingLeft(source.file, "frames")
    if stack.n_frames * parameters.bins > MAX_CURVE_VALUES:
        raise BadParameter(
            "bins", parameters.bins, f"at most {MAX_CURVE_VALUES // stack.n_frames} for this run"
        )
    weights, own = frame_weights(stack, monitor)
    if reference is not None and own is not None:
        weights, own = weights * (own / reference), reference
    masked = join_masks(source.file, masked, read_mask(parameters.mask))
    return _Series(source.file, stack, masked, weights * passed, own, monitor), geometry


def _transmission(nexus: NexusFile, given: str | float | None, n_frames: int) -> FloatArray:
    """Transmission of each frame, (n_frames,)."""
    if given is None:
        return np.ones(n_frames)
    try:
        values = np.array([float(given)])
    except ValueError:
        parent, _, name = str(given).rpartition("/")
        found = nexus.node(parent or "/").numbers(name)
        if found is None:
            raise BadParameter(
                "transmission", given, "a number, or the path of numbers in the file"
            ) from None
        values = found.ravel()
    if values.size not in (1, n_frames):
        raise FrameCountError(values.size, n_frames)
    if not (np.isfinite(values) & (values > 0) & (values <= 1)).any() or (values > 1).any():
        raise BadParameter("transmission", given, "above 0 and at most 1")
    return np.broadcast_to(values, (n_frames,)).astype(np.float64)


def _background_source(source: Source, text: str, engine: Engine) -> Source:
    file, _, inside = text.partition("::")
    if not file and not inside:
        raise BadParameter("background", text, "FILE, FILE::/path or ::/path")
    return Source(real_file(Path(file), engine.roots) if file else source.file, inside or None)


def _average(
    series: _Series, parameters: SaxsParameters, engine: Engine, task: SaxsTask
) -> tuple[SaxsPart, BoolArray, FloatArray, Execution]:
    """(curves, which frames agree, their probabilities, how it was run)."""
    units = plan_frame_units(series.stack, weights=series.weights)
    part, execution = engine.run(reduce_curves, units, task, merge=merge_curves)
    if part.numbers.size == 0:
        raise NothingLeft(series.file, "frames")
    probability = compare_frames(part.curves, test=parameters.test, n_reference=parameters.n_reference)
    keep = keep_frames(
        probability, significance=parameters.significance, stop_at_first=parameters.stop_at_first
    )
    return part, keep, probability, execution


def _signals(
    final: Curve, sample: Curve, background: Curve | None, parameters: SaxsParameters, part: SaxsPart
) -> list[Signal]:
    name, units = AXES[parameters.unit]

    def signal(curve: Curve, title: str, of: str) -> Signal:
        return curve_signal(curve, name=title, units=of, axis_name=name, axis_units=units)

    signals = [signal(final, "intensity", "cm^-1" if parameters.absolute_scale else "counts")]
    signals.append(signal(sample, "sample", "counts"))
    if background is not None:
        signals.append(signal(background, "background", "counts"))
    frame = Axis("frame", "", part.numbers)
    totals = part.curves.totals
    signals.append(Signal("total_counts", totals, np.sqrt(np.maximum(totals, 0.0)), "counts", (frame,)))
    return signals


def _counts(series: _Series, part: SaxsPart, masked: BoolArray) -> Statistics:
    return Statistics(
        n_frames_read=part.tally.n_read,
        n_frames_missing=series.stack.n_missing + part.tally.n_unwritten,
        n_frames_corrupt=part.tally.n_corrupt,
        n_frames_without_flux=part.tally.n_without_flux,
        n_pixels_masked=int(np.count_nonzero(masked)),
        n_values_blank=part.curves.n_blank,
        counts_total=round(part.curves.totals.sum().item()),
    )


def _warnings(series: _Series, part: SaxsPart, kept: BoolArray) -> tuple[str, ...]:
    rejected = part.numbers[~kept]
    told = [str(error) for error in series.stack.missing] + list(part.tally.problems)
    if rejected.size:
        shown = ", ".join(str(n) for n in rejected[:10]) + (", ..." if rejected.size > 10 else "")
        told.append(
            f"{rejected.size} of {kept.size} frames differ from the first ones and were left out: {shown}"
        )
    return tuple(told)


KIND = StepKind("saxs", "Small-angle scattering", SMALL_ANGLE_X_RAY_SCATTERING, SaxsParameters, reduce_saxs)
