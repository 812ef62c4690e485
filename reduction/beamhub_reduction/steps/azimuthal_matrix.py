"""The matrix of azimuthal integration: which share of which pixel falls into which bin.

Geometry, splitting and corrections are pyFAI's. Source: pyFAI, doi 10.1107/S1600576715004306.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyFAI
import scipy.sparse
from pyFAI.detectors import Detector
from pyFAI.ext.splitPixelFullCSR import FullSplitCSR_2d
from pyFAI.integrator.azimuthal import AzimuthalIntegrator
from pyFAI.units import to_unit

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.kernels.azimuthal import Pixels, integrate_frames
from beamhub_reduction.kernels.azimuthal_tiles import DEFAULT_TILE, build_tiles
from beamhub_reduction.nexus.geometry import Geometry
from beamhub_reduction.steps.curve import MAX_BINS
from beamhub_reduction.steps.frames import BoolArray, FloatArray

UNITS = ("q_nm^-1", "q_A^-1", "2th_deg", "2th_rad")
SPLITS = ("full", "bbox", "no")
MAX_MAP_BINS = 500_000
"""Bins of a two-dimensional map: sums of sixteen frames at once take 0.5 GiB at most."""
MAX_PONI_BYTES = 1024**2
SLIVER = 1e-12
"""Smaller shares of a pixel are rounding at an edge: their squares vanish, and with them the uncertainty."""

Unit = Literal["q_nm^-1", "q_A^-1", "2th_deg", "2th_rad"]
Split = Literal["full", "bbox", "no"]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Binning:
    """How pixels become bins.

    Parameters
    ----------
    bins:
        Bins of equal width over q or two-theta.
    azimuth_bins:
        Bins of equal width over the azimuth, or 0 for a curve.
    split:
        'full': a pixel is shared among bins by the area of its four corners; 'bbox': by its extent in q and
        azimuth; 'no': it belongs to the bin of its centre.
    q_range, azimuth_range:
        Limits in `unit` and in degrees; None for what the unmasked pixels span.
    """

    bins: int = 1000
    unit: Unit = "q_nm^-1"
    azimuth_bins: int = 0
    split: Split = "full"
    q_range: Range | None = None
    azimuth_range: Range | None = None


@dataclass(frozen=True, slots=True)
class Corrections:
    """What pixels are corrected for; the arrays have shape (ny, nx).

    `polarisation` is the degree of horizontal polarisation, -1 to 1, or None for no correction. Intensities
    are (value - dark) / (flat * solid angle * polarisation).
    """

    solid_angle: bool = True
    polarisation: float | None = None
    dark: FloatArray | None = None
    flat: FloatArray | None = None


@dataclass(frozen=True)
class AzimuthalMatrix:
    """A matrix ready to be applied, with what belongs to it.

    `centres` (n_bins,) in `unit`; `azimuths` (n_azimuth_bins,) in degrees, None for a curve. `pixels` hold
    the matrix, whose rows are the bins (those of a map with the azimuth running fastest), and the
    normalisation of each pixel. `norm`, `dark` and `n_entries` are their sums over each row for a frame
    without blanks.
    """

    centres: FloatArray
    azimuths: FloatArray | None
    unit: str
    pixels: Pixels
    norm: FloatArray
    dark: FloatArray | None
    n_entries: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def n_rows(self) -> int:
        """Bins in all."""
        return self.norm.size


def build_azimuthal_matrix(
    integrator: AzimuthalIntegrator,
    *,
    masked: BoolArray,
    binning: Binning,
    corrections: Corrections,
    valid: tuple[float, float] = (-np.inf, np.inf),
    tile: int = DEFAULT_TILE,
) -> AzimuthalMatrix:
    """The matrix of a detector whose masked pixels (True, shape (ny, nx)) belong to no bin.

    Bins have equal widths. Pixels without a usable flat or dark (not finite, or a flat of 0) count as masked,
    but do not change the range of the axes. `valid` is the smallest and the largest value that is no blank.

    Raises
    ------
    BadParameter
        For an option outside what makes sense, or when every pixel is masked.
    """
    check_binning(binning)
    if masked.all():
        raise BadParameter("mask", "a mask of all pixels", "a mask that leaves some")
    azimuth = _azimuth_limits(integrator, binning.azimuth_range)
    norm = _normalisation(integrator, masked.shape, corrections)
    dark = None if corrections.dark is None else corrections.dark.astype(np.float64).ravel()
    good = ~masked.ravel() & np.isfinite(norm) & (norm != 0)
    if dark is not None:
        good &= np.isfinite(dark)
        dark = np.where(good, dark, 0.0)
    engine, whole = _pyfai_matrix(integrator, masked, binning, azimuth)
    n_rows = whole.shape[0]
    tiles = build_tiles(_only(whole, good), tile=tile)
    pixels = Pixels(tiles, good.astype(np.uint8), np.where(good, norm, 0.0), dark, *valid)
    n_entries = np.bincount(
        np.repeat(tiles.run_bin, np.diff(tiles.run_stop.astype(np.int64), prepend=0)), minlength=n_rows
    )
    # The engine counts in the base unit of the quantity (nm^-1, rad) whatever it was asked for.
    radial = engine.bin_centers0 if binning.azimuth_bins else engine.bin_centers
    azimuths = np.array(engine.bin_centers1) * to_unit("chi_deg").scale if binning.azimuth_bins else None
    return AzimuthalMatrix(
        centres=np.array(radial, dtype=np.float64) * to_unit(binning.unit).scale,
        azimuths=azimuths,
        unit=binning.unit,
        pixels=pixels,
        norm=bin_sums(pixels, pixels.norm),
        dark=None if dark is None else bin_sums(pixels, dark),
        n_entries=n_entries.astype(np.int64),
    )


def bin_sums(pixels: Pixels, image: FloatArray) -> FloatArray:
    """Sum over each bin of share times image, shape (n_rows,)."""
    sums: FloatArray = integrate_frames(pixels.unlimited, image.reshape(1, -1), floor=None).signal[0]
    return sums


def check_binning(binning: Binning) -> None:
    """Refuse what makes no sense, before anything is read.

    Raises
    ------
    BadParameter
    """
    if binning.unit not in UNITS:
        raise BadParameter("unit", binning.unit, "one of " + ", ".join(UNITS))
    if binning.split not in SPLITS:
        raise BadParameter("split", binning.split, "one of " + ", ".join(SPLITS))
    if not 1 <= binning.bins <= MAX_BINS:
        raise BadParameter("bins", binning.bins, f"from 1 to {MAX_BINS}")
    if not 0 <= binning.azimuth_bins <= MAX_MAP_BINS // binning.bins:
        expected = f"from 0 (a curve) to {MAX_MAP_BINS // binning.bins} with {binning.bins} bins"
        raise BadParameter("azimuth_bins", binning.azimuth_bins, expected)
    for name in ("q_range", "azimuth_range"):
        limits = getattr(binning, name)
        if limits is not None and not (np.isfinite(limits).all() and limits[0] < limits[1]):
            raise BadParameter(name, limits, "two finite numbers, the smaller one first")


def _normalisation(
    integrator: AzimuthalIntegrator, shape: tuple[int, ...], corrections: Corrections
) -> FloatArray:
    norm: FloatArray = np.ones(int(np.prod(shape)))
    if corrections.solid_angle:
        norm *= np.asarray(integrator.solidAngleArray(shape), dtype=np.float64).ravel()
    if corrections.polarisation is not None:
        if not -1 <= corrections.polarisation <= 1:
            raise BadParameter("polarisation", corrections.polarisation, "from -1 to 1")
        factor = integrator.polarization(shape, corrections.polarisation)
        norm *= np.asarray(factor, dtype=np.float64).ravel()
    if corrections.flat is not None:
        norm *= corrections.flat.astype(np.float64).ravel()
    return norm


def _pyfai_matrix(
    integrator: AzimuthalIntegrator, masked: BoolArray, binning: Binning, azimuth: Range | None
) -> tuple[Any, scipy.sparse.csr_matrix]:
    """pyFAI's engine, and the sparse matrix (rows, n_pixels) that it has computed."""
    unit = to_unit(binning.unit)
    radial = None if binning.q_range is None else tuple(limit / unit.scale for limit in binning.q_range)
    mask = masked.astype(np.int8)
    if not binning.azimuth_bins:
        engine = integrator.setup_sparse_integrator(
            masked.shape, binning.bins, mask=mask, pos0_range=radial, pos1_range=azimuth, unit=unit,
            split=binning.split, algo="CSR", scale=False,
        )  # fmt: skip
        return engine, _rows(engine, binning.bins, masked.size)
    units, bins = (unit, to_unit("chi_deg")), (binning.bins, binning.azimuth_bins)
    n_rows = binning.bins * binning.azimuth_bins
    if binning.split != "full":
        engine = integrator.setup_sparse_integrator(
            masked.shape, bins, mask=mask, pos0_range=radial, pos1_range=azimuth, unit=units,
            split=binning.split, algo="CSR", scale=False,
        )  # fmt: skip
        return engine, _rows(engine, n_rows, masked.size)
    # pyFAI 2026.9 splits the first pixel of such a map with values that nobody has set: the first one is put
    # before itself, and what the copy gives is dropped. Seen in fresh processes, shares up to 3.3.
    corners = integrator.array_from_unit(masked.shape, "corner", units, scale=False).reshape(-1, 4, 2)
    first = int(np.argmin(masked))
    engine = FullSplitCSR_2d(
        np.concatenate([corners[first : first + 1], corners]), bins=bins, pos0_range=radial,
        pos1_range=azimuth, mask=np.append(np.zeros(1, np.int8), mask.ravel()), unit=units,
        allow_pos0_neg=not unit.positive, chiDiscAtPi=integrator.chiDiscAtPi,
        pos1_period=units[1].period or 0.0, orientation=int(integrator.detector.orientation),
    )  # fmt: skip
    return engine, _rows(engine, n_rows, masked.size + 1)[:, 1:]


