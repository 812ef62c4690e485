"""The physics of a synthetic powder scan: geometry, rings, mask and what a pixel may expect to count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from beamhub_reduction.synthetic.crystal import Crystal, build_reflections

FloatArray = npt.NDArray[np.float64]
MaskArray = npt.NDArray[np.uint32]
BoolArray = npt.NDArray[np.bool_]

SENTINEL = np.uint32(2**32 - 1)
GAP, DEAD, NOISY, USER = 1 << 0, 1 << 1, 1 << 4, 1 << 8  # Source: NXdetector/pixel_mask
MASKED = 0xFFFF  # the bits that mean "do not use". Source: NXdetector/pixel_mask

SHAPE = (619, 487)  # three modules of 195 rows, 17 rows between them. Source: pyFAI's Pilatus 300k
MODULE_ROWS, GAP_ROWS = 195, 17
N_DEAD, N_NOISY = 40, 15
BEAMSTOP_RADIUS = 9.0  # pixels

HC_KEV_ANGSTROM = 12.398419843  # Source: CODATA 2018
PEAK_SIGMA = 0.15  # nm^-1
WEAKEST_PEAK = 0.04  # of the highest; weaker lines are not planted
Q_RANGE = (6.0, 57.0)  # nm^-1, where whole or long arcs fall on the detector
HIGHEST_PEAK = 30.0  # counts per pixel and frame, at normal incidence


@dataclass(frozen=True, slots=True)
class PowderGeometry:
    """A flat detector at a right angle to the beam.

    `centre_x` and `centre_y` count pixels from the outer corner of pixel (0, 0).
    """

    distance_m: float = 0.2
    pixel_m: float = 172e-6
    centre_x: float = 101.3
    centre_y: float = 83.7
    wavelength_angstrom: float = 0.5

    @property
    def energy_kev(self) -> float:
        """Photon energy, keV."""
        return HC_KEV_ANGSTROM / self.wavelength_angstrom


@dataclass(frozen=True, slots=True)
class RingPattern:
    """Rings at `positions` (nm^-1, ascending) with `weights` relative to the highest, both (n_peaks,)."""

    positions: FloatArray
    weights: FloatArray


def build_rings(crystal: Crystal, geometry: PowderGeometry) -> RingPattern:
    """The rings of a crystal that the detector can see and that are not too weak.

    The height is |F|^2 with multiplicity, over sin(theta) sin(2 theta) for how a ring spreads out.
    Source: International Tables for Crystallography C, section 6.2.
    """
    lines = build_reflections(crystal, d_min_angstrom=20 * np.pi / Q_RANGE[1])
    q = 20 * np.pi / lines.d_angstrom
    theta = np.arcsin(q * geometry.wavelength_angstrom / (40 * np.pi))
    height = lines.strength / (np.sin(theta) * np.sin(2 * theta))
    height = np.where((q >= Q_RANGE[0]) & (q <= Q_RANGE[1]), height, 0.0)
    kept = height >= WEAKEST_PEAK * height.max()
    order = np.argsort(q[kept])
    return RingPattern(positions=q[kept][order], weights=(height[kept] / height.max())[order])


def build_mask(geometry: PowderGeometry, seed: int) -> MaskArray:
    """NXdetector/pixel_mask, shape `SHAPE`: gaps, dead and noisy pixels, beamstop."""
    mask = np.zeros(SHAPE, dtype=np.uint32)
    for i_gap in range(1, 3):
        first = i_gap * MODULE_ROWS + (i_gap - 1) * GAP_ROWS
        mask[first : first + GAP_ROWS] |= GAP
    rows, columns = np.nonzero(mask == 0)
    chosen = np.random.default_rng([seed, 1]).choice(len(rows), N_DEAD + N_NOISY, replace=False)
    mask[rows[chosen[:N_DEAD]], columns[chosen[:N_DEAD]]] |= DEAD
    mask[rows[chosen[N_DEAD:]], columns[chosen[N_DEAD:]]] |= NOISY
    y, x = np.indices(SHAPE) + 0.5
    shadow = np.hypot(x - geometry.centre_x, y - geometry.centre_y) <= BEAMSTOP_RADIUS
    mask[shadow & (mask == 0)] |= USER
    return mask


def build_expected_counts(rings: RingPattern, geometry: PowderGeometry, mask: MaskArray) -> FloatArray:
    """Mean counts of each pixel in a frame of undrifted beam, shape `SHAPE`; zero where nothing is drawn.

    A pixel averages the pattern over nine points of its area. Its solid angle relative to normal
    incidence is cos^3(2 theta): the flat pixel is farther away and seen askew.
    Source: Boesecke and Diat, J. Appl. Cryst. 30 (1997) 867
    """
    expected = np.zeros(SHAPE)
    y, x = np.indices(SHAPE, dtype=float)
    for dy in (1 / 6, 1 / 2, 5 / 6):
        for dx in (1 / 6, 1 / 2, 5 / 6):
            radius = geometry.pixel_m * np.hypot(x + dx - geometry.centre_x, y + dy - geometry.centre_y)
            two_theta = np.arctan2(radius, geometry.distance_m)
            q = 40 * np.pi / geometry.wavelength_angstrom * np.sin(two_theta / 2)
            expected += _intensity(q, rings) * np.cos(two_theta) ** 3 / 9
    rng = np.random.default_rng([0x0DD, int(mask.sum())])
    noisy = (mask & NOISY) != 0
    expected[noisy] = rng.uniform(2e3, 2e5, int(noisy.sum()))
    expected[(mask & USER) != 0] *= 0.02
    expected[(mask & (GAP | DEAD)) != 0] = 0.0
    return expected


def _intensity(q: FloatArray, rings: RingPattern) -> FloatArray:
    total: FloatArray = 1.5 + 6.0 * np.exp(-q / 10.0)
    for position, weight in zip(rings.positions, rings.weights, strict=True):
        near = np.abs(q - position) < 6 * PEAK_SIGMA
        total[near] += HIGHEST_PEAK * weight * np.exp(-0.5 * ((q[near] - position) / PEAK_SIGMA) ** 2)
    return total


def build_drift(n_frames: int, seed: int) -> FloatArray:
    """Incident flux during each frame relative to the mean, shape (n_frames,): decay, top-up and ripple."""
    rng = np.random.default_rng([seed, 2])
    i = np.arange(n_frames)
    saw = 1.07 - 0.14 * ((i + rng.integers(0, 60)) % 60) / 60
    ripple = 0.01 * np.sin(2 * np.pi * i / rng.uniform(7, 13))
    drift: FloatArray = saw + ripple
    return drift
