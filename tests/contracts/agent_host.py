"""An agent before a recording socket, asked over TLS in any way, also in ways that no client would."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beamhub_core.config import FacilityConfig
from beamhub_core.session import SessionPlan
from beamhub_spawners.agent import RunningAgent
from beamhub_spawners.docker_render import Ground, container_fields
from contracts.agent_parts import hub_context
from contracts.recording_engine import RecordingEngine
from contracts.web_stand_in import StandIn, starting_session

ENVIRONMENT = {"JUPYTERHUB_API_TOKEN": "the-secret-of-this-session"}


@dataclass
class Host:
    """An agent, what it stands before, and the web service that it asks."""

    folder: Path
    agent: RunningAgent
    engine: RecordingEngine
    stand_in: StandIn
    facility: FacilityConfig
    plan: SessionPlan

    def ask(
        self, method: str, target: str, body: Any = None, *, pair: str | None = "hub"
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one request by http.client, which sends the target as it is."""
        context = hub_context(self.folder, pair)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.agent.server.port, context=context, timeout=20
        )
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, target, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            return answer.status, json.loads(said) if said[:1] in (b"{", b"[") else {"text": said}
        finally:
            connection.close()

    def raw(self, sent: bytes) -> bytes:
        """What comes back for bytes of any kind, until the agent ends or is silent."""
        context = hub_context(self.folder)
        with (
            socket.create_connection(("127.0.0.1", self.agent.server.port), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as stream,
        ):
            stream.settimeout(0.3)
            said = b""
            try:
                stream.sendall(sent)
                while part := stream.recv(65_536):
                    said += part
                    if b"\r\n\r\n" in said:
                        break
            except (TimeoutError, OSError):
                pass
            return said

    def body(self) -> dict[str, Any]:
        """What the stored plan renders to."""
        place = self.facility.sessions.places[0].docker
        assert place is not None
        return container_fields(
            self.plan, place, facility="demo", environment=ENVIRONMENT, ground=Ground("bridge")
        ).body

    def store(self, plan: SessionPlan, **changes: Any) -> None:
        """What web knows of a plan."""
        self.stand_in.sessions[plan.id] = starting_session(plan, **changes)
