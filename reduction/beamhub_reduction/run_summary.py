"""A run and the steps in a few lines, for people at a prompt or in a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from beamhub_core.errors import BeamhubError
from beamhub_reduction.pipeline.step import STEPS, step_kind

if TYPE_CHECKING:
    from beamhub_reduction.run import Run


@dataclass(frozen=True, slots=True)
class ParameterFact:
    """One parameter of a step: its type in words, its default (None for a required one too), its help."""

    name: str
    type: str
    default: Any
    required: bool
    help: str


@dataclass(frozen=True, slots=True)
class StepFact:
    """One step: what `run.reduce(name, ...)` does."""

    name: str
    help: str
    parameters: tuple[ParameterFact, ...]

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.help}"]
        for p in self.parameters:
            default = "required" if p.required else f"default {p.default!r}"
            lines.append(f"  {p.name:<16} {p.type} ({default}). {p.help}".rstrip())
        return "\n".join(lines)


class StepList(dict[str, StepFact]):
    """Name to step, which shows itself as text and as a table."""

    @classmethod
    def all(cls) -> StepList:
        """Every step of the engine; a step whose libraries are not installed is left out."""
        found = cls()
        for name, (_, text) in STEPS.items():
            try:
                fields = step_kind(name).parameters.model_fields
            except ModuleNotFoundError:
                continue
            found[name] = StepFact(name, text, tuple(_fact(n, f) for n, f in fields.items()))
        return found

    def __repr__(self) -> str:
        """All steps with their parameters."""
        return "\n".join(str(step) for step in self.values())

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        rows = "".join(
            f"<tr><th>{html.escape(s.name)}</th><td>{html.escape(s.help)}</td>"
            f"<td><code>{html.escape(', '.join(p.name for p in s.parameters))}</code></td></tr>"
            for s in self.values()
        )
        return f"<table><tr><th>step</th><th>gives</th><th>parameters</th></tr>{rows}</table>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """IPython prints dicts itself otherwise."""
        printer.text("..." if cycle else repr(self))


def _fact(name: str, field: FieldInfo) -> ParameterFact:
    default = None if field.default is PydanticUndefined else field.default
    text = getattr(field.annotation, "__name__", "") if isinstance(field.annotation, type) else ""
    words = (text or str(field.annotation)).replace("typing.", "")
    return ParameterFact(name, words, default, field.is_required(), field.description or "")


def run_html(run: Run) -> str:
    """What a run's file says of itself, as a table; an unreadable file is said so."""
    rows: list[tuple[str, str]] = [("dataset", run.pid or Path(run.file).name)]
    try:
        header = run.header
    except BeamhubError as error:
        rows.append(("cannot be read", str(error)))
    else:
        energy = f"{header.energy_keV:.4g} keV" if header.energy_keV else ""
        rows += [
            ("title", header.title or ""),
            ("instrument", header.instrument or ""),
            ("sample", header.sample or ""),
            ("proposal", header.experiment_identifier or ""),
            ("started", header.start_time or ""),
            ("energy", energy),
            ("frames", str(header.n_frames or "")),
            ("events", str(header.n_events or "")),
            ("missing links", str(len(header.missing_links) or "")),
        ]
        rows += [(f"detector {d.name}", f"{d.shape} {d.dtype}") for d in header.detectors]
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>"
        for k, v in rows
        if v
    )
    return f"<table>{cells}</table>"
