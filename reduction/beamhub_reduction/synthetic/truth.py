"""What was planted in a synthetic file, for whoever checks a result against it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

PeakAxis = Literal["q_nm^-1", "d_angstrom"]
Problem = Literal["damaged", "dangling_link"]


@dataclass(frozen=True, slots=True)
class Truth:
    """The facts of one synthetic dataset.

    Attributes
    ----------
    stem, file:
        Name of the master file without its ending, and its absolute path.
    peaks, peak_weights:
        Positions of the planted peaks that stand well apart, ascending, in the unit that `axis` names,
        and their heights relative to the highest.
    n_frames, n_frames_missing:
        Frames of the scan that can be read, and frames in files that are absent.
    counts_total:
        Exact sum of the counts of all unmasked pixels of the readable frames; time of flight: events
        in unmasked pixels.
    events, pulses, empty_pulses:
        Time of flight only: all events, pulses, and pulses without an event in any bank.
    problem:
        What is wrong with the file on purpose.
    """

    stem: str
    file: str
    proposal: str
    instrument: str
    sample: str
    title: str
    technique: str
    axis: PeakAxis
    peaks: tuple[float, ...]
    peak_weights: tuple[float, ...]
    lattice_angstrom: float
    seed: int
    n_frames: int = 0
    n_frames_missing: int = 0
    n_pixels_masked: int = 0
    counts_total: int = 0
    events: int = 0
    pulses: int = 0
    empty_pulses: int = 0
    problem: Problem | None = None

    def to_json(self) -> dict[str, Any]:
        """The facts as values that `json` can write."""
        return asdict(self)


def truth_from_json(value: dict[str, Any]) -> Truth:
    """The facts that `Truth.to_json` gave.

    Raises
    ------
    ValueError
        If a fact is missing or unknown.
    """
    known = {field.name for field in fields(Truth)}
    try:
        facts: dict[str, Any] = {
            name: tuple(fact) if isinstance(fact, list) else fact for name, fact in value.items()
        }
        return Truth(**facts)
    except TypeError as error:
        raise ValueError(f"not the facts of a synthetic file; known are {sorted(known)}") from error


def read_truth_file(file: Path) -> tuple[Truth, ...]:
    """The facts in a JSON file that `update_truth_file` wrote; none when the file does not exist."""
    if not file.exists():
        return ()
    return tuple(truth_from_json(value) for value in json.loads(file.read_text(encoding="utf-8")))


def update_truth_file(file: Path, truths: Iterable[Truth]) -> tuple[Truth, ...]:
    """Add facts to a JSON file and return all it holds now; for one data file the newest facts count."""
    together = {truth.file: truth for truth in (*read_truth_file(file), *truths)}
    beside = file.with_name(file.name + ".part")
    beside.write_text(
        json.dumps([truth.to_json() for truth in together.values()], indent=1), encoding="utf-8"
    )
    beside.replace(file)
    return tuple(together.values())
