"""The internal API, for the platform's own processes; docs/reference/internal-api.md is its contract."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import Field
from sqlalchemy.exc import StatementError

from beamhub_catalogue.audit import Context, record
from beamhub_catalogue.audit_acts import record_decision, record_plan, record_push, record_verdicts
from beamhub_catalogue.callers import check_scope, read_clients
from beamhub_catalogue.desk import Desk
from beamhub_catalogue.grants import GrantedAnswer, answer_grants, proposal_of
from beamhub_catalogue.harvest import Harvester
from beamhub_catalogue.internal_acts import InternalActs
from beamhub_catalogue.internal_audit import InternalAudit
from beamhub_catalogue.internal_identities import InternalIdentities
from beamhub_catalogue.internal_life import InternalLife, live_row, present_of
from beamhub_catalogue.internal_queue import InternalQueue
from beamhub_catalogue.internal_refusals import not_known, refused_answer
from beamhub_catalogue.internal_words import documented
from beamhub_catalogue.keeping import is_about_values
from beamhub_catalogue.models import SessionRow
from beamhub_catalogue.people import find_principal, remove_principal, store_principal
from beamhub_catalogue.products import take_product
from beamhub_catalogue.recheck import recheck_sessions
from beamhub_catalogue.session_life import seconds_of
from beamhub_catalogue.session_usage import keep_usage
from beamhub_catalogue.sessions import (
    FINAL_STATES,
    PlanConflict,
    live_sessions,
    store_plan,
    stored_session,
    update_session,
)
from beamhub_catalogue.texts import is_storable
from beamhub_catalogue.ticket_queue import drop_tickets_of, find_ticket
from beamhub_core.identity import ACCOUNT_PATTERN, Principal, account_name
from beamhub_core.product import ProductNotice
from beamhub_core.rights import Refusal, Refused, RelativePath
from beamhub_core.session import SessionPlan, SessionUpdate, SessionVerdict, StoredSession
from beamhub_core.session_usage import UsageReport
from beamhub_core.word import Word, digest

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_000_000
MAX_NAMED_DATASETS = 1_000

Account = Annotated[str, Path(pattern=ACCOUNT_PATTERN)]
PlanId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
_Route = tuple[str, str, Callable[..., Any], int]
Pid = Annotated[str, Field(min_length=1, max_length=300)]


class GrantQuestion(Word):
    """What may this account touch of these datasets?"""

    account: Annotated[str, Field(max_length=80)]
    datasets: Annotated[tuple[Pid, ...], Field(max_length=MAX_NAMED_DATASETS)]


class PlanToStore(Word):
    """A plan and the hash that its maker computed."""

    plan: SessionPlan
    plan_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class HarvestRequest(Word):
    """What to scan: one folder or file of a pool, or everything."""

    pool: str | None = None
    path: RelativePath | None = None


class InternalApi:
    """The handlers; each is a plain function that runs in a thread."""

    def __init__(self, desk: Desk, harvester: Harvester, is_up: Callable[[], bool]) -> None:
        self._desk, self._database, self._harvester, self._is_up = desk, desk.database, harvester, is_up
        self._clients = read_clients(desk.config.web.clients)

    def router(self, *, described: bool = False) -> APIRouter:
        """The routes, below `/internal`; with what they answer only for the document, as that takes time."""
        router = APIRouter(prefix="/internal", tags=["internal"], route_class=_BoundedRoute)
        acts = InternalActs(self._desk, self._clients)
        audit = InternalAudit(self._desk, self._clients)
        identities = InternalIdentities(self._desk)
        queue = InternalQueue(self._desk)
        life = InternalLife(self._desk)
        open_routes: tuple[_Route, ...] = (
            ("GET", "/health", self.health, 200),
            ("POST", "/products", self.product, 201),
            ("POST", "/session/report", life.report, 200),
            ("POST", "/session/extend", life.extend, 200),
        )
        scoped: tuple[tuple[str, _Route], ...] = (
            ("principals:write", ("PUT", "/principals/{account}", self.put_principal, 204)),
            ("principals:write", ("DELETE", "/principals/{account}", self.delete_principal, 204)),
            ("principals:write", ("GET", "/identities/{account}", identities.get, 200)),
            ("principals:write", ("PUT", "/identities/{account}", identities.put, 204)),
            ("principals:write", ("DELETE", "/identities/{account}", identities.delete, 204)),
            ("grants:read", ("POST", "/grants", self.grants, 200)),
            ("plans:read", ("GET", "/sessions", self.list_sessions, 200)),
            ("plans:write", ("PUT", "/sessions/{plan_id}", self.put_plan, 201)),
            ("plans:read", ("GET", "/sessions/{plan_id}", self.get_session, 200)),
            ("plans:write", ("PUT", "/tickets", queue.put, 200)),
            ("plans:write", ("DELETE", "/tickets/{account}", queue.delete, 204)),
            ("plans:write", ("POST", "/sessions/{plan_id}/update", self.update, 204)),
            ("usage:write", ("PUT", "/usage", self.usage, 204)),
            ("sessions:recheck", ("POST", "/recheck", self.recheck, 200)),
            ("harvest:write", ("POST", "/harvest", self.harvest, 200)),
            ("acts:write", ("PUT", "/acts/{act_id}", acts.put, 200)),
            ("acts:write", ("DELETE", "/acts/{act_id}", acts.revoke, 204)),
            ("acts:write", ("GET", "/proposals/{proposal}/acts", acts.list, 200)),
            ("audit:read", ("GET", "/audit", audit.read, 200)),
            ("audit:write", ("POST", "/audit", audit.write, 201)),
        )
        for method, path, handler, status in open_routes:
            router.add_api_route(
                path,
                handler,
                methods=[method],
                status_code=status,
                response_model=None,
                **(documented(method, path, None) if described else {}),
            )
        for scope, (method, path, handler, status) in scoped:
            router.add_api_route(
                path,
                handler,
                methods=[method],
                status_code=status,
                response_model=None,
                dependencies=[Depends(self._needs(scope))],
                **(documented(method, path, scope) if described else {}),
            )
        return router

    def _needs(self, scope: str) -> Callable[[Request], None]:
        def check(request: Request) -> None:
            check_scope(request, self._clients, scope)

        return check

    def health(self) -> JSONResponse:
        """Whether the service can answer."""
        if self._is_up():
            return JSONResponse({"status": "ok", "database": "ok"})
        return JSONResponse({"status": "down", "database": "down"}, status_code=503)

    def put_principal(self, account: Account, principal: Principal) -> None:
        """Keep what the hub says of a person."""
        if principal.account != account or account_name(principal.issuer, principal.subject) != account:
            raise HTTPException(422, "The account is not that of this issuer and subject.")
        _check_instant("checked_at", principal.checked_at)
        subjects = (identity.subject for identity in principal.identities)
        if not all(map(is_storable, (*subjects, principal.facility_account or ""))):
            raise HTTPException(422, "The principal holds a text that no database keeps.")
        with self._database.writing() as session:
            now, login = self._desk.clock(), self._desk.config.login
            before = find_principal(session, account)
            if store_principal(session, principal, login, now):
                record_push(session, before, principal, login, now)

    def delete_principal(self, account: Account) -> None:
        """End an account's rights now."""
        with self._database.writing() as session:
            drop_tickets_of(session, (account,))
            if remove_principal(session, account, self._desk.wall_clock()):
                record(session, "account_ended", "", self._desk.clock(), context=Context(about=account))

    def grants(self, question: GrantQuestion) -> Any:
        """What an account may touch of named datasets."""
        with self._desk.metrics.answering_grants():
            return self._grants(question)

    def _grants(self, question: GrantQuestion) -> Any:
        with self._database.reading() as session:
            principal = find_principal(session, question.account)
        try:
            if principal is None:
                raise not_known(question.account)
            with self._desk.reading(principal) as catalogue:
                answer = answer_grants(catalogue, question.account, tuple(dict.fromkeys(question.datasets)))
        except Refused as refused:
            self._record_decision(question, refused.refusal)
            self._desk.metrics.refused("grants", refused.refusal.code)
            log.info(
                "grants refused", extra={"reference": refused.refusal.reference, "account": question.account}
            )
            return refused_answer(refused)
        self._record_decision(question, answer)
        return Response(answer.body, media_type="application/json")

    def put_plan(self, plan_id: PlanId, body: PlanToStore, response: Response) -> Any:
        """Store a plan before anything is made from it."""
        if body.plan.id != plan_id:
            raise HTTPException(422, "The plan has another id than its address.")
        _check_instant("created_at", body.plan.created_at)
        _check_instant("expires_at", body.plan.expires_at)
        if _digest(body.plan) != body.plan_hash:
            raise HTTPException(422, "The hash is not the plan's.")
        now = self._desk.clock()
        with self._database.writing() as session:
            ticket = find_ticket(session, body.plan.account, body.plan.server_name)
            joined = ticket.joined_at if ticket is not None else None
            try:
                stored = store_plan(session, body.plan, body.plan_hash, self._desk.config.sessions, now)
            except Refused as refused:
                self._desk.metrics.refused("plan", refused.refusal.code)
                facts = {"code": refused.refusal.code}
                log.info("plan refused: %s trace=%s", refused, body.plan.trace_id, extra=facts)
                return refused_answer(refused)
            except PlanConflict as error:
                raise HTTPException(409, str(error)) from None
            if stored == "new":
                record_plan(session, body.plan, body.plan_hash, now)
        if stored == "new":
            log.info("plan stored: plan=%s trace=%s", plan_id, body.plan.trace_id)
            if joined is not None:
                self._desk.metrics.waited((now - joined).total_seconds())
        response.status_code = 201 if stored == "new" else 200
        return None

    def get_session(self, plan_id: PlanId) -> StoredSession:
        """One stored session."""
        with self._database.reading() as session:
            row = session.get(SessionRow, plan_id)
            if row is None:
                raise HTTPException(404, "No such session.")
            return stored_session(row)

    def list_sessions(self, live: Annotated[Literal["true"], Query()]) -> list[StoredSession]:
        """Every live session."""
        with self._database.reading() as session:
            return [stored_session(row) for row in live_sessions(session)]

    def update(self, plan_id: PlanId, update: SessionUpdate) -> None:
        """Advance the mutable side of a session."""
        now = self._desk.clock()
        with self._database.writing() as session:
            row = session.get(SessionRow, plan_id)
            if row is None:
                raise HTTPException(404, "No such session.")
            for name in set(update.phases_s or {}) - set(seconds_of(row)):
                self._desk.metrics.phase(name, (update.phases_s or {})[name])
            if update_session(row, update, now):
                trace = row.plan.get("trace_id", "")
                log.info("session is %s: plan=%s trace=%s", row.state, plan_id, trace)
                touched = {proposal_of(mount.path) for mount in row.mounts}
                context = Context(about=row.account, proposals=touched)
                record(session, "state", plan_id, now, context=context, state=row.state)
            if row.state in FINAL_STATES:
                self._desk.room_freed.set()

    def usage(self, report: UsageReport) -> None:
        """Keep what the clusters of sessions have used in all."""
        with self._database.writing() as session:
            keep_usage(session, report)

    def recheck(self) -> list[SessionVerdict]:
        """The rights of every live session, evaluated again."""
        present = present_of(self._desk)
        with self._desk.metrics.rechecking(), self._database.reading() as session:
            verdicts = recheck_sessions(session, self._desk.config.login, present)
        self._desk.metrics.verdicts(verdict.action for verdict in verdicts)
        record_verdicts(self._database, verdicts, present.now)
        return verdicts

    def product(self, request: Request, notice: ProductNotice) -> Any:
        """Harvest a product that a session wrote."""
        with self._database.reading() as session:
            row = live_row(session, request)
        try:
            pid = take_product(self._desk, self._harvester, SessionPlan.model_validate(row.plan), notice.path)
        except Refused as refused:
            return refused_answer(refused, 422)
        return JSONResponse({"pid": pid}, status_code=201)

    def harvest(self, body: HarvestRequest) -> JSONResponse:
        """Scan now."""
        if body.pool is None and body.path is not None:
            raise HTTPException(422, "A path needs its pool.")
        if body.pool is not None and body.pool not in {pool.name for pool in self._desk.config.pools}:
            raise HTTPException(422, f"There is no pool {body.pool[:80]!r}.")
        report = self._harvester.scan(body.pool, body.path)
        problems = [{"file": p.file, "reason": p.reason} for p in report.all_problems]
        numbers = {
            "harvested": len(report.harvested),
            "unchanged": report.n_unchanged,
            "datasets": report.n_datasets,
        }
        return JSONResponse(numbers | {"problems": problems})

    def _record_decision(self, question: GrantQuestion, answer: GrantedAnswer | Refusal) -> None:
        with self._database.writing() as session:
            record_decision(session, question.account, question.datasets, answer, self._desk.clock())


