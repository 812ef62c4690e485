"""How much memory one reading of data may take: a part of what this process is allowed at all."""

from __future__ import annotations

import os
import resource
from functools import cache
from pathlib import Path

SHARE = 0.75
"""The part of the limit that one reading may take; the rest is for the interpreter, plans and results."""
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@cache
def memory_limit_bytes() -> int:
    """The least of the process's address space limit, its control group's memory and the machine's."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
    try:
        text = _CGROUP.read_text().strip()
    except OSError:
        text = "max"
    if text.isdigit():
        limits.append(int(text))
    return min(limits)


def reading_budget_bytes() -> int:
    """What one reading may take, stored and decoded bytes together."""
    return int(SHARE * memory_limit_bytes())
