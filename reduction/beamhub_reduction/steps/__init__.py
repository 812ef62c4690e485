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
    PixelTable,
    bin_edges,
    build_pixel_table,
    d_spacing,
    histogram_curve,
)

__all__ = [
    "AzimuthalAccumulator",
    "AzimuthalMatrix",
    "AzimuthalSums",
    "Binning",
    "Corrections",
    "Curve",
    "PixelTable",
    "add_azimuthal",
    "azimuthal_curves",
    "bin_edges",
    "build_azimuthal_matrix",
    "build_integrator",
    "build_pixel_table",
    "d_spacing",
    "histogram_curve",
    "is_sentinel",
    "load_poni",
]
