"""Small-angle scattering of a whole run: frames compared and averaged, a background run taken away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from beamhub_core.techniques import SMALL_ANGLE_X_RAY_SCATTERING
from beamhub_reduction.errors import BadParameter, FrameCountError, NothingLeft
from beamhub_reduction.nexus.access import real_file
from beamhub_reduction.nexus.errors import FramesDisagree
from beamhub_reduction.nexus.frames import FrameStack
from beamhub_reduction.nexus.geometry import Geometry
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.azimuthal import AXES, IMAGE, frame_weights
from beamhub_reduction.pipeline.azimuthal_input import AzimuthalInput, Choices, matrix_of, read_input
from beamhub_reduction.pipeline.azimuthal_work import AzimuthalTask, integrate_unit, merge_azimuthal
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.frames import FrameTally
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.units import plan_frame_units
from beamhub_reduction.steps.azimuthal_matrix import AzimuthalMatrix, Binning, Unit
from beamhub_reduction.steps.curve import MAX_BINS, Curve
from beamhub_reduction.steps.frames import BoolArray, FloatArray
from beamhub_reduction.steps.saxs import (
    FrameCurves,
    Test,
    compare_frames,
    keep_frames,
    subtract_background,
)
from beamhub_reduction.steps.signal import Axis, Signal, curve_signal

MAX_SHARES = 2.5
"""Bins that share a pixel on average, above which curves are not compared without a warning.

Source: tests/reduction/test_pipeline_frame_steps.py; an Eiger 4M frame over 1000 bins has 1.7.
"""
MAX_CURVE_VALUES = 2**28
"""Frames times bins that are kept at once: three float64 arrays of 2 GiB."""


class SaxsParameters(StepParameters):
    """What the caller may choose. `mask` (ny, nx), non-zero = masked, is joined with the file's own."""

    bins: int = Field(default=1000, ge=1, le=MAX_BINS, description="number of bins of equal width")
    unit: Unit = Field(default="q_nm^-1", description="unit of the axis")
    mask: Any = Field(default=None, description=f"{IMAGE}, non-zero = masked")
    dark: Any = Field(default=None, description=f"signal of a frame without beam: {IMAGE}")
    flat: Any = Field(
        default=None,
        description=f"relative sensitivity of the pixels: 'file' for the detector's own, {IMAGE}",
    )
    solid_angle: bool = Field(default=True, description="correct for the solid angle of each pixel")
    polarisation: float | None = Field(
        default=None, ge=-1, le=1, description="degree of horizontal polarisation to correct for"
    )
    poni: str | None = Field(
        default=None, description="a .poni file of pyFAI, used instead of the file's geometry"
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

    @property
    def binning(self) -> Binning:
        """The bins."""
        return Binning(self.bins, self.unit)

    @property
    def choices(self) -> Choices:
        """Geometry and pixels."""
        return Choices(
            self.geometry, self.poni, self.mask, self.dark, self.flat, self.solid_angle, self.polarisation
        )


@dataclass(frozen=True, slots=True)
class _Series:
    """Frames to average, and what each is divided by."""

    file: str
    found: AzimuthalInput
    weights: FloatArray
    reference: float | None

    @property
    def stack(self) -> FrameStack:
        """The frames."""
        return self.found.stack


@dataclass(frozen=True, slots=True)
class _Averaged:
    """The curves of a series, which of them agree with the first ones, and with what probability."""

    curves: FrameCurves
    kept: BoolArray
    probability: FloatArray
    tally: FrameTally
    n_blanks: int


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
    sample = _read(source, parameters, engine, parameters.transmission)
    masked, background = sample.found.masked, None
    if parameters.background is not None:
        other = _background_source(source, parameters.background, engine)
        background = _read(other, parameters, engine, parameters.background_transmission, sample.reference)
        if background.stack.shape != sample.stack.shape:
            shapes = [f"{s.file} {s.stack.shape}" for s in (sample, background)]
            raise FramesDisagree(sample.file, *shapes)
        masked = masked | background.found.masked
    averaged, execution = _average(sample, masked, parameters, engine)
    matrix = matrix_of(replace(sample.found, masked=masked), parameters.binning, None)
    curve = averaged.curves.mean(averaged.kept, matrix.centres)
    empty: Curve | None = None
    extra: dict[str, Any] = {}
    if background is not None:
        behind, more = _average(background, masked, parameters, engine)
        empty = behind.curves.mean(behind.kept, matrix.centres)
        execution = execution + more
        extra = {
            "background_file": background.file,
            "background_frames_used": int(behind.kept.sum()),
            "background_frames_rejected": behind.curves.numbers[~behind.kept][:1000].tolist(),
        }
        averaged = replace(averaged, tally=averaged.tally + replace(behind.tally, n_read=0))
    curves, kept = averaged.curves, averaged.kept
    scale, monitor = parameters.absolute_scale, sample.found.monitor
    final = subtract_background(
        curve, background=empty, scale=parameters.background_scale, factor=scale or 1.0
    )
    signals = _signals(final, curve, empty, parameters, curves)
    frame = Axis("frame", "", curves.numbers)
    signals.append(Signal("probability", averaged.probability, None, "", (frame,)))
    signals.append(Signal("frame_used", kept.astype(np.uint8), None, "", (frame,)))
    chosen = {
        **parameters.model_dump(mode="json", exclude={"mask", "dark", "flat", "geometry"}),
        "mask": "file" if parameters.mask is None else "file and caller",
        "geometry": sample.found.geometry,
        "normalised_to": monitor.name if monitor and parameters.normalise else None,
        "monitor_reference": sample.reference,
        "frames_used": int(kept.sum()),
        "frames_rejected": curves.numbers[~kept][:1000].tolist(),
        **extra,
    }
    warnings = (*_warnings(sample, averaged), *_fine_bins(matrix, parameters))
    return Reduced(tuple(signals), _counts(sample, averaged, masked), execution, chosen, warnings)


def _read(
    source: Source,
    parameters: SaxsParameters,
    engine: Engine,
    transmission: str | float | None,
    reference: float | None = None,
) -> _Series:
    """Frames, pixels and weights of a run; `reference` is the sample's, so that both have the same scale."""
    found = read_input(
        source.file, source.dataset, parameters.choices, missing=parameters.missing, roots=engine.roots
    )
    stack = found.stack
    if stack.n_present == 0:
        raise NothingLeft(source.file, "frames")
    if stack.n_frames * parameters.bins > MAX_CURVE_VALUES:
        raise BadParameter(
            "bins", parameters.bins, f"at most {MAX_CURVE_VALUES // stack.n_frames} for this run"
        )
    with NexusFile(source.file, engine.roots) as nexus:
        passed = _transmission(nexus, transmission, stack.n_frames)
    weights, own = frame_weights(stack, found.monitor if parameters.normalise else None)
    if reference is not None and own is not None:
        weights, own = weights * (own / reference), reference
    return _Series(source.file, found, weights * passed, own)


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
    series: _Series, masked: BoolArray, parameters: SaxsParameters, engine: Engine
) -> tuple[_Averaged, Execution]:
    units = plan_frame_units(series.stack, weights=series.weights)
    found = replace(series.found, masked=masked)
    matrix = matrix_of(found, parameters.binning, units[0].segments[0].index)
    # Plain Poisson variances: the sums of many frames have counts where single ones have none.
    task = AzimuthalTask(matrix, series.stack.shape, 1, 0.0, parameters.corrupt)
    part, execution = engine.run(integrate_unit, units, task, merge=merge_azimuthal)
    curves = FrameCurves.of(part.sums, matrix.n_rows)
    if curves.numbers.size == 0:
        raise NothingLeft(series.file, "frames")
    probability = compare_frames(curves, test=parameters.test, n_reference=parameters.n_reference)
    keep = keep_frames(
        probability, significance=parameters.significance, stop_at_first=parameters.stop_at_first
    )
    return _Averaged(curves, keep, probability, part.tally, part.sums.n_blanks), execution


