"""What all events of a bank share, for NumPy and as the compiled form takes it: see src/events.c."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import pointer

AnyArray = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
CellArray = np.ndarray[Any, np.dtype[np.uint32]]

MAX_CELLS = 1 << 28
"""Cells of a map: 1 GiB of counts."""


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


_STEP_NUMBERS = (
    "n_steps",
    "first_step",
    "step_shift",
    "n_step_cells",
    "step_scale",
    "step_bits",
    "step_near",
)


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
    """(scale, shift, bits, near): step * scale >> shift is the bin with `bits` bits behind the point.

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
