"""How much a home holds, where no quota of the file system says it; measured beside the start."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from beamhub_spawners.folder_work import FolderUnfit, do_steps

MAX_ENTRIES = 500_000
WALK_LIMIT_S = 20.0
PATIENCE_S = 0.3
MAX_WALKS = 2
MAX_REMEMBERED = 10_000
NEAR = 0.9


@dataclass(frozen=True, slots=True)
class Usage:
    """What a walk counted; with `is_complete` False there is more."""

    n_bytes: int
    n_entries: int
    is_complete: bool


def measure(root: Path, path: str) -> Usage | None:
    """What lies below a folder, counted by a child for a limited time; None where it cannot be looked at."""
    step = {
        "do": "usage",
        "root": str(root),
        "path": path,
        "max_entries": MAX_ENTRIES,
        "limit_s": WALK_LIMIT_S,
    }
    try:
        [counted] = do_steps([step], limit_s=WALK_LIMIT_S + 5)
    except FolderUnfit:
        return None
    return Usage(*counted)


def usage_note(usage: Usage, quota_gib: float) -> str | None:
    """What to tell somebody of a measured home; None while there is room. Pure."""
    held_gib = usage.n_bytes / 2**30
    if held_gib < NEAR * quota_gib:
        return None
    at_least = "" if usage.is_complete else "at least "
    advice = "Delete or move what you do not need." if held_gib > quota_gib else "It is nearly full."
    return f"Your home holds {at_least}{held_gib:.1f} of {quota_gib:g} GiB. {advice}"


@dataclass(slots=True)
class HomeMeter:
    """Measures homes, two at a time, and remembers what it found. Belongs to one event loop at a time."""

    _known: dict[str, Usage] = field(default_factory=dict)
    _walks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def usage(self, root: Path, account: str) -> Usage | None:
        """What an account's home holds: now if that is counted in a moment, else the last time."""
        self._walks = {name: walk for name, walk in self._walks.items() if not walk.done()}
        walk = self._walks.get(account)
        if walk is None and len(self._walks) < MAX_WALKS:
            walk = self._walks[account] = asyncio.create_task(self._walk(root, account))
        if walk is not None:
            await asyncio.wait([walk], timeout=PATIENCE_S)
        return self._known.get(account)

    async def _walk(self, root: Path, account: str) -> None:
        usage = await asyncio.to_thread(measure, root, account)
        if usage is not None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[account] = usage


METER = HomeMeter()
