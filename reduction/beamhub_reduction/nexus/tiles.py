"""Frames made of parts: the boxes of a layout seen as frames, and putting tiles together.

A frame is what the last two axes hold; all axes before them together count frames, in C order (a grid
scan is its frames one behind the other). Modules along an axis of their own (n, n_modules, ny, nx) lie
below each other in one frame (n_modules * ny, nx).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from beamhub_reduction.nexus.access import OpenFiles, reading
from beamhub_reduction.nexus.boxes import Box, Piece, Slab
from beamhub_reduction.nexus.errors import UnsupportedLayout
from beamhub_reduction.nexus.guard import check_readable
from beamhub_reduction.nexus.selection import MAX_BOXES
from beamhub_reduction.nexus.virtual import Layout


@dataclass(frozen=True, slots=True)
class FrameRun:
    """Frames one behind the other that are cut up in the same way: one piece, or the tiles of each frame.

    All tiles have this `at` and `n_rows`. The run is missing as a whole when one of its tiles is.
    """

    at: int
    n_rows: int
    tiles: tuple[Piece, ...]

    @property
    def is_missing(self) -> bool:
        """Whether a part of these frames is absent."""
        return any(tile.missing is not None for tile in self.tiles)


def blank_value(dtype: np.dtype[Any]) -> int | float:
    """What detectors of this type write where there is no value: see `preview.is_sentinel`."""
    if dtype.kind == "u":
        return int(np.iinfo(dtype).max)
    return -1 if dtype.kind == "i" else float("nan")


def read_run(run: FrameRun, *, shape: tuple[int, int], dtype: str, n_frames: int) -> np.ndarray[Any, Any]:
    """The first frames of a run, read through HDF5: shape (n_frames, ny, nx). For previews and checks.

    Raises
    ------
    LinkMissing
        If a tile of them is absent.
    """
    n_frames = min(n_frames, run.n_rows)
    kind = np.dtype(dtype)
    frames = np.full((n_frames, *shape), blank_value(kind), dtype=kind)
    files = OpenFiles()
    try:
        for tile in run.tiles:
            if tile.missing is not None:
                raise tile.missing
            values = _source_frames(tile, files, shape, n_frames)
            if tile.box is None:
                frames[:] = values
            else:
                place_tile(frames, values=values, box=tile.box)
    finally:
        files.close()
    return frames


def _source_frames(
    tile: Piece, files: OpenFiles, shape: tuple[int, int], n_frames: int
) -> np.ndarray[Any, Any]:
    """Frames of a tile's source as they are there, shape (n_frames, source_ny, source_nx)."""
    with files.lend(tile.file) as handle, reading(tile.file):
        dataset = handle[tile.dataset]
        height, width = shape if tile.box is None else dataset.shape[-2:]
        lead = dataset.shape[:-2]
        if tile.box is None and lead and height != dataset.shape[-2]:
            lead = lead[:-1]  # modules along an axis of their own
        out = np.empty((n_frames, height, width), dataset.dtype)
        for i in range(n_frames):
            index = tuple(int(k) for k in np.unravel_index(tile.first + i, lead)) if lead else ()
            start = index[0] if index else 0
            check_readable(dataset, tile.file, tile.dataset, start, start + 1 if index else None)
            out[i] = np.asarray(dataset[index]).reshape(height, width)
        return out


def place_tile(frames: np.ndarray[Any, Any], *, values: np.ndarray[Any, Any], box: Box) -> None:
    """Put one tile of each frame where it belongs.

    Parameters
    ----------
    frames:
        Whole frames, shape (n, ny, nx), written to.
    values:
        Whole rows of the tile's source, shape (n, source_ny, source_nx).
    """
    (y, x), (sy, sx), (h, w) = box.at, box.source, box.shape
    frames[:, y : y + h, x : x + w] = values[:, sy : sy + h, sx : sx + w]


def frame_shape(layout: Layout, *, modules: bool) -> tuple[int, int]:
    """Shape (ny, nx) of the frames of a layout of at least two axes."""
    fold = layout.shape[-3] if modules else 1
    return fold * layout.shape[-2], layout.shape[-1]


def has_module_axis(layout: Layout) -> bool:
    """Whether sources fill many rows at one place of the third last axis: modules, not scan points."""
    return len(layout.shape) >= 4 and any(
        prod(slab.shape[:-3]) > 1 and slab.shape[-3] < layout.shape[-3] for slab in layout.slabs
    )


def frame_pieces(layout: Layout, *, modules: bool = False) -> tuple[Piece, ...]:
    """A layout as runs of frames: `first` counts the frames of the source, `at` those of the whole.

    The source of a piece without a box has frames of the whole's shape when its axes before the frame
    are taken together; with a box, its last two axes are the frame.

    Raises
    ------
    UnsupportedLayout
        If frames are turned, or cut in other ways than in boxes.
    """
    pieces: list[Piece] = []
    for slab in layout.slabs:
        pieces.extend(_pieces_of(slab, layout, 3 if modules else 2))
        if len(pieces) > MAX_BOXES:
            raise UnsupportedLayout(layout.target.file, layout.target.path, f"more than {MAX_BOXES} parts")
    pieces.sort(key=lambda piece: piece.at)
    return tuple(pieces)


