"""What a reduction gives: a curve with uncertainties, exact statistics, and how it came about."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamhub_core.clock import utc_now
from beamhub_core.product import Product
from beamhub_core.session import PlannedDataset, SessionInfo
from beamhub_core.techniques import technique_label
from beamhub_reduction.convert import to_scipp, to_xarray
from beamhub_reduction.evidence import gather_evidence
from beamhub_reduction.nexus import Header
from beamhub_reduction.notice import tell_web
from beamhub_reduction.pipeline import Execution, Reduced, Statistics, StepKind
from beamhub_reduction.plot import draw
from beamhub_reduction.product import ProductContent, write_product
from beamhub_reduction.steps.curve import Curve
from beamhub_reduction.steps.signal import Signal

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes

MAX_SHOWN = 10
"""Warnings that a notebook shows."""


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
    evidence: dict[str, Any] = field(default_factory=dict)

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
            warnings=(*reduced.warnings, *reduced.execution.notes),
            technique=(planned.technique if planned else None) or kind.technique,
            header=header,
            planned=planned,
            session=session,
            evidence=gather_evidence(reduced),
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
        """Signals, counts and warnings, for notebooks."""
        signals = "".join(_row(s.name, f"{s.values.shape} {s.units}") for s in self.signals)
        counts = "".join(_row(name, f"{n}") for name, n in self.statistics.as_dict().items() if n)
        warned = "".join(f"<li>{html.escape(w)}</li>" for w in self.warnings[:MAX_SHOWN])
        more = len(self.warnings) - MAX_SHOWN
        warned += f"<li>and {more} more</li>" if more > 0 else ""
        return f"<p>{html.escape(self.title)}</p><table>{signals}{counts}</table><ul>{warned}</ul>"

    def __getitem__(self, name: str) -> Signal:
        """The signal of this name.

        Raises
        ------
        KeyError
            If there is none; the message names those that are there.
        """
        for signal in self.signals:
            if signal.name == name:
                return signal
        raise KeyError(f"{name!r}; this result has " + ", ".join(s.name for s in self.signals))

    def _ipython_key_completions_(self) -> list[str]:
        """What may stand in brackets."""
        return [signal.name for signal in self.signals]

    def plot(
        self, ax: Axes | None = None, *, signal: str | None = None, log: bool = False, at: int | None = None
    ) -> Axes:
        """Draw one signal: a curve with its uncertainty band, a map, or one slice of a stack; gives the axes.

        Parameters
        ----------
        signal:
            The name of one of `signals`; without it the default one.
        log:
            Whether counts are shown on a logarithmic scale.
        at:
            Which slice along the first axis of a stack; without it the middle one.

        Raises
        ------
        KeyError, IndexError
            If there is no such signal or slice.
        """
        # matplotlib takes half a second to import, and workers and the command line never draw.
        from matplotlib import pyplot

        if ax is None:
            _, ax = pyplot.subplots(figsize=(8, 4), layout="constrained")
        said = draw(self[signal] if signal is not None else self.signal, ax, log=log, at=at)
        ax.set_title(f"{self.title}, {said}" if said else self.title)
        return ax

    def to_xarray(self) -> xarray.Dataset:
        """All signals as an xarray.Dataset with units and uncertainties; see `convert.to_xarray`."""
        return to_xarray(self)

    def to_scipp(self) -> Any:
        """All signals as a scipp.DataGroup of arrays with variances and bin edges."""
        return to_scipp(self)

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


def _row(name: str, text: str) -> str:
    return f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>"
