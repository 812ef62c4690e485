"""What a virtual mapping takes and where it puts it: HDF5 selections as solid boxes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import h5py

UNLIMITED = h5py.h5s.UNLIMITED
MAX_BOXES = 1_000_000

Run = tuple[int, int]
"""First element and number of elements along one axis."""
Axis = tuple[Run, ...]
"""The elements that a selection takes along one axis, in order."""


class SelectionUnclear(ValueError):
    """A selection that we cannot turn into boxes without guessing; the text says why."""


@dataclass(frozen=True, slots=True)
class Growing:
    """An axis without end: blocks of `block` elements every `stride`; block 0 is one endless block."""

    axis: int
    start: int
    stride: int
    block: int

    def take(self, n: int) -> Axis:
        """The runs that hold the first n elements."""
        if n <= 0:
            return ()
        if not self.block or self.block == self.stride:
            return ((self.start, n),)
        whole, rest = divmod(n, self.block)
        check_count(whole)
        runs = [(self.start + i * self.stride, self.block) for i in range(whole)]
        return (*runs, (self.start + whole * self.stride, rest)) if rest else tuple(runs)

    def count_below(self, extent: int) -> int:
        """How many elements lie below `extent`."""
        room = max(0, extent - self.start)
        if not self.block or self.block == self.stride:
            return room
        whole, rest = divmod(room, self.stride)
        return whole * self.block + min(rest, self.block)


@dataclass(frozen=True, slots=True)
class Selection:
    """A product of runs along each axis; `growing` is the axis that has no end, if any."""

    axes: tuple[Axis, ...]
    growing: Growing | None = None

    def with_axis(self, axis: int, runs: Axis) -> Selection:
        """The same selection with other runs along one axis, and none that grows."""
        return Selection((*self.axes[:axis], runs, *self.axes[axis + 1 :]))


@dataclass(frozen=True, slots=True)
class BoxPair:
    """A box of the whole and the box of its source that fills it; in C order both hold the same values."""

    at: tuple[int, ...]
    shape: tuple[int, ...]
    source: tuple[int, ...]
    source_shape: tuple[int, ...]


def read_selection(space: h5py.h5s.SpaceID) -> Selection | None:
    """The selection of a dataspace; None stands for everything there is.

    Raises
    ------
    SelectionUnclear
        For points, for irregular shapes along more than one axis, and for more than MAX_BOXES runs.
    """
    kind = space.get_select_type()
    if kind == h5py.h5s.SEL_ALL:
        return None
    if kind == h5py.h5s.SEL_NONE:
        return Selection(((),))
    if kind != h5py.h5s.SEL_HYPERSLABS:
        raise SelectionUnclear("virtual mappings that select single points")
    if space.is_regular_hyperslab():
        return _regular(*space.get_regular_hyperslab())
    return _irregular(space)


def whole_of(shape: tuple[int, ...]) -> Selection:
    """Everything of a dataset."""
    return Selection(tuple(((0, n),) if n else () for n in shape))


def _regular(*slab: tuple[int, ...]) -> Selection:
    axes: list[Axis] = []
    growing: Growing | None = None
    for i, (start, stride, count, block) in enumerate(zip(*slab, strict=True)):
        if UNLIMITED in (count, block):
            growing = Growing(i, int(start), int(stride), 0 if block == UNLIMITED else int(block))
            axes.append(())
        elif count == 1 or stride == block:
            axes.append(((int(start), int(count * block)),))
        else:
            check_count(count)
            axes.append(tuple((int(start + k * stride), int(block)) for k in range(count)))
    return Selection(tuple(axes), growing)


def _irregular(space: h5py.h5s.SpaceID) -> Selection:
    check_count(int(space.get_select_hyper_nblocks()))
    blocks = space.get_select_hyper_blocklist()
    axes: list[Axis] = []
    several = 0
    for axis in range(blocks.shape[2]):
        edges = {(int(low), int(high)) for low, high in blocks[:, :, axis]}
        several += len(edges) > 1
        axes.append(tuple((low, high - low + 1) for low, high in sorted(edges)))
    if several > 1 or (several and len(blocks) != max(len(axis) for axis in axes)):
        raise SelectionUnclear("virtual mappings of irregular shape")
    return Selection(tuple(axes))


def check_count(n: int) -> None:
    """Raise SelectionUnclear for more runs than anybody needs."""
    if n > MAX_BOXES:
        raise SelectionUnclear(f"virtual mappings of more than {MAX_BOXES} parts")


def length(axis: Axis) -> int:
    """How many elements."""
    return sum(n for _, n in axis)


def pair_boxes(whole: Selection, source: Selection) -> Iterator[BoxPair]:
    """Boxes of a whole with the boxes of the source that fill them, element by element in C order.

    Axes of length one may be anywhere; the others correspond in order. One axis may stand for the
    product of several ('the rows of a grid scan lie one behind the other').

    Raises
    ------
    SelectionUnclear
        If the two do not hold equally many elements, or their shapes cannot be matched.
    """
    into, out_of = (tuple(length(a) for a in s.axes) for s in (whole, source))
    if prod(into) != prod(out_of):
        raise SelectionUnclear(f"virtual mappings of {out_of} values to {into}")
    if not prod(into):
        return
    left = [i for i, n in enumerate(into) if n != 1]
    right = [i for i, n in enumerate(out_of) if n != 1]
    if [into[i] for i in left] == [out_of[i] for i in right]:
        yield from _matched(whole, source, left, right)
    elif len(left) > len(right):
        for one, other in _unfold(whole, source, left, right):
            yield from pair_boxes(one, other)
    else:
        for one, other in _unfold(source, whole, right, left):
            for pair in pair_boxes(one, other):
                yield BoxPair(pair.source, pair.source_shape, pair.at, pair.shape)


def _matched(whole: Selection, source: Selection, left: list[int], right: list[int]) -> Iterator[BoxPair]:
    """The boxes when axes correspond one to one."""
    at, start = ([axis[0][0] for axis in s.axes] for s in (whole, source))
    shape, source_shape = [1] * len(at), [1] * len(start)
    aligned = [list(_align(whole.axes[i], source.axes[j])) for i, j in zip(left, right, strict=True)]
    check_count(prod(len(runs) for runs in aligned))
    for combination in itertools.product(*aligned):
        for i, j, (a, b, n) in zip(left, right, combination, strict=True):
            at[i], start[j] = a, b
            shape[i] = source_shape[j] = n
        yield BoxPair(tuple(at), tuple(shape), tuple(start), tuple(source_shape))


def _align(first: Axis, second: Axis) -> Iterator[tuple[int, int, int]]:
    """(start in the first, start in the second, length) of runs that are solid in both."""
    if len(first) == len(second) == 1:
        yield first[0][0], second[0][0], first[0][1]
        return
    i = j = used_i = used_j = 0
    while i < len(first) and j < len(second):
        n = min(first[i][1] - used_i, second[j][1] - used_j)
        yield first[i][0] + used_i, second[j][0] + used_j, n
        used_i, used_j = used_i + n, used_j + n
        if used_i == first[i][1]:
            i, used_i = i + 1, 0
        if used_j == second[j][1]:
            j, used_j = j + 1, 0


def _unfold(
    many: Selection, one: Selection, left: list[int], right: list[int]
) -> Iterator[tuple[Selection, Selection]]:
    """Cut several leading axes so that each part fits the one axis that stands for them all."""
    n_same = 0
    while n_same < min(len(left), len(right)) - 1 and (
        length(many.axes[left[-1 - n_same]]) == length(one.axes[right[-1 - n_same]])
    ):
        n_same += 1
    lead, single = left[: len(left) - n_same], right[: len(right) - n_same]
    if len(single) != 1 or len(one.axes[single[0]]) != 1:
        raise SelectionUnclear("virtual mappings that change the shape")
    start, inner = one.axes[single[0]][0][0], length(many.axes[lead[-1]])
    outer = [[low + k for low, n in many.axes[i] for k in range(n)] for i in lead[:-1]]
    check_count(prod(len(indices) for indices in outer))
    for number, indices in enumerate(itertools.product(*outer)):
        part = many
        for i, index in zip(lead[:-1], indices, strict=True):
            part = part.with_axis(i, ((index, 1),))
        yield part, one.with_axis(single[0], ((start + number * inner, inner),))
