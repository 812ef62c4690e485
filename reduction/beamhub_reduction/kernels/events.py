"""Events counted: in bins of one axis, and in cells of a map of pixel by bin.

An event's coordinate is float64(offset) * unit, times the factor of its pixel where there are factors. Bins are
those of numpy.histogram, the last one closed; counts are integers, so no order of events matters. The compiled
form and NumPy's give the same counts for any input.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import function, pointer

AnyArray = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
CellArray = np.ndarray[Any, np.dtype[np.uint32]]

MAX_CELLS = 1 << 28
"""Cells of a map: 1 GiB of counts."""
BUCKET_CELLS = 1 << 18
"""Cells counted at a time: a MiB or two, which stay in the cache. Source: benchmarks/bench_events.py"""


class Fate(IntEnum):
    """Why an event is in no bin; the order of the kernel's codes."""

    OUTSIDE = 0
    MASKED = 1
    UNKNOWN = 2
    NOT_FINITE = 3


@dataclass(frozen=True)
class EventPlan:
    """What all events of a bank share.

    Parameters
    ----------
    edges:
        Edges of the bins, shape (n_bins + 1,), finite, none below the one before it.
    unit:
        What an offset is multiplied by.
    first_id:
        The id that the first value of the tables belongs to; None when ids do not matter.
    state:
        What becomes of an event of each id: 0, or Fate.MASKED or Fate.UNKNOWN, uint8, shape (n_ids,).
    factor:
        What the time of each id's events is multiplied by, shape (n_ids,); None for one.
    row:
        The row of each id in a map, shape (n_ids,); used for ids whose state is 0 only.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    """

    edges: FloatArray
    unit: float = 1.0
    first_id: int | None = None
    state: np.ndarray[Any, np.dtype[np.uint8]] | None = None
    factor: FloatArray | None = None
    row: np.ndarray[Any, np.dtype[np.int32]] | None = None
    n_rows: int = field(default=0)

    def __post_init__(self) -> None:
        """Refuse what the kernels could not bear."""
        edges = self.edges
        if edges.ndim != 1 or edges.size < 2 or not np.isfinite(edges).all() or (np.diff(edges) < 0).any():
            raise ValueError("edges are finite and do not decrease")
        if (self.first_id is None) != (self.state is None):
            raise ValueError("ids have states, or there are no ids")
        for table in (self.factor, self.row):
            if table is not None and (self.state is None or table.shape != self.state.shape):
                raise ValueError("the tables of ids have one length")
        if self.row is not None and self.state is not None:
            rows = self.row[self.state == 0]
            if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < self.n_rows:
                raise ValueError("a row lies outside the map")
            if self.n_rows * self.n_bins > MAX_CELLS:
                raise ValueError(f"more than {MAX_CELLS} cells")

    @property
    def n_bins(self) -> int:
        """How many bins."""
        return int(self.edges.size - 1)

    @property
    def n_cells(self) -> int:
        """Cells of the map."""
        return self.n_rows * self.n_bins

    def native(self, offset_dtype: np.dtype[Any]) -> _NativePlan:
        """The plan as the compiled form takes it for offsets of one type."""
        made = self._made.get(offset_dtype)
        if made is None:
            made = self._made.setdefault(offset_dtype, _native_plan(self, offset_dtype))
        return made

    @cached_property
    def _made(self) -> dict[np.dtype[Any], _NativePlan]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Addresses do not travel."""
        return {name: value for name, value in self.__dict__.items() if name != "_made"}


_STEP_NUMBERS = ("n_steps", "first_step", "step_shift", "n_step_cells", "step_scale", "step_bits", "step_near")


class _Struct(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_ids", "first_id", "n_bins", "n_cells", "shift")),
        *((name, ctypes.c_void_p) for name in ("factor", "state", "row", "edges", "cell")),
        *((name, ctypes.c_double) for name in ("unit", "per_cell")),
        *((name, ctypes.c_int64) for name in _STEP_NUMBERS),
        *((name, ctypes.c_void_p) for name in ("steps", "step_cell")),
    ]


@dataclass(frozen=True)
class _NativePlan:
    struct: _Struct
    kept: tuple[AnyArray | None, ...]  # what the struct points to

    @property
    def address(self) -> int:
        return ctypes.addressof(self.struct)


def _native_plan(plan: EventPlan, offset_dtype: np.dtype[Any]) -> _NativePlan:
    edges = np.ascontiguousarray(plan.edges, dtype=np.float64)
    per_cell, shift, cell = _guess(edges)
    n_ids, state, factor, row = -1, None, None, None
    if plan.state is not None:
        n_ids = plan.state.size
        state = np.append(plan.state, np.uint8(Fate.UNKNOWN))
        if plan.factor is not None:
            factor = np.append(np.where(plan.state == 0, plan.factor, np.nan).astype(np.float64), np.nan)
        elif not plan.state.any():
            state = None
        good = plan.state == 0
        if plan.row is not None and (plan.row[good] != np.flatnonzero(good)).any():
            row = np.append(np.where(good, plan.row, 0), 0).astype(np.int32)
    steps = _steps(plan, offset_dtype) if plan.factor is None else None
    of_steps = (0,) * len(_STEP_NUMBERS) if steps is None else steps.numbers
    tables = (factor, state, row, edges, cell)
    stepped = (None, None) if steps is None else (steps.edges, steps.cell)
    struct = _Struct(
        n_ids, plan.first_id or 0, plan.n_bins, 0 if cell is None else cell.size, shift,
        *(None if array is None else pointer(array) for array in tables),
        plan.unit, per_cell, *of_steps, *(None if array is None else pointer(array) for array in stepped),
    )  # fmt: skip
    return _NativePlan(struct, (*tables, *stepped))


def _guess(edges: FloatArray) -> tuple[float, int, np.ndarray[Any, np.dtype[np.int32]] | None]:
    """(places per unit, their bits behind the point, bins of cells or None for bins of one width).

    The place of a value, (value - low) * per_cell as float64, never decreases with the value. So all values
    between the places of two neighbouring edges lie between these edges, however the places were rounded.
    """
    low, n_bins = edges[0], edges.size - 1
    shift = max(0, 30 - n_bins.bit_length())
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        width = edges[-1] - low
        per_bin = n_bins / width * float(1 << shift)
        off = np.abs((edges - low) * per_bin - np.arange(n_bins + 1) * float(1 << shift)).max()
    if shift >= 4 and np.isfinite(per_bin) and per_bin > 0 and off < 0.5:
        return float(per_bin), shift, None
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        finest = np.diff(edges)[np.diff(edges) > 0].min(initial=np.inf)
        wanted = 4 * width / finest
        n_cells = int(min(max(32 * n_bins, wanted), 1 << 16)) if np.isfinite(wanted) else 1
        per_cell = float(n_cells / width)
        per_cell = per_cell if np.isfinite(per_cell) else 0.0
        places = np.minimum((edges[1:-1] - low) * per_cell, n_cells - 1).astype(np.int64)
    return per_cell, 0, _cells(places, n_cells).astype(np.int32)


def _cells(places: IntArray, n_cells: int) -> IntArray:
    """For each cell its bin, or ~(lowest bin) where inner edges lie in it; `places` are the edges' cells."""
    inside = np.bincount(places, minlength=n_cells)
    before = np.concatenate([[0], np.cumsum(inside)[:-1]])
    return np.where(inside == 0, before, ~before)


