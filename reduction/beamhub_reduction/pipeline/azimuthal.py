"""Azimuthal integration of a whole run: read what is needed, plan, run, merge."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamhub_core.techniques import POWDER_DIFFRACTION
from beamhub_reduction.codecs import integrity_of
from beamhub_reduction.errors import BadParameter, FrameCountError, NothingLeft
from beamhub_reduction.nexus.frames import FrameStack
from beamhub_reduction.nexus.geometry import Geometry, Monitor
from beamhub_reduction.pipeline.azimuthal_input import AzimuthalInput, Choices, matrix_of, read_input
from beamhub_reduction.pipeline.azimuthal_work import (
    AzimuthalPart,
    AzimuthalTask,
    integrate_unit,
    merge_azimuthal,
)
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.frames import BATCH_FRAMES
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.units import FrameUnit, plan_frame_units
from beamhub_reduction.steps.azimuthal import azimuthal_curves
from beamhub_reduction.steps.azimuthal_matrix import (
    AzimuthalMatrix,
    Binning,
    Split,
    Unit,
    check_binning,
)
from beamhub_reduction.steps.curve import MAX_BINS
from beamhub_reduction.steps.frames import FloatArray
from beamhub_reduction.steps.signal import Axis, Signal

AXES = {
    "q_nm^-1": ("q", "nm^-1"),
    "q_A^-1": ("q", "angstrom^-1"),
    "2th_deg": ("two_theta", "deg"),
    "2th_rad": ("two_theta", "rad"),
}
LEAST_VARIANCE = 1.0
"""The variance of a pixel without counts, as pyFAI has it. Source: pyFAI, doi 10.1107/S1600576715004306."""
UNIT_BYTES = 1024**3
"""Decoded bytes of one unit: 60 frames of 4 million pixels, 0.3 s of work. Source: bench_azimuthal.py."""
MAX_VALUES = 2**27
"""Values of a result (curves times bins): 1 GiB for each of its sums."""

IMAGE = "a .npy file, an image, FILE::/path of a dataset, or an array of the frame's shape"


class AzimuthalParameters(StepParameters):
    """What the caller may choose. `mask` (ny, nx), non-zero = masked, is joined with the file's own."""

    bins: int = Field(default=1000, ge=1, le=MAX_BINS, description="number of bins of equal width")
    unit: Unit = Field(default="q_nm^-1", description="unit of the axis")
    every: int | None = Field(
        default=None, ge=1, description="one curve for so many frames each (default: one for all frames)"
    )
    azimuth_bins: int = Field(
        default=0, ge=0, description="number of bins over the azimuth, for a map; 0 for a curve"
    )
    split: Split = Field(
        default="full",
        description="how a pixel is shared among bins: by its area, by its bounding box, or not",
    )
    q_range: tuple[float, float] | None = Field(
        default=None, description="limits of the axis, in its unit (default: what the pixels span)"
    )
    azimuth_range: tuple[float, float] | None = Field(
        default=None, description="limits of the azimuth in degrees"
    )
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
    error_model: Literal["poisson", "none"] = Field(
        default="poisson", description="uncertainties of counts, or none"
    )
    normalise: bool = Field(default=True, description="divide by the entry's monitor, frame by frame")
    poni: str | None = Field(
        default=None, description="a .poni file of pyFAI, used instead of the file's geometry"
    )
    geometry: Geometry | None = Field(
        default=None, description="used instead of the file's", json_schema_extra={"command_line": False}
    )

    @property
    def binning(self) -> Binning:
        """The bins."""
        return Binning(self.bins, self.unit, self.azimuth_bins, self.split, self.q_range, self.azimuth_range)

    @property
    def choices(self) -> Choices:
        """Geometry and pixels."""
        return Choices(
            self.geometry, self.poni, self.mask, self.dark, self.flat, self.solid_angle, self.polarisation
        )


def reduce_azimuthal(source: Source, parameters: AzimuthalParameters, engine: Engine) -> Reduced:
    """Integrate the frames of a file (or of one dataset in it) over the azimuth.

    Raises
    ------
    LinkMissing
        If frames are missing and the policy is to fail: always before anything is reduced.
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    FrameCountError
        If the monitor does not fit the frames.
    GeometryMissing, MaskShapeWrong, NoFrames, BadParameter, NothingLeft, ...
    """
    binning = parameters.binning
    check_binning(binning)
    if parameters.poni is not None and parameters.geometry is not None:
        raise BadParameter("poni", parameters.poni, "left out where a geometry is given")
    found = read_input(
        source.file, source.dataset, parameters.choices, missing=parameters.missing, roots=engine.roots
    )
    stack = found.stack
    if stack.n_present == 0:
        raise NothingLeft(source.file, "frames")
    if 0 in stack.shape:
        raise NothingLeft(source.file, "pixels")
    n_groups = _n_groups(stack, parameters)
    monitor = found.monitor if parameters.normalise else None
    weights, reference = frame_weights(stack, monitor)
    units = plan_frame_units(stack, weights=weights, target_bytes=UNIT_BYTES, multiple=BATCH_FRAMES)
    matrix = matrix_of(found, binning, units[0].segments[0].index)
    floor = LEAST_VARIANCE if parameters.error_model == "poisson" else None
    task = AzimuthalTask(matrix, stack.shape, parameters.every, floor, parameters.corrupt)
    part, execution = engine.run(integrate_unit, units, task, merge=merge_azimuthal)
    if part.tally.n_read == 0:
        raise NothingLeft(source.file, "frames")
    chosen = {
        **_chosen(parameters, found),
        "normalised_to": monitor.name if monitor else None,
        "monitor_reference": reference,
        "decoded_by": _ways(units),
        "integrity": _integrity(units),
    }
    warnings = (*(str(error) for error in stack.missing), *part.tally.problems)
    intensity, errors = azimuthal_curves(matrix, sums=part.sums, n_groups=n_groups)
    signal = build_signal(matrix, intensity, errors, every=parameters.every)
    return Reduced((signal,), _statistics(found, matrix, part), execution, chosen, warnings)


