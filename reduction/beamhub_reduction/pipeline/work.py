"""What a worker does with one unit: read, decode, reduce. No h5py object and no open file travels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beamhub_reduction.pipeline.frames import FrameTally, frame_batches
from beamhub_reduction.pipeline.step import CorruptPolicy
from beamhub_reduction.pipeline.units import FrameUnit
from beamhub_reduction.steps.azimuthal import AzimuthalMatrix, AzimuthalSums, add_azimuthal, azimuthal_sums
from beamhub_reduction.steps.frames import BoolArray, sum_frames


@dataclass(frozen=True, slots=True)
class AzimuthalTask:
    """What all units of an azimuthal integration share."""

    matrix: AzimuthalMatrix
    masked: BoolArray
    corrupt: CorruptPolicy


@dataclass(frozen=True, slots=True)
class AzimuthalPart:
    """The result of one unit, or of several."""

    sums: AzimuthalSums
    tally: FrameTally


def reduce_frames(unit: FrameUnit, task: AzimuthalTask) -> AzimuthalPart:
    """Integrate the frames of one unit.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded and the policy is to fail.
    """
    shape = task.masked.shape
    empty = np.zeros((0, *shape), dtype=np.int64)
    sums = azimuthal_sums(task.matrix, sums=sum_frames(empty, masked=task.masked, weights=np.zeros(0)))
    tally = FrameTally()
    for batch in frame_batches(unit, shape=(shape[0], shape[1]), corrupt=task.corrupt):
        part = sum_frames(batch.data, masked=task.masked, weights=batch.weights)
        sums = add_azimuthal(sums, azimuthal_sums(task.matrix, sums=part))
        tally += batch.tally
    return AzimuthalPart(sums, tally)


def merge_azimuthal(left: AzimuthalPart, right: AzimuthalPart) -> AzimuthalPart:
    """Both parts together; call in the order of the units."""
    return AzimuthalPart(add_azimuthal(left.sums, right.sums), left.tally + right.tally)
