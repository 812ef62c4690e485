"""Fluorescence maps of a whole scan: read what is needed, plan, run, merge, correct."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from beamhub_core.techniques import SCANNING_X_RAY_FLUORESCENCE
from beamhub_reduction.errors import BadParameter, NothingLeft
from beamhub_reduction.kernels import describe_kernels
from beamhub_reduction.nexus.tree import NexusFile
from beamhub_reduction.nexus.xrf import SpectrumSource, XrfScan, read_xrf_scan
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import Reduced, Source, StepKind, StepParameters
from beamhub_reduction.pipeline.xrf_work import (
    SpectrumUnit,
    XrfPart,
    XrfTask,
    merge_spectra,
    plan_spectra,
    reduce_spectra,
)
from beamhub_reduction.steps.frames import FloatArray, IntArray
from beamhub_reduction.steps.signal import Axis, Signal
from beamhub_reduction.steps.xrf import (
    Roi,
    channel_ranges,
    dead_time_factors,
    net_counts,
    parse_rois,
    with_sides,
)


class XrfParameters(StepParameters):
    """What the caller may choose; `rois` are words NAME=LOW:HIGH."""

    rois: tuple[str, ...] = Field(
        description="regions NAME=LOW:HIGH of the spectrum; LOW is inside, HIGH is not"
    )
    roi_unit: Literal["keV", "eV", "channel"] = Field(default="keV", description="unit of the regions")
    calibration: tuple[float, float] | None = Field(
        default=None, description="offset and gain in keV, instead of the file's: E = offset + gain * channel"
    )
    dead_time: Literal["auto", "live_time", "rates", "off"] = Field(
        default="auto", description="real / live time, or input / output count rate, or no correction"
    )
    background: int = Field(
        default=0, ge=0, le=10_000, description="channels on each side for a linear background; 0 for none"
    )
    normalise: bool = Field(default=True, description="divide by the monitor, pixel by pixel")
    shape: tuple[int, int] | None = Field(
        default=None, description="rows and columns of a scan that is a list of points"
    )
    axes: Literal["auto", "channel_last", "element_channel"] = Field(
        default="auto", description="whether the axis before the channels counts detector elements"
    )


@dataclass(frozen=True, slots=True)
class _Maps:
    """Maps (n_rois, ny, nx), their variances, and how many points have no live time."""

    values: FloatArray
    variances: FloatArray
    n_without_live_time: int
    n_missing: int


def reduce_xrf_map(source: Source, parameters: XrfParameters, engine: Engine) -> Reduced:
    """Sum regions of all spectra of a scan into maps.

    Raises
    ------
    NoSpectra, ScanArrayWrong, CalibrationMissing, DeadTimeMissing
        If the file does not say what is needed.
    LinkMissing, CorruptChunk, BadParameter, NothingLeft
    """
    rois = parse_rois(parameters.rois)
    if parameters.calibration is not None and not parameters.calibration[1] > 0:
        raise BadParameter("calibration", parameters.calibration, "(offset, gain) with a gain above zero")
    with NexusFile(source.file, engine.roots) as nexus:
        scan = read_xrf_scan(nexus, source.dataset, shape=parameters.shape, axes=parameters.axes)
    if scan.missing and parameters.missing == "fail":
        raise scan.missing[0]
    sources = tuple(_calibrated(s, scan.n_channels, parameters.calibration) for s in scan.sources)
    n_points = scan.shape[0] * scan.shape[1]
    factors, ways = zip(
        *(
            dead_time_factors(
                s.dead_time, choice=parameters.dead_time, file=scan.file, path=s.path,
                shape=(n_points, s.n_elements),
            )
            for s in sources
        ),
        strict=True,
    )  # fmt: skip
    ranges = tuple(_ranges(rois, s, scan, parameters) for s in sources)
    units = plan_spectra(tuple(s.layout for s in sources))
    if not units:
        raise NothingLeft(source.file, "spectra")
    part, execution = engine.run(
        reduce_spectra, units, XrfTask(ranges, parameters.corrupt), merge=merge_spectra
    )
    maps = _maps(part, scan, factors, ranges)
    if parameters.normalise and scan.monitor is not None:
        maps, reference = _normalised(maps, scan.monitor, scan.shape)
    else:
        reference = None
    statistics = _statistics(part, maps)
    if statistics.n_spectra_read == 0:
        raise NothingLeft(source.file, "spectra")
    chosen = {
        **parameters.model_dump(mode="json", exclude={"normalise", "shape"}),
        "rois": {roi.name: [roi.low, roi.high] for roi in rois},
        "channels": {roi.name: ranges[0][i].tolist() for i, roi in enumerate(rois)},
        "shape": list(scan.shape),
        "entry": scan.entry,
        "detectors": [s.path for s in sources],
        "dead_time_from": sorted(set(ways)),
        "normalised_to": scan.monitor_name if reference is not None else None,
        "monitor_reference": reference,
        "decoded_by": _ways(units),
        "kernels": describe_kernels(),
    }
    warnings = (*(str(error) for error in scan.missing), *part.problems)
    return Reduced(_signals(rois, maps, part, scan, sources[0]), statistics, execution, chosen, warnings)


def _calibrated(
    source: SpectrumSource, n_channels: int, calibration: tuple[float, float] | None
) -> SpectrumSource:
    """The source with the caller's energies, where the caller gave some."""
    if calibration is None:
        return source
    energies = calibration[0] + calibration[1] * np.arange(n_channels, dtype=np.float64)
    return SpectrumSource(source.path, source.layout, source.n_elements, source.dead_time, energies)


