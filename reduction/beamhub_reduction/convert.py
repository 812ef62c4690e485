"""A result's signals as xarray or scipp objects, with units and uncertainties."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from beamhub_reduction.steps.signal import Axis, Signal

if TYPE_CHECKING:
    import xarray

    from beamhub_reduction.result import Result


def to_xarray(result: Result) -> xarray.Dataset:
    """Every signal as a variable, its standard uncertainties as `<name>_errors`, `units` as attributes.

    Where an axis holds the edges of bins, its coordinate holds their centres and `<axis>_edges` the edges.
    Signals with other values on an axis of the same name have that axis under a name of their own.
    """
    # xarray takes half a second to import, and the command line never needs it.
    import xarray

    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    known: dict[str, Axis] = {}
    for signal in result.signals:
        dims = [_dimension(known, axis, signal) for axis in signal.axes]
        for dim, axis, n in zip(dims, signal.axes, signal.values.shape, strict=True):
            coordinates[dim] = ((dim,), _centres(axis, n), {"units": axis.units, "long_name": axis.name})
            if axis.is_edges(n):
                coordinates[f"{dim}_edges"] = ((f"{dim}_edge",), axis.values, {"units": axis.units})
        variables[signal.name] = (dims, signal.values, {"units": signal.units})
        if signal.errors is not None:
            variables[f"{signal.name}_errors"] = (dims, signal.errors, {"units": signal.units})
    attributes = {"title": result.title, "step": result.step, "technique": result.technique}
    return xarray.Dataset(variables, coordinates, attributes)


def _dimension(known: dict[str, Axis], axis: Axis, signal: Signal) -> str:
    """A name for an axis that no other axis has."""
    for name in (axis.name, f"{signal.name}_{axis.name}", *(f"{axis.name}_{i}" for i in range(2, 99))):
        same = known.setdefault(name, axis)
        if same is axis or (same.units == axis.units and np.array_equal(same.values, axis.values)):
            return name
    raise ValueError(f"too many axes are called {axis.name}")


def _centres(axis: Axis, n: int) -> Any:
    return (axis.values[1:] + axis.values[:-1]) / 2 if axis.is_edges(n) else axis.values


def to_scipp(result: Result) -> Any:
    """Every signal as a scipp.DataArray with variances, in a DataGroup by name; edges stay bin edges.

    A unit that scipp does not know becomes None, as it does for a quantity without a unit.
    """
    # scipp takes half a second to import, and the command line never needs it.
    import scipp

    group: dict[str, Any] = {}
    for signal in result.signals:
        dims = [axis.name for axis in signal.axes]
        values = np.asarray(signal.values)
        variances = None
        if signal.errors is not None:
            values = values.astype(np.float64)
            variances = np.square(signal.errors.astype(np.float64))
        data = scipp.array(dims=dims, values=values, variances=variances, unit=_unit(scipp, signal.units))
        coords = {
            axis.name: scipp.array(
                dims=[axis.name], values=np.asarray(axis.values), unit=_unit(scipp, axis.units)
            )
            for axis in signal.axes
        }
        group[signal.name] = scipp.DataArray(data, coords=coords)
    return scipp.DataGroup(group)


def _unit(scipp: Any, text: str) -> Any:
    try:
        return scipp.Unit(text) if text else None
    except (scipp.UnitError, ValueError):
        return None
