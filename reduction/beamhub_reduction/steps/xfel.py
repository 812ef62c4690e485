"""Per-cell correction of XFEL frames, summed: the mean image, and the intensity of every pulse.

A corrected value is (raw - offset[cell]) * gain[cell]. Both sums are linear in it, so a frame is only
weighted with its cell's gain, and the offsets are taken off at the end, cell by cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.xfel import StoredFrame, add_weighted_frame, add_weighted_frames

Float32Array = np.ndarray[Any, np.dtype[np.float32]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class CellConstants:
    """Constants of one module.

    `weight` is the gain, 0 for bad pixels, shape (n_cells, n_pixels); `offset` likewise, finite everywhere.
    `dark` (n_cells,) is the weighted sum of the offsets of each cell.
    """

    weight: Float32Array
    offset: Float32Array
    dark: FloatArray

    @property
    def n_cells(self) -> int:
        """Memory cells that have constants."""
        return len(self.weight)


def build_constants(offset: FloatArray, *, gain: FloatArray, bad: np.ndarray[Any, Any]) -> CellConstants:
    """Constants of one module, all of shape (n_cells, ny, nx); `bad` is not 0 where a pixel is bad.

    A pixel whose offset or gain is not finite, or whose gain is 0, is bad too.
    """
    n_cells = len(offset)
    usable = (bad == 0) & np.isfinite(offset) & np.isfinite(gain) & (gain != 0)
    weight = np.where(usable, gain, 0).astype(np.float32).reshape(n_cells, -1)
    offsets = np.where(usable, offset, 0).astype(np.float32).reshape(n_cells, -1)
    dark = np.array([add_to_zero(o, w) for o, w in zip(offsets, weight, strict=True)])
    return CellConstants(weight, offsets, dark)


def unit_constants(n_pixels: int) -> CellConstants:
    """No correction: one cell that stands for all."""
    return CellConstants(np.ones((1, n_pixels), np.float32), np.zeros((1, n_pixels), np.float32), np.zeros(1))


def add_to_zero(frame: Float32Array, weight: Float32Array) -> float:
    """The sum of frame * weight, in the order in which frames are summed."""
    image, blank = np.zeros(frame.size), np.zeros(frame.size, dtype=np.int64)
    return add_weighted_frame(frame, weight=weight, image=image, blank=blank)


@dataclass(frozen=True, slots=True)
class ModuleSums:
    """What frames of one module add up to, before the offsets are taken off.

    `image` (n_pixels,) is the sum of weighted frames, `blank` counts values left out of it, `n_of_cell`
    (n_cells,) the frames of each cell.
    """

    module: int
    image: FloatArray
    blank: IntArray
    n_of_cell: IntArray

    @classmethod
    def empty(cls, module: int, constants: CellConstants) -> ModuleSums:
        """Sums of no frames."""
        n_pixels = constants.weight.shape[1]
        zeros = np.zeros(n_pixels, dtype=np.int64)
        return cls(module, np.zeros(n_pixels), zeros, np.zeros(constants.n_cells, dtype=np.int64))

    def add(self, frames: Sequence[StoredFrame], cells: IntArray, constants: CellConstants) -> FloatArray:
        """Add frames of `cells` (n_frames,); gives their corrected intensities, sums over good pixels."""
        weights = [constants.weight[cell] for cell in cells.tolist()]
        totals = add_weighted_frames(frames, weights=weights, image=self.image, blank=self.blank)
        np.add.at(self.n_of_cell, cells, 1)
        intensities: FloatArray = np.array(totals) - constants.dark[cells]
        return intensities


def add_modules(left: ModuleSums, right: ModuleSums) -> ModuleSums:
    """Both sums of one module; call in the order of the frames."""
    return ModuleSums(
        left.module, left.image + right.image, left.blank + right.blank, left.n_of_cell + right.n_of_cell
    )


def mean_image(sums: ModuleSums, *, constants: CellConstants) -> FloatArray:
    """The mean corrected frame, shape (n_pixels,); NaN where no frame had a good value.

    A pixel that is bad in some cells is the mean of the others. Values left out (no finite numbers in
    corrected data) are taken as if the offset of their cell were 0, as it is in corrected data.
    """
    image, n_good = sums.image.copy(), -sums.blank
    for cell in np.flatnonzero(sums.n_of_cell):
        n = int(sums.n_of_cell[cell])
        weight = constants.weight[cell].astype(np.float64)
        image -= n * (weight * constants.offset[cell].astype(np.float64))
        n_good = n_good + n * (weight != 0)
    mean = np.full(image.shape, np.nan)
    np.divide(image, n_good, out=mean, where=n_good > 0)
    return mean
