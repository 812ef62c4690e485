"""Small work for the tests of the engine: functions and dataclasses of a module, as workers need them."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beamhub_reduction.errors import CorruptChunk
from beamhub_reduction.pipeline.amount import Amount


@dataclass(frozen=True, slots=True)
class Piece:
    """A unit: its number, how it behaves, and where it leaves a mark for each time it is done."""

    number: int
    folder: str = ""
    fault: str = ""
    working_bytes: int = 1

    @property
    def amount(self) -> Amount:
        return Amount(10, 1000, self.working_bytes, f"piece {self.number}")


@dataclass(frozen=True, slots=True)
class Scale:
    """A task that counts how often it is pickled."""

    values: np.ndarray[Any, Any]
    folder: str = ""

    def __reduce__(self) -> Any:
        if self.folder:
            mark(self.folder, "pickled")
        return Scale, (self.values, self.folder)


@dataclass(frozen=True, slots=True)
class Sum:
    """A part with every kind of value that parts are made of."""

    values: np.ndarray[Any, Any]
    n: int
    seen: tuple[str, ...]
    extra: dict[str, float] | None = None


def mark(folder: str, name: str) -> None:
    """One more file of this name."""
    Path(folder, f"{name}-{os.getpid()}-{time.monotonic_ns()}").touch()


def marks(folder: Path, name: str) -> int:
    """How many files of this name there are."""
    return len(list(folder.glob(f"{name}-*")))


def add_up(unit: Piece, task: Scale) -> Sum:
    """Sums that depend on the order of adding, so that a wrong order shows in the bits."""
    if unit.folder:
        mark(unit.folder, f"unit{unit.number}")
    fail(unit)
    return Sum(np.sin(task.values * (unit.number + 1)) * 1.1**unit.number, 1, (str(unit.number),))


def slowly(unit: Piece, task: Scale) -> Sum:
    """The same, in a twentieth of a second."""
    time.sleep(0.05)
    return add_up(unit, task)


def fail(unit: Piece) -> None:
    """Do what the unit's fault says."""
    if unit.fault == "corrupt":
        raise CorruptChunk("f.h5", "/data", (0,), "broken")
    if unit.fault in ("stale", "gone"):
        number = errno.ESTALE if unit.fault == "stale" else errno.ENOENT
        if unit.fault == "gone" or marks(Path(unit.folder), f"unit{unit.number}") <= 2:
            raise OSError(number, "a read failed")
    if unit.fault == "kill":
        os._exit(1)


def merge(left: Sum, right: Sum) -> Sum:
    """Both parts together."""
    return Sum(left.values + right.values, left.n + right.n, (*left.seen, *right.seen))


def pieces(n: int, folder: Path | None = None) -> tuple[Piece, ...]:
    """Units that work."""
    return tuple(Piece(i, str(folder) if folder else "") for i in range(n))
