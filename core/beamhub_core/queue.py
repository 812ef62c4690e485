"""A place in the queue for a session that does not fit now."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from beamhub_core.identity import ACCOUNT_PATTERN
from beamhub_core.session import Limits, Name, SessionRequest
from beamhub_core.word import Word

ServerName = Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]


class TicketWanted(Word):
    """Who wants to wait, for which server, and which places would do."""

    account: Annotated[str, Field(pattern=ACCOUNT_PATTERN)]
    server_name: ServerName
    display_name: Annotated[str, Field(max_length=255)] = ""
    request: SessionRequest
    places: Annotated[tuple[Name, ...], Field(min_length=1, max_length=256)]
    limits: Limits


class TicketAnswer(Word):
    """Where somebody stands in the queue."""

    position: int = Field(ge=1, description="1 is the next whose turn it is.")
    usual_wait_s: float | None = Field(
        default=None, ge=0, description="What sessions that ended lately let one expect; None: too few."
    )
    expires_at: datetime


def wait_in_words(usual_wait_s: float | None) -> str:
    """A usual wait as people say it."""
    if usual_wait_s is None:
        return "not known yet"
    minutes = usual_wait_s / 60
    if minutes < 1:
        return "less than a minute"
    if minutes < 90:
        rounded = round(minutes) if minutes < 10 else 5 * round(minutes / 5)
        return f"about {rounded} minute{'s' if rounded != 1 else ''}"
    hours = round(minutes / 60)
    return f"about {hours} hour{'s' if hours != 1 else ''}"
