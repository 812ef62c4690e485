"""Statistics of each pixel over frames: mean, variance, extremes, outliers; exact for integer counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.errors import BadParameter, CountsTooLarge
from beamhub_reduction.kernels.statistics import (
    Bounds,
    FloatSums,
    IntegerSums,
    add_float_frames,
    add_integer_frames,
    empty_float_sums,
    empty_integer_sums,
)
from beamhub_reduction.kernels.statistics_finish import (
    FinishedSums,
    finish_integer_sums,
    mean_errors,
    merge_integer_sums,
)
from beamhub_reduction.nexus.masks import ValueLimits
from beamhub_reduction.steps.frames import BoolArray, FloatArray, IntArray

Sums = IntegerSums | FloatSums
NumberArray = np.ndarray[Any, np.dtype[Any]]

MAD_TO_SIGMA = 1.482602218505602
"""Standard deviation of a normal distribution with median absolute deviation 1: 1 / (sqrt(2) erfinv(1/2)).
Source: doi 10.1080/01621459.1974.10482962."""
MAX_32 = 2**32 - 2
NO_LIMITS = ValueLimits()


@dataclass(frozen=True, slots=True)
class CountType:
    """How values of a dataset are counted: as unsigned of `kind` up to `limit`, or as float64 (None)."""

    kind: np.dtype[Any] | None
    limit: int
    valid: ValueLimits = NO_LIMITS

    def blank(self, frames: NumberArray, blank: BoolArray | None) -> BoolArray | None:
        """`blank` with the prepared frames' values outside `valid` that `limit` does not tell."""
        if self.kind is None and self.valid != NO_LIMITS:
            return self._join(~self.valid.is_blank(frames), blank)
        if self.kind is not None and self.valid.lowest > 0:
            return self._join(frames >= self.valid.lowest, blank)
        return blank

    @staticmethod
    def _join(good: BoolArray, blank: BoolArray | None) -> BoolArray:
        return ~good if blank is None else ~good | blank

    def empty_sums(self, n_pixels: int) -> Sums:
        """Sums of no frames."""
        return empty_float_sums(n_pixels) if self.kind is None else empty_integer_sums(self.kind, n_pixels)


@dataclass(frozen=True, slots=True)
class PixelStatistics:
    """Statistics of each pixel over frames, each of shape (ny, nx).

    `sum` is int64 (float64 for floating-point frames), 0 without values. `mean`, `minimum` and `maximum`
    are float64, NaN without values. `mean_errors` is the standard uncertainty of the mean from the scatter,
    sqrt(variance / n_valid). `variance` is that of the sample (n - 1), NaN below two values.
    `n_valid` counts the values that were used, `n_rejected` those outside the bounds of outliers.
    """

    sum: NumberArray
    mean: FloatArray
    mean_errors: FloatArray
    variance: FloatArray
    minimum: FloatArray
    maximum: FloatArray
    n_valid: IntArray
    n_rejected: IntArray


def count_type(dtype: np.dtype[Any], valid: ValueLimits = NO_LIMITS) -> CountType:
    """How frames of this type are counted, and which values are; `valid` as `read_value_limits` gives it.

    64-bit integers have to fit 32 bits; see `prepare_frames`.
    """
    if dtype.kind == "f":
        return CountType(None, 0, valid)
    size = min(dtype.itemsize, 4)
    unsigned = np.dtype(f"u{size}")
    is_narrow_signed = dtype.kind == "i" and dtype.itemsize <= 4
    limit = int(np.iinfo(f"i{size}").max if is_narrow_signed else np.iinfo(unsigned).max - 1)
    return CountType(unsigned, int(max(0, min(limit, valid.highest))), valid)


def prepare_frames(frames: NumberArray, *, usable: BoolArray | None = None) -> NumberArray:
    """Frames as they are counted, shape (n_frames, n_pixels), native and contiguous.

    'No value' (see `is_sentinel`) becomes a value above the limit of `count_type`. No copy where the type
    is one of 8, 16 or 32 bits of this machine.

    Raises
    ------
    CountsTooLarge
        If a count of 64 bits does not fit 32, in a pixel of `usable` (n_pixels,) if that is given.
    """
    kind = count_type(frames.dtype)
    flat = (
        frames.reshape(len(frames), -1) if len(frames) else frames.reshape(0, int(np.prod(frames.shape[1:])))
    )
    if kind.kind is None:
        return np.ascontiguousarray(flat, dtype=np.float64 if flat.dtype.itemsize > 4 else np.float32)
    if flat.dtype.itemsize == 8:
        none = flat == np.iinfo(flat.dtype).max if flat.dtype.kind == "u" else flat < 0
        counts = ~none if usable is None else ~none & usable
        largest = int(flat.max(initial=0, where=counts))
        if largest > MAX_32:
            raise CountsTooLarge(largest, MAX_32)
        return np.where(counts, flat, MAX_32 + 1).astype(np.uint32)
    native = np.ascontiguousarray(flat, dtype=flat.dtype.newbyteorder("="))
    return native.view(kind.kind)


