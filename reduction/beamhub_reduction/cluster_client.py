"""The client that `connect` gives: it shows its cluster, sizes it, and ends it with itself."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Security
from tornado.ioloop import PeriodicCallback

from beamhub_core.clock import utc_now
from beamhub_core.cluster_record import ClusterKind, ClusterRecord, remove_record, write_record
from beamhub_reduction.cluster_card import CardState, ClusterCard, CoreMeter
from beamhub_reduction.cluster_door import open_door
from beamhub_reduction.cluster_widget import ClusterWidget
from beamhub_reduction.errors import BadParameter
from beamhub_reduction.session_info import cluster_pages, cluster_records, session_end

log = logging.getLogger(__name__)

LOOK_MS = 10_000


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What is known of a cluster from its start; `most_workers` is what it may be scaled to."""

    kind: ClusterKind
    most_workers: int
    id: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Size:
    """How large a cluster was when it was asked last."""

    n_workers: int = 0
    n_threads: int = 0
    memory_bytes: int = 0


class SessionClient(Client):
    """A client of a cluster that was made with it. Closing it ends the cluster.

    At a prompt or in a notebook it shows the cluster's card; where widgets are installed, with buttons.
    """

    def __init__(self, cluster: Any, facts: ClusterFacts, **settings: Any) -> None:
        self.facts = facts
        self._began = time.monotonic()
        self._meter = CoreMeter(self._began)
        self._size = Size()
        self._ended_s: float | None = None
        self._record: ClusterRecord | None = None
        self._widget: ClusterWidget | None = None
        self._looks: PeriodicCallback | None = None
        super().__init__(cluster, **settings)  # type: ignore[no-untyped-call]  # distributed has no types
        self._in_loop(self._start_looking)
        self._open_door()
        self._look()

    # -- what it shows ---------------------------------------------------------------------------------

    def card(self) -> ClusterCard:
        """The cluster as it is now, as far as it answers."""
        if self._ended_s is not None:
            return self._card("closed")
        return self._card("runs" if self._look() else "no answer")

    def _card(self, state: CardState) -> ClusterCard:
        """The cluster as it was seen last."""
        end, now = session_end(), time.monotonic() if self._ended_s is None else self._ended_s
        return ClusterCard(
            kind=self.facts.kind,
            state=state,
            n_workers=self._size.n_workers,
            n_threads=self._size.n_threads,
            memory_bytes=self._size.memory_bytes if self.facts.kind != "threads" else 0,
            most_workers=self.facts.most_workers,
            age_s=now - self._began,
            core_s=self._meter.core_s,
            session_left_s=None if end is None else (end - utc_now()).total_seconds(),
            pages=cluster_pages(self.facts.id) if self._record is not None else None,
        )

    def __repr__(self) -> str:
        """A few words, without asking the cluster."""
        size = self._size
        return f"<{type(self).__name__}: {size.n_workers} workers, {size.n_threads} cores, {self.status}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """The card as text and HTML, and with its buttons where widgets are installed."""
        card = self.card()
        bundle: dict[str, Any] = {"text/plain": card.text(), "text/html": card.html()}
        if self._widget is None:
            self._widget = ClusterWidget.of(self, card)
        if self._widget is not None:
            self._widget.show(card)
            bundle |= self._widget.bundle()
        return bundle

    def _repr_html_(self) -> str:
        """The card as HTML."""
        return self.card().html()

    # -- what can be done to it ------------------------------------------------------------------------

    def scale(self, workers: int) -> None:
        """Ask for another number of workers; they come and go in the background.

        Raises
        ------
        BadParameter
            If it is below 1 or above what the session may have.
        ClusterRefused
            If the gateway does not allow it, with its numbers.
        """
        if not 1 <= workers <= self.facts.most_workers:
            raise BadParameter("workers", workers, f"from 1 to {self.facts.most_workers}")
        self._scale(workers)

    def _scale(self, workers: int) -> None:
        assert self.cluster is not None  # noqa: S101 - it was made with it
        self.cluster.scale(workers)

    def close(self, *arguments: Any, **settings: Any) -> Any:
        """Close the client, then its cluster; a second time does nothing more."""
        if self._ended_s is not None:
            return super().close(*arguments, **settings)  # type: ignore[no-untyped-call]  # no types
        self._look()
        self._ended_s = time.monotonic()
        if self._looks is not None:
            self._in_loop(self._looks.stop)
        closed = super().close(*arguments, **settings)  # type: ignore[no-untyped-call]  # no types
        self._end_cluster()
        folder = cluster_records()
        if self._record is not None and folder is not None:
            remove_record(folder, self._record.id)
        if self._widget is not None:
            self._widget.show(self._card("closed"))
        return closed

    def stop(self) -> None:
        """As `close`, by the name on the button."""
        self.close()

    def _end_cluster(self) -> None:
        if self.cluster is not None:
            self.cluster.close()

    # -- looking ---------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """Ask how large the cluster is; whether it answered."""
        if self.status != "running":
            return False
        try:
            self._take(self.scheduler_info(n_workers=0))
        except (OSError, TimeoutError):
            return False
        return True

    def _take(self, info: Any) -> None:
        numbers = (int(info.get(name) or 0) for name in ("n_workers", "total_threads", "total_memory"))
        self._size = Size(*numbers)
        self._meter.look(self._size.n_threads, time.monotonic())

    def _in_loop(self, call: Callable[[], None]) -> None:
        if self.loop is not None:
            self.loop.add_callback(call)

    def _start_looking(self) -> None:
        self._looks = PeriodicCallback(self._look_again, LOOK_MS)
        self._looks.start()

    async def _look_again(self) -> None:
        if self.status == "running" and self._ended_s is None and self.scheduler is not None:
            with suppress(OSError):  # it is asked again
                self._take(await self.scheduler.identity(n_workers=0))
                if self._widget is not None:
                    self._widget.show(self._card("runs"))

    # -- its door --------------------------------------------------------------------------------------

    def _open_door(self) -> None:
        """Let the session's server look into the scheduler; without a server there is nobody to look."""
        folder = cluster_records()
        if folder is None:
            return
        certificate, key = self._pair()
        try:
            host, port = self.run_on_scheduler(open_door, certificate, key)  # type: ignore[no-untyped-call]
            self._record = ClusterRecord(
                id=self.facts.id,
                kind=self.facts.kind,
                made_at=utc_now(),
                host=host,
                port=port,
                certificate=certificate,
                key=key,
            )
            write_record(folder, self._record)
        except (OSError, ImportError) as error:  # a scheduler without this module, too: it is good without
            log.warning("the cluster has no dashboards: %s", type(error).__name__)
            self._record = None

    def _pair(self) -> tuple[str, str]:
        """Certificate and key of the cluster, PEM; a new pair where the cluster has none."""
        made = Security.temporary()  # type: ignore[no-untyped-call]  # distributed has no types
        return str(made.tls_ca_file), str(made.tls_client_key)