@dataclass(frozen=True, slots=True)
class _Steps:
    """Edges as 32-bit integer offsets: see events.c; `numbers` in the order of _STEP_NUMBERS."""

    numbers: tuple[int, ...]
    edges: CellArray
    cell: np.ndarray[Any, np.dtype[np.int16]] | None


def _steps(plan: EventPlan, dtype: np.dtype[Any]) -> _Steps | None:
    """The edges as the smallest integers at or above them; None where that does not help."""
    if dtype.kind not in "iu" or dtype.itemsize != 4 or not 1e-300 < plan.unit < 1e300:
        return None
    first, last = _integer_edges(plan, np.iinfo(dtype))
    n, n_bins = int(last - first[0]), plan.n_bins
    if n < 1 or n_bins > 1 << 15:
        return None
    edges = np.minimum(first - first[0], n)
    found = _even_steps(edges, n_bins)
    if found is None and n_bins > 2000:
        return None
    steps = np.minimum(edges, 2**32 - 1).astype(np.uint32)
    if found is not None:
        return _Steps((n, int(first[0]), found[1], 0, found[0], *found[2:]), steps, None)
    shift = max(0, (n - 1).bit_length() - 15)
    n_cells = ((n - 1) >> shift) + 1
    inner = edges[1:-1]
    if shift == 0:
        cell = np.searchsorted(inner, np.arange(n_cells), side="right")
    else:
        cell = _cells(np.minimum(inner >> shift, n_cells - 1), n_cells)
    table = np.append(cell, n_bins + Fate.OUTSIDE).astype(np.int16)
    return _Steps((n, int(first[0]), shift, n_cells, 0, 0, 0), steps, table)


