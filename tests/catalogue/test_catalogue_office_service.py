"""A user office over HTTP behind the running catalogue: rights follow it, and outlive its failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import StaffRow
from beamhub_catalogue.views import OfficeView
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import INES, MEMBERS, NOW, PROPOSALS, Facility, person, replace_file
from catalogue.rest_user_office import OfficeServer, serving

DEADLINE_S = 15.0
NINA = person("nina")
WITH_NINA = (*MEMBERS, MEMBERS[0].replace("ines", "nina").replace(",pi,", ",member,"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OfficeServer]:
    """An office that says what the facility's CSV files say."""
    with serving(tmp_path, page_size=2) as made:
        yield made


@pytest.fixture
def facility(tmp_path: Path, server: OfficeServer) -> Facility:
    """A facility whose office answers over HTTP."""
    return facility_with(tmp_path, url=server.url)


def facility_with(folder: Path, **settings: Any) -> Facility:
    office = {"name": "office", "kind": "rest", "poll_interval_s": 1, "timeout_s": 5} | settings
    made = Facility(folder, changes={"user_offices": [office]})
    made.prepare()
    return made


@contextmanager
def running(facility: Facility) -> Iterator[CatalogueService]:
    """A catalogue without its threads."""
    made = facility.service()
    try:
        yield made
    finally:
        made.stop()


def reads(service: CatalogueService, who: Principal, proposal: str = "MA-2") -> bool:
    with service.desk.reading(who) as catalogue:
        return catalogue.judge.on_proposal(proposal).may_read


def office_of(service: CatalogueService) -> OfficeView:
    (office,) = service.health().offices
    return office


def comes_true(question: Callable[[], bool]) -> bool:
    """Whether something is true before the deadline."""
    ends = time.monotonic() + DEADLINE_S
    while not (found := question()) and time.monotonic() < ends:
        threading.Event().wait(0.02)
    return found


class TestPolls:
    """Polls one by one, at a clock of the test's own."""

    def test_a_service_starts_with_what_the_office_says(self, facility: Facility) -> None:
        with running(facility) as service:
            assert reads(service, INES)
            assert not reads(service, NINA)
            health = service.health()
        assert health.user_office_read_at == NOW
        assert health.offices == (OfficeView("office", "rest", NOW, NOW, True, health.offices[0].n_problems),)

    def test_a_removal_ends_the_right_with_the_next_poll_and_no_earlier(self, facility: Facility) -> None:
        facility.write_office(members=WITH_NINA)
        with running(facility) as service:
            assert reads(service, NINA)
            facility.write_office()
            assert reads(service, NINA)
            service.office_poller.poll()
            assert not reads(service, NINA)
            assert reads(service, INES)

    def test_a_removal_ends_a_right_that_an_entitlement_gives_too(self, facility: Facility) -> None:
        entitled = person("nina", "MA-2")
        facility.write_office(members=WITH_NINA)
        with running(facility) as service:
            assert reads(service, entitled)
            facility.write_office()
            service.office_poller.poll()
            assert not reads(service, entitled)

    @pytest.mark.parametrize("misbehaviour", ["no_http", "cut", "failing", "redirect", "other_type"])
    def test_rights_stay_while_the_office_is_broken_and_its_age_is_shown(
        self, facility: Facility, server: OfficeServer, misbehaviour: str
    ) -> None:
        with running(facility) as service:
            server.misbehaviour = misbehaviour
            facility.write_office(members=WITH_NINA)
            facility.clock.now += timedelta(hours=5)
            service.office_poller.poll()
            assert reads(service, INES)
            assert not reads(service, NINA)
            office = office_of(service)
            assert (office.read_at, office.checked_at, office.ok, office.n_problems) == (NOW, NOW, False, 1)
            assert [p.file for p in service.health().problems if p.source == "user_office:office"] == [
                "state"
            ]
            server.misbehaviour = ""
            service.office_poller.poll()
            assert reads(service, NINA)
            office = office_of(service)
            later = NOW + timedelta(hours=5)
            assert (office.read_at, office.checked_at, office.ok) == (later, later, True)

    def test_an_unchanged_office_was_asked_but_not_read(self, facility: Facility) -> None:
        with running(facility) as service:
            facility.clock.now += timedelta(hours=1)
            service.office_poller.poll()
            office = office_of(service)
        assert (office.read_at, office.checked_at) == (NOW, NOW + timedelta(hours=1))

    def test_a_problem_that_lasts_is_written_once(self, facility: Facility, server: OfficeServer) -> None:
        with running(facility) as service:
            server.misbehaviour = "failing"
            service.office_poller.poll()
            first = service.rules.offices.fingerprints()
            service.office_poller.poll()
            assert service.rules.offices.fingerprints() == first

    def test_an_office_that_never_answered_gives_no_rights_and_stops_no_start(
        self, tmp_path: Path, free_port: int
    ) -> None:
        with running(facility_with(tmp_path, url=f"http://127.0.0.1:{free_port}")) as service:
            assert not reads(service, INES)
            health = service.health()
        assert health.ok
        assert health.user_office_read_at is None
        assert health.offices == (OfficeView("office", "rest", None, None, False, 1),)

    def test_one_office_that_was_never_read_is_not_hidden_by_another(
        self, tmp_path: Path, server: OfficeServer, free_port: int
    ) -> None:
        facility = facility_with(tmp_path, url=server.url)
        nowhere = {"name": "far", "kind": "rest", "url": f"http://127.0.0.1:{free_port}"}
        facility.changes["user_offices"].append(nowhere)
        with running(facility) as service:
            assert reads(service, INES)
            assert service.health().user_office_read_at is None
            assert [(o.name, o.read_at) for o in service.health().offices] == [("far", None), ("office", NOW)]

    def test_the_state_survives_a_restart_with_the_office_down(
        self, facility: Facility, server: OfficeServer
    ) -> None:
        with running(facility):
            pass
        server.misbehaviour = "no_http"
        facility.clock.now += timedelta(days=1)
        with running(facility) as again:
            assert reads(again, INES)
            assert (office_of(again).read_at, office_of(again).ok) == (NOW, False)

    def test_a_second_process_has_an_unchanged_state_not_sent_again(
        self, facility: Facility, server: OfficeServer
    ) -> None:
        with running(facility):
            server.statuses.clear()
            with running(facility) as second:  # as `beamhub dataset list` does
                assert server.statuses == [304]
                assert reads(second, INES)

    def test_requests_ask_the_office_nothing(self, facility: Facility, server: OfficeServer) -> None:
        with running(facility) as service:
            server.statuses.clear()
            for _ in range(20):
                reads(service, INES)
                service.health()
        assert server.statuses == []

    def test_staff_are_stored_with_their_instruments(self, facility: Facility) -> None:
        header = "instrument,issuer,subject,orcid,facility_account,name,from,until"
        row = "bl09,,,0000-0002-1825-0097,,Sam Okafor,2026-01-01,"
        replace_file(facility.folder / "staff.csv", f"{header}\n{row}\n")
        with running(facility) as service, service.database.reading() as session:
            (found,) = session.scalars(select(StaffRow))
        assert (found.source, found.instrument, found.orcid) == (
            "user_office:office",
            "bl09",
            "0000-0002-1825-0097",
        )
        assert (found.since is not None, found.until, found.removed_at) == (True, None, None)


