"""What every reduction ends in: arrays over named axes, with units and standard uncertainties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.steps.curve import Curve

NumberArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a signal, as it stands in the product.

    `values` are points, shape (n,), or the edges of bins, shape (n + 1,), of a dimension of length n.
    Source: NeXus, NXdata, histogram axes.
    """

    name: str
    units: str
    values: NumberArray

    def is_edges(self, n: int) -> bool:
        """Whether the values are edges of a dimension of length n."""
        return self.values.size == n + 1


@dataclass(frozen=True, slots=True)
class Signal:
    """An array over named axes: what becomes an NXdata group of the product.

    `errors` are standard uncertainties of the same shape, or None where there are none to give. There is
    one axis for each dimension. NaN stands where nothing was measured.

    Raises
    ------
    ValueError
        If an axis or the errors do not fit the values.
    """

    name: str
    values: NumberArray
    errors: NumberArray | None
    units: str
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        if self.errors is not None and self.errors.shape != self.values.shape:
            raise ValueError(f"{self.name}: errors {self.errors.shape} for values {self.values.shape}")
        if len(self.axes) != self.values.ndim:
            raise ValueError(f"{self.name}: {len(self.axes)} axes for {self.values.ndim} dimensions")
        for axis, n in zip(self.axes, self.values.shape, strict=True):
            if axis.values.ndim != 1 or axis.values.size not in (n, n + 1):
                raise ValueError(f"{self.name}: axis {axis.name} {axis.values.shape} for length {n}")

    @property
    def curve(self) -> Curve:
        """The signal as points over its one axis; edges become centres.

        Raises
        ------
        ValueError
            If it has more than one dimension.
        """
        if self.values.ndim != 1:
            raise ValueError(f"{self.name} has {self.values.ndim} dimensions and is no curve")
        x = self.axes[0].values
        if self.axes[0].is_edges(self.values.size):
            x = (x[1:] + x[:-1]) / 2
        errors = self.errors if self.errors is not None else np.full(self.values.shape, np.nan)
        return Curve(x, self.values, errors)


def curve_signal(curve: Curve, *, name: str, units: str, axis_name: str, axis_units: str) -> Signal:
    """A curve as a signal."""
    return Signal(name, curve.intensity, curve.errors, units, (Axis(axis_name, axis_units, curve.axis),))
