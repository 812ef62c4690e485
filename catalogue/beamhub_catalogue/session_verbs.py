"""What `beamhub session` does, for an operator: whoever may read the configuration and its secrets."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from beamhub_catalogue.audit import record_command
from beamhub_catalogue.known_accounts import find_account
from beamhub_catalogue.models import SessionRow
from beamhub_catalogue.session_usage import usage_by, usage_of
from beamhub_catalogue.sessions import FINAL_STATES, live_sessions, stored_session
from beamhub_catalogue.shown import opened_service, show, table
from beamhub_catalogue.ticket_queue import waiting_tickets
from beamhub_core.config import FacilityConfig
from beamhub_core.errors import BeamhubError, Unavailable
from beamhub_core.placement_words import placement_words
from beamhub_core.session import StoredSession

MAX_LISTED = 1_000
STOP_TIMEOUT_S = 30.0
_PREFIX = re.compile(r"[0-9a-f]{6,32}")
_STATES = ("planned", "starting", "running", "stopping", *FINAL_STATES)


class UnknownSession(BeamhubError):
    """No session has this id, or several begin with it."""

    exit_code = 3

    def __init__(self, text: str, n_found: int) -> None:
        super().__init__(text, n_found)
        self.text, self.n_found = text, n_found

    def __str__(self) -> str:
        if self.n_found > 1:
            return f"{self.n_found} sessions begin with {self.text[:40]!r}. Give more digits."
        return f"There is no session {self.text[:40]!r}; `beamhub session list` names those that live."


class StopRefused(BeamhubError):
    """The hub did not stop a server."""

    exit_code = 4

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

    def __str__(self) -> str:
        return f"The hub did not stop it (HTTP {self.status}). Its log says why."


def run_list(arguments: argparse.Namespace) -> int:
    """The sessions, the oldest first."""
    with opened_service(arguments) as service, service.database.reading() as session:
        if arguments.account is None:
            rows = live_sessions(session)
        else:
            account = find_account(session, service.config, arguments.account)
            query = select(SessionRow).where(SessionRow.account == account)
            rows = list(session.scalars(query.order_by(SessionRow.created_at).limit(MAX_LISTED)))
        n_waiting = len(waiting_tickets(session, service.clock()))
        now = service.clock()
        facts = [_facts(row) | {"usage": asdict(usage_of(row, now))} for row in rows]
    head = ("ID", "STATE", "PLACE", "PROFILE", "ACCOUNT", "SERVER", "SINCE", "ENDS")
    cells = [[str(fact[name.lower()])[:32] for name in head] for fact in facts]
    lines = [*(table(head, cells) if cells else ["Nothing runs."]), f"{n_waiting} wait for room"]
    show(arguments, {"sessions": facts, "waiting": n_waiting}, lines)
    return 0


def run_usage(arguments: argparse.Namespace) -> int:
    """Core hours and GiB hours by person or proposal, of sessions that began in the last days."""
    with opened_service(arguments) as service, service.database.reading() as session:
        now = service.clock()
        since = now - timedelta(days=arguments.days)
        query = (
            select(SessionRow)
            .where(SessionRow.created_at >= since)
            .options(selectinload(SessionRow.proposals))
        )
        sums = usage_by(session.scalars(query), arguments.by, now)
    facts = {name: asdict(used) for name, used in sorted(sums.items())}
    head = (arguments.by.upper(), "NOTEBOOK CORE H", "CLUSTER CORE H", "NOTEBOOK GIB H", "CLUSTER GIB H")
    names = ("notebook_core_s", "cluster_core_s", "notebook_memory_gib_s", "cluster_memory_gib_s")
    cells = [[name, *(f"{fact[one] / 3600:.2f}" for one in names)] for name, fact in facts.items()]
    lines = table(head, cells) if cells else ["No session began in this time."]
    show(arguments, {"by": arguments.by, "since": since.isoformat(), "usage": facts}, lines)
    return 0


def run_why(arguments: argparse.Namespace) -> int:
    """Why here and not there, and the phases of the start."""
    with opened_service(arguments) as service, service.database.reading() as session:
        row = _find(session, arguments.id)
        stored, phases = stored_session(row), dict(row.phases or {})
    facts = {
        "id": stored.plan.id,
        "state": stored.record.state,
        "account": stored.plan.account,
        "server": stored.plan.server_name,
        "trace_id": stored.plan.trace_id,
        "ends": stored.ends_at.isoformat(),
        "explain": stored.plan.explain.model_dump(mode="json"),
        "phases": phases,
        "reason": stored.record.reason,
    }
    show(arguments, facts, _why_lines(stored, phases))
    return 0


def run_stop(arguments: argparse.Namespace) -> int:
    """Stop a session as its person would, with the token of the web service."""
    with opened_service(arguments) as service:
        with service.database.reading() as session:
            row = _find(session, arguments.id)
            account, name, state = row.account, row.server_name, row.state
        if state in FINAL_STATES:
            show(arguments, {"stopped": False, "state": state}, [f"It {state} already."])
            return 0
        record_command(service.database, "session stop", service.clock())
        was_there = _stop(service.config, account, name)
    said = (
        "The hub stops it." if was_there else "The hub knows no such server; the next sweep closes its row."
    )
    show(arguments, {"stopped": was_there, "state": state}, [said])
    return 0


def _stop(config: FacilityConfig, account: str, name: str) -> bool:
    """Ask the hub; whether it had such a server."""
    try:
        token = config.web.hub_service_token_file.read_text(encoding="utf-8").strip()
        path = f"/users/{quote(account, safe='')}/servers/{quote(name, safe='')}"
        if not name:
            path = f"/users/{quote(account, safe='')}/server"
        answer = httpx.delete(
            config.web.hub_api_url.rstrip("/") + path,
            headers={"Authorization": f"Bearer {token}"},
            timeout=STOP_TIMEOUT_S,
        )
    except (httpx.HTTPError, OSError) as error:
        raise Unavailable("hub", type(error).__name__) from error
    if answer.status_code == 404:
        return False
    if answer.status_code not in (202, 204):
        raise StopRefused(answer.status_code)
    return True


def _find(session: Session, text: str) -> SessionRow:
    text = text.lower()
    if _PREFIX.fullmatch(text) is None:
        raise UnknownSession(text, 0)
    found = session.scalars(select(SessionRow).where(SessionRow.plan_id.startswith(text)).limit(3)).all()
    if len(found) != 1:
        raise UnknownSession(text, len(found))
    return found[0]


def _facts(row: SessionRow) -> dict[str, Any]:
    return {
        "id": row.plan_id,
        "state": row.state,
        "place": row.place,
        "profile": row.plan.get("profile", ""),
        "account": row.account,
        "server": row.server_name or "-",
        "since": row.created_at.isoformat(timespec="seconds"),
        "ends": row.expires_at.isoformat(timespec="seconds"),
        "reason": row.reason,
    }


def _why_lines(stored: StoredSession, phases: dict[str, Any]) -> list[str]:
    plan, record = stored.plan, stored.record
    lines = [
        f"Session {plan.id}, server {plan.server_name or '-'} of {plan.account}: {record.state}",
        *placement_words(plan.explain),
        f"Profile {plan.profile}, environment {plan.environment}; ends {stored.ends_at:%Y-%m-%d %H:%M} UTC",
    ]
    if record.reason:
        lines.append(f"Reason: {record.reason}")
    begun = phases.get("planned")
    for state in _STATES[1:]:
        if begun is not None and state in phases:
            after = (datetime.fromisoformat(phases[state]) - datetime.fromisoformat(begun)).total_seconds()
            lines.append(f"{state} {after:.2f} s after its plan was stored")
    for phase, seconds in phases.get("seconds", {}).items():
        lines.append(f"phase {phase}: {seconds:.3f} s")
    if plan.trace_id:
        lines.append(f"Trace {plan.trace_id}")
    return lines
