"""Reductions of whole runs, as work units over storage chunks, in this process or on a Dask client."""

from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.pipeline.step import (
    STEPS,
    Reduced,
    Source,
    StepKind,
    StepParameters,
    parse_parameters,
    step_kind,
)

__all__ = [
    "STEPS",
    "Engine",
    "Execution",
    "Reduced",
    "Source",
    "Statistics",
    "StepKind",
    "StepParameters",
    "parse_parameters",
    "step_kind",
]
