"""Azimuthal integration of a whole run: read what is needed, plan, run, merge."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamhub_core.techniques import POWDER_DIFFRACTION
from beamhub_reduction.errors import FrameCountError, NothingLeft
from beamhub_reduction.mask_file import read_mask
from beamhub_reduction.nexus.errors import MaskShapeWrong
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack, read_pixel_mask
from beamhub_reduction.nexus.geometry import Geometry, Monitor, read_geometry, read_monitor
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.units import plan_frame_units
from beamhub_reduction.pipeline.work import AzimuthalTask, merge_azimuthal, reduce_frames
from beamhub_reduction.steps.azimuthal import azimuthal_curve, build_azimuthal_matrix
from beamhub_reduction.steps.curve import MAX_BINS
from beamhub_reduction.steps.frames import BoolArray, FloatArray
from beamhub_reduction.steps.signal import curve_signal

AXES = {
    "q_nm^-1": ("q", "nm^-1"),
    "q_A^-1": ("q", "angstrom^-1"),
    "2th_deg": ("two_theta", "deg"),
    "2th_rad": ("two_theta", "rad"),
}


class AzimuthalParameters(StepParameters):
    """What the caller may choose. `mask` (ny, nx), non-zero = masked, is joined with the file's own."""

    bins: int = Field(default=1000, ge=1, le=MAX_BINS, description="number of bins of equal width")
    unit: Literal["q_nm^-1", "q_A^-1", "2th_deg", "2th_rad"] = Field(
        default="q_nm^-1", description="unit of the axis"
    )
    mask: Any = Field(
        default=None, description="a .npy file or an array, shape of a frame, non-zero = masked"
    )
    normalise: bool = Field(default=True, description="divide by the entry's monitor, frame by frame")
    geometry: Geometry | None = Field(
        default=None, description="used instead of the file's", json_schema_extra={"command_line": False}
    )


def reduce_azimuthal(source: Source, parameters: AzimuthalParameters, engine: Engine) -> Reduced:
    """Integrate all frames of a file (or of one dataset in it) over the azimuth.

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
    file = source.file
    with NexusFile(file, engine.roots) as nexus:
        stack = read_frame_stack(nexus, source.dataset)
        if stack.missing and parameters.missing == "fail":
            raise stack.missing[0]
        geometry = parameters.geometry or read_geometry(nexus, stack.entry, stack.detector)
        masked = read_pixel_mask(nexus, stack.detector, stack.shape)
        monitor = read_monitor(nexus, stack.entry)
    n_planned = monitor.values.size if monitor and stack.n_expected is None and stack.missing else 0
    if not parameters.normalise:
        monitor = None
    if stack.n_present == 0:
        raise NothingLeft(file, "frames")
    masked = join_masks(file, masked, read_mask(parameters.mask))
    weights, reference = frame_weights(stack, monitor)
    matrix = build_azimuthal_matrix(geometry, masked=masked, n_bins=parameters.bins, unit=parameters.unit)
    units = plan_frame_units(stack, weights=weights)
    task = AzimuthalTask(matrix, masked, parameters.corrupt)
    part, execution = engine.run(reduce_frames, units, task, merge=merge_azimuthal)
    if part.tally.n_read == 0:
        raise NothingLeft(file, "frames")
    statistics = Statistics(
        n_frames_read=part.tally.n_read,
        n_frames_missing=max(stack.n_missing, n_planned - stack.n_present) + part.tally.n_unwritten,
        n_frames_corrupt=part.tally.n_corrupt,
        n_frames_without_flux=part.tally.n_without_flux,
        n_pixels_masked=int(np.count_nonzero(masked)),
        n_values_blank=part.sums.n_sentinels,
        counts_total=part.sums.counts_total,
    )
    chosen = {
        **_chosen(parameters, stack, geometry),
        "normalised_to": monitor.name if monitor else None,
        "monitor_reference": reference,
        "decoded_by": sorted({_way(s.index) for unit in units for s in unit.segments}),
    }
    warnings = (*(str(error) for error in stack.missing), *part.tally.problems)
    axis_name, axis_units = AXES[parameters.unit]
    curve = azimuthal_curve(matrix, sums=part.sums)
    signal = curve_signal(curve, name="intensity", units="counts", axis_name=axis_name, axis_units=axis_units)
    return Reduced((signal,), statistics, execution, chosen, warnings)


def _chosen(parameters: AzimuthalParameters, stack: FrameStack, geometry: Geometry) -> dict[str, Any]:
    """The parameters as they stand in the product."""
    return {
        "bins": parameters.bins,
        "unit": parameters.unit,
        "mask": "file" if parameters.mask is None else "file and caller",
        "missing": parameters.missing,
        "corrupt": parameters.corrupt,
        "entry": stack.entry,
        "detector": stack.detector,
        "geometry": {name: getattr(geometry, name) for name in Geometry.__slots__},
    }


def _way(index: Any) -> str:
    return "storage chunks" if index.way == "direct" else f"HDF5 ({index.reason})"


def join_masks(file: str, masked: BoolArray, mask: BoolArray | None) -> BoolArray:
    """The file's mask and the caller's (non-zero = masked) together."""
    if mask is None:
        return masked
    given = np.asarray(mask)
    if given.shape != masked.shape:
        raise MaskShapeWrong(file, "the mask that was passed", given.shape, masked.shape)
    return np.asarray(masked | (given != 0))


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
