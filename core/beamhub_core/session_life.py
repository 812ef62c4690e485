"""What a running session tells of itself, and what it is told of its time."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from beamhub_core.long_job import MAX_SHOWN, JobReport
from beamhub_core.word import Word

BusyWith = Literal["kernel", "terminal", "program", "job"]
"""A kernel that computes, a terminal with a program in front, processes that compute, a long job."""


class SessionReport(Word):
    """What a session's server says of itself, about once a minute; nothing of what its person does."""

    idle_s: Annotated[float, Field(ge=0, le=1e8)] = Field(
        description="Seconds since somebody last did something there; 0 while something computes."
    )
    busy_with: tuple[BusyWith, ...] = Field(default=(), max_length=4, description="What computes now.")
    told_of: datetime | None = Field(
        default=None, description="The stop for idleness of which the session was told last."
    )
    is_used: bool = Field(default=False, description="Somebody opened it, or ran something in it.")
    first_cell_ago_s: Annotated[float, Field(ge=0, le=1e8)] | None = Field(
        default=None, description="Seconds since the first cell was executed; absent before that."
    )
    jobs: tuple[JobReport, ...] | None = Field(
        default=None, max_length=MAX_SHOWN, description="Its long jobs; absent where it never had any."
    )


class SessionNow(Word):
    """How things stand with a session, as web answers its report."""

    now: datetime = Field(description="Web's own clock, by which the other times are meant.")
    expires_at: datetime
    extends_to: datetime | None = Field(
        default=None, description="Up to when it may be extended now; absent where it may not."
    )
    why_not: str = Field(default="", max_length=500, description="Why it cannot be extended (further).")
    idle_stop_at: datetime | None = Field(
        default=None, description="When it is stopped because nothing happens in it, unless something does."
    )
    rights_hold: bool = True
    right_ends_at: datetime | None = Field(
        default=None, description="When the first right that it needs ends; absent for never."
    )
    is_rescue: bool = False
    notes: tuple[str, ...] = ()
