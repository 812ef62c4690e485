"""Whether storage pools answer, found out without ever waiting for one that does not.

A hung file server blocks whoever asks it, for good and sometimes beyond SIGKILL. So each look is a child
process (`pool_probe`) with a time limit. There is never more than one child for a pool: while a killed one
cannot be buried the pool hangs, and nobody asks again.
"""

from __future__ import annotations

import ast
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydantic import Field

from beamhub_core.clock import Clock, utc_now
from beamhub_core.config.storage import PoolConfig
from beamhub_core.word import Word

LIMIT_S = 4.0  # a hung mount is to be found within 5 s
MAX_AGE_S = 10.0
RETRY_WAIT_S = 0.3
BURY_WAIT_S = 0.1
BACK_OFF_S = (5.0, 10.0, 20.0, 40.0, 60.0)
MAX_ANSWER_BYTES = 4096
_PROBE = Path(__file__).with_name("pool_probe.py")
_WORDS = {
    "missing": "no such folder",
    "no_folder": "is not a folder",
    "not_mounted": "is not a mount point although it must be",
    "unreadable": "cannot be listed",
    "writable_below": "holds a mount that can be written although access is 'ro'",
    "read_only": "read-only",
    "full": "full",
    "no_inodes": "full (no more files can be made)",
}
_ONLY_WRITING = ("read_only", "full", "no_inodes")


