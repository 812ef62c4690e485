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
    if ranges.ndim != 2 or ranges.shape[1] != 2 or (ranges < 0).any() or (ranges > n_channels).any():
        raise ValueError(f"ranges leave a spectrum of {n_channels} channels")
    native = spectra if spectra.dtype.isnative else spectra.astype(spectra.dtype.newbyteorder("="))
    if native.dtype.kind == "f":
        return _sum_floats(np.nan_to_num(native.astype(np.float64)), ranges, sums)
    if sums.total.shape != (n_channels,) or sums.top.dtype != native.dtype or sums.top.shape != (n_channels,):
        raise ValueError(
            f"sums of {sums.total.shape} {sums.top.dtype} for {n_channels} channels of {native.dtype}"
        )
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
