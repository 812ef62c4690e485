"""Frames of one XFEL dataset, read and decoded into buffers that are used again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from beamhub_reduction.bitshuffle import ChunkUndecodable
from beamhub_reduction.codecs import decode_chunk
from beamhub_reduction.errors import CorruptChunk, FilesChanged
from beamhub_reduction.hdf5_filters import SHUFFLE
from beamhub_reduction.kernels.xfel import StoredFrame
from beamhub_reduction.storage_chunks import ChunkIndex, file_identity, open_descriptor, read_rows

BATCH_FRAMES = 8
"""Frames summed at once: decoded they are two MiB. With 1, 2, 4, 8 and 16 frames of one cell, what is not
decoding took 126, 88, 69, 62 and 60 us of processor time a frame. Source: benchmarks/bench_xfel.py"""

Frame = StoredFrame | CorruptChunk
IntArray = np.ndarray[Any, np.dtype[np.int64]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass
class FrameReader:
    """Reads batches of frames. Not for several threads: a batch's buffers are those of the one before."""

    index: ChunkIndex
    stored: Bytes = field(default_factory=lambda: np.empty(0, dtype=np.uint8))
    decoded: dict[int, Bytes] = field(default_factory=dict)
    announced: bool = False

    @property
    def is_single(self) -> bool:
        """Whether frames are chunks of their own, so that any order costs the same."""
        index = self.index
        return index.way == "direct" and index.chunk_shape == (1, *index.shape[1:])

    def read(self, rows: IntArray) -> Iterator[Frame]:
        """Each row, flat: its pixels; of raw frames the gain plane stands behind them.

        Raises
        ------
        FilesChanged
        """
        index = self.index
        if self.is_single:
            yield from self._read_single(rows)
            return
        plane = prod(index.shape[-2:])
        start, stop = int(rows.min()), int(rows.max()) + 1
        if stop - start > 4 * BATCH_FRAMES:  # far apart: one at a time
            for row in rows.tolist():
                read = read_rows(index, row, row + 1)
                yield _one(read.data[0], bool(read.good[0]), read.problems, index, row, plane)
            return
        read = read_rows(index, start, stop)
        for row in rows.tolist():
            yield _one(read.data[row - start], bool(read.good[row - start]), read.problems, index, row, plane)

    def _read_single(self, rows: IntArray) -> Iterator[Frame]:
        """Frames that are chunks of their own: one positional read each, and its decoding."""
        index = self.index
        if file_identity(index.file) != index.identity:
            raise FilesChanged(index.file)
        across = prod(index.grid[1:])
        at = np.searchsorted(index.numbers, rows * across)
        with open_descriptor(index.file) as descriptor:
            self._announce(descriptor)
            for k, (row, i) in enumerate(zip(rows.tolist(), at.tolist(), strict=True)):
                if i >= index.numbers.size or int(index.numbers[i]) != row * across:
                    yield CorruptChunk(index.file, index.dataset, (row,), "no chunk was written")
                    continue
                yield self._decoded(descriptor, i, k)

    def _announce(self, descriptor: int) -> None:
        """Once: tell the system what will be read, in whatever order."""
        if self.announced or not self.index.offsets.size:
            return
        self.announced = True
        first = int(self.index.offsets.min())
        stop = int((self.index.offsets + self.index.sizes).max())
        with suppress(OSError):  # advice only
            os.posix_fadvise(descriptor, first, stop - first, os.POSIX_FADV_WILLNEED)

    def _decoded(self, descriptor: int, i: int, k: int) -> Frame:
        """Chunk i, in the k-th buffer. Shuffled uint16 stays shuffled: the sum reads it so."""
        index, size = self.index, int(self.index.sizes[i])
        dtype, n_pixels = np.dtype(index.dtype), prod(index.shape[-2:])
        skipped, filters = int(index.filter_masks[i]), index.filters
        shuffled = (
            dtype == np.dtype("<u2") and len(filters) > 1 and filters[0].number == SHUFFLE
            and filters[0].values[:1] == (2,) and not skipped & 1
        )  # fmt: skip
        if shuffled:
            filters, skipped = filters[1:], skipped >> 1
        if self.stored.size < size:
            self.stored = np.empty(size, dtype=np.uint8)
        out = self.decoded.get(k)
        if out is None:
            out = self.decoded.setdefault(k, np.empty(index.row_bytes, dtype=np.uint8))
        place: Any = self.stored[:size]  # an array is a buffer, which its types do not tell
        got = os.preadv(descriptor, [place], int(index.offsets[i]))
        try:
            if got != size:
                raise ChunkUndecodable(f"the file ends {size - got} bytes early")
            decode_chunk(
                self.stored[:size], filters=filters, skipped=skipped, item_bytes=dtype.itemsize,
                n_bytes=index.row_bytes, out=out,
            )  # fmt: skip
        except ChunkUndecodable as error:
            return CorruptChunk(index.file, index.dataset, index.coord(i), str(error))
        if shuffled:
            return StoredFrame(out, n_pixels, index.row_bytes // 2)
        values = out.view(dtype)
        return StoredFrame(values if dtype.isnative else values.astype(dtype.newbyteorder("=")), n_pixels)


def _one(
    data: np.ndarray[Any, Any], good: bool, problems: tuple[CorruptChunk, ...], index: ChunkIndex, row: int,
    plane: int,
) -> Frame:  # fmt: skip
    if good:
        return StoredFrame(data.reshape(-1), plane)
    found = next((p for p in problems if p.chunk[0] <= row < p.chunk[0] + index.rows_per_chunk), None)
    return found or CorruptChunk(index.file, index.dataset, (row,), "no chunk was written")
