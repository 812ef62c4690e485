"""The catalogue as the web service's app composes it: one object, made from the configuration."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Request
from sqlalchemy import func, select

from beamhub_catalogue.audit_reading import EntryPage, Paging, is_investigator, own_entries, proposal_entries
from beamhub_catalogue.audit_retention import prune
from beamhub_catalogue.clock_marks import clock_problems, guarded_clock, keep_mark
from beamhub_catalogue.counts import count_again
from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.grants import NOT_FOUND_REASON, refusal
from beamhub_catalogue.harvest import Harvester
from beamhub_catalogue.internal import InternalApi
from beamhub_catalogue.internal_life import present_of
from beamhub_catalogue.metrics_route import metrics_router
from beamhub_catalogue.models import DatasetRow, SessionRow
from beamhub_catalogue.office_poller import OfficePoller
from beamhub_catalogue.offices import office_states
from beamhub_catalogue.people import find_principal
from beamhub_catalogue.recheck import Present
from beamhub_catalogue.rules import RuleBook
from beamhub_catalogue.search_api import SearchApi
from beamhub_catalogue.session_life import extend_and_record, keep_going
from beamhub_catalogue.session_queue import SessionQueue
from beamhub_catalogue.session_time import Extension, find_extension
from beamhub_catalogue.sessions import sessions_of
from beamhub_catalogue.storage_pools import keep_pools
from beamhub_catalogue.views import DatasetView, Health, SearchFilters, SearchPage, SessionView
from beamhub_core.clock import Clock, shifted_clock
from beamhub_core.config import FacilityConfig
from beamhub_core.identity import Principal
from beamhub_core.rights import Refusal, Refused
from beamhub_core.session import LIVE_STATES

log = logging.getLogger(__name__)

PRUNE_INTERVAL_S = 24 * 3600.0
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
            keep_pools(self.database, config.pools, self.clock())
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
        self._pruned_at: float | None = None

    def start(self) -> None:
        """Start the background scan of the harvest roots and the polling of user offices; idempotent."""
        self.office_poller.start()
        if self._scanner is None:
            self._scanner = threading.Thread(target=self._work_for_ever, name="harvest", daemon=True)
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

    def extend_session(self, account: str, plan_id: str) -> datetime:
        """Extend a person's own live session as far as it may be; its new end.

        Raises
        ------
        Refused
            `not_found` where there is none, else why it cannot be.
        """
        present = self._present()
        with self.database.writing() as session:
            row = session.get(SessionRow, plan_id)
            if row is None or row.account != account or row.state not in LIVE_STATES:
                raise Refused(refusal("not_found", plan_id, "This session does not run any more."))
            return extend_and_record(session, self.config, present, row)

    def keep_session(self, account: str, server_name: str) -> None:
        """A person's own session is in use, or is to go on: it is not stopped because nothing happens in it.

        No error for a session that is not there.
        """
        with self.database.writing() as session:
            mine = (SessionRow.account == account, SessionRow.server_name == server_name)
            for row in session.scalars(select(SessionRow).where(*mine, SessionRow.state.in_(LIVE_STATES))):
                keep_going(row, self.desk.wall_clock())

    def extension_of(self, plan_id: str) -> Extension | None:
        """How far a session may be extended now; None for one that is not known."""
        present = self._present()
        with self.database.reading() as session:
            row = session.get(SessionRow, plan_id)
            return find_extension(session, self.config, present, row) if row is not None else None

    def _present(self) -> Present:
        return present_of(self.desk)

    @property
    def queue(self) -> SessionQueue:
        """Those who wait for room."""
        return SessionQueue(self.desk)

    def own_audit(self, account: str, before: int | None = None) -> EntryPage:
        """What the person behind an account did and what happened to them, newest first."""
        with self.database.reading() as session:
            return own_entries(session, account, before)

    def proposal_audit(
        self, principal: Principal | None, proposal: str, before: int | None = None
    ) -> EntryPage | Refusal:
        """What touched a proposal, for its principal investigator; else the refusal of an unknown one."""
        with self.desk.reading(principal) as catalogue:
            paging, login = Paging(before), self.config.login
            try:
                return proposal_entries(
                    catalogue.session, catalogue.reader, proposal, catalogue.now, login, paging
                )
            except Refused as refused:
                return refused.refusal

    def is_investigator(self, principal: Principal | None, proposal: str) -> bool:
        """Whether somebody may read what touched a proposal."""
        with self.desk.reading(principal) as catalogue:
            return is_investigator(catalogue.reader, proposal, catalogue.now)

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
        """The internal API, with its `/internal` prefix, and `/metrics`; they check their callers."""
        router = APIRouter()
        router.include_router(InternalApi(self.desk, self.harvester, self.database.is_up).router())
        router.include_router(metrics_router(self.desk))
        return router

    def _work_for_ever(self) -> None:
        """What has to be done from time to time; what fails is tried again in the next round."""
        jobs = (self._keep_clock_mark, self._prune_daily, self._scan, self._count_again)
        while not self._stop_scanning.is_set():
            for job in jobs:
                try:
                    job()
                except Exception:  # outermost layer: one job must not keep the others from theirs
                    name = job.__name__.strip("_")
                    log.exception("background work failed", extra={"job": name})
                    self.desk.metrics.failed(name)
            self._stop_scanning.wait(self.config.catalogue.harvest_interval_s)

    def _keep_clock_mark(self) -> None:
        keep_mark(self.database, self._guarded)

    def _scan(self) -> None:
        began = time.monotonic()
        report = self.harvester.scan()
        self.desk.metrics.scanned(
            len(report.harvested), len(report.all_problems), time.monotonic() - began, time.time()
        )
        if report.harvested or report.problems:
            facts = {"harvested": len(report.harvested), "problems": len(report.problems)}
            log.info("harvest scan", extra=facts)

    def _count_again(self) -> None:
        """What harvest and others changed, in transactions so short that nobody waits for them."""
        more = 1
        while more and not self._stop_scanning.is_set():
            with self.database.writing() as session:
                more = count_again(session)

    def _prune_daily(self) -> None:
        """Once a day of this process's own time, and when it starts."""
        now = time.monotonic()
        if self._pruned_at is not None and now - self._pruned_at < PRUNE_INTERVAL_S:
            return
        self._pruned_at = now
        done = prune(self.database, self.config.catalogue.audit, self.desk.wall_clock())
        if done.n_entries or done.n_sessions:
            log.info("retention", extra={"entries": done.n_entries, "sessions": done.n_sessions})
