"""Tomography pre-processing of a whole scan: references, plan, projections, an NXtomo volume."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from beamhub_core.techniques import X_RAY_TOMOGRAPHY
from beamhub_reduction.array_product import write_counts
from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.kernels import describe_kernels
from beamhub_reduction.kernels.tomography import MAX_BIN
from beamhub_reduction.nexus.frames import read_pixel_mask
from beamhub_reduction.nexus.masks import ValueLimits, read_value_limits
from beamhub_reduction.nexus.scan_errors import AnglesMissing
from beamhub_reduction.nexus.tomography import PROJECTION, TomographyScan, read_tomography_scan
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.pipeline.azimuthal import frame_weights
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.tomography_plan import ProjectionUnit, plan_projections
from beamhub_reduction.pipeline.tomography_references import (
    ReferenceChoice,
    ScanReferences,
    read_references,
)
from beamhub_reduction.pipeline.tomography_volume import VolumeHead, tomography_volume, volume_counts
from beamhub_reduction.pipeline.tomography_work import (
    TomographyPart,
    TomographyTask,
    merge_projections,
    reduce_projections,
)
from beamhub_reduction.steps.frames import FloatArray, IntArray
from beamhub_reduction.steps.signal import Axis, Signal
from beamhub_reduction.steps.tomography import weigh_flats

PROJECTIONS_PER_CHUNK = 32
"""Projections in one storage chunk of the volume: what is gathered in memory before it is written."""


class TomographyParameters(StepParameters):
    """What the caller may choose. Flats and darks are the scan's own unless named."""

    flats: str | None = Field(
        default=None, description="FILE[::/path] of the flats, or 'none' for data that need none"
    )
    darks: str | None = Field(default=None, description="FILE[::/path] of the darks, or 'none'")
    image_key: str | None = Field(
        default=None, description="FILE::/path of image keys (0 projection, 1 flat, 2 dark, 3 invalid)"
    )
    angle_range: tuple[float, float] | None = Field(
        default=None, description="first and last angle in degrees, when the file gives none"
    )
    average: Literal["mean", "median"] = Field(default="mean", description="how flats and darks are averaged")
    flat_order: Literal["interpolate", "nearest", "all"] = Field(
        default="interpolate", description="between groups of flats, by the frame's position in the scan"
    )
    normalise: bool = Field(default=True, description="divide by the monitor (control/data), frame by frame")
    log: bool = Field(default=True, description="-log of the transmission")
    min_transmission: float = Field(
        default=1e-6, ge=1e-30, lt=1, description="lower transmissions are raised to it before the logarithm"
    )
    rebin: int = Field(default=1, ge=1, le=MAX_BIN, description="pixels along each side of a bin")
    saturated: Literal["keep", "blank"] = Field(
        default="keep",
        description="counts above the detector's or the type's limit: kept (and counted), or made NaN",
    )
    volume: Path | None = Field(default=None, description="a new NXtomo file for all corrected projections")
    sinogram_rows: int = Field(
        default=16, ge=1, le=4096, description="detector rows in one storage chunk of the volume"
    )


