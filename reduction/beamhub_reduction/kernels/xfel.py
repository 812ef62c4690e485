"""Weighted sums of single frames: what a per-cell correction needs of every frame."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import function, pointer

LANES = 16
MAX_FRAMES = 16
"""Frames of one call, at most."""

_U16 = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_F32 = (*_U16, ctypes.c_void_p)
_FRAMES = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, *(ctypes.c_void_p,) * 3)


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A frame's `n_pixels` first values: in `data` as they are, or as HDF5's shuffle left them.

    Where `plane` is not 0, `data` is uint8, value i has its low byte at i and its high byte at plane + i.
    """

    data: np.ndarray[Any, Any]
    n_pixels: int
    plane: int = 0

    def __post_init__(self) -> None:
        """Refuse what is too short."""
        if self.data.ndim != 1 or self.plane < 0 or self.data.size < self.plane + self.n_pixels:
            raise ValueError("a frame holds fewer values than pixels")
        if self.plane and (self.data.dtype != np.uint8 or self.plane < self.n_pixels):
            raise ValueError("shuffled values are uint8, the high bytes behind the low ones")

    @property
    def values(self) -> np.ndarray[Any, Any]:
        """The values, shape (n_pixels,)."""
        if not self.plane:
            return self.data[: self.n_pixels]
        high = self.data[self.plane : self.plane + self.n_pixels].astype(np.uint16)
        shuffled: np.ndarray[Any, Any] = high << np.uint16(8) | self.data[: self.n_pixels]
        return shuffled

    @property
    def behind(self) -> np.ndarray[Any, Any]:
        """As many values from behind the pixels: the gain of raw frames, shape (n_pixels,)."""
        if not self.plane:
            return self.data[self.n_pixels : 2 * self.n_pixels]
        low = self.data[self.n_pixels : 2 * self.n_pixels]
        start = self.plane + self.n_pixels
        high = self.data[start : start + self.n_pixels].astype(np.uint16)
        shuffled: np.ndarray[Any, Any] = high << np.uint16(8) | low
        return shuffled


def add_weighted_frames(
    frames: Sequence[StoredFrame], *, weights: Sequence[np.ndarray[Any, np.dtype[np.float32]]],
    image: np.ndarray[Any, np.dtype[np.float64]], blank: np.ndarray[Any, np.dtype[np.int64]],
) -> list[float]:  # fmt: skip
    """What `add_weighted_frame` does, for frame after frame, with the same bits; their sums.

    uint16 is summed a tile at a time, shuffled or not; other numbers frame by frame.
    """
    if len(frames) != len(weights):
        raise ValueError("every frame has its weight")
    native = all(f.plane or f.data.dtype == np.uint16 for f in frames) and sys.byteorder == "little"
    kernel = function("weighted_frames_u16", _FRAMES) if native else None
    if kernel is None:
        return [
            add_weighted_frame(f.values, weight=w, image=image, blank=blank)
            for f, w in zip(frames, weights, strict=True)
        ]
    if image.dtype != np.float64 or image.ndim != 1 or not image.flags.c_contiguous:
        raise ValueError("image is float64")
    for frame, weight in zip(frames, weights, strict=True):
        if frame.n_pixels != image.size or weight.shape != image.shape or weight.dtype != np.float32:
            raise ValueError("frame, weight and image have one length, weight is float32")
        if not (weight.flags.c_contiguous and frame.data.flags.c_contiguous):
            raise ValueError("frame and weight are contiguous")
    totals: list[float] = []
    for low in range(0, len(frames), MAX_FRAMES):
        some, of_some = frames[low : low + MAX_FRAMES], weights[low : low + MAX_FRAMES]
        at = np.array([pointer(f.data) for f in some], dtype=np.uintp)
        planes = np.array([f.plane for f in some], dtype=np.int64)
        of = np.array([pointer(w) for w in of_some], dtype=np.uintp)
        sums = np.zeros(len(some))
        sizes = (len(some), image.size)
        outcome = kernel(pointer(at), pointer(planes), *sizes, pointer(of), pointer(image), pointer(sums))
        if outcome < 0:
            raise ValueError("the kernel refused its input")
        totals += sums.tolist()
    return totals


def add_weighted_frame(
    frame: np.ndarray[Any, Any], *, weight: np.ndarray[Any, np.dtype[np.float32]],
    image: np.ndarray[Any, np.dtype[np.float64]], blank: np.ndarray[Any, np.dtype[np.int64]],
) -> float:  # fmt: skip
    """Add frame * weight to `image`, and give its sum, in float64 and in one order of additions.

    Parameters
    ----------
    frame:
        uint16 or float32, shape (n_pixels,); other numbers take the NumPy form.
    weight:
        float32, shape (n_pixels,); zero where a pixel is bad.
    image:
        float64, shape (n_pixels,), is added to.
    blank:
        int64, shape (n_pixels,): one more where a value is not finite and the weight not zero.
    """
    if not frame.shape == weight.shape == image.shape == blank.shape or frame.ndim != 1:
        raise ValueError("frame, weight, image and blank have one length")
    if weight.dtype != np.float32 or image.dtype != np.float64 or blank.dtype != np.int64:
        raise ValueError("weight is float32, image float64, blank int64")
    native = frame.dtype in (np.dtype(np.uint16), np.dtype(np.float32))
    kernel = None
    if native:
        frame = np.ascontiguousarray(frame)
        name, types = (
            ("weighted_frame_u16", _U16) if frame.dtype == np.uint16 else ("weighted_frame_f32", _F32)
        )
        kernel = function(name, types)
    if kernel is not None:
        total = np.zeros(1)
        counted = (pointer(blank),) if frame.dtype == np.float32 else ()
        outcome = kernel(
            pointer(frame), frame.size, pointer(weight), pointer(image), *counted, pointer(total)
        )
        if outcome < 0:
            raise ValueError("the kernel refused its input")
        return float(total[0])
    values = frame.astype(np.float64)
    good = np.isfinite(values)
    product = np.where(good, values, 0.0) * weight.astype(np.float64)
    image += product
    blank += ~good & (weight != 0)
    return sum_in_lanes(product)


def sum_in_lanes(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The sum, value i in sum i % LANES, these in order."""
    padded = np.zeros(-(-values.size // LANES) * LANES)
    padded[: values.size] = values
    lanes = np.zeros(LANES)
    for row in padded.reshape(-1, LANES):
        lanes += row
    total = 0.0
    for lane in lanes.tolist():
        total += lane
    return total