def _rows(engine: Any, n_rows: int, n_pixels: int) -> scipy.sparse.csr_matrix:
    parts = (np.array(engine.data), np.array(engine.indices), np.array(engine.indptr))
    return without_slivers(scipy.sparse.csr_matrix(parts, shape=(n_rows, n_pixels)))


def without_slivers(matrix: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """The shares of pixels, less those that are only rounding; changed in place."""
    matrix.data[abs(matrix.data) < SLIVER] = 0
    matrix.eliminate_zeros()
    return matrix


def _azimuth_limits(integrator: AzimuthalIntegrator, limits: Range | None) -> Range | None:
    """The range in radians; the cut of pyFAI's azimuth is moved out of it, before any position is computed.

    Raises
    ------
    BadParameter
        If the range holds both cuts that the azimuth can have.
    """
    if limits is None:
        return None
    low, high = limits
    if low >= -180 and high <= 180:
        integrator.setChiDiscAtPi()
    elif low >= 0 and high <= 360:
        integrator.setChiDiscAtZero()
    else:
        raise BadParameter("azimuth_range", limits, "within -180 to 180, or within 0 to 360 degrees")
    return float(np.deg2rad(low)), float(np.deg2rad(high))


def _only(matrix: scipy.sparse.csr_matrix, good: BoolArray) -> scipy.sparse.csr_matrix:
    """The matrix without the entries of pixels that are not good."""
    keep = good[matrix.indices]
    if keep.all():
        return matrix
    kept = np.concatenate([[0], np.cumsum(keep)])
    return scipy.sparse.csr_matrix(
        (matrix.data[keep], matrix.indices[keep], kept[matrix.indptr]), shape=matrix.shape
    )


def build_integrator(geometry: Geometry, *, shape: tuple[int, int]) -> AzimuthalIntegrator:
    """pyFAI's integrator for a geometry of a file, frames of shape (ny, nx)."""
    return AzimuthalIntegrator(
        dist=geometry.distance_m,
        poni1=geometry.poni1_m,
        poni2=geometry.poni2_m,
        rot1=geometry.rot1,
        rot2=geometry.rot2,
        rot3=geometry.rot3,
        detector=Detector(pixel1=geometry.pixel1_m, pixel2=geometry.pixel2_m, max_shape=shape),
        wavelength=geometry.wavelength_angstrom * 1e-10,
    )


def load_poni(
    path: Path, *, shape: tuple[int, int], wavelength_angstrom: float | None
) -> AzimuthalIntegrator:
    """The integrator that a .poni file describes: any detector of pyFAI, any rotations.

    Parameters
    ----------
    wavelength_angstrom:
        Used when the file names none.

    Raises
    ------
    BadParameter
        If pyFAI cannot read the file, or its detector does not have the frames' shape.
    """
    try:
        if path.stat().st_size > MAX_PONI_BYTES:
            raise BadParameter("poni", str(path), f"a file below {MAX_PONI_BYTES} bytes")
        integrator = pyFAI.load(str(path), type_="pyFAI.integrator.azimuthal.AzimuthalIntegrator")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AssertionError, AttributeError) as error:
        raise BadParameter("poni", str(path), "a readable .poni file") from error
    detector = integrator.detector
    if detector.shape is None:
        detector.shape = shape
    if tuple(detector.shape) != tuple(shape):
        expected = f"of a detector of the frames' shape {shape}, not {tuple(detector.shape)}"
        raise BadParameter("poni", str(path), expected)
    if not integrator.wavelength:
        if not wavelength_angstrom:
            raise BadParameter(
                "poni", str(path), "a file with a wavelength, because the frames' file has none"
            )
        integrator.wavelength = wavelength_angstrom * 1e-10
    return integrator
