"""Who does the work of units: threads of this process, or the workers of a Dask client. Same protocol."""

from __future__ import annotations

import contextvars
import errno
import pickle
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from beamhub_reduction.kernels.native import active_path
from beamhub_reduction.pipeline.digest import content_digest
from beamhub_reduction.pipeline.journal import Ticket
from beamhub_reduction.pipeline.memory import SHARE

Client = Any
"""A distributed.Client: the library has no types."""

RETRY_PAUSE_S = 0.5
REFRESH_S = 1.0
SCATTER_S = 120.0
PER_SLOT = 2
"""Units in flight per thread of a worker: one that runs, one that waits at its door."""
_PERMANENT = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EINVAL,
}  # fmt: skip


# The last task of each client with the digest of its content; it stays on the workers until the next one.
_latest: WeakKeyDictionary[Any, tuple[str, Any]] = WeakKeyDictionary()


class DataLost(Exception):
    """A unit was lost together with what it needed, by no fault of its own."""


@dataclass(frozen=True, slots=True)
class Done:
    """The part of one unit, whether its worker kept it in the journal, and the path of its kernels."""

    part: Any
    kept: bool
    kernels: str


def do_unit(
    work: Callable[[Any, Any], Any], unit: Any, task: Any, ticket: Ticket | None, pause_s: float = 0.0
) -> Done:
    """One unit in one thread, in whatever process this is."""
    if pause_s:
        time.sleep(pause_s)
    part = work(unit, task)
    return Done(part, ticket.keep(part) if ticket is not None else False, active_path())


def is_transient(error: BaseException) -> bool:
    """Whether the same read may succeed a moment later: errors of a network file system, not of the data."""
    return isinstance(error, OSError) and error.errno not in _PERMANENT


class Pool(Protocol):
    """Takes units and calls back when they have ended."""

    def slots(self) -> int:
        """How many units may be in flight now; 0 while there is nobody to do them."""

    def submit(self, number: int, unit: Any, ticket: Ticket | None, attempt: int) -> Any:
        """Begin a unit; its future ends up in the queue of the runner."""

    def result(self, future: Any) -> Done:
        """What a future that has ended gives, or raises. Raises DataLost for one to be begun again."""

    def is_connected(self) -> bool:
        """Whether anybody can still answer."""

    def stop(self, futures: Iterable[Any]) -> None:
        """End what has not begun and wait for what runs here."""


