"""What goes in and out of an agent's desk: bodies that are read in one way only, and replies."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from beamhub_spawners.agent_engine import Answer
from beamhub_spawners.agent_routes import NotAdmitted

Stream = AbstractAsyncContextManager[Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the caller gets: an answer, or a stream of the engine's."""

    status: int = 200
    body: bytes = b""
    is_json: bool = True
    stream: Stream | None = None


def read_body(body: bytes) -> dict[str, Any]:
    """A JSON object; names that stand twice are refused, because two readers may take different ones."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice")
        return found

    try:
        read = json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise NotAdmitted(400, "the body is no JSON object, or has a name twice") from None
    if not isinstance(read, dict):
        raise NotAdmitted(400, "the body is no JSON object")
    return read


def passed(answer: Answer) -> Reply:
    """The engine's answer as it is."""
    return Reply(answer.status, answer.body)


def json_reply(value: Any) -> Reply:
    """A value as JSON."""
    return Reply(200, json.dumps(value).encode())