def reduce_tomography(source: Source, parameters: TomographyParameters, engine: Engine) -> Reduced:
    """Correct all projections of a scan.

    Raises
    ------
    NoProjections, ReferenceMissing, ScanArrayWrong, AnglesMissing
        If the scan does not say what is needed.
    LinkMissing, CorruptChunk, FrameCountError, BadParameter, NothingLeft
    ProductExists, StorageFull, ProductNotWritten
        If the volume cannot be written; nothing of it is left behind.
    """
    with NexusFile(source.file, engine.roots) as nexus:
        scan = read_tomography_scan(nexus, source.dataset, image_key=parameters.image_key)
        stack = scan.stack
        if stack.missing and parameters.missing == "fail":
            raise stack.missing[0]
        masked = read_pixel_mask(nexus, stack.detector, stack.shape)
        limits = read_value_limits(nexus, stack.detector, stack.dtype)
    if min(stack.shape) < parameters.rebin:
        raise BadParameter("rebin", parameters.rebin, f"no larger than a frame {stack.shape}")
    own_flats = parameters.flats is None
    monitor = scan.monitor if parameters.normalise and own_flats else None
    flux, reference = frame_weights(stack, monitor)
    choice = ReferenceChoice(
        parameters.flats, parameters.darks, parameters.average, parameters.flat_order, parameters.rebin,
        parameters.corrupt, engine.roots,
    )  # fmt: skip
    references = read_references(scan, choice, flux=flux, masked=masked)
    projections = scan.frames_of(PROJECTION)
    angles = _angles(scan, projections, parameters)
    task = _task(parameters, references, scan, flux, limits)
    units = plan_projections(stack, projections, weights=flux, per_chunk=task.block[0])
    if not any(unit.frames.segments for unit in units):
        raise NothingLeft(source.file, "projections")
    chosen = {
        **_chosen(parameters, scan, references),
        "normalised_to": monitor.name if monitor else None,
        "monitor_reference": reference,
        "decoded_by": _ways(units),
    }
    part, execution = _run(source, engine, units, task, _head(source, parameters, scan, angles, chosen))
    signals = _signals(part, parameters, angles)
    missing = tuple(str(error) for error in stack.missing)
    return Reduced(
        signals, _statistics(part, references, projections), execution, chosen,
        (*missing, *part.tally.problems, *_warnings(scan, parameters, part)),
    )  # fmt: skip


def _run(
    source: Source,
    engine: Engine,
    units: tuple[ProjectionUnit, ...],
    task: TomographyTask,
    head: VolumeHead | None,
) -> tuple[TomographyPart, Any]:
    """Do all units; with a head, into a volume that appears when all are done."""
    with nullcontext(None) if head is None else tomography_volume(head, task) as span:
        part, execution = engine.run(
            reduce_projections, units, replace(task, span=span), merge=merge_projections
        )
        if part.tally.n_read == 0:
            raise NothingLeft(source.file, "projections")
        if span is not None:
            write_counts(span, volume_counts(part))
    return part, execution


def _angles(
    scan: TomographyScan, projections: IntArray, parameters: TomographyParameters
) -> FloatArray | None:
    """Degrees of each projection: the caller's range, else the file's; None when nobody says."""
    if parameters.angle_range is not None:
        return np.linspace(*parameters.angle_range, projections.size)
    angles = None if scan.angles_deg is None else scan.angles_deg[projections]
    if parameters.volume is not None and (angles is None or not np.isfinite(angles).all()):
        raise AnglesMissing(scan.stack.file, scan.stack.entry)
    return angles


def _task(
    parameters: TomographyParameters, references: ScanReferences, scan: TomographyScan, flux: FloatArray,
    limits: ValueLimits,
) -> TomographyTask:  # fmt: skip
    projections = scan.frames_of(PROJECTION)
    ny = references.planes.dark.shape[0]
    order = parameters.flat_order
    scales = np.divide(1.0, flux[projections], out=np.ones(projections.size), where=flux[projections] > 0)
    return TomographyTask(
        planes=references.planes,
        frames=projections,
        flats=weigh_flats(projections, positions=references.positions, order=order),
        scales=scales.astype(np.float32),
        least=parameters.min_transmission if parameters.log else None,
        raw_shape=scan.stack.shape,
        block=(min(PROJECTIONS_PER_CHUNK, projections.size), min(parameters.sinogram_rows, ny)),
        sinogram_row=ny // 2,
        limits=limits,
        saturated=parameters.saturated,
        corrupt=parameters.corrupt,
        span=None,
    )


