"""A small supervisor: starts children in order, restarts those that die, stops every one at the end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from beamhub_core.errors import BeamhubError
from beamhub_core.process_table import read_processes

PR_SET_CHILD_SUBREAPER = 36  # Source: prctl(2)
STOP_GRACE_S = 8.0
RESTART_DELAY_S = 0.5
MAX_QUICK_DEATHS = 5

Say = Callable[[str], None]


class ChildDied(BeamhubError):
    """A process of the platform did not come up."""

    def __init__(self, name: str, log: Path, why: str) -> None:
        super().__init__(name, log, why)
        self.name, self.log, self.why = name, log, why

    def __str__(self) -> str:
        ending = _tail(self.log)
        return f"The {self.name} did not start ({self.why}). Its log is {self.log}; it ends with:\n{ending}"


def _tail(path: Path, n_lines: int = 12) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()[-n_lines:]
    except OSError:
        lines = []
    return "\n".join(f"    {line[:200]}" for line in lines) or "    (empty)"


@dataclass(frozen=True, slots=True)
class Child:
    """One process of the platform."""

    name: str
    command: Sequence[str]
    log: Path
    ready_url: str
    ready_headers: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    ready_timeout_s: float = 60.0


def _answers(child: Child) -> bool:
    request = urllib.request.Request(child.ready_url, headers=child.ready_headers)  # noqa: S310  # our own loopback URL
    try:
        with urllib.request.urlopen(request, timeout=2) as response:  # noqa: S310
            return 200 <= int(response.status) < 300
    except (urllib.error.URLError, OSError, ValueError):
        return False


class Supervisor:
    """Owns the platform's processes, and through them the sessions.

    On Linux it is the reaper of its descendants: a session whose hub was killed becomes its child, so
    that the end of the demo ends every session, and the death of the hub none.
    """

    def __init__(self, children: Sequence[Child], say: Say) -> None:
        self._children = tuple(children)
        self._say = say
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._others: frozenset[int] = frozenset()  # what runs below us already is not ours to end
        self._watchers: list[asyncio.Task[None]] = []
        self._ended: asyncio.Event = asyncio.Event()

    async def start(self) -> None:
        """Start every child in order, each once the one before it answers.

        Raises
        ------
        ChildDied
            If one exits or does not answer in time; the others are stopped first.
        """
        _adopt_orphans()
        self._others = frozenset(descendants(os.getpid()))
        for child in self._children:
            try:
                await self._start_one(child)
            except ChildDied:
                await self.stop()
                raise
            self._watchers.append(asyncio.create_task(self._watch(child)))
        self._watchers.append(asyncio.create_task(self._reap_adopted()))

    async def wait(self) -> None:
        """Return when a child failed for good or `end` was called."""
        await self._ended.wait()

    def end(self) -> None:
        """Ask `wait` to return."""
        self._ended.set()

    def pid(self, name: str) -> int | None:
        """The process id of a running child."""
        process = self._running.get(name)
        return process.pid if process and process.returncode is None else None

    async def stop(self) -> None:
        """Stop the children in reverse order, then every process that they left to us."""
        for task in self._watchers:
            task.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for child in reversed(self._children):
            process = self._running.pop(child.name, None)
            if process is not None and process.returncode is None:
                await _stop_process(process)
        await _stop_descendants(self._others)

    async def _start_one(self, child: Child) -> None:
        with child.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *child.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **child.environment},
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops in order
            )
        self._running[child.name] = process
        deadline = asyncio.get_running_loop().time() + child.ready_timeout_s
        while not await asyncio.to_thread(_answers, child):
            if process.returncode is not None:
                raise ChildDied(child.name, child.log, f"exit code {process.returncode}")
            if asyncio.get_running_loop().time() > deadline:
                raise ChildDied(child.name, child.log, f"no answer in {child.ready_timeout_s:.0f} s")
            await asyncio.sleep(0.1)

    async def _reap_adopted(self) -> None:
        """Take the exit status of sessions that became our children when their hub died."""
        while True:
            await asyncio.sleep(2)
            ours = {process.pid for process in self._running.values()}  # asyncio waits for these itself
            _reap(ours | self._others)

    async def _watch(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        quick_deaths = 0
        while True:
            started = loop.time()
            code = await self._running[child.name].wait()
            quick_deaths = quick_deaths + 1 if loop.time() - started < 30 else 1
            self._say(f"The {child.name} ended (exit code {code}); starting it again. Sessions go on.")
            if quick_deaths > MAX_QUICK_DEATHS:
                self._say(f"The {child.name} ended {quick_deaths} times in a row; see {child.log}.")
                self._ended.set()
                return
            await asyncio.sleep(RESTART_DELAY_S)
            try:
                await self._start_one(child)
            except ChildDied as error:
                self._say(str(error))
                if self._running[child.name].returncode is None:
                    await _stop_process(self._running[child.name])


async def _stop_process(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_GRACE_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def zombies(pid: int) -> list[int]:
    """The dead children of `pid` whose exit status nobody took."""
    return [one.pid for one in read_processes() if one.parent == pid and one.state == "Z"]


def descendants(pid: int, *, without: Collection[int] = ()) -> list[int]:
    """The living processes below `pid`, level by level; without some, and what is below these."""
    children: dict[int, list[int]] = {}
    for one in read_processes():
        if not one.has_ended:
            children.setdefault(one.parent, []).append(one.pid)
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, []) if child not in without]
        found += level
    return found


async def _stop_descendants(others: Collection[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in descendants(os.getpid(), without=others):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = asyncio.get_running_loop().time() + STOP_GRACE_S
        while descendants(os.getpid(), without=others) and asyncio.get_running_loop().time() < deadline:
            _reap(others)
            await asyncio.sleep(0.1)


def _reap(others: Collection[int]) -> None:
    for pid in zombies(os.getpid()):
        if pid not in others:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
