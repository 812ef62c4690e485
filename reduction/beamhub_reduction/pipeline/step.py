"""What every step of the engine is: its name, its parameters, and the function that reduces a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beamhub_reduction.errors import BadParameter
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.execute import Execution
from beamhub_reduction.pipeline.statistics import Statistics
from beamhub_reduction.steps.signal import Signal

MissingPolicy = Literal["fail", "skip"]
CorruptPolicy = Literal["fail", "skip", "mask"]


@dataclass(frozen=True, slots=True)
class Source:
    """What is reduced: a master file, and the path of one dataset in it when the caller named one."""

    file: str
    dataset: str | None = None


class StepParameters(BaseModel):
    """What the caller of a step may choose. One model serves notebook, command line and batch file.

    A field's description is its help. A field that makes no sense on the command line says
    `json_schema_extra={"command_line": False}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    missing: MissingPolicy = Field(
        default="fail", description="A missing linked file: 'fail', or 'skip' its frames and name them."
    )
    corrupt: CorruptPolicy = Field(
        default="fail",
        description="A chunk that does not decode: 'fail', 'skip' its frames, or 'mask' only its pixels.",
    )


@dataclass(frozen=True, slots=True)
class Reduced:
    """The outcome of a step, before it becomes a Result of a run; the first signal is the default plot.

    `parameters` stand in the product as they are (JSON values); `warnings` are for people. `evidence` (JSON
    values) is what the step knows better than the engine, such as 'index_digest', 'integrity' or 'decoders'.
    """

    signals: tuple[Signal, ...]
    statistics: Statistics
    execution: Execution
    parameters: dict[str, Any]
    warnings: tuple[str, ...]
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepKind:
    """One step of the engine, named once for the notebook, the command line and the product."""

    name: str
    title: str
    technique: str
    parameters: type[StepParameters]
    reduce: Callable[[Source, Any, Engine], Reduced]
    counted: str = "frames"


# Name to (module that holds KIND, one line of help). The modules are heavy, the names are not.
STEPS: dict[str, tuple[str, str]] = {
    "azimuthal": ("beamhub_reduction.pipeline.azimuthal", "intensity over q or two-theta"),
    "time_of_flight": (
        "beamhub_reduction.pipeline.time_of_flight",
        "counts of neutron events over d-spacing, wavelength or time",
    ),
    "tomography": ("beamhub_reduction.pipeline.tomography", "flat and dark correction of projections"),
    "xrf_map": ("beamhub_reduction.pipeline.xrf", "maps of X-ray fluorescence lines"),
    "xfel_pulses": ("beamhub_reduction.pipeline.xfel", "mean image and pulse intensities of an XFEL run"),
    "tof_histogram": (
        "beamhub_reduction.pipeline.time_of_flight_histogram",
        "counts of histogrammed detectors over time, wavelength or d-spacing",
    ),
    "event_map": ("beamhub_reduction.pipeline.events_map", "counts of neutron events by pixel and time"),
    "frame_statistics": (
        "beamhub_reduction.pipeline.frame_statistics",
        "mean, variance, extremes and outliers of pixels; counts of frames and regions",
    ),
    "saxs": ("beamhub_reduction.pipeline.saxs", "averaged, background-free intensity over q"),
    "fly_scan_map": (
        "beamhub_reduction.pipeline.fly_scan",
        "region sums and centre of mass on a scan's grid",
    ),
}


def step_kind(name: str) -> StepKind:
    """The step of this name ('-' counts as '_').

    Raises
    ------
    BadParameter
    """
    found = STEPS.get(name.replace("-", "_"))
    if found is None:
        raise BadParameter("step", name, "one of " + ", ".join(STEPS))
    kind: StepKind = import_module(found[0]).KIND
    return kind


def parse_parameters(kind: StepKind, values: Mapping[str, Any]) -> Any:
    """A step's parameters from keywords of a notebook, the command line or a batch file.

    Raises
    ------
    BadParameter
        For the first value that is unknown or wrong.
    """
    try:
        return kind.parameters.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or kind.name
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.parameters.model_fields)
            raise BadParameter(name, first["input"], f"left out: {kind.name} takes {known}") from error
        raise BadParameter(name, first["input"], _expected(kind, first)) from error


def _expected(kind: StepKind, problem: Any) -> str:
    field = kind.parameters.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
    text = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return f"{text} ({field.description})" if field is not None and field.description else text