def _signals(
    final: Curve, sample: Curve, background: Curve | None, parameters: SaxsParameters, curves: FrameCurves
) -> list[Signal]:
    name, units = AXES[parameters.unit]

    def signal(curve: Curve, title: str, of: str) -> Signal:
        return curve_signal(curve, name=title, units=of, axis_name=name, axis_units=units)

    signals = [signal(final, "intensity", "cm^-1" if parameters.absolute_scale else "counts")]
    signals.append(signal(sample, "sample", "counts"))
    if background is not None:
        signals.append(signal(background, "background", "counts"))
    frame = Axis("frame", "", curves.numbers)
    totals = curves.totals
    signals.append(Signal("total_counts", totals, np.sqrt(np.maximum(totals, 0.0)), "counts", (frame,)))
    return signals


def _counts(series: _Series, part: _Averaged, masked: BoolArray) -> Statistics:
    return Statistics(
        n_frames_read=part.tally.n_read,
        n_frames_missing=series.stack.n_missing + part.tally.n_unwritten,
        n_frames_corrupt=part.tally.n_corrupt,
        n_frames_without_flux=part.tally.n_without_flux,
        n_pixels_masked=int(np.count_nonzero(masked)),
        n_values_blank=part.n_blanks,
        counts_total=round(part.curves.totals.sum().item()),
    )


def _warnings(series: _Series, part: _Averaged) -> tuple[str, ...]:
    kept = part.kept
    rejected = part.curves.numbers[~kept]
    told = [str(error) for error in series.stack.missing] + list(part.tally.problems)
    if rejected.size:
        shown = ", ".join(str(n) for n in rejected[:10]) + (", ..." if rejected.size > 10 else "")
        told.append(
            f"{rejected.size} of {kept.size} frames differ from the first ones and were left out: {shown}"
        )
    return tuple(told)


def _fine_bins(matrix: AzimuthalMatrix, parameters: SaxsParameters) -> tuple[str, ...]:
    """A warning where bins are finer than pixels: what neighbours share, the comparison takes for a trend."""
    n_pixels = int(np.count_nonzero(matrix.pixels.good))
    shares = float(matrix.n_entries.sum()) / max(n_pixels, 1)
    if parameters.test == "none" or shares <= MAX_SHARES:
        return ()
    most = max(1, int(parameters.bins * (MAX_SHARES - 1) / (shares - 1)))
    return (
        f"Bins are finer than pixels: a pixel is shared by {shares:.1f} of them, so neighbours are not "
        f"independent, and the comparison may reject good frames. Take at most {most} bins, or test='none'.",
    )


KIND = StepKind("saxs", "Small-angle scattering", SMALL_ANGLE_X_RAY_SCATTERING, SaxsParameters, reduce_saxs)
