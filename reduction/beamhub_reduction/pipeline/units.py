"""Work units: contiguous ranges of storage chunks, cut by the data alone, never by the number of workers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from beamhub_reduction.nexus.boxes import Box
from beamhub_reduction.nexus.frames import FrameStack
from beamhub_reduction.nexus.virtual import Layout, Piece
from beamhub_reduction.pipeline.frame_index import frame_index
from beamhub_reduction.steps.frames import FloatArray
from beamhub_reduction.storage_chunks import ChunkIndex, read_chunk_index

TARGET_UNIT_BYTES = 256 * 1024**2
"""Decoded bytes of one unit: about a second of work. Source: facts on Dask, units of 0.5 to 2 s."""
FRAME_UNIT_BYTES = 1024**3
"""Decoded bytes of one unit of frames: an estimate for units of 0.3 to 2 s, still to be measured."""
MIN_UNIT_EVENTS = 1 << 16
"""Events that are worth a unit of their own: 0.1 ms of counting, 0.3 ms to start it."""
MIN_UNITS = 8
"""Small runs are cut into at least this many units, so that progress shows and workers share. Frames are cut
into a multiple of it: all units are alike, and as many workers end together."""
MIN_MULTIPLE_BYTES = 64 * 1024**2
"""Below this many bytes a batch that is not full costs less than units that are too few."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows start to stop of one dataset, with the chunks that hold them; `at` is their place in the whole.

    With a box, the rows are tiles of frames; the other tiles of the same frames are the segments beside
    it with the same `at` (see `FrameUnit.runs`).
    """

    index: ChunkIndex
    start: int
    stop: int
    at: int
    box: Box | None = None

    @property
    def n_rows(self) -> int:
        """How many rows."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class FrameUnit:
    """Frames of one work unit and the weight of each, shape (n_frames,)."""

    number: int
    segments: tuple[Segment, ...]
    weights: FloatArray

    @property
    def runs(self) -> tuple[tuple[Segment, ...], ...]:
        """The segments by their frames: one of whole frames, or all tiles of the same frames."""
        return tuple(tuple(group) for _, group in groupby(self.segments, key=lambda segment: segment.at))


@dataclass(frozen=True, slots=True)
class EventUnit:
    """Events of one work unit: the same rows of the ids and of the time offsets of one bank."""

    number: int
    i_bank: int
    ids: tuple[Segment, ...]
    offsets: tuple[Segment, ...]


