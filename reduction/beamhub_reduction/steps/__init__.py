"""Reduction steps: pure functions on arrays."""

from beamhub_reduction.nexus.preview import is_sentinel
from beamhub_reduction.steps.azimuthal import (
    AzimuthalAccumulator,
    AzimuthalSums,
    add_azimuthal,
    azimuthal_curves,
)
from beamhub_reduction.steps.azimuthal_matrix import (
    AzimuthalMatrix,
    Binning,
    Corrections,
    build_azimuthal_matrix,
    build_integrator,
    load_poni,
)
from beamhub_reduction.steps.curve import Curve
from beamhub_reduction.steps.time_of_flight import (
    EventHistogram,
    PixelTable,
    add_histograms,
    axis_range,
    bin_edges,
    build_pixel_table,
    d_spacing,
    histogram_curve,
    histogram_events,
)

__all__ = [
    "AzimuthalAccumulator",
    "AzimuthalMatrix",
    "AzimuthalSums",
    "Binning",
    "Corrections",
    "Curve",
    "EventHistogram",
    "PixelTable",
    "add_azimuthal",
    "add_histograms",
    "axis_range",
    "azimuthal_curves",
    "bin_edges",
    "build_azimuthal_matrix",
    "build_integrator",
    "build_pixel_table",
    "d_spacing",
    "histogram_curve",
    "histogram_events",
    "is_sentinel",
    "load_poni",
]
