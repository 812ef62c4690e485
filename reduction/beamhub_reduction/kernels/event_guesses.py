"""How the compiled form guesses an event's bin, and what proves a guess: see src/event_codes.h.

Every guess is a place that never decreases with the event's coordinate. So what holds at the edges holds
between them, however the places were rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

AnyArray = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
SmallFloats = np.ndarray[Any, np.dtype[np.float32]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

EVEN_DOUBLES, ANY_DOUBLES, EVEN_STEPS, EVEN_FLOATS, ANY_FLOATS, EVEN_LOGS = range(6)
STEP_NUMBERS = ("n_steps", "first_step", "step_scale", "step_shift", "step_bias")
FLOAT_INTEGERS = ("n_float_cells", "first_bits", "bits_shift")
FLOAT_NUMBERS = (
    "scale_all", "low", "near", "per_float_cell", "inside_low", "inside_high", "sure_low", "sure_high",
)  # fmt: skip
MAX_FLOAT_BINS = (1 << 15) - 16
MAX_FLOAT_CELLS = 1 << 14
MAX_CLOSE_CELLS = 3
LOG2_OFF = 2.0**-18
"""The logarithm's polynomial, 2.2e-6 off at most, and the rounding of its terms."""
ROUNDING = 2.0**-21
"""What float32 may be off, relatively: an offset, a scale and their product are rounded by 2^-24 each."""


@dataclass(frozen=True, slots=True)
class DoubleGuess:
    """Places as float64, for any bins."""

    per_cell: float = 0.0
    shift: int = 0
    cell: np.ndarray[Any, np.dtype[np.int32]] | None = None

    @property
    def way(self) -> int:
        """By multiplication, or by a table."""
        return EVEN_DOUBLES if self.cell is None else ANY_DOUBLES

    @property
    def n_cells(self) -> int:
        """Of the table."""
        return 0 if self.cell is None else self.cell.size


@dataclass(frozen=True, slots=True)
class StepGuess:
    """Bins of one width over 32-bit integers; `numbers` in the order of STEP_NUMBERS."""

    numbers: tuple[int, ...] = (0,) * len(STEP_NUMBERS)
    way: int = EVEN_STEPS


@dataclass(frozen=True, slots=True)
class FloatGuess:
    """Places as float32; `integers` and `numbers` in the order of their names."""

    way: int = EVEN_FLOATS
    scale: SmallFloats | None = None
    up_to: SmallFloats | None = None
    at_least: SmallFloats | None = None
    cell: np.ndarray[Any, np.dtype[np.int32]] | None = None
    integers: tuple[int, ...] = (0,) * len(FLOAT_INTEGERS)
    numbers: tuple[float, ...] = (0.0,) * len(FLOAT_NUMBERS)


def double_guess(edges: FloatArray) -> DoubleGuess:
    """For any edges."""
    low, n_bins = edges[0], edges.size - 1
    shift = max(0, 30 - n_bins.bit_length())
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        width = edges[-1] - low
        per_bin = n_bins / width * float(1 << shift)
        off = np.abs((edges - low) * per_bin - np.arange(n_bins + 1) * float(1 << shift)).max()
    if shift >= 4 and np.isfinite(per_bin) and per_bin > 0 and off < 0.5:
        return DoubleGuess(float(per_bin), shift)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        finest = np.diff(edges)[np.diff(edges) > 0].min(initial=np.inf)
        wanted = 4 * width / finest
        n_cells = int(min(max(32 * n_bins, wanted), 1 << 16)) if np.isfinite(wanted) else 1
        per_cell = float(n_cells / width)
        per_cell = per_cell if np.isfinite(per_cell) else 0.0
        places = np.minimum((edges[1:-1] - low) * per_cell, n_cells - 1).astype(np.int64)
    inside = np.bincount(places, minlength=n_cells)
    before = np.concatenate([[0], np.cumsum(inside)[:-1]])
    return DoubleGuess(per_cell, 0, np.where(inside == 0, before, ~before).astype(np.int32))


