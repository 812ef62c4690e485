"""How a start ends without a server: refused, or failed."""

from __future__ import annotations

import secrets
from datetime import datetime

from beamhub_core.errors import BeamhubError
from beamhub_core.rights import Refusal, RefusalCode, Refused


def refuse(code: RefusalCode, subject: str, reason: str, *, until: datetime | None = None) -> Refused:
    """A refusal to raise, with a fresh reference that the log line repeats."""
    return Refused(
        Refusal(
            code=code,
            subject=_short(subject, 300),
            reason=_short(reason, 500),
            until=until,
            reference=secrets.token_hex(4),
        )
    )


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


class StartFailed(BeamhubError):
    """The backend took the plan but no server came of it."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(server, reason)
        self.server, self.reason = server, reason

    def __str__(self) -> str:
        return f"{self.server} did not start: {self.reason}. Try again; if it repeats, tell your facility."

    @property
    def jupyterhub_message(self) -> str:
        """What the hub shows to the person."""
        return str(self)
