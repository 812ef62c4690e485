"""How a start ends without a server: refused, or failed."""

from __future__ import annotations

import secrets
from datetime import datetime

from jupyterhub.spawner import SpawnException

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


class StartRefused(SpawnException):  # type: ignore[misc]  # JupyterHub is untyped
    """A start that policy or a missing part forbids: no fault, and not counted as one.

    `required_acr` names the authentication contexts of which a new login needs one for another answer; the
    hub's pages then show the way to that login. Empty where none would help. `is_queued` says that a ticket
    waits in the queue: the pages then lead there.
    """

    is_queued = False

    def __init__(
        self, message: str, *, reason: str, status_code: int, required_acr: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, reason=reason, status_code=status_code)
        self.required_acr = required_acr
        # The hub's page of a failed start shows this text and no other.
        self.jupyterhub_message = message


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
