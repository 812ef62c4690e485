"""Per-cell correction of XFEL frames, summed: mean image, intensity of every pulse, curves over q.

A corrected value is (raw - offset) * gain, with the constants of the frame's memory cell and of the gain
stage that the pixel chose. With one stage all sums are linear in it: a frame is only weighted with its cell's
gain, and the offsets are taken off at the end, cell by cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from beamhub_reduction.kernels.xfel import StoredFrame, add_weighted_frames
from beamhub_reduction.kernels.xfel_cells import (
    CellSums,
    PixelBins,
    StageTables,
    add_cell_frames,
    clean_constants,
    take_off_cells,
)

Float32Array = np.ndarray[Any, np.dtype[np.float32]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

HC_KEV_NM = 1.2398419843320026
"""Photon energy times wavelength. Source: CODATA 2018, exact."""


@dataclass(frozen=True, slots=True)
class CellConstants:
    """Constants of one module.

    `weight` is the gain, 0 for bad pixels, shape (n_stages, n_cells, n_pixels) float32; `offset` likewise,
    finite everywhere; `threshold` (n_stages - 1, n_cells or 1, n_pixels), or None with one stage. `dark`
    (n_cells,) is the weighted sum of the first stage's offsets of each cell.
    """

    weight: Float32Array
    offset: Float32Array
    threshold: Float32Array | None
    dark: FloatArray

    @property
    def n_cells(self) -> int:
        """Memory cells that have constants."""
        return int(self.weight.shape[1])

    @property
    def n_pixels(self) -> int:
        """Pixels of the module."""
        return int(self.weight.shape[2])

    @property
    def has_stages(self) -> bool:
        """Whether a pixel's gain value decides which constants are its own."""
        return len(self.weight) > 1


def build_constants(
    offset: np.ndarray[Any, Any], *, gain: np.ndarray[Any, Any] | None, bad: np.ndarray[Any, Any] | None,
    threshold: np.ndarray[Any, Any] | None = None,
) -> CellConstants:  # fmt: skip
    """Constants of one module, all of shape ([n_stages,] n_cells, ny, nx); `bad` is not 0 for bad pixels.

    A pixel whose offset or gain is not finite, or whose gain is 0, is bad too. Without `gain` it is 1.

    Parameters
    ----------
    threshold:
        (n_stages - 1, n_cells, ny, nx): a pixel is in the last stage whose threshold its gain value exceeds.
        Without it, and with several stages, the gain values are the numbers of the stages; a pixel with
        another number is left out. Source: EuXFEL offline calibration, AGIPD raw data.
    """
    n_pixels = offset.shape[-2] * offset.shape[-1]
    shape = (offset.shape[0] if offset.ndim == 4 else 1, offset.shape[-3], n_pixels)
    own = np.array(offset, dtype=np.float32).reshape(shape)
    weight = np.ones_like(own) if gain is None else np.array(gain, dtype=np.float32).reshape(shape)
    masked = np.zeros(shape, np.uint8) if bad is None else (bad != 0).astype(np.uint8).reshape(shape)
    darks = [clean_constants(w, offset=o, bad=b) for w, o, b in zip(weight, own, masked, strict=True)]
    limits = None
    if len(weight) > 1 and threshold is not None:
        limits = np.array(threshold, dtype=np.float32).reshape(shape[0] - 1, *shape[1:])
    elif len(weight) > 1:
        numbers = np.arange(len(weight), dtype=np.float32) + np.float32(0.5)
        limits = np.repeat(numbers, n_pixels).reshape(len(weight), 1, n_pixels)
        nothing = np.zeros((1, *shape[1:]), np.float32)
        weight, own = np.concatenate([weight, nothing]), np.concatenate([own, nothing])
    return CellConstants(weight, own, limits, darks[0])


def unit_constants(n_pixels: int) -> CellConstants:
    """No correction: one cell that stands for all."""
    ones = np.ones((1, 1, n_pixels), np.float32)
    return CellConstants(ones, np.zeros_like(ones), None, np.zeros(1))


def pixel_bins(
    positions: FloatArray, *, energy_keV: float, edges: FloatArray, solid_angle: bool  # the unit
) -> PixelBins:  # fmt: skip
    """The bin of each pixel of a module over q.

    Parameters
    ----------
    positions:
        The pixels' centres from the sample, metres, z along the beam, shape (n_pixels, 3). What is not finite
        is in no bin.
    edges:
        In nm^-1, shape (n_bins + 1,), of equal width; the last bin holds its upper edge.
    solid_angle:
        Whether values are divided by the solid angle of their pixel, relative to one in the beam: cos^3 of
        the scattering angle, for modules perpendicular to the beam. Source: pyFAI, doi
        10.1107/S1600576715004306.
    """
    q = scattering_vector(positions, energy_keV=energy_keV)
    n_bins = edges.size - 1
    found = np.searchsorted(edges, q, side="right") - 1
    found[q == edges[-1]] = n_bins - 1
    found[~((q >= edges[0]) & (q <= edges[-1]))] = n_bins
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.abs(positions[:, 2]) / np.linalg.norm(positions, axis=1)
        scale = 1 / cosine**3 if solid_angle else np.ones(len(q))
    usable = np.isfinite(scale)
    found[~usable] = n_bins
    return PixelBins(found.astype(np.int32), np.where(usable, scale, 0.0), n_bins)


def scattering_vector(positions: FloatArray, *, energy_keV: float) -> FloatArray:  # the unit
    """q = 4 pi / wavelength * sin(theta) of each position, nm^-1, shape (n_pixels,)."""
    x, y, z = positions.T
    two_theta = np.arctan2(np.hypot(x, y), z)
    q: FloatArray = 4 * np.pi * energy_keV / HC_KEV_NM * np.sin(two_theta / 2)
    return q


