"""Azimuthal integration of a whole run: read what is needed, plan, run, merge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.errors import FrameCountError, NothingLeft
from beamhub_reduction.nexus.access import Roots
from beamhub_reduction.nexus.errors import MaskShapeWrong
from beamhub_reduction.nexus.frames import FrameStack, read_frame_stack, read_pixel_mask
from beamhub_reduction.nexus.geometry import Geometry, Monitor, read_geometry, read_monitor
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.execute import Client, Execution, run_units
from beamhub_reduction.pipeline.progress import ProgressCallback
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.units import plan_frame_units
from beamhub_reduction.pipeline.work import AzimuthalTask, Policy, merge_azimuthal, reduce_frames
from beamhub_reduction.steps.azimuthal import azimuthal_curve, build_azimuthal_matrix
from beamhub_reduction.steps.curve import Curve
from beamhub_reduction.steps.frames import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class AzimuthalParameters:
    """What the caller may choose. `mask` (ny, nx), True = masked, is joined with the file's own."""

    bins: int = 1000
    unit: str = "q_nm^-1"
    mask: BoolArray | None = None
    normalise: bool = True
    geometry: Geometry | None = None
    missing: Policy = "fail"
    corrupt: Policy = "fail"


@dataclass(frozen=True, slots=True)
class Reduced:
    """The outcome of a reduction, before it becomes a Result of a run."""

    curve: Curve
    statistics: Statistics
    execution: Execution
    parameters: dict[str, Any]
    warnings: tuple[str, ...]


def reduce_azimuthal(
    file: str,
    dataset: str | None,
    parameters: AzimuthalParameters,
    *,
    client: Client | None,
    progress: ProgressCallback,
    roots: Roots = None,
) -> Reduced:
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
    with NexusFile(file, roots) as nexus:
        stack = read_frame_stack(nexus, dataset)
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
    masked = join_masks(file, masked, parameters.mask)
    weights, reference = frame_weights(stack, monitor)
    matrix = build_azimuthal_matrix(geometry, masked=masked, n_bins=parameters.bins, unit=parameters.unit)
    units = plan_frame_units(stack, weights=weights)
    task = AzimuthalTask(matrix, masked, parameters.corrupt)
    part, execution = run_units(
        reduce_frames, units, task, merge=merge_azimuthal, client=client, progress=progress
    )
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
    return Reduced(azimuthal_curve(matrix, sums=part.sums), statistics, execution, chosen, warnings)


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
