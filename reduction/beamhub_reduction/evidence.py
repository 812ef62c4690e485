"""What a product says of how sure and how fast it is: part of the file, never of the numbers."""

from __future__ import annotations

from typing import Any

from beamhub_reduction.kernels.native import active_path
from beamhub_reduction.pipeline.step import Reduced


def gather_evidence(reduced: Reduced) -> dict[str, Any]:
    """JSON values: counts, inputs, rung of the fallback ladder, limit; the step's own word goes last.

    'integrity' is 'unknown' when nobody can say what was read.
    """
    execution, counts = reduced.execution, reduced.statistics
    inputs = execution.inputs
    facts: dict[str, Any] = {
        "frames": {
            "read": counts.n_frames_read,
            "missing": counts.n_frames_missing,
            "corrupt": counts.n_frames_corrupt,
            "without_flux": counts.n_frames_without_flux,
        },
        "pixels_masked": counts.n_pixels_masked,
        "values_blank": counts.n_values_blank,
        "inputs": inputs.as_dict() if inputs else None,
        "index_digest": inputs.index_digest if inputs else None,
        "integrity": inputs.integrity if inputs else "unknown",
        "rung": {
            "kernels": list(execution.kernels) or [active_path()],
            "read_by": list(inputs.read_by) if inputs else [],
        },
        "execution": {
            "units": execution.n_units,
            "units_resumed": execution.n_resumed,
            "units_retried": execution.n_retried,
            "workers": execution.n_workers,
            "threads": execution.n_threads,
            "wall_s": round(execution.wall_s, 3),
        },
        "limit": execution.limit.as_dict() if execution.limit else None,
    }
    return {**facts, **reduced.evidence}
