"""Start the sessions of the queue as room frees: looks when told and every few seconds, starts as web itself.

Any number of web processes may do this at once: a turn is claimed in the database before it is asked for.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from beamhub_catalogue.session_queue import SessionQueue, Turn
from beamhub_core.errors import Unavailable
from beamhub_portal.hub_client import HubClient, HubRefused

log = logging.getLogger(__name__)

MAX_AT_ONCE = 8
HELD_UP = ("full", "unavailable", "no_place")
"""Refusals of a start that another time may not be: the ticket goes on waiting."""


class QueueStarter:
    """A thread that makes the queue move."""

    def __init__(self, queue: SessionQueue, hub: HubClient, interval_s: float) -> None:
        self._queue, self._hub, self._interval_s = queue, hub, interval_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look; idempotent."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="queue", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; starts that were asked for go on in the hub."""
        self._stopping.set()
        self._queue.room_freed.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._queue.room_freed.clear()
            try:
                self.look()
            except Exception:  # outermost layer: the next look may succeed
                log.exception("the queue could not be looked at")
            self._queue.room_freed.wait(self._interval_s)

    def look(self) -> int:
        """Start whose turn it is now, and wait until the hub took or refused each; how many it were."""
        if not self._queue.has_waiting():
            return 0
        turns = self._queue.claim_turns()
        if turns:
            with ThreadPoolExecutor(min(MAX_AT_ONCE, len(turns)), thread_name_prefix="queue-start") as pool:
                list(pool.map(self._start, turns))
        return len(turns)

    def _start(self, turn: Turn) -> None:
        facts = {"account": turn.account, "server": turn.server_name}
        try:
            started = self._hub.start_for(turn.account, turn.server_name, turn.request, turn.display_name)
        except Unavailable as error:
            log.warning("a turn of the queue is put back: %s", error, extra=facts)
            self._queue.put_back(turn, count=False)
        except HubRefused as refused:
            self._refused(turn, refused)
        else:
            log.info("a turn of the queue is started", extra=facts)
            if started.already:
                self._queue.started(turn)

    def _refused(self, turn: Turn, refused: HubRefused) -> None:
        log.warning(
            "a turn of the queue is refused by the hub",
            extra={"status": refused.status, "code": refused.code, "account": turn.account},
        )
        is_fault = refused.code is None and (refused.status >= 500 or refused.status == 429)
        if refused.code in HELD_UP or is_fault:
            self._queue.put_back(turn, count=refused.code != "full")
            return
        said = refused.reason or "It could not be started when it was its turn. Start it again."
        self._queue.refused(turn, said[:500])