def test_the_thread_takes_up_what_changes_and_goes_on_after_a_failure(
    facility: Facility, server: OfficeServer
) -> None:
    with running(facility) as service:
        service.start()
        facility.write_office(members=WITH_NINA)
        assert comes_true(lambda: reads(service, NINA))
        server.misbehaviour = "no_http"
        assert comes_true(lambda: not office_of(service).ok)
        assert reads(service, NINA)
        facility.write_office()
        server.misbehaviour = ""
        assert comes_true(lambda: not reads(service, NINA))
        assert office_of(service).ok


def test_a_slow_office_holds_up_nobody_but_its_own_thread(facility: Facility, server: OfficeServer) -> None:
    with running(facility) as service:
        server.misbehaviour = "silence"
        n_asked = len(server.statuses)
        service.start()
        began = time.monotonic()
        for _ in range(50):
            assert reads(service, INES)
        assert time.monotonic() - began < DEADLINE_S
        assert len(server.statuses) == n_asked
        server.stopping.set()


def test_a_proposal_of_two_kinds_of_office_is_closed_where_they_differ(
    tmp_path: Path, server: OfficeServer
) -> None:
    facility = facility_with(tmp_path, url=server.url)
    (tmp_path / "csv").mkdir()
    other = Facility(tmp_path / "csv")
    other.write_office((PROPOSALS[0].replace(",open,", ",confidential,"),), ())
    files = {name: other.folder / f"{name}.csv" for name in ("proposals", "members")}
    facility.changes["user_offices"].append({"name": "second", "kind": "csv"} | files)
    with running(facility) as service:
        assert not reads(service, person("nobody"), "OP-1")
        reasons = [p.reason for p in service.health().problems]
        assert any("user_office:office and user_office:second" in reason for reason in reasons)
        server.misbehaviour = "no_http"
        service.office_poller.poll()
        assert not reads(service, person("nobody"), "OP-1")
        other.write_office((), ())
        assert reads(service, person("nobody"), "OP-1")
