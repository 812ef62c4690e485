"""What happens in a running server: kernels that compute, terminals, programs, and when somebody last did."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler

from beamhub_core.clock import utc_now
from beamhub_core.session_life import BusyWith

PROC = Path("/proc")
BUSY_SHARE = 0.1
"""A process that uses more of one core than this computes. Source: a measurement of an idle local Dask
cluster of two workers over 30 s (2 cores, distributed 2026): each worker used 0.025, their scheduler 0.034.
"""
SHORTEST_LOOK_S = 5.0
FIRST = 1
"""The first process of a container: where it is the session's own, all that can be seen is the session's."""
MAX_PROCESSES = 20_000


@dataclass(frozen=True, slots=True)
class Activity:
    """What was seen in one look."""

    idle_s: float
    busy_with: tuple[BusyWith, ...]


@dataclass(slots=True)
class ProcessorUse:
    """Which processes of the session use the processor, from one look to the next."""

    proc: Path = PROC
    root: int = 0
    clock: Callable[[], float] = time.monotonic
    _before: dict[tuple[int, int], float] = field(default_factory=dict)
    _at: float | None = None
    _is_busy: bool = False

    def is_busy(self) -> bool:
        """Whether a process used more than `BUSY_SHARE` of a core since the last look; no at the first."""
        now = self.clock()
        if self._at is not None and now - self._at < SHORTEST_LOOK_S:
            return self._is_busy
        used = read_processes(self.proc, self.root or session_root(self.proc))
        if self._at is not None:
            since = now - self._at
            self._is_busy = any(
                seconds - self._before.get(key, 0.0) > BUSY_SHARE * since for key, seconds in used.items()
            )
        self._before, self._at = used, now
        return self._is_busy


def session_root(proc: Path = PROC) -> int:
    """Below which process the session's programs are: the first of its own container, else this server."""
    try:
        is_own = os.getuid() != 0 and (proc / str(FIRST)).stat().st_uid == os.getuid()
    except OSError:
        is_own = False
    return FIRST if is_own else os.getpid()


def read_processes(proc: Path, root: int) -> dict[tuple[int, int], float]:
    """Processor seconds of each process below `root`, without it and this server, by pid and start time.

    What cannot be read is left out; empty where the machine has no `/proc`.
    """
    parents: dict[int, int] = {}
    used: dict[int, tuple[int, float]] = {}
    ticks = os.sysconf("SC_CLK_TCK")
    try:
        numbers = [int(one.name) for one in proc.iterdir() if one.name.isdecimal()][:MAX_PROCESSES]
    except OSError:
        return {}
    for pid in numbers:
        try:
            # Source: proc(5), /proc/pid/stat: 4 is ppid, 14 utime, 15 stime, 22 starttime; the name may hold
            # spaces and brackets.
            fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
            parents[pid] = int(fields[1])
            used[pid] = (int(fields[19]), (int(fields[11]) + int(fields[12])) / ticks)
        except (OSError, ValueError, IndexError):
            continue
    skipped = {root, os.getpid()}
    return {
        (pid, started): seconds
        for pid, (started, seconds) in used.items()
        if pid not in skipped and (root == FIRST or is_below(pid, root, parents))
    }


def is_below(pid: int, root: int, parents: Mapping[int, int]) -> bool:
    """Whether a process descends from another; ends with any table, also one that goes in circles."""
    for _ in range(len(parents) + 1):
        if pid == root:
            return True
        if pid not in parents:
            return False
        pid = parents[pid]
    return False


def is_deed(method: str, path: str) -> bool:
    """Whether a request of the server's API is something that a person did. Pure.

    An open Lab asks for kernels, sessions, terminals, folders and clusters every few seconds and keeps its
    layout, whether somebody sits before it or not (seen with JupyterLab 4.6).
    """
    return method not in ("GET", "HEAD", "OPTIONS") and "/lab/api/workspaces" not in path


def count_deeds_only() -> None:
    """Have this process's API count as activity only what a person did; idempotent.

    Without it a forgotten tab would keep its session for ever. What programs behind the server's proxy (the
    desktop) record of themselves stays as it is.
    """
    if getattr(APIHandler.update_api_activity, "of_deeds", False):
        return
    record = APIHandler.update_api_activity

    def update_api_activity(handler: Any) -> None:
        if is_deed(str(handler.request.method), str(handler.request.path)):
            record(handler)

    update_api_activity.of_deeds = True  # type: ignore[attr-defined]  # marks what is wrapped already
    # The handlers are made by others and know no other place to decide this.
    APIHandler.update_api_activity = update_api_activity  # type: ignore[method-assign,assignment]


class ActivityProbe:
    """Looks at the parts of one Jupyter server."""

    def __init__(
        self,
        serverapp: Any,
        use: ProcessorUse | None = None,
        *,
        has_job: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app, self._use, self._has_job = serverapp, use or ProcessorUse(), has_job

    def look(self, now: datetime | None = None) -> Activity:
        """What happens now. A kernel of which nobody can tell counts as busy."""
        busy: list[BusyWith] = []
        if any(map(_computes, self._kernels())):
            busy.append("kernel")
        if any(map(has_program_in_front, self._terminals())):
            busy.append("terminal")
        if self._use.is_busy():
            busy.append("program")
        if self._has_job():
            busy.append("job")
        last: datetime = self._app.web_app.last_activity()
        idle_s = max(0.0, ((now or utc_now()) - last).total_seconds())
        return Activity(0.0 if busy else idle_s, tuple(busy))

    def _kernels(self) -> list[Any]:
        manager = self._app.kernel_manager
        return [manager.get_kernel(kernel_id) for kernel_id in manager.list_kernel_ids()]

    def _terminals(self) -> list[Any]:
        manager = self._app.web_app.settings.get("terminal_manager")
        return list(getattr(manager, "terminals", {}).values())


def _computes(kernel: Any) -> bool:
    state = getattr(kernel, "execution_state", None)
    return state not in ("idle", "dead")


def has_program_in_front(terminal: Any) -> bool:
    """Whether something else than the shell holds a terminal; yes when nobody can tell."""
    process = getattr(terminal, "ptyproc", None)
    try:
        return process is None or os.tcgetpgrp(process.fd) != os.getpgid(process.pid)
    except (OSError, TypeError, ValueError):
        return process is None or bool(process.isalive())