class ThreadPool:
    """Threads of this process; kernels and decoders release the interpreter's lock."""

    def __init__(
        self, work: Callable[..., Any], task: Any, n_threads: int, ended: Callable[[Any], None]
    ) -> None:
        self._work, self._task, self._ended = work, task, ended
        self._n_threads = n_threads
        self._executor = ThreadPoolExecutor(n_threads, thread_name_prefix="beamhub-unit")

    def slots(self) -> int:
        """One for each thread, and one that waits."""
        return self._n_threads + 1

    def submit(self, number: int, unit: Any, ticket: Ticket | None, attempt: int) -> Future[Done]:
        """Begin a unit in the context of the caller, which holds NumPy's error state."""
        pause_s = RETRY_PAUSE_S * (attempt > 0)
        context = contextvars.copy_context()
        future: Future[Done] = self._executor.submit(
            context.run, do_unit, self._work, unit, self._task, ticket, pause_s
        )
        future.add_done_callback(self._ended)
        return future

    def result(self, future: Future[Done]) -> Done:
        """The part, or what the work raised."""
        return future.result()

    def is_connected(self) -> bool:
        """Always: it is this process."""
        return True

    def stop(self, futures: Iterable[Any]) -> None:
        """Wait for the units that run: the longest takes seconds."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class DaskPool:
    """The workers of a Dask client, wherever they are.

    The task is scattered once, and not again for a next run with equal content; units carry only its name.
    When all copies of it are lost with their workers it is scattered again.
    """

    def __init__(
        self,
        client: Client,
        work: Callable[..., Any],
        task: Any,
        ended: Callable[[Any], None],
        resources: Mapping[str, float] | None,
    ) -> None:
        self._client, self._work, self._task, self._ended = client, work, task, ended
        self._resources = dict(resources) if resources else None
        self._run = f"{work.__name__}-{uuid.uuid4().hex[:12]}"
        self._shared: Any = None
        self._per_worker: dict[str, tuple[int, int]] = {}
        self._looked = -REFRESH_S
        self.working_bytes = 0
        self.n_workers = 0

    def workers(self) -> dict[str, tuple[int, int]]:
        """Address of each worker to (threads, memory limit in bytes or 0), at most a second old."""
        now = time.monotonic()
        if now - self._looked >= REFRESH_S:
            self._looked = now
            info = self._client.scheduler_info(n_workers=-1)["workers"]
            self._per_worker = {
                address: (int(w.get("nthreads") or 1), int(w.get("memory_limit") or 0))
                for address, w in info.items()
            }
            self.n_workers = max(self.n_workers, len(self._per_worker))
        return self._per_worker

    def memory_bytes(self, own_limit: int) -> int:
        """What units may take on the smallest worker; `own_limit` for workers without a limit."""
        limits = [limit or own_limit for _, limit in self.workers().values()]
        return int(min(limits, default=own_limit) * SHARE)

    def slots(self) -> int:
        """Two for each thread of a worker; fewer where its memory does not hold as many units."""
        total = 0
        for threads, limit in self.workers().values():
            fit = int(limit * SHARE) // self.working_bytes if limit and self.working_bytes else threads
            total += max(1, min(threads, fit)) * (PER_SLOT if fit >= threads else 1)
        return total

    def submit(self, number: int, unit: Any, ticket: Ticket | None, attempt: int) -> Any:
        """Begin a unit; the oldest come first."""
        if self._shared is None:
            self._shared = _scattered(self._client, self._task)
        future = self._client.submit(
            do_unit, self._work, unit, self._shared, ticket, RETRY_PAUSE_S * (attempt > 0),
            key=f"{self._run}-{number}-{attempt}", pure=False, resources=self._resources,
        )  # fmt: skip
        future.add_done_callback(self._ended)
        return future

    def result(self, future: Any) -> Done:
        """The part, or what the work raised on its worker."""
        # Loading Dask takes a second, and work in this process does not need it.
        from distributed.client import FutureCancelledError

        try:
            done: Done = future.result()
        except FutureCancelledError as error:
            self._shared = None
            _latest.pop(self._client, None)
            raise DataLost(str(error)) from error
        finally:
            future.release()
        return done

    def is_connected(self) -> bool:
        """Whether the scheduler is there."""
        return str(self._client.status) == "running"

    def stop(self, futures: Iterable[Any]) -> None:
        """Cancel what is left; a unit that runs ends by itself, and its result is thrown away."""
        left = list(futures)
        if self.is_connected():
            if left:
                self._client.cancel(left, force=True)
            self._shared = None


def _scattered(client: Client, task: Any) -> Any:
    """A future of the task on all workers.

    Its name is a fresh one: a task that is scattered again under the name of one that is just being
    released is lost with it.
    """
    try:
        digest = content_digest(task)
    except (TypeError, AttributeError, pickle.PicklingError):
        digest = uuid.uuid4().hex
    known = _latest.get(client)
    if known is None or known[0] != digest or known[1].status != "finished":
        known = digest, _scatter(client, task)
        _latest[client] = known
    return known[1]


def _scatter(client: Client, task: Any) -> Any:
    """Copies on all workers; tried again when one of them dies just then."""
    began = time.monotonic()
    while True:
        try:
            return client.scatter([task], broadcast=True, hash=False)[0]
        except (OSError, KeyError):  # no worker there yet counts too; a KeyError names one that has just gone
            if time.monotonic() - began > SCATTER_S:
                raise
            time.sleep(RETRY_PAUSE_S)
