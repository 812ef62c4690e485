"""Dark and flat correction, binning and -log of projections, in one pass over the counts."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import function, pointer

Float32Array = np.ndarray[Any, np.dtype[np.float32]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

MAX_BIN = 16
"""Most raw pixels along one side of a bin: sums of 8 and 16 bit counts stay exact in 32 bits."""

_KINDS = ("u1", "u2", "i2", "u4", "i4", "f4")
_VOID, _INT = ctypes.c_void_p, ctypes.c_int64
_ARGTYPES = (*([_VOID] * 10), ctypes.c_float, *([_VOID] * 5))
_SQRT_HALF_BITS = np.uint32(0x3F3504F3)
_LOG_TERMS = tuple(
    np.float32(value)
    for value in (
        -0.07634586, 0.12761599, -0.13160156, 0.14201753, -0.1662336, 0.20001227, -0.2500082, 0.3333333,
    )
)  # fmt: skip
_LOG2_HIGH, _LOG2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)


@dataclass(frozen=True, slots=True)
class References:
    """Dark and flats at the binned size, for frames that lie between the same two groups of flats.

    `dark`, `before`, `after` (ny, nx) float32: the binned dark, and the binned flat minus dark of the group
    before and of the group behind (None: only one group counts). NaN where no raw pixel of a bin is good.
    `good` (raw_ny, raw_nx) uint8 is 1 where a raw pixel is used, None when all are.
    """

    dark: Float32Array
    before: Float32Array
    after: Float32Array | None
    good: np.ndarray[Any, np.dtype[np.uint8]] | None
    bin: int
    full: int | None = None

    def __post_init__(self) -> None:
        """Refuse planes that do not fit together."""
        planes = [self.dark, self.before] + ([] if self.after is None else [self.after])
        if any(p.dtype != np.float32 or p.shape != self.dark.shape or p.ndim != 2 for p in planes):
            raise ValueError("dark and flats must be float32 planes of one shape")
        if self.full is not None and self.full < 1:
            raise ValueError(f"pixels that are full at {self.full} count nothing")
        if not 1 <= self.bin <= MAX_BIN:
            raise ValueError(f"bins of {self.bin} x {self.bin} are not supported")


@dataclass(frozen=True, slots=True)
class ProjectionSums:
    """What gathers over frames: sum (float64) and number (uint32) of values that are no NaN, (ny, nx) each.

    `counts` int64: values raised to the least transmission, raw integers from `References.full` on.
    """

    total: np.ndarray[Any, np.dtype[np.float64]]
    n_finite: np.ndarray[Any, np.dtype[np.uint32]]
    counts: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> ProjectionSums:
        """Nothing gathered yet."""
        return cls(np.zeros(shape), np.zeros(shape, np.uint32), np.zeros(2, np.int64))


@dataclass(frozen=True, slots=True)
class FrameFactors:
    """Of each frame, shape (n,), float32: the share of the flats behind it (0 to 1), and the factor that
    brings it to the incident flux of the flats.
    """

    behind: Float32Array
    scales: Float32Array


@dataclass(frozen=True, slots=True)
class BlockTarget:
    """Where frames go: row y of frame i to out[y // rows_per_block, first + i, y % rows_per_block].

    `out` is float32 of shape (n_blocks, frames_per_block, rows_per_block, nx): the order of storage chunks.
    """

    out: Float32Array
    first: int


def minus_log(values: Float32Array) -> Float32Array:
    """-log(values) in float32, at most 1 ulp off, the same bits on every path.

    Parameters
    ----------
    values:
        Normal float32 numbers above zero, any shape, C-contiguous; anything else gives no meaningful result.
    """
    out = np.empty_like(values)
    kernel = function("minus_log", (_VOID, _INT, _VOID))
    if kernel is not None:
        kernel(pointer(values), values.size, pointer(out))
        return out
    moved = values.view(np.uint32) - _SQRT_HALF_BITS
    exponent = (moved.view(np.int32) >> 23).astype(np.float32)
    f = ((moved & np.uint32(0x007FFFFF)) + _SQRT_HALF_BITS).view(np.float32) - np.float32(1)
    p = np.full_like(values, _LOG_TERMS[0])
    for term in _LOG_TERMS[1:]:
        p = p * f + term
    square = f * f
    low = (square * f) * p + exponent * _LOG2_LOW
    low = low - np.float32(0.5) * square
    found: Float32Array = -((f + low) + exponent * _LOG2_HIGH)
    return found


def as_kernel_frames(frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The frames in a type and byte order that the kernel takes: what has none becomes float32."""
    native = frames if frames.dtype.isnative else frames.astype(frames.dtype.newbyteorder("="))
    if native.dtype.str[1:] not in _KINDS:
        with np.errstate(over="ignore"):
            native = native.astype(np.float32)
    return np.ascontiguousarray(native)


def correct_frames(
    frames: np.ndarray[Any, Any],
    *,
    references: References,
    factors: FrameFactors,
    least: float | None,
    target: BlockTarget,
    sums: ProjectionSums,
) -> None:
    """Transmission, or its -log, of some frames, written in the order of storage chunks.

    transmission = (counts - dark) * scale / ((1 - w) * before + w * after), counts and references summed over
    the good pixels of each bin; w is `factors.behind`. What fills no whole bin is left out.

    Parameters
    ----------
    frames:
        Counts, shape (n, raw_ny, raw_nx), from `as_kernel_frames`; for floats, what is not finite gives NaN.
    least:
        Transmissions at or below it are raised to it (and counted) before the logarithm; None: no logarithm.
    sums:
        Gains this batch.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    behind, scales, out, first = factors.behind, factors.scales, target.out, target.first
    _check(frames, references, (behind, scales), out, first)
    rest = np.float32(1) - behind
    limit = _limit(frames.dtype, references.full)
    kernel = function("correct_frames", _ARGTYPES)
    if kernel is None:
        _correct_with_numpy(
            frames, references, (behind, rest, scales), least, out[:, first : first + len(frames)], sums
        )
        return
    (ny, nx), (n, raw_ny, raw_nx) = references.dark.shape, frames.shape
    dims = np.array(
        [
            _KINDS.index(frames.dtype.str[1:]), n, raw_ny, raw_nx, ny, nx, references.bin, limit is not None,
            least is not None, out.shape[2], out.shape[1], first,
        ],
        np.int64,
    )  # fmt: skip
    at_limit = np.array([0 if limit is None else limit], frames.dtype)
    line = np.empty(nx, np.float32)
    good, after = references.good, references.after
    status = kernel(
        pointer(dims), pointer(frames), None if good is None else pointer(good), pointer(at_limit),
        pointer(references.dark), pointer(references.before), None if after is None else pointer(after),
        pointer(behind), pointer(rest), pointer(scales), 0.0 if least is None else least,
        pointer(line), pointer(out), pointer(sums.total), pointer(sums.n_finite), pointer(sums.counts),
    )  # fmt: skip
    if status:
        raise ValueError(f"the kernel refuses frames {frames.shape} with references {(ny, nx)}: {status}")


def _limit(dtype: np.dtype[Any], full: int | None) -> int | None:
    """Where a pixel is full: what the detector says, else the type's largest value; None if never."""
    if dtype.kind not in "iu":
        return None
    largest = int(np.iinfo(dtype).max)
    return largest if full is None else full if full <= largest else None


def _check(
    frames: np.ndarray[Any, Any],
    references: References,
    per_frame: tuple[Float32Array, ...],
    out: Float32Array,
    first: int,
) -> None:
    ny, nx = references.dark.shape
    if frames.ndim != 3 or not frames.dtype.isnative or frames.dtype.str[1:] not in _KINDS:
        raise ValueError(f"frames {frames.shape} of {frames.dtype} are no stack for the kernel")
    n, raw_ny, raw_nx = frames.shape
    good = references.good
    fits = ny * references.bin <= raw_ny and nx * references.bin <= raw_nx
    if not fits or (good is not None and (good.shape != (raw_ny, raw_nx) or good.dtype != np.uint8)):
        raise ValueError(f"references {(ny, nx)} do not fit frames of {(raw_ny, raw_nx)}")
    if any(a.shape != (n,) or a.dtype != np.float32 for a in per_frame):
        raise ValueError(f"weights and scales must be float32 of shape ({n},)")
    fits = out.ndim == 4 and out.dtype == np.float32 and out.flags.c_contiguous and out.shape[3] == nx
    if not fits or out.shape[0] * out.shape[2] < ny or not 0 <= first <= out.shape[1] - n:
        raise ValueError(f"output {out.shape} does not hold {n} frames of {(ny, nx)} from {first}")


def _correct_with_numpy(
    frames: np.ndarray[Any, Any],
    references: References,
    per_frame: tuple[Float32Array, Float32Array, Float32Array],
    least: float | None,
    out: Float32Array,
    sums: ProjectionSums,
) -> None:
    """The same float32 operations in the same order, frame by frame."""
    ny, nx = references.dark.shape
    limit = _limit(frames.dtype, references.full)
    padded = np.full((out.shape[0] * out.shape[2], nx), np.float32(0))
    with np.errstate(all="ignore"):
        for i, frame in enumerate(frames):
            counts = frame[: ny * references.bin, : nx * references.bin]
            if limit is not None:
                sums.counts[1] += int(np.count_nonzero(counts >= limit))
            behind, rest, scale = (values[i] for values in per_frame)
            flat = (
                references.before * rest + references.after * behind if references.after is not None else None
            )
            value = (bin_counts(counts, good=references.good, bin=references.bin) - references.dark) * scale
            value = value / (references.before if flat is None else flat)
            if least is not None:
                low = value <= np.float32(least)
                sums.counts[0] += int(np.count_nonzero(low))
                known = ~np.isnan(value)
                value = np.where(low, np.float32(least), value)
                value[known] = minus_log(value[known])
            value[np.isnan(value)] = np.nan
            finite = ~np.isnan(value)
            sums.total[finite] += value[finite]
            sums.n_finite[...] += finite
            padded[:ny] = value
            _place(padded, ny, out[:, i])


def _place(padded: Float32Array, ny: int, out: Float32Array) -> None:
    """Rows of one projection to their blocks; rows behind the last one stay as they are."""
    rows = out.shape[1]
    for block in range(-(-ny // rows)):
        n = min(rows, ny - block * rows)
        out[block, :n] = padded[block * rows : block * rows + n]


def bin_counts(counts: np.ndarray[Any, Any], *, good: np.ndarray[Any, Any] | None, bin: int) -> Float32Array:
    """Sums of bin x bin pixels as float32, integers exactly before the one rounding; NaN where not finite.

    Rows are added first, then columns from left to right. Rows and columns beyond whole bins are left out.

    Parameters
    ----------
    counts:
        Shape (raw_ny, raw_nx).
    good:
        Non-zero = used, shape (>= raw_ny, >= raw_nx); None for all.
    """
    ny, nx = counts.shape[0] // bin, counts.shape[1] // bin
    wide = np.dtype(np.int64 if counts.dtype.kind in "iub" else counts.dtype.newbyteorder("="))
    values = counts[: ny * bin, : nx * bin].astype(wide)
    if good is not None:
        values = np.where(good[: ny * bin, : nx * bin] != 0, values, wide.type(0))
    with np.errstate(invalid="ignore", over="ignore"):
        lines = values[0::bin].copy()
        for k in range(1, bin):
            lines += values[k::bin]
        binned = lines[:, 0::bin].copy()
        for k in range(1, bin):
            binned += lines[:, k::bin]
        result = binned.astype(np.float32)
    if wide.kind == "f":
        result[~np.isfinite(result)] = np.nan
    return result
