"""The web service under a machine's clock that jumps."""

from __future__ import annotations

from datetime import timedelta

from beamhub_catalogue.clock_marks import clock_problems, guarded_clock, keep_mark
from beamhub_catalogue.database import Database
from beamhub_catalogue.models import ClockRow
from beamhub_core.clock import ClockMark, GuardedClock, boot_id, seconds_since_boot, utc_now
from catalogue.catalogue_parts import Facility  # the folder of these tests, not the room


def test_a_mark_outlives_the_process_and_marks_of_other_boots_go(facility: Facility) -> None:
    service = facility.service()
    database: Database = service.database
    with database.writing() as session:
        session.add(ClockRow(boot="another", at=utc_now(), elapsed_s=1.0))
    behind = utc_now() - timedelta(days=1)  # as if the machine's clock had jumped a day since
    keep_mark(database, GuardedClock(mark=ClockMark(boot_id(), behind, seconds_since_boot())))
    with database.reading() as session:
        assert [row.boot for row in session.query(ClockRow)] == [boot_id()]
    again = guarded_clock(database)
    assert utc_now() - again() > timedelta(hours=23)
    assert [problem.source for problem in clock_problems(again)] == ["clock"]
    assert clock_problems(GuardedClock()) == ()
    service.stop()


def test_health_shows_a_jump_to_operators(facility: Facility) -> None:
    facility.service().stop()
    database = Database(facility.config().web.database_url)
    keep_mark(
        database,
        GuardedClock(mark=ClockMark(boot_id(), utc_now() - timedelta(days=730), seconds_since_boot())),
    )
    database.close()
    service = facility.service_by_the_machines_clock()
    try:
        assert utc_now() - service.clock() > timedelta(days=729)
        reasons = [p.reason for p in service.health().problems if p.source == "clock"]
        assert len(reasons) == 1
        assert "jumped" in reasons[0]
    finally:
        service.stop()
