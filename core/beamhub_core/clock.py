"""Time as an argument: every decision that depends on a date receives a clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


def shifted_clock(offset_file: Path, base: Clock = utc_now) -> Clock:
    """A clock that adds the seconds written in a file, for demonstrations and tests only.

    A missing, empty or unreadable number means no shift. The file is read at every call,
    so that a test can move the date while the services run.
    """

    def now() -> datetime:
        try:
            offset_s = float(offset_file.read_text().strip() or 0)
        except (OSError, ValueError):
            offset_s = 0.0
        return base() + timedelta(seconds=offset_s)

    return now


@dataclass(frozen=True, slots=True)
class ClockMark:
    """What a guarded clock showed, beside the seconds since that boot of the machine."""

    boot: str
    at: datetime
    elapsed_s: float


def boot_id() -> str:
    """A name of this boot of the machine; the same in all its containers, another one after each boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:64]
    except OSError:
        return "unknown"


def seconds_since_boot() -> float:
    """Seconds since boot, counted also while the machine slept; nobody can set this clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class GuardedClock:
    """The machine's clock, held back when it jumps ahead.

    A wrong clock must open nothing. What this clock shows moves forward at most twice as fast as the
    seconds since boot: when the machine's clock stands two years ahead for half a minute, this one gains
    half a minute and falls back with it; after a pause of ten minutes it has caught up in ten minutes. It
    follows back at once, since nothing opens by that, and returns at once from a setback that lasted less
    than `SETBACK_S`. Safe to share between threads.
    """

    SETBACK_S = 3600.0
    SLACK_S = 1.0

    def __init__(
        self,
        wall: Clock = utc_now,
        elapsed: Callable[[], float] = seconds_since_boot,
        *,
        boot: str | None = None,
        mark: ClockMark | None = None,
    ) -> None:
        """Begin where `mark` ended, if it is of this boot; otherwise believe the machine's clock."""
        self._wall, self._elapsed = wall, elapsed
        self._boot = boot if boot is not None else boot_id()
        self._lock = threading.Lock()
        self._last_s = elapsed()
        self._track = wall()
        self._behind_since_s: float | None = None
        self._ahead_s = 0.0
        if mark is not None and mark.boot == self._boot and self._last_s - mark.elapsed_s >= 0:
            self._last_s, self._track = mark.elapsed_s, mark.at

    def __call__(self) -> datetime:
        """The present instant, aware, in UTC."""
        with self._lock:
            wall, elapsed_s = self._wall(), self._elapsed()
            passed = timedelta(seconds=max(0.0, elapsed_s - self._last_s))
            self._last_s = elapsed_s
            self._track += passed
            shown = min(wall, self._track + passed)
            self._ahead_s = (wall - shown).total_seconds()
            if shown >= self._track - timedelta(seconds=self.SLACK_S):
                self._track, self._behind_since_s = shown, None
            elif self._behind_since_s is None:
                self._behind_since_s = elapsed_s
            elif elapsed_s - self._behind_since_s >= self.SETBACK_S:
                self._track, self._behind_since_s = shown, None
            return shown

    @property
    def ahead_s(self) -> float:
        """Seconds by which the machine's clock was ahead of what was shown last; 0 when it is believed."""
        return self._ahead_s

    def mark(self) -> ClockMark:
        """Where this clock stands, for the next process of this boot to begin with."""
        self()
        with self._lock:
            return ClockMark(self._boot, self._track, self._last_s)