def step_guess(edges: FloatArray, unit: float, dtype: np.dtype[Any]) -> StepGuess | None:
    """A multiplication that gives the bin of every 32-bit integer exactly; None where there is none."""
    if dtype.kind not in "iu" or dtype.itemsize != 4 or not 1e-300 < unit < 1e300:
        return None
    first, last = _integer_edges(edges, unit, np.iinfo(dtype))
    n, n_bins = int(last - first[0]), edges.size - 1
    if n < 1 or n >= 1 << 32 or n_bins > 1 << 20:
        return None
    with np.errstate(over="ignore", divide="ignore"):
        per_step = float(n_bins * unit / (edges[-1] - edges[0]))
    if not 2.0**-31 < per_step < 2.0**16:
        return None
    steps = first[:-1] - first[0]
    shift = min(31 - int(np.floor(np.log2(per_step))), 62)
    for scale in (int(per_step * 2.0**shift), int(np.ceil(per_step * 2.0**shift))):
        bias = _bias(steps, scale, shift) if scale < 1 << 32 else None
        if bias is not None:
            return StepGuess((n, int(first[0]), scale, shift, bias))
    return None


def _bias(steps: IntArray, scale: int, shift: int) -> int | None:
    """What makes (step * scale + bias) >> shift reach k at steps[k], and not one step before."""
    # All products are below 2^64 and differences far below 2^63, so that wrapping does no harm.
    with np.errstate(over="ignore"):
        wanted = np.arange(steps.size, dtype=np.uint64) << np.uint64(shift)
        missing = (wanted - steps.astype(np.uint64) * np.uint64(scale)).view(np.int64)
    low = max(int(missing.max()), 0)
    high = int(missing[1:].min() + scale - 1) if steps.size > 1 else low
    return low + (high - low) // 2 if low <= high else None


def _integer_edges(edges: FloatArray, unit: float, limits: np.iinfo[Any]) -> tuple[IntArray, int]:
    """(first integer at or above each edge, first integer above the last edge), cut at the type's limits."""
    with np.errstate(over="ignore"):
        wanted = np.clip(np.ceil(edges / unit), limits.min - 1.0, limits.max + 1.0)
    first = wanted.astype(np.int64)
    for _ in range(3):  # the quotient is off by less than one: float64 knows such integers exactly
        first -= (first - 1).astype(np.float64) * unit >= edges
        first += first.astype(np.float64) * unit < edges
    first = np.clip(first, limits.min, limits.max + 1)
    last = int(first[-1])
    while last <= limits.max and float(last) * unit <= edges[-1]:
        last += 1
    return first, last


def float_guess(
    edges: FloatArray, unit: float, *, factor: FloatArray | None, state: AnyArray | None
) -> FloatGuess | None:
    """Guesses as float32, for up to MAX_FLOAT_BINS bins; None where float32 cannot tell them apart.

    `factor` and `state` have one value more than there are ids; all of them must be float32 numbers.
    """
    n_bins, width = edges.size - 1, float(edges[-1] - edges[0])
    most = float(np.abs(edges).max())
    if n_bins > MAX_FLOAT_BINS or not (1e-12 < width < 1e12 and most < 1e12 * width):
        return None
    even, logs = _even_floats(edges), _even_logs(edges)
    per_value = n_bins / width if even is not None else 1.0 / edges[0] if logs is not None else 1.0
    scale_all, scale = float(unit * per_value), None
    if factor is not None and state is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            made = factor * scale_all
        largest = np.abs(made[state == 0])
        scale = _with_states(made, state)
    else:
        largest = np.abs(np.array([scale_all]))
    if not ((largest >= 1e-20) & (largest <= 1e20)).all():
        return None
    if even is not None:
        return FloatGuess(EVEN_FLOATS, scale, numbers=(scale_all, *even, *(0.0,) * 5))
    if logs is not None:
        per_octave, near = logs
        return FloatGuess(EVEN_LOGS, scale, numbers=(scale_all, 0.0, near, per_octave, *(0.0,) * 4))
    return _any_floats(edges, scale, scale_all)


def _with_states(factors: FloatArray, state: AnyArray) -> SmallFloats:
    """As float32, not a number where the state is not 0: the state is in its last bits."""
    with np.errstate(over="ignore", invalid="ignore"):
        bits = factors.astype(np.float32).view(np.uint32)
    marked = np.where(state == 0, bits, np.uint32(0x7FC00000) | state.astype(np.uint32))
    return np.ascontiguousarray(marked.astype(np.uint32).view(np.float32))


def _even_floats(edges: FloatArray) -> tuple[float, float] | None:
    """(place of the first edge, how far from a border a place is sure), or None for other bins."""
    n_bins = edges.size - 1
    per_value = n_bins / (edges[-1] - edges[0])
    off = float(np.abs((edges - edges[0]) * per_value - np.arange(n_bins + 1)).max())
    low, reach = float(edges[0] * per_value), float(np.abs(edges).max() * per_value)
    near = off + (reach + abs(low) + n_bins + 1) * ROUNDING
    return (low, near) if near < 1 / 16 else None


