"""Which projections each work unit takes, and where their frames lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from beamhub_reduction.nexus.frames import FrameStack
from beamhub_reduction.pipeline.units import (
    MIN_UNITS,
    TARGET_UNIT_BYTES,
    FrameUnit,
    Segment,
    frame_segments,
)
from beamhub_reduction.steps.frames import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class ProjectionUnit:
    """Projections first to stop of a scan, in its order, and the frames that hold them."""

    first: int
    stop: int
    frames: FrameUnit


def frame_unit(stack: FrameStack, numbers: IntArray, *, weights: FloatArray, number: int = 0) -> FrameUnit:
    """The frames of these numbers (ascending) that are there, with their weights.

    Parameters
    ----------
    weights:
        Of all frames of the stack, shape (n_frames,).
    """
    runs: list[list[Segment]] = []
    for part in np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1) if numbers.size else []:
        runs.extend(frame_segments(stack, int(part[0]), int(part[-1]) + 1))
    of_unit = [weights[run[0].at : run[0].at + run[0].n_rows] for run in runs]
    segments = tuple(segment for run in runs for segment in run)
    return FrameUnit(number, segments, np.concatenate([np.zeros(0), *of_unit]))


def plan_projections(
    stack: FrameStack, projections: IntArray, *, weights: FloatArray, per_chunk: int,
    target_bytes: int = TARGET_UNIT_BYTES,
) -> tuple[ProjectionUnit, ...]:  # fmt: skip
    """Cut the projections of a scan into units that fill whole storage chunks of the output.

    Parameters
    ----------
    projections:
        Frame numbers, ascending.
    per_chunk:
        Projections in one storage chunk of the output; units begin at multiples of it.
    """
    frame_bytes = max(1, int(np.prod(stack.shape)) * np.dtype(stack.dtype).itemsize)
    wanted = min(target_bytes // frame_bytes, -(-projections.size // MIN_UNITS))
    per_unit = max(1, wanted // per_chunk) * per_chunk
    units = []
    for number, first in enumerate(range(0, projections.size, per_unit)):
        numbers = projections[first : first + per_unit]
        unit = frame_unit(stack, numbers, weights=weights, number=number)
        units.append(ProjectionUnit(first, first + numbers.size, replace(unit, number=number)))
    return tuple(units)
