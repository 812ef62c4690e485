"""What every reduction ends in."""

from __future__ import annotations

from dataclasses import dataclass

from beamhub_reduction.steps.frames import FloatArray

MAX_BINS = 100_000


@dataclass(frozen=True, slots=True)
class Curve:
    """Intensity and its standard uncertainty over an axis, all of shape (n_bins,); NaN in empty bins."""

    axis: FloatArray
    intensity: FloatArray
    errors: FloatArray
