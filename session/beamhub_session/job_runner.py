"""The session's server as the runner of long jobs: starts them, starts them again, and ends them.

One at a time, in the order in which they were asked for. What a job is and how far it came stands in files
of its person's home: a server that starts anew finds what its predecessor left, and goes on there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from beamhub_core.long_job import (
    FINAL_PHASES,
    LOG_FILE,
    MAX_SHOWN,
    STATE_FILE,
    STOP_FILE,
    JobReport,
    JobState,
    LongJob,
    jobs_in,
    read_state,
    report_of,
    write_whole,
)

log = logging.getLogger(__name__)

LOOK_S = 2.0
PROGRAM = "beamhub_reduction.job_process"
STOP_S = 60.0
"""So long a job may take to end after it was asked to; then it is killed."""
RETRY_S = 10.0
MAX_LOG_BYTES = 10 * 1024**2


class JobRunner:
    """The jobs of one server; its methods belong to the server's event loop.

    Parameters
    ----------
    home:
        The person's home.
    server:
        The server's name: jobs of the person's other servers are not touched.
    program:
        The module that does a job's folder.
    """

    def __init__(self, home: Path, server: str, program: str = PROGRAM) -> None:
        self._home, self._server, self._program = home, server, program
        self._child: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._asked_at: float | None = None
        self._not_before = 0.0
        self._over: dict[str, JobReport] = {}
        self.reports: tuple[JobReport, ...] = ()
        """What was seen last: the latest jobs, for web."""
        self.when_changed: Callable[[], None] = lambda: None
        """Called in the event loop when a job begins or ends."""

    @property
    def is_busy(self) -> bool:
        """Whether a job is being done."""
        return self._child is not None

    async def run(self) -> None:
        """Look after jobs until cancelled."""
        while True:
            try:
                over = frozenset(self._over)
                jobs = await asyncio.to_thread(jobs_in, self._home, self._server, but=over)
                self._take(await asyncio.to_thread(_reports, jobs))
                await asyncio.to_thread(self.look, jobs)
            except OSError as error:
                log.warning("beamhub: jobs could not be looked after: %s", error)
            except Exception:
                # The outermost layer of a task: one bad look must not end all that follow.
                log.exception("beamhub: a look after jobs failed")
            await asyncio.sleep(LOOK_S)

    def _take(self, seen: list[JobReport]) -> None:
        """Keep what was seen: those that go on before those that have ended, the latest of each first.

        What has ended is not read again.
        """
        going_on = [one for one in seen if one.phase not in FINAL_PHASES]
        self._over.update((one.id, one) for one in seen if one.phase in FINAL_PHASES)
        reports = (*reversed(going_on), *reversed(self._over.values()))[:MAX_SHOWN]
        before, self.reports = self.reports, reports
        if [(one.id, one.phase) for one in before] != [(one.id, one.phase) for one in reports]:
            self.when_changed()

    def look(self, jobs: tuple[tuple[Path, LongJob], ...]) -> None:
        """See what became of the job that is done, and begin the next one."""
        if self._child is not None and not self._is_over():
            return
        for folder, _ in jobs:
            if read_state(folder).phase in FINAL_PHASES:
                continue
            if (folder / STOP_FILE).exists():
                _write(folder, JobState(phase="stopped", text="It was stopped; what was finished is kept."))
            elif self._child is None and time.monotonic() >= self._not_before:
                self._begin(folder)

    def _begin(self, folder: Path) -> None:
        log_file = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(log_file).st_size > MAX_LOG_BYTES:
                os.ftruncate(log_file, 0)
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", self._program, str(folder)],
                stdin=subprocess.PIPE,  # closes when this server ends, and the job with it
                stdout=log_file,
                stderr=log_file,
                cwd=self._home,
            )
        finally:
            os.close(log_file)
        self._folder, self._asked_at = folder, None
        log.info("beamhub: job %s begins", folder.name)

    def _is_over(self) -> bool:
        """Whether the child has ended; one whose person wants it to end is told, and killed in the end."""
        assert self._child is not None  # noqa: S101 - the callers asked
        assert self._folder is not None  # noqa: S101 - set with the child
        code = self._child.poll()
        if code is not None:
            self._ended(self._folder, code)
            return True
        if (self._folder / STOP_FILE).exists():
            now = time.monotonic()
            if self._asked_at is None:
                self._asked_at = now
                self._child.terminate()
            elif now - self._asked_at > STOP_S:
                self._child.kill()
        return False

    def _ended(self, folder: Path, code: int) -> None:
        child, self._child, self._folder = self._child, None, None
        if child is not None and child.stdin is not None:
            child.stdin.close()
        state = read_state(folder)
        log.info("beamhub: job %s ended with %d: %s", folder.name, code, state.phase)
        if state.phase not in FINAL_PHASES:
            # Killed, out of memory, or busy elsewhere: it is begun again, but not at once.
            self._not_before = time.monotonic() + RETRY_S
            if (folder / STOP_FILE).exists():
                _write(folder, state.model_copy(update={"phase": "stopped", "text": "It was stopped."}))


def _reports(jobs: tuple[tuple[Path, LongJob], ...]) -> list[JobReport]:
    return [report_of(folder, job) for folder, job in jobs]


def _write(folder: Path, state: JobState) -> None:
    try:
        write_whole(folder / STATE_FILE, state)
    except OSError as error:
        log.warning("beamhub: the state of job %s is not written: %s", folder.name, error)