def _integer_edges(plan: EventPlan, limits: np.iinfo[Any]) -> tuple[IntArray, int]:
    """(first integer at or above each edge, first integer above the last edge), cut at the type's limits."""
    with np.errstate(over="ignore"):
        wanted = np.clip(np.ceil(plan.edges / plan.unit), limits.min - 1.0, limits.max + 1.0)
    first = wanted.astype(np.int64)
    for _ in range(3):  # the quotient is off by less than one: float64 knows such integers exactly
        first -= (first - 1).astype(np.float64) * plan.unit >= plan.edges
        first += first.astype(np.float64) * plan.unit < plan.edges
    first = np.clip(first, limits.min, limits.max + 1)
    last = int(first[-1])
    while last <= limits.max and float(last) * plan.unit <= plan.edges[-1]:
        last += 1
    return first, last


def _even_steps(edges: IntArray, n_bins: int) -> tuple[int, int, int, int] | None:
    """(scale, shift, bits, near) such that step * scale >> shift is the bin with `bits` bits behind the point.

    The place never decreases with the step: what is more than `near` away from a border is on its side.
    """
    bits, n = 30 - n_bins.bit_length(), int(edges[-1])
    if n < 1:
        return None
    shift = 63
    while (n_bins << bits << shift) // n >= 1 << 32:
        shift -= 1
        if shift < 1:
            return None
    scale = (n_bins << bits << shift) // n
    places = (edges.astype(np.uint64) * np.uint64(scale)) >> np.uint64(shift)
    off = places.astype(np.int64) - (np.arange(n_bins + 1, dtype=np.int64) << bits)
    near = int(np.abs(off).max()) + 1
    return (scale, shift, bits, near) if near < 1 << max(bits - 3, 0) else None


_ID_TYPES = {np.dtype(np.int32): 0, np.dtype(np.uint32): 1, np.dtype(np.int64): 2}
_OFFSET_TYPES = {np.dtype(t): i for i, t in enumerate((np.int32, np.uint32, np.int64, np.float32, np.float64))}
_EVENTS = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_HISTOGRAM = (*_EVENTS, ctypes.c_void_p)
_CELLS = (*_EVENTS, ctypes.c_void_p, ctypes.c_void_p)
_RANGE = (*_EVENTS, ctypes.c_double, ctypes.c_void_p)
_SORT = (ctypes.c_void_p, *(ctypes.c_int64,) * 3, ctypes.c_void_p, ctypes.c_void_p)
_COUNT = (ctypes.c_void_p, ctypes.c_void_p, *(ctypes.c_int64,) * 3, ctypes.c_void_p, ctypes.c_int64)


def new_counts(plan: EventPlan) -> IntArray:
    """Zeros for `count_events`: bins, then fates, int64, shape (n_bins + 4,)."""
    return np.zeros(plan.n_bins + len(Fate), dtype=np.int64)


def count_events(ids: AnyArray | None, offsets: AnyArray, *, plan: EventPlan, counts: IntArray) -> None:
    """Add events to `counts`, shape (n_bins + 4,): the bins, then the fates in the order of `Fate`.

    Parameters
    ----------
    ids:
        Pixel of each event, any integers, shape (n_events,); not looked at when the plan has no ids.
    offsets:
        Time of each event, any numbers, shape (n_events,).
    """
    if counts.shape != (plan.n_bins + len(Fate),) or counts.dtype != np.int64:
        raise ValueError(f"counts have shape ({plan.n_bins + len(Fate)},), int64")
    ids, offsets = _prepared(ids, offsets, plan)
    kernel = function("event_histogram", _HISTOGRAM)
    if kernel is not None:
        _checked(kernel(*_arguments(ids, offsets, plan), pointer(counts)))
        return
    codes = _codes(ids, offsets, plan)
    counts += np.bincount(codes, minlength=counts.size)


