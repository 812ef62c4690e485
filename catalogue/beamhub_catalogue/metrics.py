"""Prometheus metrics of the web service; docs/operate/metrics.md says what to alert on.

Labels are words of the configuration or of our own code, never a person, proposal, dataset or session: so
their number is bounded, and whoever reads the metrics learns nothing of anybody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from beamhub_core.rights import RefusalCode
from beamhub_core.session import SessionVerdict

ANSWER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
START_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 30, 60, 120, 300, 600)
WAIT_BUCKETS = (10, 30, 60, 300, 600, 1800, 3600, 7200, 14400, 28800, 43200)
PHASES = ("plan", "create", "boot", "ready", "route", "first_cell")
"""Phases that are told apart; `first_cell` lasts from the running server to the end of the first cell."""
ACTIONS = get_args(SessionVerdict.model_fields["action"].annotation)
ASKED = ("grants", "plan", "ticket", "extend", "prepare")
KEPT_FOR_S = 5.0
"""Counts of the database are this old at most: scraping more often does not ask it more often."""
OTHER = "other"


class WebMetrics:
    """The metrics of one web process, in a registry of their own; safe to share between threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kept = self.registry
        self._refusals = Counter(
            "beamhub_web_refusals", "Requests that were refused: no faults", ("asked", "code"), registry=kept
        )
        self._grants = Histogram(
            "beamhub_web_grants_seconds",
            "Seconds to answer for rights",
            buckets=ANSWER_BUCKETS,
            registry=kept,
        )
        self._recheck = Histogram(
            "beamhub_web_recheck_seconds",
            "Seconds to judge every live session again",
            buckets=ANSWER_BUCKETS,
            registry=kept,
        )
        self._verdicts = Gauge(
            "beamhub_web_recheck_sessions", "Verdicts of the last re-check", ("action",), registry=kept
        )
        self._phases = Histogram(
            "beamhub_web_start_phase_seconds",
            "Seconds of each phase of a start, as web was told",
            ("phase",),
            buckets=START_BUCKETS,
            registry=kept,
        )
        self._waits = Histogram(
            "beamhub_web_queue_wait_seconds",
            "Seconds that those who waited for room had waited",
            buckets=WAIT_BUCKETS,
            registry=kept,
        )
        self._harvested = Counter(
            "beamhub_web_harvested_files", "Files read into the catalogue", registry=kept
        )
        self._problems = Gauge("beamhub_web_harvest_problems", "Files that are set aside", registry=kept)
        self._scanned = Gauge(
            "beamhub_web_harvest_last_scan_timestamp_seconds", "When the last full scan ended", registry=kept
        )
        self._scan_s = Gauge(
            "beamhub_web_harvest_scan_seconds", "Seconds of the last full scan", registry=kept
        )
        self._jobs = Counter(
            "beamhub_web_background_failures",
            "Rounds of background work that failed",
            ("job",),
            registry=kept,
        )
        for phase in PHASES:
            self._phases.labels(phase)
        for action in ACTIONS:
            self._verdicts.labels(action)

    def refused(self, asked: str, code: str) -> None:
        """A request was refused."""
        known = code if code in get_args(RefusalCode) else OTHER
        self._refusals.labels(asked if asked in ASKED else OTHER, known).inc()

    @contextmanager
    def answering_grants(self) -> Iterator[None]:
        """Times one answer for rights, also one that is no."""
        with self._grants.time():
            yield

    @contextmanager
    def rechecking(self) -> Iterator[None]:
        """Times one re-check."""
        with self._recheck.time():
            yield

    def verdicts(self, actions: Iterable[str]) -> None:
        """What the last re-check said."""
        said = list(actions)
        for action in ACTIONS:
            self._verdicts.labels(action).set(said.count(action))

    def phase(self, name: str, seconds: float) -> None:
        """A phase of a start took so long; one of another name is not counted."""
        if name in PHASES:
            self._phases.labels(name).observe(seconds)

    def waited(self, seconds: float) -> None:
        """Somebody who waited for room got it."""
        self._waits.observe(max(0.0, seconds))

    def scanned(self, n_harvested: int, n_problems: int, seconds: float, at: float) -> None:
        """A full scan of the harvest roots ended, `at` being seconds since the epoch."""
        self._harvested.inc(n_harvested)
        self._problems.set(n_problems)
        self._scan_s.set(seconds)
        self._scanned.set(at)

    def failed(self, job: str) -> None:
        """A round of background work failed."""
        self._jobs.labels(job).inc()

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)


Counts = dict[str, dict[tuple[str, ...], float]]
"""By a metric's name and its labels' values."""
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "beamhub_web_sessions": ("Live sessions", ("state", "place")),
    "beamhub_web_prepared_sessions": ("Live sessions that nobody opened yet", ("place",)),
    "beamhub_web_idle_sessions": ("Live sessions that were warned of a stop for idleness", ("place",)),
    "beamhub_web_silent_sessions": ("Running sessions that report no more", ("place",)),
    "beamhub_web_place_capacity": ("Sessions that a place may have", ("place",)),
    "beamhub_web_queue_waiting": ("People's places in the queue", ()),
    "beamhub_web_queue_oldest_wait_seconds": ("How long the one who waits longest has waited", ()),
    "beamhub_web_cluster_core_seconds": ("Core-seconds of the clusters of all sessions", ("place",)),
    "beamhub_web_user_office_age_seconds": ("Since a user office was read last", ("office",)),
}
"""What is counted in the database when somebody scrapes, with help and labels."""


class CountedInDatabase(Collector):
    """Gauges of what the database holds now; `beamhub_web_database_up` is 0 when it does not answer."""

    def __init__(self, count: Callable[[], Counts | None]) -> None:
        self._count = count
        self._lock = threading.Lock()  # protects what follows, and lets one scrape ask at a time
        self._kept: Counts | None = None
        self._at = float("-inf")

    def collect(self) -> Iterator[Metric]:
        """The families with their values."""
        found = self._values()
        yield GaugeMetricFamily(
            "beamhub_web_database_up", "Whether the database answers", value=0.0 if found is None else 1.0
        )
        for name, (about, labels) in FAMILIES.items():
            family = GaugeMetricFamily(name, about, labels=labels)
            for values, number in sorted((found or {}).get(name, {}).items()):
                family.add_metric(list(values), number)
            yield family

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry asks this when the collector joins it, and no database is asked for that."""
        return ()

    def _values(self) -> Counts | None:
        with self._lock:
            if time.monotonic() - self._at >= KEPT_FOR_S:
                self._kept, self._at = self._count(), time.monotonic()
            return self._kept
