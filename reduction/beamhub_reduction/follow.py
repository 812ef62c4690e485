"""Following a file that is still being written: when it has grown, and when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from beamhub_core.errors import BeamhubError
from beamhub_reduction.nexus import follow, open_header

POLL_S = 1.0
Fingerprint = tuple[tuple[int, int], ...]


class Follower(Protocol):
    """Tells when there is more to reduce."""

    def wait(self) -> bool:
        """Wait until the run has grown since the last call (True), or has ended (False)."""


class FollowedFrames:
    """Waits for more frames of which all are on disk; SWMR writers and writers that lock the file are fine.

    The run has ended when its file says so (end_time, or all planned frames), or when no frame came for
    `quiet_s`. A file that was replaced, or that lost frames or bytes, is FileShrank.
    """

    def __init__(self, file: str, dataset: str | None, quiet_s: float, *, poll_s: float = POLL_S) -> None:
        poll_s = min(poll_s, quiet_s)
        self._prefixes = follow(file, dataset, timeout_s=quiet_s, poll_s=poll_s)

    def wait(self) -> bool:
        """Wait until there are more frames than at the last call (True), or no more will come (False).

        Raises
        ------
        FileShrank
        NexusError
            What stood in the way of any frame, when there was none until the end.
        """
        return next(self._prefixes, None) is not None


class PolledRun:
    """Looks at the sizes and times of a run's files again and again.

    The run has ended when nothing of it has changed for `quiet_s`. Works on any file system, also where
    no event tells of another machine's writes.
    """

    def __init__(
        self,
        file: str,
        quiet_s: float,
        *,
        poll_s: float = POLL_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._quiet_s, self._poll_s = file, quiet_s, poll_s
        self._sleep, self._clock = sleep, clock
        self._seen: Fingerprint | None = None
        self._changed_at = clock()

    def wait(self) -> bool:
        """Wait until the run has grown since the last call (True), or has ended (False)."""
        while True:
            now = self._look()
            if now and now != self._seen:
                self._seen, self._changed_at = now, self._clock()
                return True
            if self._clock() - self._changed_at >= self._quiet_s:
                return False
            self._sleep(min(self._poll_s, self._quiet_s))

    def _look(self) -> Fingerprint:
        """(size, time of change) of the master file and of every file that it links to."""
        try:
            header = open_header(self._file)
            names = (self._file, *header.linked_files)
        except BeamhubError:
            names = (self._file,)  # a moment in which the writer is at work
        found = []
        for name in names:
            try:
                status = Path(name).stat()
            except OSError:
                continue
            found.append((status.st_size, status.st_mtime_ns))
        return tuple(found)
