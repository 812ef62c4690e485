"""A long job as a process of the session's server: `python -m beamhub_reduction.job_process FOLDER`.

It ends with the server that started it (its standard input closes), or when it is asked to. What was finished
stays in the journal and in its state: the next start goes on there, and the product is the same, bit by bit.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beamhub_core.errors import BeamhubError
from beamhub_core.long_job import (
    LOCK_FILE,
    MAX_STARTS,
    STATE_FILE,
    STOP_FILE,
    JobReduction,
    JobState,
    LongJob,
    read_job,
    read_state,
    write_whole,
)
from beamhub_reduction.batch import Job
from beamhub_reduction.cluster import connect, session_threads
from beamhub_reduction.pipeline.engine import Engine
from beamhub_reduction.pipeline.errors import Cancelled
from beamhub_reduction.pipeline.progress import Progress
from beamhub_reduction.reduce_job import job_facts, reduce_file

log = logging.getLogger(__name__)

EXIT_BUSY = 75
"""Another process does this job. Source: sysexits.h, EX_TEMPFAIL."""
STATE_EVERY_S = 1.0
MAX_TEXT = 300


class JobWork:
    """One job, from its folder."""

    def __init__(self, folder: Path, job: LongJob) -> None:
        self._folder, self._job = folder, job
        self._state = read_state(folder)
        self._shown = 0.0
        self._counted = "parts"
        self._asked = threading.Event()

    def end_soon(self) -> None:
        """End after the units that are being done."""
        self._asked.set()

    def do(self) -> int:
        """Do what is not done yet; the exit code."""
        n_starts = self._state.n_starts + 1
        if n_starts > MAX_STARTS:
            self._write(phase="failed", text=f"It was interrupted {MAX_STARTS} times and is given up.")
            return 1
        self._write(phase="running", text="It begins.", n_starts=n_starts)
        try:
            with self._engine() as engine:
                for i, reduction in enumerate(self._job.reductions):
                    self._reduce(i, reduction, engine)
        except Cancelled:
            # By the person for good; by the end of the server only until the next one starts.
            is_wanted = (self._folder / STOP_FILE).exists()
            if is_wanted:
                self._write(phase="stopped", text="It was stopped; what was finished is kept.")
            return 130
        except BeamhubError as error:
            self._write(phase="failed", text=str(error)[:MAX_TEXT])
            return error.exit_code
        except Exception:  # the outermost layer: nothing of an unknown error is for others to read
            log.exception("the job failed")
            self._write(phase="failed", text="It failed; the log in its folder says how.")
            return 1
        shutil.rmtree(self._job.journal, ignore_errors=True)  # its parts are in the products now
        n_done = len(self._job.reductions)
        said = "Its product is written." if n_done == 1 else f"Its {n_done} products are written."
        self._write(phase="done", text=said)
        return 0

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        journal, cancelled = Path(self._job.journal), self._is_asked
        if self._job.workers is None:
            threads = session_threads(None)
            yield Engine(threads=threads, journal=journal, cancelled=cancelled, progress=self)
            return
        with connect(self._job.workers) as client:
            yield Engine(client=client, journal=journal, cancelled=cancelled, progress=self)

    def _is_asked(self) -> bool:
        return self._asked.is_set()

    def _reduce(self, i: int, reduction: JobReduction, engine: Engine) -> None:
        output = Path(reduction.output)
        # Nothing was there when it was asked for, and a product appears whole: it is this job's own.
        if i in self._state.finished or (self._state.n_starts > 1 and output.is_file()):
            return
        if self._is_asked():
            raise Cancelled(0, 0, self._job.journal)
        job = Job(
            step=reduction.step, file=reduction.file, output=reduction.output, parameters=reduction.parameters
        )
        self._counted = job.kind.counted
        result = reduce_file(job.kind, job.file, job.parameters, engine, self)
        job_facts(result, output)
        self._write(finished=(*self._state.finished, i))

    # -- what the engine tells -------------------------------------------------------------------------

    def __call__(self, n_done: int, n_total: int) -> None:
        """A state without sizes."""
        self._progress(n_done, n_total, f"{n_done} of {n_total} parts")

    def show(self, progress: Progress) -> None:
        """A state with all numbers."""
        self._progress(progress.n_done, progress.n_units, progress.text(self._counted))

    def _progress(self, n_done: int, n_units: int, text: str) -> None:
        now = time.monotonic()
        if n_done < n_units and now - self._shown < STATE_EVERY_S:
            return
        self._shown = now
        self._write(n_done=n_done, n_units=n_units, text=text[:MAX_TEXT])

    def _write(self, **changes: object) -> None:
        self._state = JobState.model_validate(self._state.model_dump() | changes)
        try:
            write_whole(self._folder / STATE_FILE, self._state)
        except OSError as error:  # a full home: the work goes on, and its product may lie elsewhere
            log.warning("the state is not written: %s", error.strerror or type(error).__name__)


def main(arguments: list[str]) -> int:
    """Do the job of a folder."""
    folder = Path(arguments[0])
    job = read_job(folder)
    if job is None:
        log.error("there is no job in %s", folder)
        return 2
    lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return EXIT_BUSY
    work = JobWork(folder, job)
    signal.signal(signal.SIGTERM, lambda *_: work.end_soon())
    threading.Thread(target=_end_with_server, daemon=True).start()
    return work.do()


def _end_with_server() -> None:
    """Wait for the end of standard input, which is the server's end, and end at once."""
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(EXIT_BUSY)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