class PoolState(Word):
    """How a storage pool is, seen from one host."""

    pool: str
    is_readable: bool
    is_writable: bool = Field(description="False where it must not or cannot be written; a full one can.")
    is_full: bool = False
    reason: str = Field(default="", description="What is wrong, in plain words; empty when nothing is.")
    since: datetime | None = Field(default=None, description="Since when it does not answer.")
    checked_at: datetime


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder to watch, and what is demanded of it: words that `pool_probe` takes."""

    name: str
    root: str
    demands: tuple[str, ...] = ()

    @property
    def takes_writes(self) -> bool:
        """Whether sessions may write below it."""
        return "write" in self.demands


def pool_folder(pool: PoolConfig, *, try_write: bool = True) -> Folder:
    """What to look at of a pool: listing always, writing only where sessions may write."""
    demands = {
        "must_be_mount": pool.must_be_mount,
        "write": pool.takes_writes and try_write,
        "read_only_below": pool.propagation == "host_to_container",
    }
    return Folder(pool.name, str(pool.root), tuple(word for word, wanted in demands.items() if wanted))


@dataclass(slots=True)
class _Known:
    """What is known of one folder, and the one child that may be out there for it."""

    state: PoolState | None = None
    checked: float = 0.0
    child: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    is_killed: bool = False
    n_hung: int = 0
    next_try: float = 0.0
    hung_since: datetime | None = None


@dataclass(slots=True)
class PoolWatch:
    """Remembers what folders answered. Thread-safe: one caller looks, the others get what it found.

    Parameters
    ----------
    limit_s:
        After so long a look counts as hung, and its process is killed.
    max_age_s:
        For so long an answer stands. A folder known to hang is answered at once, whatever its answer's
        age, and asked again after growing pauses.
    """

    limit_s: float = LIMIT_S
    max_age_s: float = MAX_AGE_S
    clock: Clock = utc_now
    _known: dict[Folder, _Known] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # of `_known` and its children

    def states(self, folders: Iterable[Folder]) -> dict[str, PoolState]:
        """The state of each folder by name, after `limit_s` at the latest."""
        asked = tuple(folders)
        with self._lock:
            known = [self._known.setdefault(folder, _Known()) for folder in asked]
            pairs = list(zip(asked, known, strict=True))
            for folder, one in pairs:
                self._harvest(folder, one)
                if one.child is None and self._is_due(one):
                    _begin(folder, one)
            self._wait([one for one in known if one.child is not None and not one.is_killed])
            for folder, one in pairs:
                self._harvest(folder, one)
            return {folder.name: self._said(folder, one) for folder, one in pairs}

    def n_children(self) -> int:
        """Processes that look just now, or cannot be buried."""
        with self._lock:
            return sum(one.child is not None for one in self._known.values())

    def close(self) -> None:
        """Kill what still looks; what cannot die yet is left behind."""
        with self._lock:
            for one in self._known.values():
                if one.child is not None:
                    one.child.kill()
                    _bury(one)
            self._known.clear()

    def _is_due(self, one: _Known) -> bool:
        now = time.monotonic()
        if one.n_hung:
            return now >= one.next_try
        return one.state is None or now - one.checked > self.max_age_s

    def _wait(self, ones: list[_Known]) -> None:
        """Until every first look is over; a folder known to hang gets a moment only."""
        with selectors.DefaultSelector() as selector:
            for one in ones:
                if one.child is not None and one.child.stdout is not None:
                    limit_s = RETRY_WAIT_S if one.n_hung else self.limit_s
                    selector.register(one.child.stdout, selectors.EVENT_READ, one.started + limit_s)
            while selector.get_map():
                until = max(key.data for key in selector.get_map().values())
                left_s = until - time.monotonic()
                if left_s <= 0:
                    return
                for key, _ in selector.select(left_s):
                    selector.unregister(key.fileobj)

    def _harvest(self, folder: Folder, one: _Known) -> None:
        """Take what the child said, or give it up; never waits for it."""
        if one.child is None:
            return
        if one.is_killed:
            if _bury(one):
                one.next_try = time.monotonic()  # it could die: the server answers again, perhaps
            return
        answer = _read_answer(one.child)
        if answer is not None:
            one.child.kill()  # it has said everything; it must not hang at its end
            if not _bury(one):
                one.is_killed = True
            self._keep(folder, one, answer)
        elif time.monotonic() - one.started >= self.limit_s:
            one.child.kill()
            one.is_killed = True
            one.n_hung += 1
            one.next_try = time.monotonic() + BACK_OFF_S[min(one.n_hung, len(BACK_OFF_S)) - 1]
            one.hung_since = one.hung_since or self.clock()
            one.checked = time.monotonic()
            next_try = one.next_try
            if _bury(one):
                one.next_try = next_try

    def _keep(self, folder: Folder, one: _Known, answer: bytes) -> None:
        fault, detail = _parsed(answer)
        one.n_hung, one.hung_since, one.checked = 0, None, time.monotonic()
        reason = "" if fault == "ok" else _WORDS.get(fault, "could not be looked at")
        one.state = PoolState(
            pool=folder.name,
            is_readable=fault == "ok" or fault in _ONLY_WRITING,
            is_writable=folder.takes_writes and fault in ("ok", "full", "no_inodes"),
            is_full=fault in ("full", "no_inodes"),
            reason=f"{reason} ({detail})" if detail else reason,
            checked_at=self.clock(),
        )

    def _said(self, folder: Folder, one: _Known) -> PoolState:
        if one.hung_since is None and one.state is not None:
            return one.state
        now = self.clock()
        since = one.hung_since or now
        day = "" if since.date() == now.date() else f"{since:%Y-%m-%d} "
        return PoolState(
            pool=folder.name,
            is_readable=False,
            is_writable=False,
            reason=f"does not answer since {day}{since:%H:%M} UTC",
            since=since,
            checked_at=now,
        )


def _begin(folder: Folder, one: _Known) -> None:
    one.child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_PROBE), folder.root, *folder.demands],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        start_new_session=True,
    )
    one.started, one.is_killed = time.monotonic(), False


def _read_answer(child: subprocess.Popen[bytes]) -> bytes | None:
    """What a child wrote or, when it ended without a word, nothing; None while it still looks."""
    if child.stdout is None:
        return b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        if not selector.select(0):
            return None
    return os.read(child.stdout.fileno(), MAX_ANSWER_BYTES)


def _bury(one: _Known) -> bool:
    """Whether the killed child is gone; in uninterruptible sleep it stays until the server answers."""
    if one.child is None:
        return True
    try:
        one.child.wait(BURY_WAIT_S)
    except subprocess.TimeoutExpired:
        return False
    if one.child.stdout is not None:
        one.child.stdout.close()
    one.child = None
    return True


def _parsed(answer: bytes) -> tuple[str, str]:
    fault, _, detail = answer.decode("ascii", "replace").strip().partition("\t")
    try:
        return fault, str(ast.literal_eval(detail)) if detail else ""
    except (ValueError, SyntaxError):
        return fault, ""


_WATCH = PoolWatch()


def pool_states(pools: Iterable[PoolConfig]) -> dict[str, PoolState]:
    """How each pool is on this host, by name.

    Blocks for `LIMIT_S` at most, and only for a pool of which nothing is known yet; call it in a thread
    (`asyncio.to_thread`) where an event loop runs. Answers are at most `MAX_AGE_S` old, but for pools that
    do not answer.
    """
    return _WATCH.states(pool_folder(pool) for pool in pools)


def folder_states(folders: Iterable[Folder]) -> dict[str, PoolState]:
    """The same for folders that are no pools, as those of the homes."""
    return _WATCH.states(folders)