def _ranges(
    rois: tuple[Roi, ...], source: SpectrumSource, scan: XrfScan, parameters: XrfParameters
) -> IntArray:
    ranges = channel_ranges(
        rois, unit=parameters.roi_unit, source=source, file=scan.file, n_channels=scan.n_channels
    )
    return with_sides(ranges, width=parameters.background, n_channels=scan.n_channels)


def _maps(
    part: XrfPart, scan: XrfScan, factors: tuple[FloatArray, ...], ranges: tuple[IntArray, ...]
) -> _Maps:
    """Sum over elements of factor times net counts; NaN where an element has no counts or no live time."""
    ny, nx = scan.shape
    n_rois = len(ranges[0]) // 3
    values, variances = np.zeros((2, ny * nx, n_rois))
    without = np.zeros(ny * nx, np.bool_)
    seen = np.zeros((len(scan.sources), ny * nx), np.bool_)
    for block in part.blocks:
        source = scan.sources[block.i_source]
        per_row = block.counts.shape[1] // source.n_elements
        points = slice(block.at * per_row, (block.at + len(block.counts)) * per_row)
        counts = block.counts.reshape(-1, source.n_elements, block.counts.shape[2]).astype(np.float64)
        net, variance = net_counts(counts, ranges=ranges[block.i_source])
        factor = factors[block.i_source][points, :, np.newaxis]
        values[points] += (net * factor).sum(axis=1)
        variances[points] += (variance * factor**2).sum(axis=1)
        without[points] |= np.isnan(factor).any(axis=(1, 2))
        seen[block.i_source, points] = np.repeat(block.good, per_row)
    absent = ~seen.all(axis=0)
    values[absent], variances[absent] = np.nan, np.nan
    shape = (n_rois, ny, nx)
    return _Maps(
        values.T.reshape(shape), variances.T.reshape(shape), int(np.count_nonzero(without & ~absent)),
        int(np.count_nonzero(absent)),
    )  # fmt: skip


def _normalised(maps: _Maps, monitor: FloatArray, shape: tuple[int, int]) -> tuple[_Maps, float]:
    """The maps at the monitor's mean reading; NaN where it reads nothing."""
    lit = np.isfinite(monitor) & (monitor > 0)
    reference = float(monitor[lit].mean()) if lit.any() else 1.0
    scale = np.divide(reference, monitor, out=np.full(monitor.shape, np.nan), where=lit).reshape(shape)
    scaled = _Maps(maps.values * scale, maps.variances * scale**2, maps.n_without_live_time, maps.n_missing)
    return scaled, reference


def _statistics(part: XrfPart, maps: _Maps) -> Statistics:
    n_read = sum(int(block.good.sum()) * block.counts.shape[1] for block in part.blocks)
    n_corrupt = sum(block.n_corrupt * block.counts.shape[1] for block in part.blocks)
    return Statistics(
        counts_total=int(part.sums.total.sum()),
        n_spectra_read=n_read,
        n_spectra_corrupt=n_corrupt,
        n_spectra_without_live_time=maps.n_without_live_time,
    )


def _signals(
    rois: tuple[Roi, ...], maps: _Maps, part: XrfPart, scan: XrfScan, source: SpectrumSource
) -> tuple[Signal, ...]:
    """A map for each region, then the sum and the maximum of all spectra."""
    y, x = (Axis(axis.name, axis.units, axis.values) for axis in scan.axes)
    errors = np.sqrt(maps.variances)
    found = [Signal(roi.name, maps.values[i], errors[i], "counts", (y, x)) for i, roi in enumerate(rois)]
    energies = source.energies_keV
    along = (
        Axis("energy", "keV", energies)
        if energies is not None
        else Axis("channel", "", np.arange(scan.n_channels))
    )
    total = np.asarray(part.sums.total)
    found.append(Signal("sum_spectrum", total, np.sqrt(np.maximum(total, 0)), "counts", (along,)))
    return (*found, Signal("max_spectrum", np.asarray(part.sums.top), None, "counts", (along,)))


def _ways(units: tuple[SpectrumUnit, ...]) -> list[str]:
    indexes = (unit.segment.index for unit in units)
    return sorted({"storage chunks" if i.way == "direct" else f"HDF5 ({i.reason})" for i in indexes})


KIND = StepKind(
    "xrf_map",
    "Fluorescence map",
    SCANNING_X_RAY_FLUORESCENCE,
    XrfParameters,
    reduce_xrf_map,
    counted="events",
)