def event_cells(ids: AnyArray, offsets: AnyArray, *, plan: EventPlan) -> tuple[CellArray, IntArray]:
    """(row * n_bins + bin of every event that has one, in order, uint32; fates of the others, shape (4,))."""
    if plan.row is None:
        raise ValueError("a map needs the rows of the ids")
    prepared, offsets = _prepared(ids, offsets, plan)
    kernel = function("event_cells", _CELLS)
    if kernel is not None:
        cells, fates = np.empty(offsets.size + 1, dtype=np.uint32), np.zeros(len(Fate), dtype=np.int64)
        n_used = kernel(*_arguments(prepared, offsets, plan), pointer(cells), pointer(fates))
        return cells[: _checked(n_used)], fates
    codes = _codes(prepared, offsets, plan)
    used = codes < plan.n_bins
    fates = np.bincount(codes[~used] - plan.n_bins, minlength=len(Fate)).astype(np.int64)
    rows = plan.row[np.asarray(ids)[used].astype(np.int64) - (plan.first_id or 0)]
    return (rows.astype(np.int64) * plan.n_bins + codes[used]).astype(np.uint32), fates


def event_range(
    ids: AnyArray | None, offsets: AnyArray, *, plan: EventPlan, above: float = -np.inf
) -> tuple[float, float]:
    """Smallest and largest finite coordinate above a bound, of events of good ids; (inf, -inf) without any."""
    ids, offsets = _prepared(ids, offsets, plan)
    kernel = function("event_range", _RANGE)
    if kernel is not None:
        found = np.array([np.inf, -np.inf])
        _checked(kernel(*_arguments(ids, offsets, plan), above, pointer(found)))
        return float(found[0]), float(found[1])
    values, state = _coordinates(ids, offsets, plan)
    values = values[(state == 0) & np.isfinite(values) & (values > above)]
    return float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))


@dataclass(frozen=True, slots=True)
class SortedCells:
    """Cells ordered by bucket: bucket k holds cells[starts[k]:starts[k + 1]]; starts (n_buckets + 1,)."""

    cells: CellArray
    starts: IntArray


def bucket_shift(n_cells: int) -> int:
    """Bits of a cell's number within a bucket, so that a bucket's counts stay in the cache."""
    return max(BUCKET_CELLS.bit_length() - 1, 0) if n_cells > 4 * BUCKET_CELLS else 31


def sort_cells(cells: CellArray, *, n_cells: int) -> SortedCells:
    """The cells of some events ordered by bucket, to be counted with others in `count_cells`."""
    shift = bucket_shift(n_cells)
    n_buckets = ((max(n_cells, 1) - 1) >> shift) + 1
    if n_buckets == 1:
        return SortedCells(cells, np.array([0, cells.size], dtype=np.int64))
    kernel = function("sort_cells", _SORT)
    if kernel is not None:
        out, starts = np.empty_like(cells), np.empty(n_buckets + 1, dtype=np.int64)
        _checked(kernel(pointer(cells), cells.size, shift, n_buckets, pointer(out), pointer(starts)))
        return SortedCells(out, starts)
    buckets = cells >> np.uint32(shift)
    starts = np.concatenate([[0], np.cumsum(np.bincount(buckets, minlength=n_buckets))]).astype(np.int64)
    return SortedCells(cells[np.argsort(buckets, kind="stable")], starts)


def count_cells(parts: Sequence[SortedCells], *, counts: AnyArray) -> None:
    """Add all cells of some parts to `counts`, uint32 or int64, shape (n_cells,).

    uint32 wraps at 2^32: the caller chooses int64 where a run has more events.
    """
    if counts.dtype not in (np.uint32, np.int64) or counts.ndim != 1 or counts.size > MAX_CELLS:
        raise ValueError("counts of cells are uint32 or int64")
    if not parts:
        return
    n_buckets = parts[0].starts.size - 1
    for part in parts:
        n = part.cells.size
        if part.starts.size != n_buckets + 1 or part.starts[0] != 0 or part.starts[-1] != n:
            raise ValueError("the parts have different buckets")
        if part.cells.dtype != np.uint32 or (np.diff(part.starts) < 0).any():
            raise ValueError("buckets do not decrease")
    kernel = function("count_cells_u32" if counts.dtype == np.uint32 else "count_cells_i64", _COUNT)
    if kernel is not None:
        cells = np.array([pointer(part.cells) for part in parts], dtype=np.uintp)
        kept = [np.ascontiguousarray(part.starts, dtype=np.int64) for part in parts]
        starts = np.array([pointer(array) for array in kept], dtype=np.uintp)
        sizes = (len(parts), n_buckets, bucket_shift(counts.size))
        _checked(kernel(pointer(cells), pointer(starts), *sizes, pointer(counts), counts.size))
        return
    for part in parts:
        if part.cells.size and int(part.cells.max()) >= counts.size:
            raise ValueError("a cell lies outside the map")
        found, n = np.unique(part.cells, return_counts=True)
        counts[found] += n.astype(counts.dtype)


