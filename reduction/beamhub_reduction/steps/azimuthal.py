"""Azimuthal integration: from frames to intensity over q (or two-theta).

Pixels are split over bins by area, as pyFAI does, whose geometry and sparse matrix are used.
Source: pyFAI, doi 10.1107/S1600576715004306.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from pyFAI.detectors import Detector
from pyFAI.integrator.azimuthal import AzimuthalIntegrator
from pyFAI.units import to_unit

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.nexus.geometry import Geometry
from beamhub_reduction.steps.curve import MAX_BINS, Curve
from beamhub_reduction.steps.frames import BoolArray, FloatArray, FrameSums

UNITS = ("q_nm^-1", "q_A^-1", "2th_deg", "2th_rad")


@dataclass(frozen=True, slots=True)
class AzimuthalMatrix:
    """Which share of which pixel falls into which bin.

    `indptr`, `indices` and `shares` are a sparse matrix (n_bins, ny * nx) by rows; `solid_angle` is
    relative to the one at normal incidence, shape (ny, nx); `centres` are in `unit`, shape (n_bins,).
    """

    centres: FloatArray
    unit: str
    indptr: np.ndarray[Any, Any]
    indices: np.ndarray[Any, Any]
    shares: FloatArray
    solid_angle: FloatArray

    def apply(self, image: np.ndarray[Any, Any], *, power: int = 1) -> FloatArray:
        """Sum over each bin of share ** power times the image, shape (n_bins,)."""
        shape = (self.centres.size, image.size)
        matrix = scipy.sparse.csr_matrix((self.shares**power, self.indices, self.indptr), shape=shape)
        product: FloatArray = matrix @ image.ravel().astype(np.float64)
        return product


@dataclass(frozen=True, slots=True)
class AzimuthalSums:
    """What a part of the frames adds to the result: sums over each bin, shape (n_bins,), and exact counts."""

    signal: FloatArray
    normalisation: FloatArray
    variance: FloatArray
    counts_total: int
    n_sentinels: int


def build_azimuthal_matrix(
    geometry: Geometry, *, masked: BoolArray, n_bins: int, unit: str
) -> AzimuthalMatrix:
    """The matrix of a detector whose masked pixels (True, shape (ny, nx)) belong to no bin.

    The bins have equal widths and span the range of the pixels that are not masked.

    Raises
    ------
    BadParameter
        For an unknown unit, or a number of bins below 1 or above MAX_BINS, or when every pixel is masked.
    """
    if unit not in UNITS:
        raise BadParameter("unit", unit, "one of " + ", ".join(UNITS))
    if not 1 <= n_bins <= MAX_BINS:
        raise BadParameter("bins", n_bins, f"from 1 to {MAX_BINS}")
    if masked.all():
        raise BadParameter("mask", "a mask of all pixels", "a mask that leaves some")
    integrator = AzimuthalIntegrator(
        dist=geometry.distance_m,
        poni1=geometry.poni1_m,
        poni2=geometry.poni2_m,
        rot1=geometry.rot1,
        rot2=geometry.rot2,
        rot3=geometry.rot3,
        detector=Detector(pixel1=geometry.pixel1_m, pixel2=geometry.pixel2_m, max_shape=masked.shape),
        wavelength=geometry.wavelength_angstrom * 1e-10,
    )
    engine = integrator.setup_sparse_integrator(
        masked.shape, n_bins, mask=masked.astype(np.int8), unit=unit, split="full", algo="CSR", scale=True
    )
    return AzimuthalMatrix(
        # The engine counts in the base unit of the quantity (nm^-1, rad) whatever it was asked for.
        centres=np.array(engine.bin_centers, dtype=np.float64) * to_unit(unit).scale,
        unit=unit,
        indptr=np.array(engine.indptr),
        indices=np.array(engine.indices),
        shares=np.array(engine.data, dtype=np.float64),
        solid_angle=np.array(integrator.solidAngleArray(masked.shape), dtype=np.float64),
    )


def azimuthal_sums(matrix: AzimuthalMatrix, *, sums: FrameSums) -> AzimuthalSums:
    """Sums over bins of summed frames; the variance is that of Poisson counts."""
    return AzimuthalSums(
        signal=matrix.apply(sums.counts),
        normalisation=matrix.apply(sums.exposure * matrix.solid_angle),
        variance=matrix.apply(sums.counts, power=2),
        counts_total=sums.counts_total,
        n_sentinels=sums.n_sentinels,
    )


def add_azimuthal(left: AzimuthalSums, right: AzimuthalSums) -> AzimuthalSums:
    """Both parts together. Floating-point: the order of additions must be fixed by the caller."""
    return AzimuthalSums(
        left.signal + right.signal,
        left.normalisation + right.normalisation,
        left.variance + right.variance,
        left.counts_total + right.counts_total,
        left.n_sentinels + right.n_sentinels,
    )


def azimuthal_curve(matrix: AzimuthalMatrix, *, sums: AzimuthalSums) -> Curve:
    """Counts per pixel at normal incidence and per frame of reference flux, with standard uncertainties.

    The ratio of sums, not the mean of ratios: frames with more flux weigh more, as Poisson counts ask.
    """
    intensity = np.full(matrix.centres.shape, np.nan)
    errors = np.full(matrix.centres.shape, np.nan)
    filled = sums.normalisation > 0
    np.divide(sums.signal, sums.normalisation, out=intensity, where=filled)
    np.divide(np.sqrt(np.maximum(sums.variance, 0)), sums.normalisation, out=errors, where=filled)
    return Curve(matrix.centres, intensity, errors)
