"""Time as an argument: every decision that depends on a date receives a clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


def shifted_clock(offset_file: Path) -> Clock:
    """A clock that adds the seconds written in a file, for demonstrations and tests only.

    A missing, empty or unreadable number means no shift. The file is read at every call,
    so that a test can move the date while the services run.
    """

    def now() -> datetime:
        try:
            offset_s = float(offset_file.read_text().strip() or 0)
        except (OSError, ValueError):
            offset_s = 0.0
        return utc_now() + timedelta(seconds=offset_s)

    return now
