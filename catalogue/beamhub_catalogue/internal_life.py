"""The part of the internal API that running sessions speak to, each with its own server's token."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from fastapi import HTTPException, Request
from sqlalchemy.orm import Session

from beamhub_catalogue.callers import bearer_token
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.internal_refusals import refused_answer
from beamhub_catalogue.models import SessionRow
from beamhub_catalogue.recheck import Present
from beamhub_catalogue.session_life import extend_and_record, seconds_of, session_now, take_report
from beamhub_catalogue.sessions import session_of_token
from beamhub_core.rights import Refused
from beamhub_core.session_life import SessionNow, SessionReport

log = logging.getLogger(__name__)


class InternalLife:
    """The handlers; each is a plain function that runs in a thread."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def report(self, request: Request, report: SessionReport) -> SessionNow:
        """Take what a session says of itself, and tell it how things stand."""
        present = present_of(self._desk)
        config = self._desk.config
        with self._desk.database.writing() as session:
            row = live_row(session, request)
            if take_report(row, report, config.sessions, present.wall_now):
                seconds = seconds_of(row).get("first_cell")
                log.info("first cell: plan=%s trace=%s", row.plan_id, row.plan.get("trace_id", ""))
                if seconds is not None:
                    self._desk.metrics.phase("first_cell", float(seconds))
        with self._desk.database.reading() as session:
            return session_now(session, config, present, live_row(session, request))

    def extend(self, request: Request) -> Any:
        """Extend the calling session as far as it may be, as its person could in the portal."""
        present = present_of(self._desk)
        try:
            with self._desk.database.writing() as session:
                extend_and_record(session, self._desk.config, present, live_row(session, request))
        except Refused as refused:
            self._desk.metrics.refused("extend", refused.refusal.code)
            return refused_answer(refused)
        with self._desk.database.reading() as session:
            return session_now(session, self._desk.config, present, live_row(session, request))


def present_of(desk: Desk) -> Present:
    """By what rights are judged now."""
    return Present(desk.rules.refresh(), desk.clock(), desk.wall_clock())


def live_row(session: Session, request: Request) -> SessionRow:
    """The live session whose server's token the request carries.

    Raises
    ------
    HTTPException
        401 where the token belongs to none.
    """
    row = session_of_token(session, hashlib.sha256(bearer_token(request).encode()).hexdigest())
    if row is None:
        raise HTTPException(401, "This token belongs to no running session.")
    return row
