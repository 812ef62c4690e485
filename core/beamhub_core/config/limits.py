"""How much people and proposals may use, how the queue works, and when an unused session ends."""

from __future__ import annotations

from pydantic import Field

from beamhub_core.config.section import Section

EVERYONE = "everyone"


class PersonLimitsConfig(Section):
    """What one person of a role may have at once, over all running sessions."""

    role: str = Field(min_length=1, max_length=40, description="A facility role, or 'everyone'.")
    max_servers: int | None = Field(
        default=None, ge=0, description="Sessions at once; absent: `max_servers_per_person`."
    )
    max_cpu: float | None = Field(default=None, ge=0, description="Processor cores together.")
    max_memory_gib: float | None = Field(default=None, ge=0, description="Memory together, GiB.")
    max_gpus: int | None = Field(default=None, ge=0, description="Whole graphics processors together.")


class LimitsConfig(Section):
    """Limits of people by role, and of proposals by processor hours."""

    people: tuple[PersonLimitsConfig, ...] = Field(
        default=(),
        description="Limits by role; of a person's roles each number's most generous one counts, absent "
        "ones not being limits.",
    )
    proposal_cpu_hours: float | None = Field(
        default=None,
        ge=0,
        description="Processor hours that the sessions of one proposal may use; absent: unbounded.",
    )
    cpu_hours_of: dict[str, float] = Field(
        default={}, description="Processor hours of single proposals, in place of `proposal_cpu_hours`."
    )


class QueueConfig(Section):
    """People who wait because everything is in use."""

    ticket_lifetime_h: float = Field(default=12.0, gt=0, description="Hours until a place in it ends.")
    max_waiting: int = Field(default=500, ge=0, description="Places in the queue; 0: nobody can wait.")
    max_per_person: int = Field(default=4, ge=1, description="Places that one person may hold.")
    look_interval_s: float = Field(
        default=5.0,
        gt=0,
        description="Seconds between looks for a free slot; an end of a session is seen "
        "at once by the process that was told.",
    )


class IdleConfig(Section):
    """How a session is stopped in which nothing happens; the limit itself is each profile's `idle_h`."""

    warning_min: float = Field(
        default=15.0, ge=2, le=1440, description="Minutes between the warning in the session and its stop."
    )


class PreStartConfig(Section):
    """Sessions that people have prepared, so that a later click finds them running."""

    unused_min: float = Field(
        default=20.0, ge=1, le=1440, description="Minutes after which one that nobody opened is stopped."
    )
    max_per_person: int = Field(default=1, ge=1, description="Prepared sessions that one person may have.")
