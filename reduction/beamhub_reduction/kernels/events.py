"""Events counted: in bins of one axis, and in cells of a map of pixel by bin.

An event's coordinate is float64(offset) * unit, times the factor of its pixel where there are factors. Bins
are those of numpy.histogram, the last one closed; counts are integers, so no order of events matters. The
compiled form and NumPy's give the same counts for any input.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beamhub_reduction.kernels.event_plan import MAX_CELLS, EventPlan, Fate
from beamhub_reduction.kernels.native import function, pointer

AnyArray = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
CellArray = np.ndarray[Any, np.dtype[np.uint32]]

BUCKET_CELLS = 1 << 16
"""Cells counted at a time, 256 or 512 KiB: they stay in the cache, and a cell within them has 16 bits.

Source: benchmarks/bench_events.py"""

ID_TYPES = {np.dtype(np.int32): 0, np.dtype(np.uint32): 1, np.dtype(np.int64): 2}
OFFSET_TYPES = {np.dtype(t): i for i, t in enumerate((np.int32, np.uint32, np.int64, np.float32, np.float64))}
_EVENTS = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_HISTOGRAM = (*_EVENTS, ctypes.c_void_p)
_CELLS = (*_EVENTS, ctypes.c_void_p, ctypes.c_void_p)
_MAP = (*_EVENTS, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
_RANGE = (*_EVENTS, ctypes.c_double, ctypes.c_void_p)
_SORT = (ctypes.c_void_p, *(ctypes.c_int64,) * 2, ctypes.c_void_p, ctypes.c_void_p)
_SORTED = (*_EVENTS, ctypes.c_int64, *(ctypes.c_void_p,) * 4)
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


def count_event_cells(ids: AnyArray, offsets: AnyArray, *, plan: EventPlan, counts: CellArray) -> IntArray:
    """Add events to a small map, uint32, shape (n_cells,); gives the fates of the others, shape (4,).

    The cells are those of `event_cells`; the caller sees to it that no cell reaches 2^32.
    """
    if counts.dtype != np.uint32 or counts.ndim != 1 or plan.row is None or plan.n_cells > counts.size:
        raise ValueError("a map needs the rows of the ids, and all of its cells")
    prepared, offsets = _prepared(ids, offsets, plan)
    kernel = function("event_map", _MAP)
    if kernel is not None:
        fates = np.zeros(len(Fate), dtype=np.int64)
        arguments = _arguments(prepared, offsets, plan)
        _checked(kernel(*arguments, pointer(counts), counts.size, pointer(fates)))
        return fates
    cells, fates = event_cells(ids, offsets, plan=plan)
    counts += np.bincount(cells, minlength=counts.size).astype(np.uint32)
    return fates


def event_range(
    ids: AnyArray | None, offsets: AnyArray, *, plan: EventPlan, above: float = -np.inf
) -> tuple[float, float]:
    """Smallest and largest finite coordinate above a bound of events of good ids, or (inf, -inf)."""
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
    """Cells ordered by bucket, without the bucket: uint16, shape (n,).

    Bucket k holds k * BUCKET_CELLS + cells[starts[k]:starts[k + 1]]; starts (n_buckets + 1,).
    """

    cells: np.ndarray[Any, np.dtype[np.uint16]]
    starts: IntArray


def n_buckets_of(n_cells: int) -> int:
    """Buckets of a map."""
    return (max(n_cells, 1) - 1) // BUCKET_CELLS + 1


def sort_cells(cells: CellArray, *, n_cells: int) -> SortedCells:
    """The cells of some events ordered by bucket, to be counted with others in `count_cells`."""
    n_buckets = n_buckets_of(n_cells)
    kernel = function("sort_cells", _SORT)
    if kernel is not None:
        out, starts = np.empty(cells.size, dtype=np.uint16), np.empty(n_buckets + 1, dtype=np.int64)
        _checked(kernel(pointer(cells), cells.size, n_buckets, pointer(out), pointer(starts)))
        return SortedCells(out, starts)
    buckets = cells // np.uint32(BUCKET_CELLS)
    starts = np.concatenate([[0], np.cumsum(np.bincount(buckets, minlength=n_buckets))]).astype(np.int64)
    ordered = cells[np.argsort(buckets, kind="stable")]
    return SortedCells((ordered % np.uint32(BUCKET_CELLS)).astype(np.uint16), starts)


@dataclass
class CellSorter:
    """Events of many blocks as sorted cells; one thread's own, because its scratch is used again.

    `out` takes the cells of all blocks, one behind the other; a block that does not fit gets its own.
    """

    plan: EventPlan
    n_cells: int
    out: np.ndarray[Any, np.dtype[np.uint16]]
    fates: IntArray = field(default_factory=lambda: np.zeros(len(Fate), dtype=np.int64))
    n_used: int = 0
    scratch: CellArray = field(default_factory=lambda: np.empty(0, dtype=np.uint32))

    def sort(self, ids: AnyArray, offsets: AnyArray) -> SortedCells:
        """The sorted cells of some events; the others are counted in `fates`."""
        kernel = function("event_sorted_cells", _SORTED)
        if kernel is None:
            cells, fates = event_cells(ids, offsets, plan=self.plan)
            self.fates += fates
            self.n_used += cells.size
            return sort_cells(cells, n_cells=self.n_cells)
        if self.plan.row is None or self.plan.n_cells > self.n_cells:
            raise ValueError("a map needs the rows of the ids, and all of its cells")
        prepared, offsets = _prepared(ids, offsets, self.plan)
        n, n_buckets = offsets.size, n_buckets_of(self.n_cells)
        if self.scratch.size < n + 1:
            self.scratch = np.empty(n + 1, dtype=np.uint32)
        out = self.out[self.n_used :]
        if out.size < n:
            out = np.empty(n, dtype=np.uint16)
        starts = np.empty(n_buckets + 1, dtype=np.int64)
        n_used = _checked(
            kernel(
                *_arguments(prepared, offsets, self.plan), n_buckets, pointer(self.scratch), pointer(out),
                pointer(starts), pointer(self.fates),
            )
        )  # fmt: skip
        self.n_used += n_used
        return SortedCells(out[:n_used], starts)


def count_cells(parts: Sequence[SortedCells], *, counts: AnyArray, fresh: bool = False) -> None:
    """Add all cells of some parts to `counts`, uint32 or int64, shape (n_cells,).

    `fresh` counts hold anything and begin with zeros. uint32 wraps at 2^32: the caller chooses int64 where a
    run has more events.
    """
    if counts.dtype not in (np.uint32, np.int64) or counts.ndim != 1 or counts.size > MAX_CELLS:
        raise ValueError("counts of cells are uint32 or int64")
    if not parts:
        if fresh:
            counts.fill(0)
        return
    n_buckets = n_buckets_of(counts.size)
    for part in parts:
        n = part.cells.size
        if part.starts.size != n_buckets + 1 or part.starts[0] != 0 or part.starts[-1] != n:
            raise ValueError("the parts have different buckets")
        if part.cells.dtype != np.uint16 or (np.diff(part.starts) < 0).any():
            raise ValueError("buckets do not decrease")
    kernel = function("count_cells_u32" if counts.dtype == np.uint32 else "count_cells_i64", _COUNT)
    if kernel is not None:
        cells = np.array([pointer(part.cells) for part in parts], dtype=np.uintp)
        kept = [np.ascontiguousarray(part.starts, dtype=np.int64) for part in parts]
        starts = np.array([pointer(array) for array in kept], dtype=np.uintp)
        sizes = (len(parts), n_buckets, int(fresh))
        _checked(kernel(pointer(cells), pointer(starts), *sizes, pointer(counts), counts.size))
        return
    if fresh:
        counts.fill(0)
    for part in parts:
        buckets = np.repeat(np.arange(n_buckets), np.diff(part.starts))
        cells = buckets * BUCKET_CELLS + part.cells
        if cells.size and int(cells.max()) >= counts.size:
            raise ValueError("a cell lies outside the map")
        found, n_found = np.unique(cells, return_counts=True)
        counts[found] += n_found.astype(counts.dtype)


def _checked(outcome: int) -> int:
    if outcome < 0:
        raise MemoryError if outcome == -4 else ValueError(f"the kernel refused its input ({outcome})")
    return outcome


def _prepared(ids: AnyArray | None, offsets: AnyArray, plan: EventPlan) -> tuple[AnyArray | None, AnyArray]:
    """Ids and offsets as contiguous arrays of types that the kernels know, with the same values."""
    if offsets.ndim != 1 or offsets.dtype.kind not in "iuf":
        raise ValueError("offsets are one row of numbers")
    if offsets.dtype not in OFFSET_TYPES:
        small = offsets.dtype.kind in "iu" and offsets.dtype.itemsize < 8
        offsets = offsets.astype(np.int64 if small or offsets.dtype.kind == "i" else np.float64)
    offsets = np.ascontiguousarray(offsets)
    if plan.state is None:
        return None, offsets
    if ids is None or ids.shape != offsets.shape or ids.dtype.kind not in "iu":
        raise ValueError("there is one integer id for each offset")
    if ids.dtype not in ID_TYPES or not ids_fit(plan, ids.dtype):
        if ids.dtype.kind == "u" and ids.dtype.itemsize == 8:
            # Above 2^63 there is no int64; such an id is as unknown as the smallest, which no table has.
            ids = np.where(
                ids > np.uint64(np.iinfo(np.int64).max), np.iinfo(np.int64).min, ids.astype(np.int64)
            )
        ids = ids.astype(np.int64)
    return np.ascontiguousarray(ids), offsets


def ids_fit(plan: EventPlan, dtype: np.dtype[Any]) -> bool:
    """Whether all ids of the table can be written in the type, so that differences may wrap."""
    first, n = plan.first_id or 0, 0 if plan.state is None else plan.state.size
    limits = np.iinfo(dtype)
    return limits.min <= first and first + n - 1 <= limits.max


def _arguments(ids: AnyArray | None, offsets: AnyArray, plan: EventPlan) -> tuple[int | None, ...]:
    of_ids = (None, 0) if ids is None else (pointer(ids), ID_TYPES[ids.dtype])
    return (
        *of_ids,
        pointer(offsets),
        OFFSET_TYPES[offsets.dtype],
        offsets.size,
        plan.native(offsets.dtype).address,
    )


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
    return np.where(state == 0, codes, n_bins + state.astype(np.int64)).astype(np.int64)
