"""What a reduction gives: a curve with uncertainties, exact statistics, and how it came about."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from beamhub_core.clock import utc_now
from beamhub_core.product import Product
from beamhub_core.session import PlannedDataset, SessionInfo
from beamhub_core.techniques import technique_label
from beamhub_reduction.nexus import Header
from beamhub_reduction.notice import tell_web
from beamhub_reduction.pipeline import Execution, Reduced, Statistics, StepKind
from beamhub_reduction.product import ProductContent, write_product
from beamhub_reduction.steps.curve import Curve
from beamhub_reduction.steps.signal import Axis, NumberArray, Signal

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_LABELS = {"q": "q", "two_theta": "2θ", "d_spacing": "d"}


@dataclass(frozen=True)
class Result:
    """A reduced run, ready to be plotted and written; the first of `signals` is the default plot."""

    step: str
    step_title: str
    signals: tuple[Signal, ...]
    statistics: Statistics
    parameters: dict[str, Any]
    execution: Execution
    warnings: tuple[str, ...]
    technique: str
    header: Header
    planned: PlannedDataset | None
    session: SessionInfo | None

    @classmethod
    def of(
        cls,
        reduced: Reduced,
        kind: StepKind,
        header: Header,
        planned: PlannedDataset | None,
        session: SessionInfo | None,
    ) -> Result:
        """What a step gave, as the result of a run."""
        return cls(
            step=kind.name,
            step_title=kind.title,
            signals=reduced.signals,
            statistics=reduced.statistics,
            parameters=reduced.parameters,
            execution=reduced.execution,
            warnings=reduced.warnings,
            technique=(planned.technique if planned else None) or kind.technique,
            header=header,
            planned=planned,
            session=session,
        )

    @property
    def signal(self) -> Signal:
        """The signal of the default plot."""
        return self.signals[0]

    @property
    def curve(self) -> Curve:
        """The default signal as a curve.

        Raises
        ------
        ValueError
            If it has more than one dimension.
        """
        return self.signal.curve

    @property
    def title(self) -> str:
        """What it is, of what."""
        of = (
            (self.planned.title if self.planned else None) or self.header.title or Path(self.header.path).stem
        )
        return f"{self.step_title} of {of}"

    @property
    def proposal(self) -> str:
        """The proposal it belongs to; '' when nothing says so."""
        return (self.planned.proposal if self.planned else None) or self.header.experiment_identifier or ""

    def __repr__(self) -> str:
        """Title, size and warnings."""
        return f"Result({self.title!r}, {self.signal.values.shape}, {len(self.warnings)} warnings)"

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        counts = {name: n for name, n in self.statistics.as_dict().items() if n}
        rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{n}</td></tr>" for k, n in counts.items())
        warned = "".join(f"<li>{html.escape(w)}</li>" for w in self.warnings)
        return f"<p>{html.escape(self.title)}</p><table>{rows}</table><ul>{warned}</ul>"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curve with its uncertainty band; gives the axes."""
        # matplotlib takes half a second to import, and workers and the command line never draw.
        from matplotlib import pyplot

        if ax is None:
            _, ax = pyplot.subplots(figsize=(8, 4), layout="constrained")
        if self.signal.values.ndim == 1:
            self._draw_curve(ax)
        else:
            self._draw_map(ax)
        ax.set_title(self.title)
        return ax

    def _draw_curve(self, ax: Axes) -> None:
        x, y, errors = self.curve.axis, self.curve.intensity, self.curve.errors
        ax.plot(x, y, linewidth=1)
        ax.fill_between(x, y - errors, y + errors, alpha=0.3, linewidth=0)
        ax.set_xlabel(_axis_label(self.signal.axes[0]))
        ax.set_ylabel(f"{self.signal.name} ({self.signal.units})")

    def _draw_map(self, ax: Axes) -> None:
        values = self.signal.values
        while values.ndim > 2:
            values = values[0]
        y, x = self.signal.axes[-2:]
        drawn = ax.pcolormesh(_edges(x, values.shape[1]), _edges(y, values.shape[0]), values)
        ax.set_xlabel(_axis_label(x))
        ax.set_ylabel(_axis_label(y))
        if ax.figure is not None:
            ax.figure.colorbar(drawn, ax=ax, label=f"{self.signal.name} ({self.signal.units})")

    def write(self, path: str | Path | None = None) -> Product:
        """Write the result as a NeXus product and tell the web service about it.

        Parameters
        ----------
        path:
            A file, or a folder for a file with the usual name; without it the proposal's processed
            folder when this session may write there, else the person's home.

        Returns
        -------
        The product; its pid is the catalogue's when the catalogue could be told, else ''.

        Raises
        ------
        ProductExists
            If the file is there already.
        StorageFull, ProductNotWritten
            If the storage refuses; nothing is left behind.

        Warns
        -----
        CatalogueNotTold
            If the product was written but the web service could not be told.
        """
        made_at = utc_now()
        stem = re.sub(r"[^A-Za-z0-9._-]", "-", Path(self.header.path).stem)
        name = f"{stem}_{self.step}_{made_at:%Y%m%dT%H%M%S%fZ}.h5"
        target = Path(path) if path is not None else self._folder()
        if target.is_dir() or (path is None and not target.suffix):
            target = target / name
        product = write_product(ProductContent.of(self, made_at), target)
        pid = tell_web(product.path)
        return product.model_copy(update={"pid": pid}) if pid else product

    def _folder(self) -> Path:
        if self.session is None:
            return Path.home()
        processed = self.session.processed.get(self.proposal)
        return Path(processed or self.session.home)

    @property
    def technique_name(self) -> str:
        """The technique in words."""
        return technique_label(self.technique)


def _axis_label(axis: Axis) -> str:
    name = _LABELS.get(axis.name, axis.name.replace("_", " "))
    return f"{name} ({axis.units})" if axis.units else name


def _edges(axis: Axis, n: int) -> NumberArray:
    """The edges of an axis's bins; those of points lie halfway between them."""
    values: NumberArray = np.asarray(axis.values, dtype=np.float64)
    if axis.is_edges(n):
        return values
    if n == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])
