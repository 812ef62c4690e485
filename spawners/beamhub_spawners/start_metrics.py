"""Prometheus metrics of starts and sessions, in the hub's own registry: its `/hub/metrics` shows them."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from beamhub_core.session import LIVE_STATES, SessionState, StoredSession

# A start is done in seconds; a profile with a large image may take minutes.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 600)
PHASES = ("plan", "create", "boot", "ready", "route")
"""Rights, place and stored plan; the backend's object; until it answers HTTP; all of them together; then the
proxy's route. The first cell, which follows, is web's: `beamhub_web_start_phase_seconds`."""

PHASE_SECONDS = Histogram(
    "beamhub_start_phase_seconds",
    "Seconds of each phase of a start that went well",
    ("phase",),
    buckets=BUCKETS,
)
REFUSALS = Counter("beamhub_start_refusals", "Starts that were refused: no faults", ("code",))
FAILURES = Counter("beamhub_start_failures", "Starts that failed")
SWEPT = Counter("beamhub_sweep_sessions", "Sessions that the sweeper set right, or found over", ("what",))
SWEPT_WHAT = ("lost", "adopted", "orphans", "expired", "unknown")
LAST_SWEEP = Gauge("beamhub_sweep_last_timestamp_seconds", "When the sweeper last came to its end")
SESSIONS = Gauge("beamhub_sessions", "Live sessions by state, as of the last sweep", ("state",))

for _phase in PHASES:
    PHASE_SECONDS.labels(_phase)
for _what in SWEPT_WHAT:
    SWEPT.labels(_what)
for _state in LIVE_STATES:
    SESSIONS.labels(_state)


class PhaseClock:
    """Times the phases of one start."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """One phase; one that raises is not counted."""
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 4)

    def done(self) -> dict[str, float]:
        """The start is ready: tell the metrics; the seconds of each phase."""
        self.seconds["ready"] = round(time.perf_counter() - self._began, 4)
        for name, seconds in self.seconds.items():
            PHASE_SECONDS.labels(name).observe(seconds)
        return dict(self.seconds)


def observe_route(seconds: float) -> dict[str, float]:
    """The proxy has the route of a session: tell the metrics; the phase as web takes it."""
    PHASE_SECONDS.labels("route").observe(seconds)
    return {"route": round(seconds, 4)}


def count_sessions(live: Iterable[StoredSession]) -> None:
    """Set the gauge of live sessions."""
    tally = Tally(stored.record.state for stored in live)
    for state in get_args(SessionState):
        if state in LIVE_STATES:
            SESSIONS.labels(state).set(tally[state])


def count_sweep(found: dict[str, int]) -> None:
    """A sweep came to its end, with so many sessions of each kind."""
    for what, n in found.items():
        SWEPT.labels(what).inc(n)
    LAST_SWEEP.set(time.time())
