"""Frames put together from tiles that lie in different datasets."""

from __future__ import annotations

from typing import Any

import numpy as np

from beamhub_reduction.errors import CorruptChunk
from beamhub_reduction.nexus.tiles import blank_value, place_tile
from beamhub_reduction.pipeline.units import Segment
from beamhub_reduction.storage_chunks import Rows, read_rows


def read_tiles(run: tuple[Segment, ...], low: int, high: int, shape: tuple[int, int]) -> Rows:
    """Frames low to high of a run (`FrameUnit.runs`), shape (n, ny, nx).

    Pixels that no tile covers hold the type's 'no value' (the largest unsigned value, -1, NaN). A frame
    is corrupt or unwritten when one of its tiles is.

    Raises
    ------
    FilesChanged
    """
    n = high - low
    dtype = np.dtype(run[0].index.dtype)
    data = np.full((n, *shape), blank_value(dtype), dtype=dtype)
    corrupt, unwritten = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    problems: list[CorruptChunk] = []
    for tile in run:
        rows = _tile_rows(tile, low, high)
        if tile.box is None:
            data[:] = rows.data.reshape(n, *shape)
        else:
            place_tile(data, values=rows.data, box=tile.box)
        corrupt |= rows.corrupt
        unwritten |= rows.unwritten
        problems.extend(rows.problems)
    return Rows(data, corrupt, unwritten, tuple(problems))


def _tile_rows(tile: Segment, low: int, high: int) -> Rows:
    index = tile.index
    if len(index.shape) == 3:
        return read_rows(index, tile.start + low, tile.start + high)
    rows: Any = read_rows(index, 0, index.shape[0])
    corrupt, unwritten = np.array([rows.corrupt.any()]), np.array([rows.unwritten.any()])
    return Rows(rows.data[np.newaxis], corrupt, unwritten, rows.problems)
