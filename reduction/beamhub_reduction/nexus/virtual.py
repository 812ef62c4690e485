"""Virtual datasets and chains of links, resolved to plain pieces: (file, dataset, box).

HDF5 reads a missing, unreadable or misshapen source as fill values without a word; here every
source is found, opened and compared with its mapping before anything is read.
Source: HDF5 issue 5088, h5py issues 1546 and 1218.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from beamhub_reduction.nexus.access import Roots, open_hdf5, reading
from beamhub_reduction.nexus.errors import LinkMissing, NodeMissing, UnsupportedLayout
from beamhub_reduction.nexus.guard import check_readable
from beamhub_reduction.nexus.tree import Target, find_linked_file, resolve

MAX_NESTING = 8
MAX_MAPPINGS = 100_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of rows (first axis) of a whole that lies as plain data in one dataset.

    `missing` is the error of a source that is absent; then only `at` and `n_rows` mean something.
    """

    file: str
    dataset: str
    first: int
    n_rows: int
    at: int
    missing: LinkMissing | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Shape and type of a dataset, and the plain pieces it is made of, in order of their rows."""

    target: Target
    shape: tuple[int, ...]
    dtype: str
    pieces: tuple[Piece, ...]

    @property
    def n_rows(self) -> int:
        """Length of the first axis."""
        return self.shape[0] if self.shape else 0

    @property
    def missing(self) -> tuple[Piece, ...]:
        """Pieces whose source is absent."""
        return tuple(piece for piece in self.pieces if piece.missing)


def read_layout(target: Target, *, roots: Roots, nesting: int = 0) -> Layout:
    """The pieces of a dataset, virtual or plain.

    Rows that no mapping covers belong to no piece: they were never written.

    Raises
    ------
    UnsupportedLayout
        For mappings that are no runs of whole rows (module tiles, strides), unlimited or printf-style
        mappings, nesting deeper than MAX_NESTING, external storage, and datasets without rows.
    """
    if nesting > MAX_NESTING:
        raise UnsupportedLayout(target.file, target.path, f"virtual datasets nested over {MAX_NESTING} deep")
    with open_hdf5(target.file) as handle, reading(target.file):
        dataset = handle[target.path]
        if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
            raise UnsupportedLayout(target.file, target.path, "not a dataset with rows")
        if dataset.external:
            raise UnsupportedLayout(target.file, target.path, "external raw storage")
        shape, dtype = tuple(int(n) for n in dataset.shape), dataset.dtype.str
        if not dataset.is_virtual:
            whole = Piece(target.file, target.path, 0, shape[0], 0)
            return Layout(target, shape, dtype, (whole,))
        mappings = _read_mappings(dataset, target, shape)
    pieces: list[Piece] = []
    for mapping in sorted(mappings, key=lambda m: m.at):
        pieces.extend(_expand(mapping, target, shape, roots, nesting))
    _check_disjoint(pieces, target)
    return Layout(target, shape, dtype, tuple(pieces))


@dataclass(frozen=True, slots=True)
class _Mapping:
    file: str
    dataset: str
    first: int
    n_rows: int
    at: int


def _read_mappings(dataset: h5py.Dataset, target: Target, shape: tuple[int, ...]) -> list[_Mapping]:
    plist = dataset.id.get_create_plist()
    n_mappings = plist.get_virtual_count()
    if n_mappings > MAX_MAPPINGS:
        raise UnsupportedLayout(target.file, target.path, f"{n_mappings} virtual mappings")
    mappings = []
    for i in range(n_mappings):
        file, path = plist.get_virtual_filename(i), plist.get_virtual_dsetname(i)
        if "%b" in file or "%b" in path:
            raise UnsupportedLayout(target.file, target.path, "virtual sources numbered by '%b'")
        at, n_rows = _rows(plist.get_virtual_vspace(i), shape[1:], target, whole=shape[0])
        first, n_source_rows = _rows(plist.get_virtual_srcspace(i), shape[1:], target, whole=n_rows)
        if n_source_rows != n_rows:
            raise UnsupportedLayout(
                target.file, target.path, "virtual mappings that change the shape of rows"
            )
        mappings.append(_Mapping(str(file), str(path), first, n_rows, at))
    return mappings


def _rows(
    space: h5py.h5s.SpaceID, row_shape: tuple[int, ...], target: Target, *, whole: int
) -> tuple[int, int]:
    """First row and number of rows of a selection, which must be a solid run of whole rows."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return 0, whole  # such a mapping does not even say the source's shape: see _expand
    low, high = (tuple(int(n) for n in edge) for edge in space.get_select_bounds())
    box = tuple(b - a + 1 for a, b in zip(low, high, strict=True))
    solid = int(space.get_select_npoints()) == int(np.prod(box, dtype=np.int64))
    if solid and box == row_shape and whole == 1:
        return 0, 1  # a source that is a single row without the first axis
    if not solid or box[1:] != row_shape or any(low[1:]):
        raise UnsupportedLayout(target.file, target.path, "virtual mappings that are no runs of whole rows")
    return low[0], box[0]


