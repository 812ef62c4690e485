"""Boxes of values: where they lie in a plain dataset, and where they belong in a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from beamhub_reduction.nexus.errors import LinkMissing, UnsupportedLayout

MAX_SIDE_BY_SIDE = 4096


@dataclass(frozen=True, slots=True)
class Box:
    """A part of each row, in the axes behind the first: from `source` on in the source, `at` in the whole.

    For frames, which have two such axes, source=(y0, x0), at=(y0, x0) and shape=(ny, nx) of the part.
    """

    source: tuple[int, ...]
    at: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of rows (first axis) of a whole that lies as plain data in one dataset.

    Without a box these are whole rows of both. `missing` is the error of a source that is absent; then
    only `at`, `n_rows` and the place of the box mean something.
    """

    file: str
    dataset: str
    first: int
    n_rows: int
    at: int
    missing: LinkMissing | None = None
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Slab:
    """A box of a whole, in all its axes, and the box of one plain dataset that fills it in C order.

    The axes longer than one correspond in order. `dataset_shape` and `dtype` are the whole source's; with
    `missing` set there is none.
    """

    file: str
    dataset: str
    dataset_shape: tuple[int, ...]
    source: tuple[int, ...]
    source_shape: tuple[int, ...]
    at: tuple[int, ...]
    shape: tuple[int, ...]
    missing: LinkMissing | None = None
    dtype: str = ""

    @property
    def inside(self) -> tuple[slice, ...]:
        """The place in the axes behind the first."""
        return tuple(slice(a, a + n) for a, n in zip(self.at[1:], self.shape[1:], strict=True))

    def cut(self, axis: int, low: int, high: int) -> Slab:
        """Elements low to high of the slab along one axis of the whole."""
        if (low, high) == (0, self.shape[axis]):
            return self
        source, source_shape = self.source, self.source_shape
        if self.missing is None:  # an axis that can be cut is longer than one, so it has a partner
            rank = sum(1 for n in self.shape[:axis] if n != 1)
            partner = [i for i, n in enumerate(source_shape) if n != 1][rank]
            source = _put(source, partner, source[partner] + low)
            source_shape = _put(source_shape, partner, high - low)
        at, shape = _put(self.at, axis, self.at[axis] + low), _put(self.shape, axis, high - low)
        return Slab(
            self.file, self.dataset, self.dataset_shape, source, source_shape, at, shape,
            self.missing, self.dtype,
        )  # fmt: skip


def _put(values: tuple[int, ...], i: int, value: int) -> tuple[int, ...]:
    return (*values[:i], value, *values[i + 1 :])


def as_piece(slab: Slab, shape: tuple[int, ...]) -> Piece | None:
    """A slab as a run of rows of a whole of this shape; None where its rows are no rows of the source."""
    whole = not any(slab.at[1:]) and slab.shape[1:] == shape[1:]
    if slab.missing is not None:
        box = None if whole else Box((0,) * len(slab.at[1:]), slab.at[1:], slab.shape[1:])
        return Piece("", "", 0, slab.shape[0], slab.at[0], slab.missing, box)
    if slab.source_shape == slab.shape:
        first, source, rest = slab.source[0], slab.source[1:], slab.dataset_shape[1:]
    elif slab.shape[0] == 1 and slab.source_shape == slab.shape[1:]:
        first, source, rest = 0, slab.source, slab.dataset_shape  # the source is a single row
    else:
        return None
    whole = whole and rest == shape[1:]
    box = None if whole else Box(source, slab.at[1:], slab.shape[1:])
    return Piece(slab.file, slab.dataset, first, slab.shape[0], slab.at[0], None, box)


def check_disjoint(slabs: Iterable[Slab], file: str, path: str) -> None:
    """Raise UnsupportedLayout if two slabs, sorted by their place, hold the same values.

    Linear in their number as long as few of them lie side by side in the same rows.
    """
    active: list[Slab] = []
    for slab in slabs:
        active = [other for other in active if other.at[0] + other.shape[0] > slab.at[0]]
        if any(_overlap(slab, other) for other in active):
            raise UnsupportedLayout(file, path, "virtual mappings that overlap")
        if len(active) >= MAX_SIDE_BY_SIDE:
            raise UnsupportedLayout(file, path, f"more than {MAX_SIDE_BY_SIDE} mappings side by side")
        if all(slab.shape):
            active.append(slab)


def _overlap(one: Slab, other: Slab) -> bool:
    return all(
        a < b + m and b < a + n for a, n, b, m in zip(one.at, one.shape, other.at, other.shape, strict=True)
    )
