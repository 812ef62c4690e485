"""How much memory and how many processors this process may use, and how many units fit in at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from beamhub_reduction.pipeline.amount import Amount
from beamhub_reduction.pipeline.errors import MemoryTooSmall

SHARE = 0.6
"""The share of the limit that units may take; the rest is for plans, results and the interpreter."""
CGROUP = Path("/sys/fs/cgroup")


def memory_limit() -> int:
    """Bytes that this process may use: the machine's memory, or less where a control group says so.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst, memory.max.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for folder in _groups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = _words(folder / name)
            if words and words[0].isdigit():
                limits.append(int(words[0]))
    return min(limits)


def processor_count() -> int:
    """Processors that this process may use: its affinity, or fewer where a control group has a quota."""
    count = len(os.sched_getaffinity(0))
    for folder in _groups():
        words = _words(folder / "cpu.max")
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            count = min(count, -(-int(words[0]) // int(words[1])))
    return max(1, count)


def _groups() -> Iterator[Path]:
    """The control groups of this process, from its own to the root."""
    yield CGROUP
    yield CGROUP / "memory"
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own = CGROUP / controllers / path.lstrip("/") if controllers else CGROUP / path.lstrip("/")
            while own != CGROUP and own.is_relative_to(CGROUP):
                yield own
                own = own.parent


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def units_that_fit(amounts: list[Amount], memory_bytes: int) -> int:
    """How many units may run at once in `memory_bytes`; the largest decides.

    Raises
    ------
    MemoryTooSmall
        If not even one fits.
    """
    largest = max(amounts, key=lambda amount: amount.working_bytes)
    if largest.working_bytes > memory_bytes:
        raise MemoryTooSmall(largest.where, largest.working_bytes, memory_bytes)
    return memory_bytes // max(1, largest.working_bytes)
