"""Spectra that HDF5 shuffled before it packed them, summed without ever standing in memory as spectra.

A storage chunk is decoded up to the shuffle only; the kernel puts four spectra at a time together, in the
cache. What this module does not know, or cannot decode, it leaves to `read_rows`, which says what is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from beamhub_reduction.bitshuffle import ChunkNeedsHdf5, ChunkUndecodable
from beamhub_reduction.codecs import decode_chunk
from beamhub_reduction.errors import FilesChanged
from beamhub_reduction.hdf5_filters import SHUFFLE
from beamhub_reduction.kernels.decode import read_stored
from beamhub_reduction.kernels.xrf import SpectrumSums, shuffled_spectra_sums, takes_shuffled
from beamhub_reduction.steps.frames import BoolArray, IntArray
from beamhub_reduction.storage_chunks import READ_BYTES, SLACK_BYTES, ChunkIndex, open_descriptor
from beamhub_reduction.storage_chunks_index import identity_of

MAX_CHUNK_BYTES = 64 * 1024**2
"""Larger chunks are left to `read_rows`, which asks whether they fit the memory."""


def has_planes(index: ChunkIndex) -> bool:
    """Whether the chunks are whole rows of spectra, shuffled first and then packed."""
    dtype, filters = np.dtype(index.dtype), index.filters
    return (
        index.way == "direct"
        and len(filters) > 1
        and [f.number for f in filters].count(SHUFFLE) == 1
        and filters[0].number == SHUFFLE
        and filters[0].values[:1] in ((), (dtype.itemsize,))
        and any(f.compresses for f in filters)
        and index.chunk_shape[1:] == index.shape[1:]
        and 0 < index.chunk_bytes <= MAX_CHUNK_BYTES
        and takes_shuffled(dtype)
    )


class PlaneReader:
    """Sums rows of one dataset for which `has_planes`; keeps its buffers; not for two threads."""

    def __init__(self, index: ChunkIndex) -> None:
        self.index = index
        self.n_channels = index.shape[-1]
        self._planes = np.empty(index.chunk_bytes, np.uint8)
        self._stored = np.empty(0, np.uint8)

    def sum_rows(
        self, low: int, high: int, *, ranges: IntArray, sums: SpectrumSums, counts: IntArray
    ) -> BoolArray:
        """Sum rows low to high; False for those that were left to the caller, shape (n_rows,).

        Parameters
        ----------
        sums:
            Gains the rows that are True.
        counts:
            Gets their counts, shape (n_rows, spectra of a row, n_ranges).

        Raises
        ------
        FilesChanged
        """
        part, done = self.index.select(low, high), np.zeros(high - low, np.bool_)
        with open_descriptor(part.file) as descriptor:
            before = identity_of(os.fstat(descriptor))
            for chunks in _neighbours(part):
                places = np.cumsum(part.sizes[chunks]) - part.sizes[chunks]
                self._make_room(int(part.sizes[chunks].sum()))
                status = read_stored(
                    descriptor, offsets=part.offsets[chunks], sizes=part.sizes[chunks], places=places,
                    out=self._stored,
                )  # fmt: skip
                for i, place in zip(chunks[status == 0], places[status == 0], strict=True):
                    if not self._decode(part, int(i), int(place)):
                        continue
                    row = int(part.numbers[i]) * part.rows_per_chunk
                    first, last = max(row, low), min(row + part.rows_per_chunk, high)
                    rows = slice(first - low, last - low)
                    counts[rows] = self._sum((first - row, last - row), ranges, sums).reshape(
                        counts[rows].shape
                    )
                    done[rows] = True
            if not before == identity_of(os.fstat(descriptor)) == part.identity:
                raise FilesChanged(part.file)  # what was read may be of both contents
        return done

    def _make_room(self, n_bytes: int) -> None:
        if self._stored.nbytes < n_bytes:
            self._stored = np.empty(n_bytes + n_bytes // 4, np.uint8)

    def _decode(self, part: ChunkIndex, i: int, place: int) -> bool:
        stored = self._stored[place : place + int(part.sizes[i])]
        try:
            decode_chunk(
                stored, filters=part.filters[1:], skipped=0, item_bytes=np.dtype(part.dtype).itemsize,
                n_bytes=part.chunk_bytes, out=self._planes,
            )  # fmt: skip
        except (ChunkUndecodable, ChunkNeedsHdf5):
            return False
        return True

    def _sum(self, rows: tuple[int, int], ranges: IntArray, sums: SpectrumSums) -> IntArray:
        per_row = int(np.prod(self.index.shape[1:-1]))
        planes = self._planes.reshape(np.dtype(self.index.dtype).itemsize, -1)
        found: IntArray = shuffled_spectra_sums(
            planes, first=rows[0] * per_row, n_spectra=(rows[1] - rows[0]) * per_row, ranges=ranges, sums=sums
        )
        return found


def _neighbours(part: ChunkIndex) -> Iterator[IntArray]:
    """Places in the index of chunks that are read at once: all filters applied, about READ_BYTES."""
    usable = (part.filter_masks == 0) & (part.sizes <= part.chunk_bytes + SLACK_BYTES)
    chunks = np.flatnonzero(usable)
    chunks = chunks[np.argsort(part.offsets[chunks], kind="stable")]
    group = (np.cumsum(part.sizes[chunks]) - part.sizes[chunks]) // READ_BYTES
    if chunks.size:
        yield from np.split(chunks, np.flatnonzero(np.diff(group)) + 1)
