"""The catalogue as the web service's app composes it: one object, made from the configuration."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from fastapi import APIRouter, Request
from sqlalchemy import func, select

from beamhub_catalogue.clock_marks import clock_problems, guarded_clock, keep_mark
from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.grants import NOT_FOUND_REASON, refusal
from beamhub_catalogue.harvest import Harvester
from beamhub_catalogue.internal import InternalApi
from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.office_poller import OfficePoller
from beamhub_catalogue.offices import office_states
from beamhub_catalogue.people import find_principal
from beamhub_catalogue.rules import RuleBook
from beamhub_catalogue.search_api import SearchApi
from beamhub_catalogue.sessions import sessions_of
from beamhub_catalogue.views import DatasetView, Health, SearchFilters, SearchPage, SessionView
from beamhub_core.clock import Clock, shifted_clock
from beamhub_core.config import FacilityConfig
from beamhub_core.identity import Principal
from beamhub_core.rights import Refusal

log = logging.getLogger(__name__)

PrincipalResolver = Callable[[Request], Principal | None]
"""Who is calling the search API: given by the portal's app, which knows cookies and hub tokens.
A plain `def` (it runs in a thread), raising `fastapi.HTTPException(401)` for a token that is none."""


class CatalogueService:
    """Datasets, rights and sessions of one facility.

    All methods are synchronous and thread-safe; an async handler calls them in a thread pool
    (or is a plain `def`). Every method that shows something takes the reader's Principal, None for
    an anonymous reader, and re-evaluates that reader's rights at the clock's present.
    """

    def __init__(
        self, config: FacilityConfig, clock: Clock | None = None, wall_clock: Clock | None = None
    ) -> None:
        """Open, and where needed make, the database.

        `clock` is the policy's present, by default the configuration's (`web.unsafe_clock_offset_file`).
        `wall_clock` is the machine's, by which the hub stamps principals and plans; by default guarded
        against jumps (`beamhub_core.clock.GuardedClock`).

        Raises
        ------
        ConfigInvalid
            If the policy file cannot be read and never could.
        DatabaseUnusable
            If PostgreSQL cannot be reached, does not let us in, or is too old.
        """
        offset_file = config.web.unsafe_clock_offset_file
        self.config = config
        self.database = Database(config.web.database_url, config.web.database_password_file)
        try:
            ensure_schema(self.database)
            self._guarded = guarded_clock(self.database)
            wall_clock = wall_clock or self._guarded
            self.clock = clock or (shifted_clock(offset_file, wall_clock) if offset_file else wall_clock)
            self.rules = RuleBook(self.database, config.catalogue, self.clock)
            self.desk = Desk(self.database, config, self.rules, self.clock, wall_clock)
            self.office_poller = OfficePoller(
                self.database, self.rules.offices, self.rules.refresh, self.clock
            )
            self.office_poller.poll()
        except BaseException:
            self.database.close()
            raise
        self.harvester = Harvester(self.desk)
        self._stop_scanning = threading.Event()
        self._scanner: threading.Thread | None = None

    def start(self) -> None:
        """Start the background scan of the harvest roots and the polling of user offices; idempotent."""
        self.office_poller.start()
        if self._scanner is None:
            self._scanner = threading.Thread(target=self._scan_for_ever, name="harvest", daemon=True)
            self._scanner.start()

    def stop(self) -> None:
        """Stop the background work and give the database back; idempotent."""
        self._stop_scanning.set()
        self.office_poller.stop()
        self.harvester.stop()
        if self._scanner is not None:
            self._scanner.join(timeout=30)
        self.database.close()

    def principal(self, account: str) -> Principal | None:
        """Who an account is, as the hub last said; None when it never did or ended the account."""
        with self.database.reading() as session:
            return find_principal(session, account)

    def search(
        self,
        principal: Principal | None,
        text: str = "",
        filters: SearchFilters | None = None,
        page: int = 1,
        page_size: int = 20,
    ) -> SearchPage:
        """The datasets that this reader may know of; page and page_size are clamped, never an error."""
        with self.desk.reading(principal) as catalogue:
            return catalogue.search(text, filters or SearchFilters(), page, page_size)

    def dataset_page(self, principal: Principal | None, pid: str) -> DatasetView | Refusal:
        """One dataset for this reader; the same `not_found` for hidden and for unknown pids."""
        with self.desk.reading(principal) as catalogue:
            row = catalogue.row(pid)
            if row is None:
                return refusal("not_found", pid, NOT_FOUND_REASON)
            return catalogue.page(row)

    def preview_png(self, principal: Principal | None, pid: str) -> bytes | None:
        """The rendered preview, for those who may read the data; None otherwise."""
        with self.desk.reading(principal) as catalogue:
            row = catalogue.row(pid)
            if row is None or not row.has_preview or not catalogue.judge.on_dataset(row).may_read:
                return None
        try:
            return self.harvester.preview_path(pid).read_bytes()
        except OSError:
            return None

    def sessions_of(self, account: str) -> tuple[SessionView, ...]:
        """The account's sessions, live ones first, then the latest 20 that ended."""
        with self.database.reading() as session:
            return sessions_of(session, account)

    def health(self) -> Health:
        """What works now; `problems` is for operators only."""
        if not self.database.is_up():
            return Health(False, "down", 0, "", None, self.harvester.last_scan_at)
        policy = self.rules.refresh()
        with self.database.reading() as session:
            n_datasets = session.scalar(select(func.count()).select_from(DatasetRow)) or 0
            offices = office_states(session)
        times = [office.read_at for office in offices if office.read_at is not None]
        oldest = min(times) if times and len(times) == len(offices) else None
        problems = clock_problems(self._guarded) + self.rules.problems() + self.harvester.problems()
        last_scan = self.harvester.last_scan_at
        return Health(True, "ok", n_datasets, policy.version, oldest, last_scan, problems, offices)

    def api_router(self, resolve_principal: PrincipalResolver) -> APIRouter:
        """The PaNOSC search API, with its `/api` prefix."""
        return SearchApi(self.desk, resolve_principal).router()

    def internal_router(self) -> APIRouter:
        """The internal API, with its `/internal` prefix; it checks its callers by itself."""
        return InternalApi(self.desk, self.harvester, self.database.is_up).router()

    def _scan_for_ever(self) -> None:
        while not self._stop_scanning.is_set():
            try:
                keep_mark(self.database, self._guarded)
                report = self.harvester.scan()
                if report.harvested or report.problems:
                    facts = {"harvested": len(report.harvested), "problems": len(report.problems)}
                    log.info("harvest scan", extra=facts)
            except Exception:  # outermost layer of the thread: the next scan may work
                log.exception("harvest scan failed")
            self._stop_scanning.wait(self.config.catalogue.harvest_interval_s)