def plan_frame_units(
    stack: FrameStack,
    *,
    weights: FloatArray,
    target_bytes: int = FRAME_UNIT_BYTES,
    min_units: int = MIN_UNITS,
    multiple: int = 1,
) -> tuple[FrameUnit, ...]:
    """Cut the present frames of a stack into units.

    Parameters
    ----------
    weights:
        One weight per frame of the stack, shape (n_frames,).
    target_bytes:
        Decoded bytes that a unit should not exceed; a storage chunk is never cut.
    min_units:
        The number of units is a multiple of it where there are as many frames.
    multiple:
        Frames that a kernel wants at once: where frames are large, units hold multiples of it.
    """
    runs = [[_frame_segment(tile, stack.shape) for tile in run.tiles] for run in stack.present]
    frame_bytes = max(1, int(np.prod(stack.shape)) * np.dtype(stack.dtype).itemsize)
    n_units = max(1, -(-stack.n_present * frame_bytes // max(1, target_bytes)))
    n_rows = max(1, -(-stack.n_present // (-(-n_units // min_units) * min_units)))
    if frame_bytes * multiple >= MIN_MULTIPLE_BYTES:
        n_rows = -(-n_rows // multiple) * multiple
    units = []
    for number, group in enumerate(_pack(runs, n_rows)):
        of_unit = np.concatenate([weights[run[0].at : run[0].at + run[0].n_rows] for run in group])
        units.append(FrameUnit(number, tuple(s for run in group for s in run), of_unit))
    return tuple(units)


def plan_event_units(
    i_bank: int, event_id: Layout, event_time_offset: Layout, *, first_number: int,
    target_bytes: int = TARGET_UNIT_BYTES // 8,
) -> tuple[EventUnit, ...]:  # fmt: skip
    """Cut the events of one bank into units; ids and offsets may lie in different pieces."""
    id_segments = [_segment(piece) for piece in _present(event_id)]
    offset_segments = [_segment(piece) for piece in _present(event_time_offset)]
    n_events = sum(s.n_rows for s in id_segments)
    n_rows = max(_rows_per_unit(n_events, 8, target_bytes), MIN_UNIT_EVENTS)
    units = []
    for number, runs in enumerate(_pack([[s] for s in id_segments], n_rows)):
        ids = [segment for run in runs for segment in run]
        start, stop = ids[0].at, ids[-1].at + ids[-1].n_rows
        offsets = tuple(c for s in offset_segments if (c := _clip(s, start, stop)) is not None)
        units.append(EventUnit(first_number + number, i_bank, tuple(ids), offsets))
    return tuple(units)


def _present(layout: Layout) -> list[Piece]:
    for piece in layout.missing:
        if piece.missing is not None:
            raise piece.missing
    return [piece for piece in layout.pieces if piece.n_rows]


def _segment(piece: Piece) -> Segment:
    return Segment(
        read_chunk_index(piece.file, piece.dataset), piece.first, piece.first + piece.n_rows, piece.at
    )


def _frame_segment(piece: Piece, shape: tuple[int, int]) -> Segment:
    index = read_chunk_index(piece.file, piece.dataset)
    index = frame_index(index, index.shape[-2:] if piece.box else shape)
    return Segment(index, piece.first, piece.first + piece.n_rows, piece.at, piece.box)


def frame_segments(stack: FrameStack, first: int, stop: int) -> list[list[Segment]]:
    """The present frames first to stop of a stack: runs of whole frames, or of all tiles of the same ones."""
    runs = []
    for run in stack.present:
        if run.at < stop and first < run.at + run.n_rows:
            found = [_clip(_frame_segment(tile, stack.shape), first, stop) for tile in run.tiles]
            runs.append([segment for segment in found if segment is not None])
    return runs


def _clip(segment: Segment, start: int, stop: int) -> Segment | None:
    low, high = max(segment.at, start), min(segment.at + segment.n_rows, stop)
    if low >= high:
        return None
    return _cut(segment, low - segment.at, high - segment.at)


def _cut(segment: Segment, low: int, high: int) -> Segment:
    """Rows low to high of a segment, with their chunks only."""
    start, stop = segment.start + low, segment.start + high
    one_frame = segment.index.shape[:1] != () and segment.n_rows == 1 and len(segment.index.shape) == 2
    index = segment.index if one_frame else segment.index.select(start, stop)
    return Segment(index, start, stop, segment.at + low, segment.box)


def _rows_per_unit(n_rows: int, row_bytes: int, target_bytes: int) -> int:
    return max(1, min(target_bytes // row_bytes, -(-n_rows // MIN_UNITS)))


def _pack(runs: list[list[Segment]], n_rows: int) -> list[list[list[Segment]]]:
    """Cut runs at chunk borders, and put them together until a unit has n_rows or more."""
    packed: list[list[list[Segment]]] = []
    current: list[list[Segment]] = []
    have = 0
    for tiles in runs:
        segment = tiles[0]  # the others have as many rows, and mostly the same storage chunks
        per_chunk = 1 if segment.index.chunk_shape == segment.index.shape else segment.index.rows_per_chunk
        low = 0
        while low < segment.n_rows:
            want = segment.start + low + n_rows - have
            border = -(-want // per_chunk) * per_chunk
            high = min(border - segment.start, segment.n_rows)
            current.append([_cut(tile, low, high) for tile in tiles])
            have += high - low
            low = high
            if have >= n_rows:
                packed.append(current)
                current, have = [], 0
    return [*packed, current] if current else packed
