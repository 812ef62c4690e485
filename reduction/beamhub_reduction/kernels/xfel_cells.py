"""Frames of memory cells whose pixels chose their gain, and sums over bins of pixels."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import function, pointer
from beamhub_reduction.kernels.xfel import MAX_FRAMES, StoredFrame, sum_in_lanes

Float32Array = np.ndarray[Any, np.dtype[np.float32]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

BIN_LANES = 4
MAX_STAGES = 4
MAX_BINS = 1 << 16

_p, _n = ctypes.c_void_p, ctypes.c_int64


@dataclass(frozen=True, slots=True)
class PixelBins:
    """Which bin each pixel of a module belongs to.

    `index` (n_pixels,) int32, `n_bins` where in none; a value counts times `scale` (n_pixels,) float64.
    """

    index: np.ndarray[Any, np.dtype[np.int32]]
    scale: FloatArray
    n_bins: int

    def __post_init__(self) -> None:
        """Refuse what points outside."""
        if self.index.dtype != np.int32 or self.scale.dtype != np.float64 or self.index.ndim != 1:
            raise ValueError("index is int32, scale float64")
        if self.index.shape != self.scale.shape or not 1 <= self.n_bins <= MAX_BINS:
            raise ValueError(f"{self.index.size} indices, {self.scale.size} scales, {self.n_bins} bins")
        if self.index.size and not 0 <= int(self.index.min()) <= int(self.index.max()) <= self.n_bins:
            raise ValueError("an index beyond the bins")

    @property
    def counts(self) -> IntArray:
        """Pixels of each bin, shape (n_bins,)."""
        return np.bincount(self.index, minlength=self.n_bins + 1)[: self.n_bins].astype(np.int64)


@dataclass(frozen=True, slots=True)
class StageTables:
    """Constants by gain stage and memory cell, float32, C-contiguous.

    `weight` (n_stages, n_cells, n_pixels), 0 where a pixel is bad; `offset` likewise, or None where nothing
    is taken off; `threshold` (n_stages - 1, n_cells or 1, n_pixels): a pixel is in the last stage whose
    threshold its gain value exceeds.
    """

    weight: Float32Array
    offset: Float32Array | None
    threshold: Float32Array | None

    def __post_init__(self) -> None:
        """Refuse tables that do not fit together."""
        n_stages, n_cells, n_pixels = self.weight.shape
        for table in (self.weight, self.offset, self.threshold):
            if table is not None and (table.dtype != np.float32 or not table.flags.c_contiguous):
                raise ValueError("tables are float32 and contiguous")
        fits = 1 <= n_stages <= MAX_STAGES and (self.offset is None or self.offset.shape == self.weight.shape)
        if n_stages > 1:
            wanted = [(n_stages - 1, n, n_pixels) for n in (1, n_cells)]
            fits &= self.offset is not None and self.threshold is not None and self.threshold.shape in wanted
        if not fits:
            raise ValueError("offsets and thresholds do not fit the weights")


@dataclass(frozen=True, slots=True)
class CellSums:
    """Where frames go: `image` float64 (n_pixels,) is added to.

    `n_good` int64 (n_pixels,), unless it is None, counts values that were used; `blank` likewise values that
    are not finite where the weight is not 0.
    """

    image: FloatArray
    n_good: IntArray | None
    blank: IntArray | None

    def __post_init__(self) -> None:
        """Refuse arrays that the kernel cannot take."""
        for array in (self.image, self.n_good, self.blank):
            if array is not None and (array.shape != self.image.shape or not array.flags.c_contiguous):
                raise ValueError("sums and counts have one value for each pixel")


@dataclass(frozen=True, slots=True)
class FrameResults:
    """Of each frame its sum (n_frames,); with bins, their sums and the values used, (n_frames, n_bins)."""

    totals: FloatArray
    binned: FloatArray | None
    n_binned: IntArray | None


def add_cell_frames(
    frames: Sequence[StoredFrame], *, cells: IntArray, tables: StageTables, sums: CellSums,
    bins: PixelBins | None = None,
) -> FrameResults:  # fmt: skip
    """Correct frames by cell and stage, add them up, and sum each over bins.

    A value is (raw - offset) * weight; what is not finite, or has weight 0, is left out. Frames are uint16
    (also as HDF5's shuffle left them) or float32; with stages, as many gain values stand behind the pixels.

    Parameters
    ----------
    cells:
        The memory cell of each frame, shape (n_frames,).
    """
    _check(frames, cells, tables, sums, bins)
    n_bins = bins.n_bins if bins is not None else 0
    totals = np.zeros(len(frames))
    binned, n_bad = np.zeros((len(frames), n_bins)), np.zeros((len(frames), n_bins + 1), np.int64)
    for low in range(0, len(frames), MAX_FRAMES):
        part = slice(low, low + MAX_FRAMES)
        given = (frames[part], cells[part], tables, sums, bins)
        if not _add_native(*given, (totals[part], binned[part], n_bad[part])):
            _add_with_numpy(*given, (totals[part], binned[part], n_bad[part]))
    if bins is None:
        return FrameResults(totals, None, None)
    return FrameResults(totals, binned, bins.counts - n_bad[:, :n_bins])


def _check(
    frames: Sequence[StoredFrame], cells: IntArray, tables: StageTables, sums: CellSums,
    bins: PixelBins | None,
) -> None:  # fmt: skip
    n_stages, n_cells, n_pixels = tables.weight.shape
    if cells.shape != (len(frames),) or (cells.size and not 0 <= cells.min() <= cells.max() < n_cells):
        raise ValueError(f"cells of {len(frames)} frames are from 0 to {n_cells - 1}")
    if sums.image.shape != (n_pixels,) or (bins is not None and bins.index.shape != (n_pixels,)):
        raise ValueError(f"sums and bins have {n_pixels} pixels")
    n_values = n_pixels if n_stages == 1 else 2 * n_pixels
    for f in frames:
        room = f.plane if f.plane else f.data.size
        if f.n_pixels != n_pixels or room < n_values or f.data.size < f.plane + n_values:
            raise ValueError(f"a frame holds fewer than {n_values} values")


Outputs = tuple[FloatArray, FloatArray, IntArray]


def _add_native(
    frames: Sequence[StoredFrame], cells: IntArray, tables: StageTables, sums: CellSums,
    bins: PixelBins | None, out: Outputs,
) -> bool:  # fmt: skip
    """False where the kernel does not know such frames."""
    kinds = {"u2" if f.plane else f.data.dtype.str[1:] for f in frames}
    kernel = function("cell_frames", (_p,) * 15)
    if kernel is None or sys.byteorder != "little" or kinds not in ({"u2"}, {"f4"}):
        return False
    n_stages, _, n_pixels = tables.weight.shape
    n_bins = bins.n_bins if bins is not None else 0
    dims = np.array([len(frames), n_pixels, n_stages, kinds == {"f4"}, n_bins], np.int64)
    at = np.array([pointer(f.data) for f in frames], np.uintp)
    planes = np.array([f.plane for f in frames], np.int64)
    weights, offsets, thresholds = (
        _addresses(table, cells) for table in (tables.weight, tables.offset, tables.threshold)
    )
    lanes = np.zeros((len(frames), n_bins + 1, BIN_LANES)) if bins is not None else None
    totals, binned, n_bad = out
    status = kernel(
        pointer(dims), pointer(at), pointer(planes), *(_at(a) for a in (weights, offsets, thresholds)),
        pointer(sums.image), _at(sums.n_good), _at(sums.blank), pointer(totals),
        None if bins is None else pointer(bins.index), None if bins is None else pointer(bins.scale),
        _at(lanes), pointer(binned), pointer(n_bad),
    )  # fmt: skip
    if status < 0:
        raise ValueError("the kernel refused its input")
    return True


def _at(array: np.ndarray[Any, Any] | None) -> int | None:
    return None if array is None else pointer(array)


def _addresses(table: Float32Array | None, cells: IntArray) -> np.ndarray[Any, np.dtype[np.uintp]] | None:
    """Where the pixels of each frame's cell begin, stage after stage, shape (n_frames, n_stages)."""
    if table is None:
        return None
    n_stages, n_cells, n_pixels = table.shape
    cell = cells if n_cells > 1 else np.zeros_like(cells)
    places = np.arange(n_stages) * n_cells + cell[:, np.newaxis]
    return np.ascontiguousarray(pointer(table) + places * (n_pixels * 4), dtype=np.uintp)


def _add_with_numpy(
    frames: Sequence[StoredFrame], cells: IntArray, tables: StageTables, sums: CellSums,
    bins: PixelBins | None, out: Outputs,
) -> None:  # fmt: skip
    """The same additions in the same order."""
    totals, binned, n_bad = out
    for j, (frame, cell) in enumerate(zip(frames, cells.tolist(), strict=True)):
        values = frame.values.astype(np.float64)
        weight, offset = _stage_of(frame, cell, tables)
        finite = np.isfinite(values)
        with np.errstate(invalid="ignore", over="ignore"):
            taken = values if offset is None else values - offset
            x = np.where(finite, taken * weight, 0.0)
        good = finite & (weight != 0)
        sums.image[...] += x
        if sums.n_good is not None:
            sums.n_good[...] += good
        if sums.blank is not None:
            sums.blank[...] += ~finite & (weight != 0)
        totals[j] = sum_in_lanes(x)
        if bins is not None:
            lanes = np.zeros((bins.n_bins + 1, BIN_LANES))
            np.add.at(lanes, (bins.index, np.arange(x.size) % BIN_LANES), x * bins.scale)
            first, second, third, fourth = lanes[: bins.n_bins].T
            binned[j] = ((first + second) + third) + fourth
            n_bad[j] += np.bincount(bins.index[~good], minlength=bins.n_bins + 1)


def _stage_of(frame: StoredFrame, cell: int, tables: StageTables) -> tuple[FloatArray, FloatArray | None]:
    """(weight, offset) of each pixel."""
    weight = tables.weight[0, cell].astype(np.float64)
    if tables.offset is None:
        return weight, None
    offset = tables.offset[0, cell].astype(np.float64)
    if tables.threshold is not None:
        gain = frame.behind.astype(np.float64)
        of_cell = cell if tables.threshold.shape[1] > 1 else 0
        for stage in range(1, len(tables.weight)):
            above = gain > tables.threshold[stage - 1, of_cell]
            weight = np.where(above, tables.weight[stage, cell], weight)
            offset = np.where(above, tables.offset[stage, cell], offset)
    return weight, offset


def clean_constants(
    weight: Float32Array, *, offset: Float32Array, bad: np.ndarray[Any, np.dtype[np.uint8]]
) -> FloatArray:
    """Set weight and offset to 0 where a pixel is not usable; gives sum(weight * offset) of each cell.

    Not usable: bad, weight 0, or one of both not finite. All of shape (n_cells, n_pixels), C-contiguous.
    """
    if not weight.shape == offset.shape == bad.shape or weight.ndim != 2 or bad.dtype != np.uint8:
        raise ValueError("weight, offset and bad have one shape, bad is uint8")
    if weight.dtype != np.float32 or offset.dtype != np.float32:
        raise ValueError("weight and offset are float32")
    dark = np.zeros(len(weight))
    kernel = function("cell_constants", (_n, _n, _p, _p, _p, _p))
    if kernel is not None:
        kernel(*weight.shape, pointer(weight), pointer(offset), pointer(bad), pointer(dark))
        return dark
    bad_or_zero = (bad != 0) | ~np.isfinite(offset) | ~np.isfinite(weight) | (weight == 0)
    weight[bad_or_zero], offset[bad_or_zero] = 0, 0
    for cell, (w, o) in enumerate(zip(weight, offset, strict=True)):
        dark[cell] = sum_in_lanes(o.astype(np.float64) * w.astype(np.float64))
    return dark


def take_off_cells(
    sums: CellSums, *, n_of_cell: IntArray, weight: Float32Array, offset: Float32Array
) -> None:
    """Take the weighted offsets of n_of_cell frames of each cell off `image`; `n_good` gains their values.

    Parameters
    ----------
    n_of_cell:
        int64, shape (n_cells,).
    weight, offset:
        float32, shape (n_cells, n_pixels).
    """
    if (
        sums.n_good is None
        or weight.shape != offset.shape
        or weight.shape != (n_of_cell.size, sums.image.size)
    ):
        raise ValueError("cells, weights, offsets and sums do not fit together")
    kernel = function("take_off_cells", (_n, _n, _p, _p, _p, _p, _p))
    if kernel is not None:
        kernel(
            *weight.shape, pointer(n_of_cell), pointer(weight), pointer(offset), pointer(sums.image),
            pointer(sums.n_good),
        )  # fmt: skip
        return
    for n, w, o in zip(n_of_cell.tolist(), weight, offset, strict=True):
        if n:
            sums.image[...] -= n * (w.astype(np.float64) * o.astype(np.float64))
            sums.n_good[...] += np.where(w != 0, n, 0)
