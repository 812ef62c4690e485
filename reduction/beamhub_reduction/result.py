"""What a reduction gives: a curve with uncertainties, exact statistics, and how it came about."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamhub_core.clock import utc_now
from beamhub_core.product import Product
from beamhub_core.session import PlannedDataset, SessionInfo
from beamhub_core.techniques import technique_label
from beamhub_reduction.nexus import Header
from beamhub_reduction.notice import tell_web
from beamhub_reduction.pipeline import Execution, Statistics
from beamhub_reduction.product import ProductContent, write_product
from beamhub_reduction.steps.curve import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Axis:
    """Name and units of the horizontal axis, as they stand in the product."""

    name: str
    units: str


_AZIMUTHAL_AXES = {
    "q_nm^-1": Axis("q", "nm^-1"),
    "q_A^-1": Axis("q", "angstrom^-1"),
    "2th_deg": Axis("two_theta", "deg"),
    "2th_rad": Axis("two_theta", "rad"),
}
_STEP_TITLES = {"azimuthal": "Azimuthal integration", "time_of_flight": "Time-of-flight diffraction"}
_LABELS = {"q": "q", "two_theta": "2θ", "d_spacing": "d"}


def azimuthal_axis(unit: str) -> Axis:
    """The axis of an azimuthal integration in this unit."""
    return _AZIMUTHAL_AXES[unit]


@dataclass(frozen=True)
class Result:
    """A reduced curve, ready to be plotted and written."""

    step: str
    axis: Axis
    curve: Curve
    statistics: Statistics
    parameters: dict[str, Any]
    execution: Execution
    warnings: tuple[str, ...]
    technique: str
    header: Header
    planned: PlannedDataset | None
    session: SessionInfo | None

    @property
    def title(self) -> str:
        """What it is, of what."""
        of = (
            (self.planned.title if self.planned else None) or self.header.title or Path(self.header.path).stem
        )
        return f"{_STEP_TITLES[self.step]} of {of}"

    @property
    def proposal(self) -> str:
        """The proposal it belongs to; '' when nothing says so."""
        return (self.planned.proposal if self.planned else None) or self.header.experiment_identifier or ""

    def __repr__(self) -> str:
        """Title, size and warnings."""
        return f"Result({self.title!r}, {self.curve.axis.size} bins, {len(self.warnings)} warnings)"

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
        x, y, errors = self.curve.axis, self.curve.intensity, self.curve.errors
        ax.plot(x, y, linewidth=1)
        ax.fill_between(x, y - errors, y + errors, alpha=0.3, linewidth=0)
        ax.set_xlabel(f"{_LABELS[self.axis.name]} ({self.axis.units})")
        ax.set_ylabel(f"intensity ({self.intensity_units})")
        ax.set_title(self.title)
        return ax

    @property
    def intensity_units(self) -> str:
        """Units of the intensity."""
        return "counts/uC" if self.parameters.get("proton_charge_uC") else "counts"

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
