"""What schedulers and people tell the gateway, read before it is believed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from beamhub_core.errors import BeamhubError

MAX_COUNT = 1_000_000
MAX_NAMES = 10_000
MAX_TEXT = 300
LISTS = ("active_workers", "closing_workers", "closed_workers")
ADDRESSES = ("scheduler_address", "api_address", "dashboard_address")


class BadMessage(BeamhubError):
    """A message that is none; `key` is what of it."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"The message cannot be read: {self.key} is missing or of another kind."


@dataclass(frozen=True, slots=True)
class Asked:
    """A wish for a cluster's size."""

    op: Literal["scale", "adapt"]
    count: int = 0
    minimum: int = 0
    maximum: int | None = None
    is_active: bool = True

    def bounded(self, maximum: int) -> Asked:
        """The same wish with a maximum."""
        return replace(self, maximum=maximum)

    def as_message(self) -> dict[str, Any]:
        """What the scheduler is told."""
        if self.op == "scale":
            return {"op": "scale", "count": self.count}
        return {"op": "adapt", "minimum": self.minimum, "maximum": self.maximum, "active": self.is_active}


def read_message(msg: Any) -> Asked:
    """A person's wish.

    Raises
    ------
    BadMessage
        If it is none, or its minimum is above its maximum.
    """
    if not isinstance(msg, dict) or msg.get("op") not in ("scale", "adapt"):
        raise BadMessage("op")
    if msg["op"] == "scale":
        return Asked("scale", count=_count(msg, "count"))
    if not isinstance(msg.get("active", True), bool):
        raise BadMessage("active")
    minimum = 0 if msg.get("minimum") is None else _count(msg, "minimum")
    maximum = None if msg.get("maximum") is None else _count(msg, "maximum")
    if maximum is not None and minimum > maximum:
        raise BadMessage("minimum")
    return Asked("adapt", minimum=minimum, maximum=maximum, is_active=msg.get("active", True))


def read_heartbeat(msg: Any) -> dict[str, Any]:
    """A scheduler's heartbeat: its count, its workers by name, its addresses, and nothing else.

    Raises
    ------
    BadMessage
        If it is none.
    """
    if not isinstance(msg, dict):
        raise BadMessage("heartbeat")
    beat: dict[str, Any] = {"count": _count(msg, "count")}
    for key in LISTS:
        names = msg.get(key)
        if not isinstance(names, list) or len(names) > MAX_NAMES:
            raise BadMessage(key)
        # A person's own worker, started by hand, may be called by a number.
        beat[key] = [one for one in names if isinstance(one, str) and len(one) <= MAX_TEXT]
    for key in ADDRESSES:
        text = msg.get(key)
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise BadMessage(key)
        beat[key] = text
    return beat


def with_all_staying(beat: dict[str, Any]) -> dict[str, Any]:
    """The same heartbeat of a scheduler that sends nobody away: who was to close is active."""
    return {
        **beat,
        "active_workers": [*beat["active_workers"], *beat["closing_workers"]],
        "closing_workers": [],
    }


def _count(msg: dict[str, Any], key: str) -> int:
    value = msg.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise BadMessage(key)
    return value