@dataclass(frozen=True, slots=True)
class PulseCurves:
    """Corrected values by pulse and bin added up, float64, and their number, int64: (n_pulses, n_bins)."""

    total: FloatArray
    n: IntArray

    @classmethod
    def empty(cls, n_pulses: int, n_bins: int) -> PulseCurves:
        """Sums of nothing."""
        return cls(np.zeros((n_pulses, n_bins)), np.zeros((n_pulses, n_bins), np.int64))

    def mean(self) -> FloatArray:
        """The mean value of each pulse and bin; NaN where there is none."""
        mean = np.full(self.total.shape, np.nan)
        np.divide(self.total, self.n, out=mean, where=self.n > 0)
        return mean


def add_curves(left: PulseCurves | None, right: PulseCurves | None) -> PulseCurves | None:
    """Both together, in this order."""
    if left is None or right is None:
        return left or right
    return PulseCurves(left.total + right.total, left.n + right.n)


@dataclass(frozen=True, slots=True)
class ModuleSums:
    """What corrected frames of one module add up to.

    `image` (n_pixels,) is their sum, `n_good` (n_pixels,) counts the values that went into it, `n_of_cell`
    (n_cells,) the frames of each cell; `curves` are there when bins were asked for.
    """

    module: int
    image: FloatArray
    n_good: IntArray
    n_of_cell: IntArray
    curves: PulseCurves | None = None


class ModuleSummer:
    """Adds up frames of one module; not for two threads."""

    def __init__(
        self, module: int, constants: CellConstants, *, bins: PixelBins | None = None, n_pulses: int = 0
    ) -> None:
        self.constants, self.bins = constants, bins
        linear = not constants.has_stages
        self.tables = StageTables(constants.weight, None if linear else constants.offset, constants.threshold)
        n = constants.n_pixels
        counts = np.zeros(n, np.int64)
        self._blank = counts if linear else np.zeros(0, np.int64)
        self._sums = CellSums(np.zeros(n), None if linear else counts, counts if linear else None)
        curves = None if bins is None else PulseCurves.empty(n_pulses, bins.n_bins)
        self._found = ModuleSums(
            module, self._sums.image, counts, np.zeros(constants.n_cells, np.int64), curves
        )
        self._dark_curves: dict[int, FloatArray] = {}

    def add(self, frames: Sequence[StoredFrame], *, cells: IntArray, pulses: IntArray) -> FloatArray:
        """Add frames of `cells` and `pulses` (n_frames,); their corrected intensities over good pixels."""
        np.add.at(self._found.n_of_cell, cells, 1)
        constants, linear = self.constants, not self.constants.has_stages
        if linear and self.bins is None:
            weights = [constants.weight[0, cell] for cell in cells.tolist()]
            totals = np.array(
                add_weighted_frames(frames, weights=weights, image=self._sums.image, blank=self._blank)
            )
        else:
            found = add_cell_frames(frames, cells=cells, tables=self.tables, sums=self._sums, bins=self.bins)
            totals = found.totals
            if found.binned is not None and found.n_binned is not None:
                self._add_curves(found.binned, found.n_binned, cells, pulses)
        return totals - constants.dark[cells] if linear else totals

    def _add_curves(self, binned: FloatArray, n: IntArray, cells: IntArray, pulses: IntArray) -> None:
        curves = self._found.curves
        if curves is None:
            return
        for row, count, cell, pulse in zip(binned, n, cells.tolist(), pulses.tolist(), strict=True):
            curves.total[pulse] += row - self._dark_curve(cell)
            curves.n[pulse] += count

    def _dark_curve(self, cell: int) -> FloatArray | float:
        """The weighted offsets of a cell over the bins, where they were not taken off yet."""
        if self.constants.has_stages:
            return 0.0
        if cell not in self._dark_curves:
            offset = StoredFrame(self.constants.offset[0, cell], self.constants.n_pixels)
            nowhere = CellSums(np.zeros(self.constants.n_pixels), None, None)
            found = add_cell_frames(
                [offset], cells=np.array([cell]), tables=self.tables, sums=nowhere, bins=self.bins
            )
            self._dark_curves[cell] = np.zeros(0) if found.binned is None else found.binned[0]
        return self._dark_curves[cell]

    def finish(self) -> ModuleSums:
        """The sums, offsets taken off; once, after the last frame.

        Values left out (no finite numbers in corrected data) are taken as if the offset of their cell were 0,
        as it is in corrected data.
        """
        found, constants = self._found, self.constants
        if constants.has_stages:
            return found
        n_good = np.negative(found.n_good)
        take_off_cells(
            CellSums(found.image, n_good, None), n_of_cell=found.n_of_cell, weight=constants.weight[0],
            offset=constants.offset[0],
        )  # fmt: skip
        return replace(found, n_good=n_good)


def add_modules(left: ModuleSums, right: ModuleSums) -> ModuleSums:
    """Both sums of one module; call in the order of the frames."""
    return ModuleSums(
        left.module, left.image + right.image, left.n_good + right.n_good, left.n_of_cell + right.n_of_cell,
        add_curves(left.curves, right.curves),
    )  # fmt: skip


def mean_image(sums: ModuleSums) -> FloatArray:
    """The mean corrected frame, shape (n_pixels,); NaN where no frame had a good value.

    A pixel that is bad in some cells is the mean of the others.
    """
    mean = np.full(sums.image.shape, np.nan)
    np.divide(sums.image, sums.n_good, out=mean, where=sums.n_good > 0)
    return mean
