"""Processes that a test started in the place of one that a longer-lived fixture owns, and stops."""

from __future__ import annotations

kept_processes: set[int] = set()
"""Their numbers; whoever ends such a process takes its number out."""