def _checked(outcome: int) -> int:
    if outcome < 0:
        raise MemoryError if outcome == -4 else ValueError(f"the kernel refused its input ({outcome})")
    return outcome


def _prepared(
    ids: AnyArray | None, offsets: AnyArray, plan: EventPlan
) -> tuple[AnyArray | None, AnyArray]:
    """Ids and offsets as contiguous arrays of types that the kernels know, with the same values."""
    if offsets.ndim != 1 or offsets.dtype.kind not in "iuf":
        raise ValueError("offsets are one row of numbers")
    if offsets.dtype not in _OFFSET_TYPES:
        small = offsets.dtype.kind in "iu" and offsets.dtype.itemsize < 8
        offsets = offsets.astype(np.int64 if small or offsets.dtype.kind == "i" else np.float64)
    offsets = np.ascontiguousarray(offsets)
    if plan.state is None:
        return None, offsets
    if ids is None or ids.shape != offsets.shape or ids.dtype.kind not in "iu":
        raise ValueError("there is one integer id for each offset")
    if ids.dtype not in _ID_TYPES or not _fits(plan, ids.dtype):
        if ids.dtype.kind == "u" and ids.dtype.itemsize == 8:
            # Above 2^63 there is no int64; such an id is as unknown as the smallest one, which no table begins with.
            ids = np.where(ids > np.uint64(np.iinfo(np.int64).max), np.iinfo(np.int64).min, ids.astype(np.int64))
        ids = ids.astype(np.int64)
    return np.ascontiguousarray(ids), offsets


def _fits(plan: EventPlan, dtype: np.dtype[Any]) -> bool:
    """Whether all ids of the table can be written in the type, so that differences may wrap."""
    first, n = plan.first_id or 0, 0 if plan.state is None else plan.state.size
    limits = np.iinfo(dtype)
    return limits.min <= first and first + n - 1 <= limits.max


def _arguments(ids: AnyArray | None, offsets: AnyArray, plan: EventPlan) -> tuple[int | None, ...]:
    of_ids = (None, 0) if ids is None else (pointer(ids), _ID_TYPES[ids.dtype])
    return (*of_ids, pointer(offsets), _OFFSET_TYPES[offsets.dtype], offsets.size, plan.native(offsets.dtype).address)


def _coordinates(ids: AnyArray | None, offsets: AnyArray, plan: EventPlan) -> tuple[FloatArray, AnyArray]:
    """(coordinate, state) of every event, in NumPy."""
    with np.errstate(over="ignore", invalid="ignore"):
        values: FloatArray = offsets.astype(np.float64) * plan.unit
        if plan.state is None or ids is None:
            return values, np.zeros(values.size, dtype=np.uint8)
        first, n = plan.first_id or 0, plan.state.size
        wide = ids.astype(np.int64)
        known = (wide >= first) & (wide <= first + n - 1)
        place = np.where(known, wide - first, 0) if n else np.zeros(wide.size, dtype=np.int64)
        state = np.where(known, plan.state[place] if n else 0, Fate.UNKNOWN)
        if plan.factor is not None:
            values = values * (plan.factor[place] if n else 1.0)
    return values, state


def _codes(ids: AnyArray | None, offsets: AnyArray, plan: EventPlan) -> IntArray:
    """The bin of every event, or n_bins + its fate, in NumPy."""
    values, state = _coordinates(ids, offsets, plan)
    n_bins = plan.n_bins
    finite = np.isfinite(values)
    inside = finite & (values >= plan.edges[0]) & (values <= plan.edges[-1])
    bins = np.searchsorted(plan.edges[:-1], values, side="right") - 1
    codes = np.where(inside, bins, np.where(finite, n_bins + Fate.OUTSIDE, n_bins + Fate.NOT_FINITE))
    return np.where(state == 0, codes, n_bins + state).astype(np.int64)
