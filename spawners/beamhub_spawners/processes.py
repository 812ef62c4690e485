"""Processes of this machine by number and start time. Standard library and core only, for the launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from beamhub_core.process_table import read_process

_PROC = Path("/proc")


def started_at(pid: int) -> str | None:
    """When a process started, as a word that no other process of that number has; None when it is gone.

    On Linux the boot's identity and the kernel's start tick, elsewhere what `ps` says. A zombie is gone.
    """
    if sys.platform != "linux":
        done = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        state, _, started = done.stdout.strip().partition(" ")
        return started.strip() if started and "Z" not in state else None
    facts = read_process(pid)
    if facts is None or facts.has_ended:
        return None
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}:{facts.start_ticks}"


def signal_process(pid: int, started: str, signal_number: int) -> bool:
    """Signal the very process that started then; False when it is gone.

    Held by a descriptor where the system has them, so that a number used again between look and
    signal is never hit.
    """
    try:
        fd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    except ProcessLookupError:
        return False
    try:
        if started_at(pid) != started:
            return False
        if fd is None:
            os.kill(pid, signal_number)
        else:
            signal.pidfd_send_signal(fd, signal_number)
    except ProcessLookupError:
        return False
    finally:
        if fd is not None:
            os.close(fd)
    return True


def family_of(pid: int, marker: str) -> list[tuple[int, str]]:
    """Number and start of every process that descends from one, or that carries a marker in its environment.

    Parameters
    ----------
    pid:
        The ancestor, itself left out.
    marker:
        `NAME=value` of a variable that the ancestor was started with: finds children whose parents died.

    Returns
    -------
    Empty outside Linux, where only the ancestor itself is ended.
    """
    if sys.platform != "linux":
        return []
    parents: dict[int, int] = {}
    marked: set[int] = set()
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        facts = read_process(int(entry.name))
        if facts is not None:
            parents[facts.pid] = facts.parent
        try:
            if marker.encode() in (entry / "environ").read_bytes().split(b"\0"):
                marked.add(int(entry.name))
        except OSError:
            continue  # another user's, or gone
    family = {one for one in parents if one in marked or _descends(one, pid, parents)} - {pid, os.getpid()}
    starts = ((one, started_at(one)) for one in sorted(family))
    return [(one, started) for one, started in starts if started is not None]


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False
