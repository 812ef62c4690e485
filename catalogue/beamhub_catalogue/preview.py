"""The picture of a dataset on its page: a frame on a logarithmic grey scale, or a curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from beamhub_reduction.nexus import CurvePreview, ImagePreview

WIDTH_IN, HEIGHT_IN, DPI = 6.4, 4.8, 100
MASKED_COLOUR = "#d9dde3"


def write_preview_png(preview: ImagePreview | CurvePreview, path: Path) -> None:
    """Render a preview to a PNG of about 640 x 480 pixels; masked pixels are light grey."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if isinstance(preview, ImagePreview):
        _draw_image(axes, preview)
    else:
        _draw_curve(axes, preview)
    figure.savefig(path, format="png", metadata={"Software": None})


def _draw_image(axes: Axes, preview: ImagePreview) -> None:
    values = np.ma.masked_invalid(preview.values)
    above_zero = values.compressed()
    above_zero = above_zero[above_zero > 0]
    axes.set_facecolor(MASKED_COLOUR)
    axes.set_xlabel("pixel (binned)")
    axes.set_ylabel("pixel (binned)")
    if above_zero.size == 0:
        axes.imshow(values, cmap="gray", origin="upper")
        return
    lowest, highest = np.percentile(above_zero, (1.0, 99.9))
    darkest = max(float(lowest), 1e-12)
    norm = LogNorm(darkest, max(float(highest), darkest * 10), clip=True)
    image = axes.imshow(np.ma.maximum(values, darkest), cmap="viridis", norm=norm, origin="upper")
    bar = axes.figure.colorbar(image, ax=axes)
    bar.set_label(f"mean counts of {preview.n_frames} frame(s)")


def _draw_curve(axes: Axes, preview: CurvePreview) -> None:
    axes.plot(preview.x, preview.y, linewidth=1.0, color="#1f4e8c")
    axes.set_xlabel(preview.x_label[:80].replace("$", r"\$"))
    axes.set_ylabel(preview.y_label[:80].replace("$", r"\$"))
    axes.margins(x=0.01)