def add_frames(
    sums: Sums,
    *,
    frames: NumberArray,
    kind: CountType,
    usable: BoolArray,
    blank: BoolArray | None = None,
    bounds: Bounds | None = None,
) -> NumberArray:
    """Add prepared frames (n_frames, n_pixels) to sums in place; gives the total of each frame."""
    if isinstance(sums, FloatSums):
        return add_float_frames(sums, frames=frames, usable=usable, blank=blank, bounds=bounds)
    return add_integer_frames(
        sums, frames=frames, limit=kind.limit, usable=usable, blank=blank, bounds=bounds
    )


def merge_sums(left: Sums, right: Sums) -> Sums:
    """Both parts together, in place of the left one; call in the order of the units.

    Integers: exact in any order. Floating point: the same bits for the same parts in the same order.
    """
    if isinstance(left, IntegerSums) and isinstance(right, IntegerSums):
        merge_integer_sums(left, right)
        return left
    if not (isinstance(left, FloatSums) and isinstance(right, FloatSums)):
        raise TypeError("sums of integers and of floating-point frames do not mix")
    for total, error, more, more_error in (
        (left.sum, left.sum_error, right.sum, right.sum_error),
        (left.square, left.square_error, right.square, right.square_error),
    ):
        _two_sum(total, error, more, more_error)
    np.minimum(left.minimum, right.minimum, out=left.minimum)
    np.maximum(left.maximum, right.maximum, out=left.maximum)
    np.add(left.n_valid, right.n_valid, out=left.n_valid)
    np.add(left.n_rejected, right.n_rejected, out=left.n_rejected)
    return left


def _two_sum(total: NumberArray, error: NumberArray, more: NumberArray, more_error: NumberArray) -> None:
    added = total + more
    part = added - total
    error += ((total - (added - part)) + (more - part)) + more_error
    total[...] = added


def finish_statistics(sums: Sums, *, shape: tuple[int, int]) -> PixelStatistics:
    """Statistics of each pixel; from integers correctly rounded where sums stay below 2^53."""
    total: NumberArray
    if isinstance(sums, IntegerSums):
        total, found = sums.sum, finish_integer_sums(sums)
    else:
        total, found = sums.sum + sums.sum_error, _finish_float_sums(sums)
    # Zeros that nobody writes take no memory.
    any_rejected = bool(sums.n_rejected.any())
    rejected = sums.n_rejected.astype(np.int64) if any_rejected else np.zeros(total.size, dtype=np.int64)
    return PixelStatistics(
        sum=total.reshape(shape),
        mean=found.mean.reshape(shape),
        mean_errors=found.mean_errors.reshape(shape),
        variance=found.variance.reshape(shape),
        minimum=found.minimum.reshape(shape),
        maximum=found.maximum.reshape(shape),
        n_valid=found.n_valid.reshape(shape),
        n_rejected=rejected.reshape(shape),
    )


def _finish_float_sums(sums: FloatSums) -> FinishedSums:
    n = sums.n_valid.astype(np.int64)
    mean, filled = np.full(n.size, np.nan), n > 0
    np.divide(sums.sum + sums.sum_error, n, out=mean, where=filled)
    variance = _float_variance(sums, n)
    least, most = np.where(filled, sums.minimum, np.nan), np.where(filled, sums.maximum, np.nan)
    return FinishedSums(mean, variance, mean_errors(variance, n_valid=n), least, most, n)