def _even_logs(edges: FloatArray) -> tuple[float, float] | None:
    """(bins of one ratio in a factor of two, how far from a border a place is sure), or None for others."""
    if edges[0] <= 1e-12 * edges[-1]:
        return None
    n_bins, octaves = edges.size - 1, np.log2(edges / edges[0])
    per_octave = float(n_bins / octaves[-1])
    off = float(np.abs(octaves * per_octave - np.arange(n_bins + 1)).max())
    near = off + per_octave * (LOG2_OFF + (octaves[-1] + 4) * ROUNDING) + n_bins * ROUNDING
    return (per_octave, near) if near < 1 / 16 and per_octave > 1 else None


def _any_floats(edges: FloatArray, scale: SmallFloats | None, scale_all: float) -> FloatGuess | None:
    n_bins = edges.size - 1
    # What float32 may be off, and what numbers that it rounds to nothing may be.
    slack = np.abs(edges) * ROUNDING + 1e-24
    at_least = np.nextafter((edges + slack).astype(np.float32), np.float32(np.inf))
    up_to = np.nextafter((edges - slack).astype(np.float32), np.float32(-np.inf))
    low, high = at_least[0], up_to[-1]
    if not low < high:
        return None
    cells = _best_cells(at_least[:-1], high)
    inner, n_cells = cells.places[1:], cells.n
    n_inside = np.bincount(inner, minlength=n_cells)
    bins = np.concatenate([[0], np.cumsum(n_inside)[:-1]])
    lower, upper = np.full((2, n_cells + 2), np.inf, dtype=np.float32)
    one = np.flatnonzero(n_inside == 1)
    upper[:n_cells][one], lower[:n_cells][one] = up_to[bins[one] + 1], at_least[bins[one] + 1]
    upper[:n_cells][n_inside > 1] = -np.inf
    # What is too close to an edge may begin in cells before the one that at_least is in.
    begin = cells.place_of(up_to[1:-1])
    if (inner - begin).max(initial=0) > MAX_CLOSE_CELLS:
        return None
    for back in range(1, MAX_CLOSE_CELLS + 1):
        edge = np.flatnonzero(inner - begin >= back)
        at = inner[edge] - back
        free = n_inside[at] == 0
        np.minimum.at(upper, at[free], up_to[1:-1][edge[free]])
        upper[at[~free]], lower[at[~free]] = -np.inf, np.inf
    upper[-1] = lower[-1] = np.nan  # so that even infinities are close
    numbers = (scale_all, float(low), 0.0, cells.per_value, float(low), float(high), float(up_to[0]),
               float(at_least[-1]))  # fmt: skip
    bins = np.append(bins, [n_bins, 0]).astype(np.int32)
    integers = (n_cells, cells.first_bits, cells.shift)
    return FloatGuess(ANY_FLOATS, scale, upper, lower, bins, integers, numbers)


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells of values by difference from `low` (shift -1), or by bits; `places` are those of the edges."""

    n: int
    low: np.float32
    per_value: float
    first_bits: int
    shift: int
    places: IntArray

    def place_of(self, values: SmallFloats) -> IntArray:
        """The cell of each value, as the compiled form finds it."""
        if self.shift < 0:
            found = np.clip((values - self.low) * np.float32(self.per_value), 0, self.n - 1).astype(np.int64)
        else:
            bits = np.maximum(values, self.low).view(np.int32).astype(np.int64)
            found = (bits - self.first_bits) >> self.shift
        cells: IntArray = np.clip(found, 0, self.n - 1)
        return cells


def _best_cells(at_least: SmallFloats, high: np.float32) -> _Cells:
    """Few cells, of which few hold several edges."""
    low, found = at_least[0], []
    for n in (1 << 11, 1 << 12, 1 << 13, MAX_FLOAT_CELLS):
        cells = [_Cells(n, low, float(np.float32(n / (float(high) - float(low)))), 0, -1, _NO_PLACES)]
        if low > 0:
            first, last = (int(np.float32(value).view(np.int32)) for value in (low, high))
            shift = max((last - first).bit_length() - n.bit_length() + 1, 0)
            cells.append(_Cells(((last - first) >> shift) + 1, low, 0.0, first, shift, _NO_PLACES))
        for one in cells:
            placed = replace(one, places=one.place_of(at_least))
            crowded = np.maximum(np.bincount(placed.places[1:], minlength=placed.n) - 1, 0).sum()
            found.append((float(crowded) / at_least.size, placed))
            if crowded == 0:
                return placed
    return min(found, key=lambda each: each[0])[1]


_NO_PLACES = np.zeros(0, dtype=np.int64)
