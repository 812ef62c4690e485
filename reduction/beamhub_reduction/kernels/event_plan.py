"""What all events of a bank share, for NumPy and as the compiled form takes it: see src/event_plan.h."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np

from beamhub_reduction.kernels.event_guesses import (
    FLOAT_INTEGERS,
    FLOAT_NUMBERS,
    STEP_NUMBERS,
    DoubleGuess,
    FloatGuess,
    StepGuess,
    double_guess,
    float_guess,
    step_guess,
)
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


class _Struct(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n_ids", "first_id", "n_bins", "way", "n_cells", "shift")),
        *((name, ctypes.c_void_p) for name in ("factor", "state", "row", "edges", "cell")),
        *((name, ctypes.c_double) for name in ("unit", "per_cell")),
        *((name, ctypes.c_int64) for name in STEP_NUMBERS),
        *((name, ctypes.c_void_p) for name in ("state_bits", "scale", "up_to", "at_least", "float_cell")),
        *((name, ctypes.c_int64) for name in FLOAT_INTEGERS),
        *((name, ctypes.c_double) for name in FLOAT_NUMBERS),
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
    n_ids, state, factor, row, state_bits = -1, None, None, None, None
    if plan.state is not None:
        n_ids = plan.state.size
        state = np.append(plan.state, np.uint8(Fate.UNKNOWN))
        if plan.factor is not None:
            factor = np.append(np.where(plan.state == 0, plan.factor, np.nan).astype(np.float64), np.nan)
        elif not plan.state.any():
            state = None
        state_bits = None if state is None else _packed(state)
        good = plan.state == 0
        if plan.row is not None and (plan.row[good] != np.flatnonzero(good)).any():
            row = np.append(np.where(good, plan.row, 0), 0).astype(np.int32)
    steps = step_guess(edges, plan.unit, offset_dtype) if factor is None else None
    floats = float_guess(edges, plan.unit, factor=factor, state=state) if steps is None else None
    doubles = double_guess(edges) if steps is None and floats is None else DoubleGuess()
    way = next(guess.way for guess in (steps, floats, doubles) if guess is not None)
    of_floats = floats or FloatGuess()
    tables = (factor, state, row, edges, doubles.cell)
    others = (state_bits, of_floats.scale, of_floats.up_to, of_floats.at_least, of_floats.cell)
    struct = _Struct(
        n_ids, plan.first_id or 0, plan.n_bins, way, doubles.n_cells, doubles.shift,
        *(_address(array) for array in tables), plan.unit, doubles.per_cell, *(steps or StepGuess()).numbers,
        *(_address(array) for array in others), *of_floats.integers, *of_floats.numbers,
    )  # fmt: skip
    return _NativePlan(struct, (*tables, *others))


def _address(array: AnyArray | None) -> int | None:
    return None if array is None else pointer(array)


def _packed(state: np.ndarray[Any, np.dtype[np.uint8]]) -> CellArray:
    """Two bits for each state, 16 in a word."""
    padded = np.zeros(-(-state.size // 16) * 16, dtype=np.uint32)
    padded[: state.size] = state
    shifted = padded.reshape(-1, 16) << (2 * np.arange(16, dtype=np.uint32))
    words: CellArray = np.bitwise_or.reduce(shifted, axis=1).astype(np.uint32)
    return words