def _head(
    source: Source, parameters: TomographyParameters, scan: TomographyScan, angles: FloatArray | None,
    chosen: dict[str, Any],
) -> VolumeHead | None:  # fmt: skip
    if parameters.volume is None or angles is None:
        return None
    signal, units = _quantity(parameters)
    return VolumeHead(
        parameters.volume, source.file, scan.title or Path(source.file).stem, scan.sample or "unknown",
        angles, signal, units, chosen,
    )  # fmt: skip


def _quantity(parameters: TomographyParameters) -> tuple[str, str]:
    """(what the values are, their units)."""
    return ("attenuation" if parameters.log else "transmission"), ""


def _chosen(
    parameters: TomographyParameters, scan: TomographyScan, references: ScanReferences
) -> dict[str, Any]:
    """The parameters as they stand in the product."""
    given = parameters.model_dump(mode="json", exclude={"volume", "normalise"})
    return {
        **given,
        "volume": parameters.volume.name if parameters.volume else None,
        "entry": scan.stack.entry,
        "detector": scan.stack.detector,
        "n_flats": references.n_flats,
        "n_darks": references.n_darks,
        "flat_positions": references.positions.tolist(),
        "kernels": describe_kernels(),
    }


def _ways(units: tuple[ProjectionUnit, ...]) -> list[str]:
    indexes = (segment.index for unit in units for segment in unit.frames.segments)
    return sorted({"storage chunks" if i.way == "direct" else f"HDF5 ({i.reason})" for i in indexes})


def _signals(
    part: TomographyPart, parameters: TomographyParameters, angles: FloatArray | None
) -> tuple[Signal, ...]:
    """The mean projection and the sinogram of the middle row."""
    name, units = _quantity(parameters)
    sums = part.sums
    mean = np.divide(
        sums.total, sums.n_finite, out=np.full(sums.total.shape, np.nan), where=sums.n_finite > 0
    )
    ny, nx = mean.shape
    # The centres of bins, in raw pixels.
    y, x = (np.arange(n) * parameters.rebin + (parameters.rebin - 1) / 2 for n in (ny, nx))
    sinogram = np.concatenate(part.sinogram)
    turned = (
        Axis("rotation_angle", "deg", angles)
        if angles is not None
        else Axis("projection", "", np.arange(float(len(sinogram))))
    )
    across = Axis("x", "pixel", x)
    return (
        Signal(name, mean, None, units, (Axis("y", "pixel", y), across)),
        Signal("sinogram", sinogram, None, units, (turned, across)),
    )


def _statistics(part: TomographyPart, references: ScanReferences, projections: IntArray) -> Statistics:
    tally = part.tally
    known = tally.n_read + tally.n_corrupt + tally.n_without_flux
    return Statistics(
        n_frames_read=tally.n_read,
        n_frames_missing=projections.size - known,
        n_frames_corrupt=tally.n_corrupt,
        n_frames_without_flux=tally.n_without_flux,
        n_pixels_masked=references.planes.n_masked,
        n_values_clamped=int(part.sums.counts[0]),
        n_values_saturated=int(part.sums.counts[1]),
    )


def _warnings(
    scan: TomographyScan, parameters: TomographyParameters, part: TomographyPart
) -> tuple[str, ...]:
    """What a person should know of an otherwise good reduction."""
    found = []
    if parameters.normalise and scan.monitor is not None and parameters.flats is not None:
        found.append("The monitor was not used: the flats are not of this scan.")
    if int(part.sums.counts[1]) and parameters.saturated == "keep":
        found.append(
            f"{int(part.sums.counts[1])} saturated counts: above what the detector or their type can count."
        )
    cut = [n % parameters.rebin for n in scan.stack.shape]
    if any(cut):
        found.append(f"The last {cut[0]} rows and {cut[1]} columns fill no whole bin and were left out.")
    if scan.angles_deg is None and parameters.angle_range is None:
        found.append("The file gives no rotation angles.")
    return tuple(found)


KIND = StepKind(
    "tomography", "Tomography pre-processing", X_RAY_TOMOGRAPHY, TomographyParameters, reduce_tomography
)
