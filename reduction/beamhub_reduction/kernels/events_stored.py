"""Events that lie in files as plain bytes: read and counted in one call, in parts that fit the cache."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from beamhub_reduction.kernels.event_plan import EventPlan, Fate
from beamhub_reduction.kernels.events import ID_TYPES, OFFSET_TYPES, IntArray, ids_fit
from beamhub_reduction.kernels.native import function, pointer

PART_EVENTS = 1 << 16
"""Events read at a time: 512 KiB of 32-bit ids and offsets. Source: benchmarks/bench_events.py"""
_ERRNO = -1000
_STORED = (*(ctypes.c_int64,) * 7, *(ctypes.c_void_p,) * 2, ctypes.c_int64, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """Numbers in an open file, one after the other, the first `at` bytes from its start."""

    descriptor: int
    at: int
    dtype: np.dtype[Any]


def can_count_stored(plan: EventPlan, *, ids: np.dtype[Any], offsets: np.dtype[Any]) -> bool:
    """Whether there is a compiled form for these types; without one `count_events` takes any."""
    known = plan.state is None or (ids in ID_TYPES and ids_fit(plan, ids))
    return known and offsets in OFFSET_TYPES and function("event_histogram_stored", _STORED) is not None


def count_stored_events(
    n_events: int, *, ids: StoredColumn | None, offsets: StoredColumn, plan: EventPlan, counts: IntArray
) -> int:
    """Add stored events to `counts`, as `count_events` does; fewer than `n_events` where a file ends before.

    Parameters
    ----------
    ids:
        Pixel of each event; not looked at when the plan has no ids.
    offsets:
        Time of each event.

    Returns
    -------
    How many events were read and counted, from the first on.

    Raises
    ------
    OSError
        If reading fails.
    """
    if counts.shape != (plan.n_bins + len(Fate),) or counts.dtype != np.int64:
        raise ValueError(f"counts have shape ({plan.n_bins + len(Fate)},), int64")
    of_ids = ids or offsets
    kernel = function("event_histogram_stored", _STORED)
    if kernel is None or not can_count_stored(plan, ids=of_ids.dtype, offsets=offsets.dtype):
        raise ValueError("there is no compiled form for such events")
    if plan.state is not None and ids is None:
        raise ValueError("there is one integer id for each offset")
    buffer = np.empty(16 * PART_EVENTS, dtype=np.uint8)
    done = kernel(
        of_ids.descriptor, of_ids.at, ID_TYPES.get(of_ids.dtype, 0),
        offsets.descriptor, offsets.at, OFFSET_TYPES[offsets.dtype],
        n_events, plan.native(offsets.dtype).address, pointer(buffer), PART_EVENTS, pointer(counts),
    )  # fmt: skip
    if done <= _ERRNO:
        raise OSError(_ERRNO - done, os.strerror(_ERRNO - done))
    if done < 0:
        raise ValueError(f"the kernel refused its input ({done})")
    return done
