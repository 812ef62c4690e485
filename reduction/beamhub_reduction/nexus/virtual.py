"""Virtual datasets and chains of links, resolved to plain pieces: (file, dataset, box).

HDF5 reads a missing, unreadable or misshapen source as fill values without a word; here every
source is found, opened and compared with its mapping before anything is read.
Source: HDF5 issue 5088, h5py issues 1546 and 1218.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from beamhub_reduction.nexus.access import OpenFiles, Roots, reading
from beamhub_reduction.nexus.boxes import Box, Piece, Slab, as_piece, check_disjoint
from beamhub_reduction.nexus.errors import LimitExceeded, LinkMissing, UnsupportedLayout
from beamhub_reduction.nexus.guard import check_readable
from beamhub_reduction.nexus.sources import read_slabs
from beamhub_reduction.nexus.tree import Target

__all__ = ["Box", "Layout", "Piece", "Slab", "read_layout", "read_plain"]

MAX_PLAIN_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Layout:
    """Shape and type of a dataset, and the boxes of plain datasets that it is made of, in order.

    The current shape of a virtual dataset without end is what its sources give now.
    """

    target: Target
    shape: tuple[int, ...]
    dtype: str
    slabs: tuple[Slab, ...]

    @property
    def n_rows(self) -> int:
        """Length of the first axis."""
        return self.shape[0] if self.shape else 0

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The slabs as runs of whole rows.

        Raises
        ------
        UnsupportedLayout
            If they are no such runs: tiles, or a grid scan whose frames lie one behind the other. Read
            those with `read_plain`, or as frames (`tiles.frame_pieces`).
        """
        pieces = []
        for slab in self.slabs:
            piece = as_piece(slab, self.shape)
            if piece is None or piece.box is not None:
                reason = "rows that are no whole rows of their source"
                raise UnsupportedLayout(self.target.file, self.target.path, reason)
            pieces.append(piece)
        return tuple(pieces)

    @property
    def missing(self) -> tuple[Piece, ...]:
        """Pieces whose source is absent."""
        found = (as_piece(slab, self.shape) for slab in self.slabs if slab.missing)
        return tuple(piece for piece in found if piece is not None)

    @property
    def missing_links(self) -> tuple[LinkMissing, ...]:
        """What is wrong with each absent source."""
        return tuple(slab.missing for slab in self.slabs if slab.missing)


def read_layout(target: Target, *, roots: Roots, files: OpenFiles | None = None) -> Layout:
    """The pieces of a dataset, virtual or plain.

    Values that no mapping covers belong to no piece: they were never written. With `files`, files are
    borrowed from there and stay open.

    Raises
    ------
    UnsupportedLayout
        For selections of points or of irregular shapes, mappings that overlap or change the order of
        values, nesting deeper than MAX_NESTING, external storage, and datasets without rows.
    """
    own = files or OpenFiles()
    try:
        described = read_slabs(target, roots=roots, files=own)
    finally:
        if files is None:
            own.close()
    slabs = sorted(described.slabs, key=lambda slab: slab.at)
    check_disjoint(slabs, target.file, target.path)
    return Layout(target, described.shape, described.dtype, tuple(slabs))


def read_plain(layout: Layout, first: int = 0, n_rows: int | None = None) -> np.ndarray[Any, Any]:
    """Rows of a dataset read through HDF5 from its plain pieces; for small arrays and previews.

    Raises
    ------
    LinkMissing
        If a piece of these rows is absent.
    UnsupportedLayout
        If no source covers some of these values.
    LimitExceeded
        If they need more than MAX_PLAIN_BYTES.
    """
    stop = layout.n_rows if n_rows is None else min(first + n_rows, layout.n_rows)
    shape = (max(stop - first, 0), *layout.shape[1:])
    if prod(shape) * np.dtype(layout.dtype).itemsize > MAX_PLAIN_BYTES:
        raise LimitExceeded(layout.target.file, f"bytes in {layout.target.path}", MAX_PLAIN_BYTES)
    parts = list(_rows_of(layout.slabs, first, stop))
    if sum(prod(part.shape) for part in parts if part.missing is None) < prod(shape):
        missing = next((part.missing for part in parts if part.missing), None)
        if missing:
            raise missing
        raise UnsupportedLayout(layout.target.file, layout.target.path, "rows that no source covers")
    out = np.empty(shape, dtype=layout.dtype)
    files = OpenFiles()
    try:
        for part in parts:
            _check_cast(part, layout)
            into = (slice(part.at[0] - first, part.at[0] - first + part.shape[0]), *part.inside)
            out[into] = read_slab(part, files)
    finally:
        files.close()
    return out


def _rows_of(slabs: tuple[Slab, ...], first: int, stop: int) -> Iterator[Slab]:
    for slab in slabs:
        low, high = max(slab.at[0], first), min(slab.at[0] + slab.shape[0], stop)
        if low < high:
            yield slab.cut(0, low - slab.at[0], high - slab.at[0])


def _check_cast(slab: Slab, layout: Layout) -> None:
    """Refuse a source whose values need not fit the virtual dataset's type, where HDF5 would clip them."""
    given, declared = np.dtype(slab.dtype), np.dtype(layout.dtype)
    integers = given.kind in "iu" and declared.kind in "iu"
    if given != declared and not np.can_cast(given, declared, "safe" if integers else "same_kind"):
        reason = f"values of {slab.dtype} in {slab.file} where {layout.dtype} is declared"
        raise UnsupportedLayout(layout.target.file, layout.target.path, reason)


def read_slab(slab: Slab, files: OpenFiles) -> np.ndarray[Any, Any]:
    """The values of one slab, in the shape that they have in the whole."""
    with files.lend(slab.file) as handle, reading(slab.file):
        dataset = handle[slab.dataset]
        start = slab.source[0]
        check_readable(dataset, slab.file, slab.dataset, start, start + slab.source_shape[0])
        region = tuple(slice(a, a + n) for a, n in zip(slab.source, slab.source_shape, strict=True))
        return np.asarray(dataset[region]).reshape(slab.shape)
