"""Reductions of whole runs, as work units over storage chunks on a Dask client."""

from beamhub_reduction.pipeline.azimuthal import AzimuthalParameters, Reduced, reduce_azimuthal
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.time_of_flight import TimeOfFlightParameters, reduce_time_of_flight

__all__ = [
    "AzimuthalParameters",
    "Execution",
    "Reduced",
    "Statistics",
    "TimeOfFlightParameters",
    "reduce_azimuthal",
    "reduce_time_of_flight",
]
