"""The thread that asks user offices, so that nobody else ever waits for one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from beamhub_catalogue.database import Database
from beamhub_catalogue.offices import UserOffices
from beamhub_core.clock import Clock

log = logging.getLogger(__name__)


class OfficePoller:
    """Asks every user office again and again, and has its news taken up at once."""

    def __init__(
        self, database: Database, offices: UserOffices, take_up: Callable[[], object], clock: Clock
    ) -> None:
        self._database, self._offices, self._take_up, self._clock = database, offices, take_up, clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def poll(self, labels: Iterable[str] | None = None) -> None:
        """Ask these offices, or all, and take up what they say; one that fails to answer raises nothing."""
        asked = self._offices.labels if labels is None else tuple(labels)
        with self._database.reading() as session:
            self._offices.resume(session)
        answered = self._offices.poll(asked)
        self._take_up()
        if answered:
            with self._database.writing() as session:
                self._offices.note_answers(session, answered, self._clock())

    def start(self) -> None:
        """Start the thread; idempotent."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._poll_for_ever, name="user-offices", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, within the time limit of the office that it asks; idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _poll_for_ever(self) -> None:
        intervals = self._offices.intervals_s
        due = {label: time.monotonic() + interval for label, interval in intervals.items()}
        while not self._stop.wait(max(0.0, min(due.values()) - time.monotonic())):
            now = time.monotonic()
            labels = [label for label, at in due.items() if at <= now]
            try:
                self.poll(labels)
            except Exception:  # outermost layer of the thread: the next poll may work
                log.exception("polling user offices failed", extra={"sources": labels})
            due |= {label: time.monotonic() + intervals[label] for label in labels}