def _float_variance(sums: FloatSums, n: IntArray) -> FloatArray:
    """From sums and their errors: (Q - S^2 / n) / (n - 1), with S^2 / n in two parts."""
    variance = np.full(n.size, np.nan)
    ok = n > 1
    count, s = n[ok].astype(np.float64), sums.sum[ok] + sums.sum_error[ok]
    s_error = sums.sum_error[ok] - (s - sums.sum[ok])
    with np.errstate(over="ignore", invalid="ignore"):
        mean = s / count
        # mean * s and what its rounding loses, then what the rounding of the mean loses
        product, product_error = _two_product(mean, s)
        back, back_error = _two_product(mean, count)
        lost = ((s - back) - back_error) / count
        spread = (sums.square[ok] - product) + (
            sums.square_error[ok] - product_error - lost * s - 2 * mean * s_error
        )
        variance[ok] = np.maximum(spread, 0.0) / (count - 1)
    return variance


def _two_product(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """a * b and the error of its rounding. Source: Dekker, doi 10.1007/BF01397083."""
    halves = []
    for x in (a, b):
        head = 134217729.0 * x - (134217729.0 * x - x)
        halves.append((head, x - head))
    (a1, a2), (b1, b2) = halves
    p = a * b
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


def clip_bounds(
    statistics: PixelStatistics, *, n_sigma: float, kind: CountType, before: Bounds | None
) -> Bounds:
    """Which values of each pixel are no outliers: within n_sigma standard deviations of the mean.

    Bounds only get narrower: what an earlier pass rejected stays rejected. Pixels with fewer than two
    values reject nothing. n values lie at most (n - 1) / sqrt(n) deviations from their mean, so ten frames
    reject nothing at three sigma. Source: doi 10.1080/00031305.1988.10475530.
    """
    known = np.isfinite(statistics.variance).ravel()
    mean, reach = statistics.mean.ravel(), n_sigma * np.sqrt(statistics.variance.ravel())
    if kind.kind is None:
        low, high = np.where(known, mean - reach, -np.inf), np.where(known, mean + reach, np.inf)
    else:
        low = np.where(known, np.clip(np.ceil(mean - reach), 0, kind.limit), 0).astype(kind.kind)
        high = np.where(known, np.clip(np.floor(mean + reach), 0, kind.limit), kind.limit).astype(kind.kind)
    if before is not None:
        low, high = np.maximum(low, before.low), np.minimum(high, before.high)
    return Bounds(np.ascontiguousarray(low), np.ascontiguousarray(high))


def find_defects(
    mean: FloatArray, *, errors: FloatArray, n_sigma: float, radius: int = 2, rows: int = 64
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Hot (1) and dead (2) pixels, 0 elsewhere, shape (ny, nx): those unlike their neighbours.

    A pixel is compared with the median of the others in a window of 2 radius + 1; the scale is the larger
    of their scaled median absolute deviation and the uncertainty of the pixel's own mean. A dead pixel also
    has a mean of 0. What is NaN is left out; fewer than three neighbours decide nothing.
    """
    if radius < 1:
        raise BadParameter("radius", radius, "1 or more")
    padded = np.pad(mean, radius, constant_values=np.nan)
    found = np.zeros(mean.shape, dtype=np.uint8)
    side = 2 * radius + 1
    shifts = [(y, x) for y in range(side) for x in range(side) if (y, x) != (radius, radius)]
    for top in range(0, mean.shape[0], rows):
        own, own_errors = mean[top : top + rows], np.nan_to_num(errors[top : top + rows])
        height, width = own.shape
        near = np.stack([padded[top + y : top + y + height, x : x + width] for y, x in shifts])
        middle, n_near = _median(near)
        deviation, _ = _median(np.abs(near - middle))
        scale = np.maximum(MAD_TO_SIGMA * deviation, own_errors)
        with np.errstate(invalid="ignore"):
            away = own - middle
            decided = (n_near >= 3) & np.isfinite(own)
            hot = decided & (away > n_sigma * scale) & (away > 0)
            dead = decided & (-away > n_sigma * scale) & (own == 0)
        found[top : top + rows][hot] = 1
        found[top : top + rows][dead] = 2
    return found


def _median(values: FloatArray) -> tuple[FloatArray, IntArray]:
    """(median over the first axis without NaN, number of values); NaN without any."""
    n: IntArray = np.count_nonzero(np.isfinite(values), axis=0)
    ordered = np.sort(values, axis=0)  # NaN last
    low = np.take_along_axis(ordered, (np.maximum(n - 1, 0) // 2)[np.newaxis], axis=0)[0]
    high = np.take_along_axis(ordered, np.minimum(n // 2, len(values) - 1)[np.newaxis], axis=0)[0]
    high = np.where(n > 0, high, np.nan)
    middle: FloatArray = np.where(n % 2 == 1, low, (low + high) / 2)
    return middle, n
