"""A sparse matrix cut into tiles of neighbouring pixels: the form in which the kernel applies it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

MAX_TILE = 65536
DEFAULT_TILE = 2048
"""Pixels whose lanes stay in the second-level cache beside the sums."""


@dataclass(frozen=True)
class SparseTiles:
    """A sparse matrix (n_bins, n_pixels) cut into tiles of `tile` neighbouring pixels.

    Inside a tile entries are sorted by bin, then by pixel; a run is what one bin has in one tile. `tile_run`
    (n_tiles + 1,) int64: where each tile's runs begin. `run_bin` and `run_stop` (n_runs,) uint32: the run's
    bin, and where its entries end. `offset` (n_entries,) uint16: the pixel's place in its tile; `weight`
    (n_entries,) float32: its share.
    """

    n_bins: int
    n_pixels: int
    tile: int
    tile_run: IntArray
    run_bin: np.ndarray[Any, np.dtype[np.uint32]]
    run_stop: np.ndarray[Any, np.dtype[np.uint32]]
    offset: np.ndarray[Any, np.dtype[np.uint16]]
    weight: np.ndarray[Any, np.dtype[np.float32]]

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was derived from them is made again where it is needed."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @property
    def n_tiles(self) -> int:
        """How many tiles cover a frame."""
        return len(self.tile_run) - 1

    @cached_property
    def rows(self) -> scipy.sparse.csr_matrix:
        """The matrix by rows, float64, pixels in order: the SciPy form, built when first needed."""
        lengths = np.diff(self.run_stop.astype(np.int64), prepend=0)
        tiles = np.repeat(np.repeat(np.arange(self.n_tiles), np.diff(self.tile_run)), lengths)
        pixels = tiles * self.tile + self.offset
        bins = np.repeat(self.run_bin, lengths)
        order = np.argsort(bins, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(bins, minlength=self.n_bins))])
        return scipy.sparse.csr_matrix(
            (self.weight[order].astype(np.float64), pixels[order], indptr), shape=(self.n_bins, self.n_pixels)
        )


def build_tiles(matrix: scipy.sparse.csr_matrix, *, tile: int = DEFAULT_TILE) -> SparseTiles:
    """Cut a matrix (n_bins, n_pixels) into tiles; weights become float32.

    Raises
    ------
    ValueError
        If the matrix or the tile is larger than the kernel's indices.
    """
    n_bins, n_pixels = matrix.shape
    if not 8 <= tile <= MAX_TILE or tile % 8 or max(matrix.nnz, n_bins) >= 2**32:
        raise ValueError(f"a tile of {tile} pixels, {matrix.nnz} entries")
    if not matrix.has_sorted_indices:
        matrix = matrix.sorted_indices()
    n_tiles = -(-n_pixels // tile)
    pixels = matrix.indices
    in_tile = (pixels // tile).astype(np.uint16 if n_tiles < 2**16 else np.int64)
    order = np.argsort(in_tile, kind="stable")
    in_tile = in_tile[order]
    bins = np.repeat(np.arange(n_bins, dtype=np.uint32), np.diff(matrix.indptr))[order]
    begins = np.ones(len(bins), dtype=np.bool_)
    begins[1:] = (bins[1:] != bins[:-1]) | (in_tile[1:] != in_tile[:-1])
    run_start = np.flatnonzero(begins)
    run_stop = np.append(run_start[1:], len(bins)) if len(bins) else run_start
    tile_run = np.searchsorted(in_tile[run_start], np.arange(n_tiles + 1)).astype(np.int64)
    return SparseTiles(
        n_bins=n_bins,
        n_pixels=n_pixels,
        tile=tile,
        tile_run=tile_run,
        run_bin=bins[run_start],
        run_stop=run_stop.astype(np.uint32),
        offset=(pixels[order] - in_tile.astype(np.int64) * tile).astype(np.uint16),
        weight=matrix.data[order].astype(np.float32),
    )


def tile_of(block_items: int) -> int:
    """The tile for chunks with blocks of so many elements; the default where they do not fit any."""
    if block_items % 8 or not 8 <= block_items <= MAX_TILE:
        return DEFAULT_TILE
    return block_items * max(1, DEFAULT_TILE // block_items)


@dataclass(frozen=True)
class Pixels:
    """What every pass over frames shares.

    Parameters
    ----------
    tiles:
        The matrix; entries of pixels that are not good are not in it.
    good:
        uint8, shape (n_pixels,): 1 for pixels that count, 0 for masked ones.
    norm, dark:
        float64, shape (n_pixels,): the normalisation of each pixel, and the dark signal or None.
    low, high:
        Smallest and largest valid value; whatever lies outside (or is not finite) is blank.
    """

    tiles: SparseTiles
    good: Bytes
    norm: FloatArray
    dark: FloatArray | None
    low: float
    high: float

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was derived from them is made again where it is needed."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @cached_property
    def good_bits(self) -> Bytes:
        """The good pixels as bits, the first in the lowest one, with some bytes behind them."""
        return np.append(np.packbits(self.good, bitorder="little"), np.zeros(8, dtype=np.uint8))

    @cached_property
    def unlimited(self) -> Pixels:
        """The same for sums of frames: every finite value is valid, and there is no dark."""
        return replace(self, dark=None, low=-np.inf, high=np.inf)
