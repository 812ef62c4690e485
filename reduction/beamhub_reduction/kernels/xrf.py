"""Sums over channels of fluorescence spectra."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.native import function, pointer

IntArray = np.ndarray[Any, np.dtype[np.int64]]

_KINDS = ("u1", "u2", "u4", "i4")
_VOID, _INT = ctypes.c_void_p, ctypes.c_int64
_ARGTYPES = (_INT, _VOID, _INT, _INT, _VOID, _INT, _VOID, _VOID, _VOID)
_SHUFFLED_ARGTYPES = (_INT, _VOID, _INT, _INT, _INT, _VOID, _INT, _VOID, _VOID, _VOID, _VOID)


@dataclass(frozen=True, slots=True)
class SpectrumSums:
    """What gathers over spectra: their sum and their largest values, shape (n_channels,) each.

    For integers `total` is int64, exact below 2^63, and `top` has the data's type; for floats both
    are float64.
    """

    total: np.ndarray[Any, Any]
    top: np.ndarray[Any, Any]

    @classmethod
    def empty(cls, n_channels: int, dtype: np.dtype[Any]) -> SpectrumSums:
        """Nothing gathered yet: the sum is 0, the maximum the smallest value there is."""
        if dtype.kind == "f":
            return cls(np.zeros(n_channels), np.full(n_channels, -np.inf))
        top = np.full(n_channels, np.iinfo(dtype).min, dtype.newbyteorder("="))
        return cls(np.zeros(n_channels, np.int64), top)


def spectra_sums(
    spectra: np.ndarray[Any, Any], *, ranges: IntArray, sums: SpectrumSums
) -> np.ndarray[Any, Any]:
    """Counts of each spectrum in each range of channels, (n_spectra, n_ranges), int64 (floats: float64).

    NaN counts as nothing. Integers are summed exactly (below 2^63), the same on every path.

    Parameters
    ----------
    spectra:
        Shape (n_spectra, n_channels), any type of integers or floats, any byte order.
    ranges:
        (low, high) of each range, shape (n_ranges, 2), int64: channel low is inside, high is not.
    sums:
        Gains these spectra.

    Raises
    ------
    ValueError
        If a range leaves the spectrum, or the sums belong to other spectra.
    """
    n_spectra, n_channels = spectra.shape
    _check_ranges(ranges, n_channels)
    native = spectra if spectra.dtype.isnative else spectra.astype(spectra.dtype.newbyteorder("="))
    if native.dtype.kind == "f":
        return _sum_floats(np.nan_to_num(native.astype(np.float64)), ranges, sums)
    _check_sums(sums, n_channels, native.dtype)
    kernel = function("spectra_sums", _ARGTYPES) if native.dtype.str[1:] in _KINDS else None
    if kernel is None:
        return _sum_integers(native, ranges, sums)
    native = np.ascontiguousarray(native)
    out = np.empty((n_spectra, len(ranges)), np.int64)
    table = np.ascontiguousarray(ranges, np.int64)
    status = kernel(
        _KINDS.index(native.dtype.str[1:]), pointer(native), n_spectra, n_channels, pointer(table),
        len(table), pointer(out), pointer(sums.total), pointer(sums.top),
    )  # fmt: skip
    if status:
        raise ValueError(f"the kernel refuses spectra {spectra.shape}: {status}")
    return out


def takes_shuffled(dtype: np.dtype[Any]) -> bool:
    """Whether `shuffled_spectra_sums` knows this type: integers of up to 32 bits, lowest byte first."""
    return dtype.str[1:] in _KINDS and dtype.str[0] in "<|"


def shuffled_spectra_sums(
    planes: np.ndarray[Any, np.dtype[np.uint8]], *, first: int, n_spectra: int, ranges: IntArray,
    sums: SpectrumSums,
) -> np.ndarray[Any, Any]:  # fmt: skip
    """What `spectra_sums` gives, from spectra as HDF5's shuffle left them.

    Parameters
    ----------
    planes:
        Shape (bytes of an element, elements), uint8, C-contiguous: lowest bytes of all elements first.
    first, n_spectra:
        Which of the spectra in the planes count.
    sums:
        Gains these spectra; the type of `top` is theirs, and `takes_shuffled` says yes to it.

    Raises
    ------
    ValueError
        If the planes, the ranges and the sums do not belong together.
    """
    dtype, n_channels = sums.top.dtype, sums.top.size
    _check_ranges(ranges, n_channels)
    _check_sums(sums, n_channels, dtype)
    fits = planes.dtype == np.uint8 and planes.flags.c_contiguous and takes_shuffled(dtype)
    if not fits or planes.ndim != 2 or len(planes) != dtype.itemsize:
        raise ValueError(f"planes {planes.shape} of {planes.dtype} hold no shuffled {dtype}")
    if first < 0 or n_spectra < 0 or (first + n_spectra) * n_channels > planes.shape[1]:
        raise ValueError(f"spectra {first} to {first + n_spectra} are not in planes {planes.shape}")
    wanted = planes[:, first * n_channels :]
    kernel = function("shuffled_spectra_sums", _SHUFFLED_ARGTYPES)
    if kernel is None:
        values = np.ascontiguousarray(wanted[:, : n_spectra * n_channels].T).view(dtype)
        return _sum_integers(values.reshape(n_spectra, n_channels), ranges, sums)
    out = np.empty((n_spectra, len(ranges)), np.int64)
    table = np.ascontiguousarray(ranges, np.int64)
    four = np.empty(4 * n_channels, dtype)
    status = kernel(
        _KINDS.index(dtype.str[1:]), wanted.ctypes.data, planes.shape[1], n_spectra, n_channels,
        pointer(table), len(table), pointer(out), pointer(sums.total), pointer(sums.top), pointer(four),
    )  # fmt: skip
    if status:
        raise ValueError(f"the kernel refuses planes {planes.shape}: {status}")
    return out


def _check_ranges(ranges: IntArray, n_channels: int) -> None:
    if ranges.ndim != 2 or ranges.shape[1] != 2 or (ranges < 0).any() or (ranges > n_channels).any():
        raise ValueError(f"ranges leave a spectrum of {n_channels} channels")


def _check_sums(sums: SpectrumSums, n_channels: int, dtype: np.dtype[Any]) -> None:
    if sums.total.shape != (n_channels,) or sums.top.dtype != dtype or sums.top.shape != (n_channels,):
        raise ValueError(f"sums of {sums.total.shape} {sums.top.dtype} for {n_channels} channels of {dtype}")


def _sum_integers(
    spectra: np.ndarray[Any, Any], ranges: IntArray, sums: SpectrumSums
) -> np.ndarray[Any, Any]:
    if len(spectra):
        np.add(sums.total, spectra.sum(axis=0, dtype=np.int64), out=sums.total)
        np.maximum(sums.top, spectra.max(axis=0), out=sums.top)
    columns = [spectra[:, low:high].sum(axis=1, dtype=np.int64) for low, high in ranges]
    return np.stack(columns, axis=1) if columns else np.zeros((len(spectra), 0), np.int64)


def _sum_floats(spectra: np.ndarray[Any, Any], ranges: IntArray, sums: SpectrumSums) -> np.ndarray[Any, Any]:
    for spectrum in spectra:  # one after the other: the order of sums must not depend on the batch
        np.add(sums.total, spectrum, out=sums.total)
        np.maximum(sums.top, spectrum, out=sums.top)
    columns = [spectra[:, low:high].sum(axis=1) for low, high in ranges]
    return np.stack(columns, axis=1) if columns else np.zeros((len(spectra), 0))
