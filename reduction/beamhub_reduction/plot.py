"""Drawing of signals: curves with uncertainty bands, maps, one slice of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from beamhub_reduction.steps.signal import Axis, NumberArray, Signal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {"q": "q", "two_theta": "2θ", "d_spacing": "d", "azimuth": "χ", "chi": "χ"}
UNIFORM = 1e-6
"""Relative deviation up to which the steps of an axis count as equal."""


def draw(signal: Signal, ax: Axes, *, log: bool, at: int | None) -> str:
    """Draw a signal; gives what the title should add (the slice of a stack that is shown).

    Raises
    ------
    IndexError
        If `at` is outside the stack.
    """
    if signal.values.ndim == 0:
        raise ValueError(f"{signal.name} is a single number: {signal.values[()]} {signal.units}")
    if signal.values.ndim == 1:
        _draw_curve(signal, ax, log=log)
        return ""
    values, axes = signal.values, signal.axes
    said: list[str] = []
    while values.ndim > 2:
        i = at if at is not None and len(said) == 0 else len(values) // 2
        said.append(f"{axes[0].name.replace('_', ' ')} {i} of {len(values)}")
        values, axes = values[i], axes[1:]
    _draw_map(signal, values, axes, ax, log=log)
    return ", ".join(said)


def _draw_curve(signal: Signal, ax: Axes, *, log: bool) -> None:
    curve = signal.curve
    x, y = curve.axis, curve.intensity
    if signal.axes[0].is_edges(y.size):
        ax.stairs(y, signal.axes[0].values, linewidth=1)
    else:
        ax.plot(x, y, linewidth=1)
    if signal.errors is not None:
        low = y - curve.errors
        if log:
            positive = y[y > 0]
            low = np.maximum(low, positive.min() / 10 if positive.size else 1.0)
        ax.fill_between(x, low, y + curve.errors, alpha=0.3, linewidth=0)
    if log:
        ax.set_yscale("log")
    ax.set_xlabel(axis_label(signal.axes[0]))
    ax.set_ylabel(value_label(signal))


def _draw_map(signal: Signal, values: NumberArray, axes: tuple[Axis, ...], ax: Axes, *, log: bool) -> None:
    # matplotlib takes half a second to import, and workers and the command line never draw.
    from matplotlib.colors import LogNorm

    shown = np.ma.masked_invalid(np.asarray(values, dtype=np.float64))
    norm: Any = None
    if log:
        shown = np.ma.masked_less_equal(shown, 0)
        norm = LogNorm() if shown.count() else None
    y, x = axes[-2:]
    x_edges, y_edges = _edges(x, values.shape[1]), _edges(y, values.shape[0])
    if _is_uniform(x_edges) and _is_uniform(y_edges):
        extent = (x_edges[0], x_edges[-1], y_edges[0], y_edges[-1])
        same = x.units == y.units and x.units != ""
        drawn: Any = ax.imshow(
            shown, origin="lower", extent=extent, aspect="equal" if same else "auto", norm=norm,
            interpolation="nearest",
        )  # fmt: skip
    else:
        drawn = ax.pcolormesh(x_edges, y_edges, shown, norm=norm)
    ax.set_xlabel(axis_label(x))
    ax.set_ylabel(axis_label(y))
    if ax.figure is not None:
        ax.figure.colorbar(drawn, ax=ax, label=value_label(signal))


def axis_label(axis: Axis) -> str:
    """An axis in words, with its unit."""
    name = _LABELS.get(axis.name, axis.name.replace("_", " "))
    return f"{name} ({axis.units})" if axis.units else name


def value_label(signal: Signal) -> str:
    """What the values are, with their unit."""
    name = signal.name.replace("_", " ")
    return f"{name} ({signal.units})" if signal.units else name


def _is_uniform(edges: NumberArray) -> bool:
    steps = np.diff(edges)
    return bool(np.ptp(steps) <= UNIFORM * abs(steps.mean())) if steps.size else True


def _edges(axis: Axis, n: int) -> NumberArray:
    """The edges of an axis's bins; those of points lie halfway between them."""
    values: NumberArray = np.asarray(axis.values, dtype=np.float64)
    if axis.is_edges(n):
        return values
    if n < 2:
        return np.array([v + d for v in values for d in (-0.5, 0.5)] or [0.0, 1.0])
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])