def _expand(
    mapping: _Mapping, target: Target, shape: tuple[int, ...], roots: Roots, nesting: int
) -> list[Piece]:
    named = f"{mapping.file}:{mapping.dataset}"

    def missing(reason: str) -> LinkMissing:
        return LinkMissing(target.file, target.path, named, reason)

    try:
        file = (
            target.file
            if mapping.file == "."
            else find_linked_file(mapping.file, target.file, roots, missing)
        )
        source = read_layout(resolve(file, mapping.dataset, roots=roots), roots=roots, nesting=nesting + 1)
    except (LinkMissing, NodeMissing) as error:
        reason = error.reason if isinstance(error, LinkMissing) else f"it has no {error.node}"
        return [Piece("", "", 0, mapping.n_rows, mapping.at, missing(reason))]
    single = source.shape == shape[1:]
    if not single and (source.shape[1:] != shape[1:] or mapping.first + mapping.n_rows > source.n_rows):
        reason = (
            f"its shape {source.shape} does not hold rows {mapping.first} to {mapping.first + mapping.n_rows}"
        )
        return [Piece("", "", 0, mapping.n_rows, mapping.at, missing(reason))]
    if single:
        return [Piece(source.target.file, source.target.path, 0, 1, mapping.at)]
    return _cut(source.pieces, mapping)


def _cut(pieces: tuple[Piece, ...], mapping: _Mapping) -> list[Piece]:
    """The pieces of a source that a mapping takes, moved to where it puts them."""
    cut: list[Piece] = []
    for piece in pieces:
        start = max(piece.at, mapping.first)
        stop = min(piece.at + piece.n_rows, mapping.first + mapping.n_rows)
        if start < stop:
            at = mapping.at + start - mapping.first
            cut.append(
                Piece(
                    piece.file, piece.dataset, piece.first + start - piece.at, stop - start, at, piece.missing
                )
            )
    return cut


def _check_disjoint(pieces: list[Piece], target: Target) -> None:
    end = 0
    for piece in pieces:
        if piece.at < end:
            raise UnsupportedLayout(target.file, target.path, "virtual mappings that overlap")
        end = piece.at + piece.n_rows


def read_plain(layout: Layout, first: int = 0, n_rows: int | None = None) -> np.ndarray[Any, Any]:
    """Rows of a dataset read through HDF5 from its plain pieces; for small arrays and previews.

    Raises
    ------
    LinkMissing
        If a piece of these rows is absent.
    UnsupportedLayout
        If no source covers one of these rows.
    """
    stop = layout.n_rows if n_rows is None else min(first + n_rows, layout.n_rows)
    out = np.empty((max(stop - first, 0), *layout.shape[1:]), dtype=layout.dtype)
    covered = 0
    for piece in layout.pieces:
        start, end = max(piece.at, first), min(piece.at + piece.n_rows, stop)
        if start >= end:
            continue
        if piece.missing:
            raise piece.missing
        offset = piece.first + start - piece.at
        with open_hdf5(piece.file) as handle, reading(piece.file):
            source = handle[piece.dataset]
            if source.ndim == len(layout.shape) - 1:
                check_readable(source, piece.file, piece.dataset)
                out[start - first] = source[()]
            else:
                check_readable(source, piece.file, piece.dataset, offset, offset + end - start)
                out[start - first : end - first] = source[offset : offset + end - start]
        covered += end - start
    if covered < len(out):
        raise UnsupportedLayout(layout.target.file, layout.target.path, "rows that no source covers")
    return out