def _n_groups(stack: FrameStack, parameters: AzimuthalParameters) -> int:
    n_groups = 1 if parameters.every is None else -(-stack.n_frames // parameters.every)
    n_rows = parameters.bins * max(1, parameters.azimuth_bins)
    if n_groups * n_rows > MAX_VALUES:
        least = -(-stack.n_frames * n_rows // MAX_VALUES)
        raise BadParameter("every", parameters.every, f"{least} or more for so many frames and bins")
    return n_groups


def build_signal(
    matrix: AzimuthalMatrix, intensity: FloatArray, errors: FloatArray | None, *, every: int | None
) -> Signal:
    """The result over its axes: [frame,] [azimuth,] q; a curve's frame is the first one it holds."""
    name, units = AXES[matrix.unit]
    axes = [Axis(name, units, matrix.centres)]
    if matrix.azimuths is not None:
        axes.insert(0, Axis("azimuth", "deg", matrix.azimuths))
    if every is not None:
        axes.insert(0, Axis("frame", "", np.arange(len(intensity), dtype=np.int64) * every))
    else:
        intensity, errors = intensity[0], None if errors is None else errors[0]
    return Signal("intensity", intensity, errors, "counts", tuple(axes))


def _statistics(found: AzimuthalInput, matrix: AzimuthalMatrix, part: AzimuthalPart) -> Statistics:
    stack, tally = found.stack, part.tally
    # Where the scan does not say how long it was meant to be, a monitor with more readings than frames does.
    n_planned = (
        found.monitor.values.size if found.monitor and stack.n_expected is None and stack.missing else 0
    )
    return Statistics(
        n_frames_read=tally.n_read,
        n_frames_missing=max(stack.n_missing, n_planned - stack.n_present) + tally.n_unwritten,
        n_frames_corrupt=tally.n_corrupt,
        n_frames_without_flux=tally.n_without_flux,
        n_pixels_masked=int(matrix.pixels.good.size - np.count_nonzero(matrix.pixels.good)),
        n_values_blank=part.sums.n_blanks,
        counts_total=round(part.sums.counts_total),
    )


def _chosen(parameters: AzimuthalParameters, found: AzimuthalInput) -> dict[str, Any]:
    """The parameters as they stand in the product."""
    plain = ("bins", "unit", "every", "azimuth_bins", "split", "q_range", "azimuth_range", "solid_angle",
             "polarisation", "error_model", "missing", "corrupt")  # fmt: skip
    return {
        **{name: getattr(parameters, name) for name in plain},
        "mask": "file" if parameters.mask is None else "file and caller",
        "dark": parameters.dark is not None,
        "flat": "file" if str(parameters.flat) == "file" else parameters.flat is not None,
        "entry": found.stack.entry,
        "detector": found.stack.detector,
        "geometry": found.geometry,
        "valid_range": [limit if np.isfinite(limit) else None for limit in found.valid],
    }


def _ways(units: tuple[FrameUnit, ...]) -> list[str]:
    indices = [segment.index for unit in units for segment in unit.segments]
    return sorted({"storage chunks" if i.way == "direct" else f"HDF5 ({i.reason})" for i in indices})


def _integrity(units: tuple[FrameUnit, ...]) -> list[str]:
    """Whether a flipped byte in the chunks would have been noticed."""
    indices = [segment.index for unit in units for segment in unit.segments]
    return sorted({integrity_of(index.filters) for index in indices})


def frame_weights(stack: FrameStack, monitor: Monitor | None) -> tuple[FloatArray, float | None]:
    """(incident flux of each frame relative to the reference, the reference in monitor counts).

    The reference is the monitor's nominal reading, else its mean; weights are 1 without a monitor.

    Raises
    ------
    FrameCountError
        If the monitor has fewer readings than the stack has frames, or more than were planned.
    """
    if monitor is None:
        return np.ones(stack.n_frames), None
    # Readings beyond the frames belong to frames that were planned, or whose files are missing.
    may_exceed = (
        stack.n_expected if stack.n_expected is not None or not stack.missing else monitor.values.size
    )
    if not stack.n_frames <= monitor.values.size <= max(stack.n_frames, may_exceed or 0):
        raise FrameCountError(monitor.values.size, stack.n_frames)
    readings = monitor.values[: stack.n_frames]
    lit = readings[np.isfinite(readings) & (readings > 0)]
    reference = monitor.nominal or (float(lit.mean()) if lit.size else 1.0)
    return readings / reference, reference


KIND = StepKind(
    "azimuthal", "Azimuthal integration", POWDER_DIFFRACTION, AzimuthalParameters, reduce_azimuthal
)
