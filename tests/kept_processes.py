"""The children of the process that runs tests, and which of them outlive the test that started them."""

from __future__ import annotations

from pathlib import Path

kept_processes: set[int] = set()
"""Numbers of processes that a test started in the place of one that a longer-lived fixture owns, and stops;
whoever ends such a process takes its number out."""


def child_processes() -> set[int]:
    """The processes that this one started and has not waited for, the dead among them."""
    found: set[int] = set()
    for listed in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(int(word) for word in listed.read_text().split())
        except OSError:
            continue  # the thread ended meanwhile
    return found
