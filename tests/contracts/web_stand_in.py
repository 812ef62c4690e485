"""A stand-in for hub API and web service, for tests of spawners."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jupyterhub import __version__ as hub_version

from beamhub_core.clock import utc_now
from beamhub_core.rights import GrantAnswer, Refusal
from beamhub_core.session import (
    SessionPlan,
    SessionRecord,
    SessionUpdate,
    StoredSession,
)
from beamhub_core.word import digest
from contracts.spawner_parts import FINAL, granted_answer


def starting_session(plan: SessionPlan, **changes: Any) -> StoredSession:
    """What web hands out of a plan whose start is under way, with these changes of its record."""
    record = SessionRecord(
        plan_id=plan.id,
        plan_hash=digest(plan),
        account=plan.account,
        server_name=plan.server_name,
        state="starting",
        created_at=plan.created_at,
        last_seen=plan.created_at,
    )
    return StoredSession(plan=plan, record=record.model_copy(update=changes))


@dataclass
class StandIn:
    """What the stand-in knows: the rights it grants and the sessions it was told of.

    It stands for hub API and web service together, on one port. It proves nothing of their rules: rights
    are what the test says, tokens are not checked beyond the hub's own, scopes not at all.
    """

    url: str = ""
    sessions: dict[str, StoredSession] = field(default_factory=dict)
    is_down: bool = False
    answers: dict[str, GrantAnswer] = field(default_factory=dict)
    tickets: list[dict[str, Any]] = field(default_factory=list)
    used: dict[str, float] = field(default_factory=dict)
    """Core-seconds of clusters, as told last, by plan."""
    refusals: list[Refusal] = field(default_factory=list)
    """What the next plans are refused with."""

    def states(self) -> list[str]:
        """The state of every session, oldest first."""
        return [stored.record.state for stored in self.sessions.values()]

    def grants(self, asked: dict[str, Any]) -> tuple[int, Any]:
        answer = self.answers.get(asked["account"], granted_answer(asked["account"]))
        known = {dataset.pid for dataset in answer.datasets}
        unknown = [pid for pid in asked["datasets"] if pid not in known]
        if unknown:
            refusal = Refusal(
                code="not_found", subject=unknown[0], reason="There is no such dataset.", reference="r1"
            )
            return 404, {"refusal": refusal.model_dump(mode="json")}
        if not asked["datasets"]:
            answer = answer.model_copy(update={"datasets": (), "grants": ()})
        return 200, answer.model_dump(mode="json")

    def store(self, plan_id: str, body: dict[str, Any]) -> tuple[int, Any]:
        plan = SessionPlan.model_validate(body["plan"])
        if self.refusals:
            return 403, {"refusal": self.refusals.pop(0).model_dump(mode="json")}
        if digest(plan) != body["plan_hash"]:
            return 422, {"detail": "the hash is not the plan's"}
        known = self.sessions.get(plan_id)
        if known is not None:
            return (200, {}) if known.plan == plan else (409, {"detail": "another plan has this id"})
        record = SessionRecord(
            plan_id=plan.id,
            plan_hash=body["plan_hash"],
            account=plan.account,
            server_name=plan.server_name,
            state="planned",
            created_at=plan.created_at,
            last_seen=utc_now(),
        )
        self.sessions[plan_id] = StoredSession(plan=plan, record=record)
        return 201, {}

    def update(self, plan_id: str, body: dict[str, Any]) -> tuple[int, Any]:
        update = SessionUpdate.model_validate(body)
        known = self.sessions[plan_id]
        if known.record.state not in FINAL:
            changes = {name: value for name, value in update if value is not None}
            if update.state in FINAL:
                changes["token_digest"] = None
            record = known.record.model_copy(update=changes)
            self.sessions[plan_id] = known.model_copy(update={"record": record})
        return 204, None

    def ticket(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.tickets.append(body)
        expires_at = "2026-11-22T00:00:00Z"
        return 200, {"position": len(self.tickets), "usual_wait_s": 600.0, "expires_at": expires_at}

    def live(self) -> list[Any]:
        return [
            stored.model_dump(mode="json")
            for stored in self.sessions.values()
            if stored.record.state not in FINAL
        ]


@contextmanager
def serving_stand_in(host: str = "127.0.0.1") -> Iterator[StandIn]:
    """A stand-in that answers on a free port until the block ends."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"null")
            status, content = _route(stand_in, self.command, self.path, body)
            self.send_response(status)
            text = b"" if content is None else json.dumps(content).encode()
            self.send_header("Content-Length", str(len(text)))
            self.send_header("X-JupyterHub-Version", hub_version)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - the base class's names

    server = ThreadingHTTPServer((host, 0), Handler)
    stand_in.url = f"http://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _route(stand_in: StandIn, method: str, path: str, body: Any) -> tuple[int, Any]:
    if path.startswith("/hub/api"):
        return 200, {"version": hub_version}
    if stand_in.is_down:
        return 503, {"detail": "down"}
    parts = path.partition("?")[0].strip("/").split("/")
    match (method, parts[1:]):
        case ("POST", ["grants"]):
            return stand_in.grants(body)
        case ("GET", ["sessions"]):
            return 200, stand_in.live()
        case ("PUT", ["tickets"]):
            return stand_in.ticket(body)
        case ("PUT", ["sessions", plan_id]):
            return stand_in.store(plan_id, body)
        case ("PUT", ["usage"]):
            return 204, stand_in.used.update({one["plan_id"]: one["core_s"] for one in body["sessions"]})
        case ("POST", ["sessions", plan_id, "update"]):
            return stand_in.update(plan_id, body)
        case ("GET", ["sessions", plan_id]) if plan_id in stand_in.sessions:
            return 200, stand_in.sessions[plan_id].model_dump(mode="json")
    return 404, {"detail": "no such page"}
