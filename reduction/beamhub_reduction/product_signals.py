"""Signals as NXdata groups: what a viewer draws, with names and attributes as NeXus wants them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np

from beamhub_reduction.steps.signal import Axis, Signal

DEFAULT = "data"

PACKED_BYTES = 1024**2
"""Arrays from this size on are stored in chunks with gzip and shuffle, which every reader knows."""
CHUNK_BYTES = 4 * 1024**2


def valid_name(text: str) -> str:
    """A name that NeXus allows, as close to the text as that.

    Source: NeXus, rules for naming: [a-zA-Z0-9_]([a-zA-Z0-9_.]*[a-zA-Z0-9_])?, at most 63 characters.
    """
    name = re.sub(r"[^A-Za-z0-9_.]", "_", text)[:63].strip(".")
    return name or "_"


def write_signals(entry: h5py.Group, signals: Iterable[Signal]) -> None:
    """Write all signals below an entry; the first is the default plot, in the group `data`.

    Signals over the same axes and in the same unit as the first of a group are its auxiliary signals; others
    have groups of their own, named after them.
    """
    groups: list[list[Signal]] = []
    for signal in signals:
        same = next((group for group in groups if _belongs(signal, group)), None)
        if same is not None:
            same.append(signal)
        else:
            groups.append([signal])
    for i, group in enumerate(groups):
        wanted = DEFAULT if i == 0 else valid_name(group[0].name)
        _write_group(entry, _free(entry, wanted), group)


def _belongs(signal: Signal, group: list[Signal]) -> bool:
    """Whether a signal can be drawn over the axes of a group."""
    first = group[0]
    return (
        signal.units == first.units
        and signal.values.shape == first.values.shape
        and all(_is_same(a, b) for a, b in zip(signal.axes, first.axes, strict=True))
        and all(signal.name != other.name for other in group)
    )


def _is_same(left: Axis, right: Axis) -> bool:
    """Whether two axes are equal; NaN equals NaN."""
    if (left.name, left.units, left.values.dtype) != (right.name, right.units, right.values.dtype):
        return False
    return left.values.tobytes() == right.values.tobytes()


def _write_group(entry: h5py.Group, name: str, signals: list[Signal]) -> None:
    """One NXdata (version 3) with errors; an axis with one value more than its dimension holds edges."""
    data = entry.create_group(name)
    data.attrs["NX_class"] = "NXdata"
    written = []
    for signal in signals:
        field = _free(data, valid_name(signal.name))
        _write_field(data, field, signal.values, signal.units)
        data[field].attrs["long_name"] = _label(signal.name, signal.units)
        if signal.errors is not None:
            _write_field(data, f"{field}_errors", signal.errors, signal.units)
        written.append(field)
    data.attrs["signal"] = written[0]
    if written[1:]:
        data.attrs["auxiliary_signals"] = written[1:]
    axes = []
    for i, axis in enumerate(signals[0].axes):
        field = _free(data, valid_name(axis.name))
        _write_field(data, field, axis.values, axis.units)
        data[field].attrs["long_name"] = _label(axis.name, axis.units)
        data.attrs[f"{field}_indices"] = i
        axes.append(field)
    data.attrs["axes"] = axes


def _write_field(group: h5py.Group, name: str, values: Any, units: str) -> None:
    """One array in the machine's byte order, with its unit."""
    array = np.asarray(values)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    settings: dict[str, Any] = {}
    if native.nbytes >= PACKED_BYTES:
        settings = {
            "chunks": _chunk_of(native),
            "compression": "gzip",
            "compression_opts": 1,
            "shuffle": True,
        }
    group.create_dataset(name, data=native, **settings)
    group[name].attrs["units"] = units


def _free(group: h5py.Group, name: str) -> str:
    """A name that nothing in the group has yet, nor the uncertainties of anything."""
    taken = set(group)
    for candidate in (name, *(f"{name}_{i}" for i in range(2, 1000))):
        if candidate not in taken and f"{candidate}_errors" not in taken:
            return candidate
    raise ValueError(f"too many fields are called {name}")


def _label(name: str, units: str) -> str:
    return f"{name.replace('_', ' ')} ({units})" if units else name.replace("_", " ")


def _chunk_of(array: Any) -> tuple[int, ...]:
    """Whole planes of the last two axes, or as many of their rows as fit CHUNK_BYTES."""
    shape = [1] * max(array.ndim - 2, 0) + list(array.shape[-2:])
    row_bytes = array.dtype.itemsize * shape[-1]
    if array.ndim == 1:
        return (min(shape[0], CHUNK_BYTES // array.dtype.itemsize),)
    shape[-2] = max(1, min(shape[-2], CHUNK_BYTES // max(row_bytes, 1)))
    return tuple(shape)