def _check_instant(name: str, when: datetime) -> None:
    """422 for a time that the database cannot keep: one without a zone, or none in UTC."""
    try:
        if when.tzinfo is not None:
            when.astimezone(UTC)
            return
    except OverflowError:
        pass
    raise HTTPException(422, f"{name} is no time with a zone between the years 1 and 9999.")


def _digest(plan: SessionPlan) -> str:
    try:
        return digest(plan)
    except ValueError:
        raise HTTPException(422, "The plan holds a number that is none.") from None


def _unfit(error: RequestValidationError) -> str:
    """Which fields do not fit, without their values: those may be secret, or be no JSON to answer with."""
    places = (".".join(str(part) for part in problem["loc"]) for problem in error.errors())
    named = ", ".join(dict.fromkeys(places)).encode("ascii", "backslashreplace").decode()
    return f"The request does not fit: {named[:300]}."


class _BoundedRoute(APIRoute):
    """Refuses a large body by its headers, before it is read: FastAPI reads bodies before dependencies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The usual handler behind the check."""
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            told = request.headers.get("content-length", "0")
            if "chunked" in request.headers.get("transfer-encoding", "").lower():
                raise HTTPException(411, "A body has to say its length.")
            if not told.isdecimal() or int(told) > MAX_BODY_BYTES:
                raise HTTPException(413, f"A body holds at most {MAX_BODY_BYTES} bytes.")
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise HTTPException(422, _unfit(error)) from None
            except StatementError as error:
                if not is_about_values(error):
                    raise
                raise HTTPException(422, "The request holds a text that no database keeps.") from None

        return handle_bounded
