"""Several reductions from one JSON file: all of it is checked before anything is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beamhub_core.errors import ConfigInvalid
from beamhub_reduction.errors import BadParameter
from beamhub_reduction.pipeline.step import StepKind, step_kind

MAX_BYTES = 16 * 1024**2
MAX_JOBS = 10_000
ALIASES = {"tof": "time_of_flight"}


class Job(BaseModel):
    """One reduction: what `beamhub reduce STEP FILE -o OUTPUT` says with options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str = Field(description="Name of the step.")
    file: str = Field(min_length=1, description="FILE, FILE::/path/of/the/data, or the pid of a dataset.")
    output: str = Field(min_length=1, description="A new file, or a folder.")
    parameters: dict[str, Any] = Field(default={}, description="The step's parameters by their names.")

    @property
    def kind(self) -> StepKind:
        """The step."""
        return step_kind(ALIASES.get(self.step, self.step))


def read_jobs(path: Path) -> tuple[Job, ...]:
    """The jobs of a batch file: one object, a list of them, or {"jobs": [...]}.

    File names are used as they stand, relative to the folder in which the command runs.

    Raises
    ------
    ConfigInvalid
        With every problem of the whole file, each with its path, such as `jobs[2].parameters.bins`.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ConfigInvalid(name, (f"it is larger than {MAX_BYTES} bytes",))
        told: Any = json.loads(raw)
    except OSError as error:
        raise ConfigInvalid(name, (error.strerror or type(error).__name__,)) from error
    except (ValueError, RecursionError) as error:
        raise ConfigInvalid(name, (f"it is no JSON: {error}"[:300],)) from error
    listed = _listed(name, told)
    problems: list[str] = []
    jobs = [_read_job(f"jobs[{i}]", item, problems) for i, item in enumerate(listed)]
    good = [job for job in jobs if job is not None]
    problems += _twice(good) if len(good) == len(listed) else []
    if problems:
        raise ConfigInvalid(name, tuple(problems))
    return tuple(good)


def _listed(name: str, told: Any) -> list[Any]:
    if isinstance(told, dict) and "jobs" in told:
        extra = sorted(set(told) - {"jobs"})
        if extra:
            raise ConfigInvalid(name, tuple(f"{key}: there is no such key beside jobs" for key in extra))
        told = told["jobs"]
    jobs = told if isinstance(told, list) else [told]
    if not 1 <= len(jobs) <= MAX_JOBS:
        raise ConfigInvalid(name, (f"jobs: {len(jobs)} jobs; from 1 to {MAX_JOBS} are allowed",))
    return jobs


def _read_job(where: str, told: Any, problems: list[str]) -> Job | None:
    try:
        job = Job.model_validate(told)
    except ValidationError as error:
        problems += _described(where, error)
        return None
    try:
        job.kind.parameters.model_validate(job.parameters)
    except BadParameter as error:
        problems.append(f"{where}.step: {error}")
        return None
    except ValidationError as error:
        problems += _described(f"{where}.parameters", error)
        return None
    return job


def _described(where: str, error: ValidationError) -> list[str]:
    found = []
    for problem in error.errors(include_url=False):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
        found.append(f"{where}{path}: {problem['msg']}")
    return found


def _twice(jobs: list[Job]) -> list[str]:
    """Outputs that two jobs would write; folders may be shared."""
    first: dict[str, int] = {}
    problems = []
    for i, job in enumerate(jobs):
        if not Path(job.output).is_dir() and first.setdefault(job.output, i) != i:
            problems.append(f"jobs[{i}].output: jobs[{first[job.output]}] writes {job.output} too")
    return problems
