"""The life of one running server: tells web how it is, learns its time, and answers Lab's questions."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from beamhub_core.clock import utc_now
from beamhub_core.errors import Unavailable
from beamhub_core.long_job import JobReport
from beamhub_core.session_life import BusyWith, SessionNow, SessionReport
from beamhub_core.word import Word
from beamhub_session.activity import Activity
from beamhub_session.web_link import NotExtended, NotOurSession, WebLink

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
JITTER = 0.1
LONGEST_PAUSE_S = 300.0
SHORTEST_PAUSE_S = 5.0
FIRST_PAUSE_S = 2.0
YOUNG_S = 30.0
"""A server answers before the hub has told web its token: for so long, not being known means nothing."""
KEPT_FOR_S = 60.0
"""For how long *keep it running* counts as activity: long enough for the report that follows."""

Contact = Literal["asking", "told", "offline", "unknown"]


class LifeView(Word):
    """The answer of `GET beamhub/life`: all times are seconds from now, by web's clock."""

    contact: Contact
    seconds_left: float | None
    expires_at: datetime | None
    extends_by_s: float | None
    why_not: str
    idle_stop_in_s: float | None
    busy_with: tuple[BusyWith, ...]
    rights_hold: bool
    right_ends_in_s: float | None
    is_rescue: bool
    notes: tuple[str, ...]


def pause_s(n_failures: int, chance: float) -> float:
    """Seconds until the next report: about a minute, longer each time web does not answer. Pure.

    `chance` in [0, 1) spreads the sessions that were started, or lost web, together.
    """
    base: float = min(INTERVAL_S * 2 ** min(n_failures, 10), LONGEST_PAUSE_S)
    return base * (1 - JITTER + 2 * JITTER * chance)


class SessionLife:
    """One server's contact with web; its methods belong to the server's event loop."""

    def __init__(
        self,
        link: WebLink | None,
        look: Callable[[], Activity],
        first_cell_ago_s: Callable[[], float | None],
        file_end: Callable[[], datetime | None],
        jobs: Callable[[], tuple[JobReport, ...]] = tuple,
    ) -> None:
        self._link, self._look = link, look
        self._first_cell_ago_s, self._file_end = first_cell_ago_s, file_end
        self._jobs = jobs
        self._known: SessionNow | None = None
        self._heard, self._began = 0.0, time.monotonic()
        self._kept_at: float | None = None
        self._busy_with: tuple[BusyWith, ...] = ()
        self._n_failures = 0
        self._wanted = asyncio.Event()
        self.contact: Contact = "asking"
        self.is_used = False

    async def run(self) -> None:
        """Report until cancelled; without a link there is nobody to tell."""
        if self._link is None:
            return
        await asyncio.sleep(FIRST_PAUSE_S * (1 + random.random()))  # noqa: S311  # spreads what starts together
        while True:
            self._wanted.clear()
            await self.report()
            await asyncio.sleep(SHORTEST_PAUSE_S)
            if self.contact == "asking":
                continue
            try:
                pause = pause_s(self._n_failures, random.random()) - SHORTEST_PAUSE_S  # noqa: S311  # spreads
                await asyncio.wait_for(self._wanted.wait(), pause)
            except TimeoutError:
                pass

    async def report(self) -> None:
        """Tell web once, and keep what it says; a web that does not answer is asked again later."""
        if self._link is None:
            return
        try:
            now = await self._link.report(self._build_report())
        except (Unavailable, NotExtended) as error:
            self._n_failures += 1
            self.contact = "offline"
            log.info("beamhub: no word from web, next try in some minutes: %s", error)
        except NotOurSession as error:
            if self.contact == "asking" and time.monotonic() - self._began < YOUNG_S:
                return
            self._n_failures += 1
            self.contact = "unknown"
            log.warning("beamhub: %s", error)
        except Exception:
            # The outermost layer of a task: one bad look must not end all that follow.
            self._n_failures += 1
            log.exception("beamhub: the session could not report")
        else:
            self._take(now)

    def _build_report(self) -> SessionReport:
        seen = self._look()
        self._busy_with = seen.busy_with
        kept = self._kept_at is not None and time.monotonic() - self._kept_at < KEPT_FOR_S
        return SessionReport(
            idle_s=0.0 if kept else seen.idle_s,
            busy_with=seen.busy_with,
            told_of=self._known.idle_stop_at if self._known is not None else None,
            is_used=self.is_used or kept,
            first_cell_ago_s=self._first_cell_ago_s(),
            jobs=self._jobs() or None,
        )

    def _take(self, now: SessionNow) -> None:
        self._known, self._heard = now, time.monotonic()
        self.contact, self._n_failures = "told", 0

    async def extend(self) -> None:
        """Ask web to extend the session.

        Raises
        ------
        NotExtended
            If it may not be extended, or web gives no answer.
        """
        if self._link is None:
            raise NotExtended("This server is no session of the platform, so it has no end to extend.")
        try:
            self._take(await self._link.extend())
        except Unavailable:
            raise NotExtended(
                "The platform gives no answer now, so the session is not extended. Try again in a minute."
            ) from None
        except NotOurSession as error:
            raise NotExtended(str(error)) from None

    async def keep(self) -> None:
        """The person says that the session is in use."""
        self._kept_at = time.monotonic()
        self.is_used = True
        await self.report()

    @property
    def expires_at(self) -> datetime | None:
        """The session's end as web said it last."""
        return self._known.expires_at if self._known is not None else None

    def hurry(self) -> None:
        """Something happened that web should hear of before the minute is over."""
        self._wanted.set()

    def opened(self) -> None:
        """Somebody looks at the session."""
        if not self.is_used:
            self.is_used = True
            self._wanted.set()

    def view(self) -> LifeView:
        """How things stand, as far as web said, counted on since then."""
        known = self._known
        if known is None:
            end = self._file_end()
            left = None if end is None else (end - utc_now()).total_seconds()
            return LifeView(
                contact=self.contact,
                seconds_left=None if left is None else max(0.0, left),
                expires_at=end,
                extends_by_s=None,
                why_not="",
                idle_stop_in_s=None,
                busy_with=self._busy_with,
                rights_hold=True,
                right_ends_in_s=None,
                is_rescue=False,
                notes=(),
            )
        now = known.now + timedelta(seconds=time.monotonic() - self._heard)
        return LifeView(
            contact=self.contact,
            seconds_left=_left(known.expires_at, now),
            expires_at=known.expires_at,
            extends_by_s=_left(known.extends_to, known.expires_at),
            why_not=known.why_not,
            idle_stop_in_s=_left(known.idle_stop_at, now),
            busy_with=self._busy_with,
            rights_hold=known.rights_hold,
            right_ends_in_s=_left(known.right_ends_at, now),
            is_rescue=known.is_rescue,
            notes=known.notes,
        )


def _left(until: datetime | None, now: datetime) -> float | None:
    return None if until is None else max(0.0, (until - now).total_seconds())
