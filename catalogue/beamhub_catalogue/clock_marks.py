"""Where the guarded clock stood: after a restart, a jump is believed no more than before it."""

from __future__ import annotations

from sqlalchemy import delete

from beamhub_catalogue.database import Database
from beamhub_catalogue.models import ClockRow
from beamhub_catalogue.views import ProblemView
from beamhub_core.clock import ClockMark, GuardedClock, boot_id

JUMP_S = 60.0
"""Where the machine's clock is further ahead than this, a person has to look at it."""


def guarded_clock(database: Database) -> GuardedClock:
    """The machine's clock, guarded from where the last process of this boot left it."""
    with database.reading() as session:
        row = session.get(ClockRow, boot_id())
    return GuardedClock(mark=ClockMark(row.boot, row.at, row.elapsed_s) if row is not None else None)


def keep_mark(database: Database, clock: GuardedClock) -> None:
    """Remember where the clock stands; marks of earlier boots, which nothing compares with, go."""
    mark = clock.mark()
    with database.writing() as session:
        session.execute(delete(ClockRow))
        session.add(ClockRow(boot=mark.boot, at=mark.at, elapsed_s=mark.elapsed_s))


def clock_problems(clock: GuardedClock) -> tuple[ProblemView, ...]:
    """What a person should look at."""
    if clock.ahead_s <= JUMP_S:
        return ()
    reason = f"the machine's clock jumped {clock.ahead_s:.0f} s ahead; it is followed slowly, set it right"
    return (ProblemView("clock", "", reason),)