def _pieces_of(slab: Slab, layout: Layout, n_axes: int) -> Iterator[Piece]:
    lead, image = layout.shape[:-n_axes], layout.shape[-n_axes:]
    inner = slab.shape[-n_axes:]
    whole = inner == image
    into = _numbers(slab.at[:-n_axes], slab.shape[:-n_axes], lead)
    if slab.missing is not None:
        for at, _, n in _runs(into, into):
            for box in [None] if whole else list(_boxes(slab, image, n_axes)):
                yield Piece("", "", 0, n, at, slab.missing, box)
        return
    if whole and slab.source_shape[-n_axes:] == inner and slab.dataset_shape[-n_axes:] == image:
        taken = _numbers(slab.source[:-n_axes], slab.source_shape[:-n_axes], slab.dataset_shape[:-n_axes])
        for at, first, n in _runs(into, taken):
            yield Piece(slab.file, slab.dataset, first, n, at)
        return
    for i in range(inner[0] if n_axes == 3 else 1):
        part = slab.cut(len(lead), i, i + 1) if n_axes == 3 else slab
        yield from _tiles_of(part, layout, (into, image[-2]), n_axes)


def _tiles_of(slab: Slab, layout: Layout, place: tuple[Any, int], n_axes: int) -> Iterator[Piece]:
    into, ny = place
    if len(slab.source) < 2 or slab.source_shape[-2:] != slab.shape[-2:]:
        raise UnsupportedLayout(layout.target.file, layout.target.path, "frames that are turned or reshaped")
    taken = _numbers(slab.source[:-2], slab.source_shape[:-2], slab.dataset_shape[:-2])
    module = slab.at[-3] if n_axes == 3 else 0
    box = Box(slab.source[-2:], (module * ny + slab.at[-2], slab.at[-1]), slab.shape[-2:])
    for at, first, n in _runs(into, taken):
        yield Piece(slab.file, slab.dataset, first, n, at, None, box)


def _boxes(slab: Slab, image: tuple[int, ...], n_axes: int) -> Iterator[Box]:
    (y, x), (h, w) = slab.at[-2:], slab.shape[-2:]
    modules = range(slab.at[-3], slab.at[-3] + slab.shape[-3]) if n_axes == 3 else range(1)
    for module in modules:
        yield Box((0, 0), (module * image[-2] + y, x), (h, w))


def _numbers(start: tuple[int, ...], count: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Frame numbers of a box of the leading axes, in C order: a range where they follow each other."""
    if len(shape) <= 1:
        return range(start[0], start[0] + count[0]) if shape else range(1)
    solid = all(n == 1 for n in count[:-1])
    offset = int(np.ravel_multi_index(start, shape)) if prod(count) else 0
    if solid:
        return range(offset, offset + count[-1])
    axes = [np.arange(a, a + n, dtype=np.int64) for a, n in zip(start, count, strict=True)]
    return np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), shape).ravel()


def _runs(into: Any, taken: Any) -> Iterator[tuple[int, int, int]]:
    """(first number in the whole, in the source, length) of runs that are solid in both."""
    if len(into) != len(taken) or not len(into):
        if len(into) == len(taken):
            yield (into.start if isinstance(into, range) else 0), 0, 0
        return
    if isinstance(into, range) and isinstance(taken, range):
        yield into.start, taken.start, len(into)
        return
    a, b = np.asarray(into, dtype=np.int64), np.asarray(taken, dtype=np.int64)
    breaks = np.flatnonzero((np.diff(a) != 1) | (np.diff(b) != 1)) + 1
    for low, high in pairwise([0, *breaks.tolist(), len(a)]):
        yield int(a[low]), int(b[low]), high - low


def frame_runs(pieces: Iterable[Piece]) -> tuple[FrameRun, ...]:
    """Pieces sorted by `at` as runs of frames with all their tiles; linear where few lie side by side."""
    runs: list[FrameRun] = []
    active: list[Piece] = []
    done = 0
    for piece in pieces:
        if piece.n_rows:
            done = _flush(active, done, piece.at, runs)
            active.append(piece)
    end = max((piece.at + piece.n_rows for piece in active), default=0)
    _flush(active, done, end, runs)
    return tuple(runs)


def _flush(active: list[Piece], done: int, upto: int, runs: list[FrameRun]) -> int:
    """Emit the runs of the active tiles up to a frame, and forget the tiles that end before it."""
    while active and done < upto:
        start = max(done, min(tile.at for tile in active))
        stop = min(upto, *(tile.at + tile.n_rows for tile in active))
        if start < stop:
            runs.append(FrameRun(start, stop - start, tuple(_clip(t, start, stop) for t in active)))
        done = max(start, stop)
        active[:] = [tile for tile in active if tile.at + tile.n_rows > done]
    return max(done, upto) if not active else done


def _clip(piece: Piece, start: int, stop: int) -> Piece:
    if piece.at == start and piece.n_rows == stop - start:
        return piece
    return replace(piece, first=piece.first + start - piece.at, n_rows=stop - start, at=start)
