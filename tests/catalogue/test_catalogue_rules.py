"""Policy and user offices in force: changes are taken up, broken states are not, and both are reported."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import ProposalRow
from beamhub_catalogue.views import ProblemView
from beamhub_core.config import FacilityConfig
from beamhub_core.errors import ConfigInvalid
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import (
    CLASSES,
    COLIN,
    INES,
    ISSUER,
    MEMBERS,
    NOW,
    PROPOSALS,
    Facility,
    MovableClock,
    person,
    replace_file,
)


def role_in(service: CatalogueService, who: Principal, proposal: str) -> str | None:
    """What the decision on a proposal says of a person's place; None for somebody outside."""
    with service.desk.reading(who) as catalogue:
        decision = catalogue.judge.on_proposal(proposal)
        return decision.detail if decision.because == "membership" else None


def reads(service: CatalogueService, who: Principal, proposal: str) -> bool:
    with service.desk.reading(who) as catalogue:
        return catalogue.judge.on_proposal(proposal).may_read


def problems_of(service: CatalogueService, source: str) -> list[ProblemView]:
    return [p for p in service.health().problems if p.source == source]


def office_row(proposal: str, subject: str, role: str = "member", since: str = "", until: str = "") -> str:
    return f"{proposal},{ISSUER},{subject},,,Name,{role},{since},{until}"


class TestPolicyFile:
    """The policy while the service runs."""

    def test_a_new_policy_is_used_at_once(self, facility: Facility, service: CatalogueService) -> None:
        assert not reads(service, person("nobody"), "MA-2")
        facility.write_policy(CLASSES | {"standard": {"embargo_months": 0, "metadata": "public"}}, "t2")
        assert reads(service, person("nobody"), "MA-2")
        assert service.health().policy_version == "t2"

    @pytest.mark.parametrize(
        "harm",
        [
            lambda path: path.unlink(),
            lambda path: (path.unlink(), path.mkdir()),
            lambda path: replace_file(path, "version: t2\nclasses: {open: {embargo_months: 0"),
            lambda path: replace_file(path, "version: t2\ntimezone: Mars/Olympus\nclasses: {}\n"),
            lambda path: replace_file(path, path.read_text().replace("36", "-1")),
            lambda path: replace_file(path, ""),
        ],
    )
    def test_a_broken_policy_leaves_the_last_good_one_and_is_reported(
        self, facility: Facility, service: CatalogueService, harm: Callable[[Path], object]
    ) -> None:
        harm(facility.folder / "policy.yaml")
        assert not reads(service, person("nobody"), "MA-2")
        assert reads(service, INES, "MA-2")
        assert service.health().policy_version == "t1"
        assert [p.file for p in problems_of(service, "policy")][:1] == ["policy.yaml"]

    def test_a_mended_policy_is_used_and_reported_no_more(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        replace_file(facility.folder / "policy.yaml", "version: [\n")
        assert problems_of(service, "policy") != []
        facility.write_policy(CLASSES, "t3")
        assert problems_of(service, "policy") == []
        assert service.health().policy_version == "t3"

    def test_the_last_good_policy_outlives_the_process(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        service.stop()
        replace_file(facility.folder / "policy.yaml", "no policy\n")
        with closing_service(facility) as again:
            assert again.health().policy_version == "t1"
            assert problems_of(again, "policy") != []
            assert not reads(again, person("nobody"), "MA-2")

    def test_a_policy_that_never_was_good_stops_the_start(self, facility: Facility) -> None:
        replace_file(facility.folder / "policy.yaml", "no policy\n")
        with pytest.raises(ConfigInvalid, match=r"policy\.yaml"):
            facility.service()

    def test_a_class_that_the_policy_dropped_closes_its_proposals_and_is_reported(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        assert reads(service, person("nobody"), "OP-1")
        facility.write_policy({name: rules for name, rules in CLASSES.items() if name != "open"})
        assert not reads(service, person("nobody"), "OP-1")
        assert any("'open'" in p.reason for p in problems_of(service, "user_office:office"))


class TestUserOfficeFiles:
    """The user office while the service runs."""

    def test_a_changed_file_is_read_at_once_and_an_unchanged_one_is_not(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        assert role_in(service, INES, "MA-2") == "pi of MA-2 (user_office:office)"
        facility.clock.now += timedelta(hours=1)
        assert service.health().user_office_read_at == NOW
        facility.write_office(members=(*MEMBERS, office_row("MA-2", "nina")))
        assert role_in(service, person("nina"), "MA-2") == "member of MA-2 (user_office:office)"
        assert service.health().user_office_read_at == NOW + timedelta(hours=1)

    @pytest.mark.parametrize("file", ["members.csv", "proposals.csv"])
    @pytest.mark.parametrize("harm", ["cut", "vanished", "folder", "bytes"])
    def test_a_broken_file_leaves_the_last_good_state_and_shows_its_age(
        self, facility: Facility, service: CatalogueService, file: str, harm: str
    ) -> None:
        path = facility.folder / file
        facility.clock.now += timedelta(hours=5)
        text = path.read_text()
        path.unlink()
        if harm == "folder":
            path.mkdir()
        elif harm == "cut":
            replace_file(path, text[:-9])
        elif harm == "bytes":
            path.write_bytes(text.encode() + b"\xff\xfe\n")
        assert role_in(service, INES, "MA-2") == "pi of MA-2 (user_office:office)"
        assert reads(service, person("nobody"), "OP-1")
        (problem,) = problems_of(service, "user_office:office")
        assert problem.file == file
        assert (problem.line is not None) == (harm in ("cut", "bytes"))
        assert service.health().user_office_read_at == NOW

    def test_a_broken_file_does_not_bring_back_who_was_removed_before(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        facility.write_office(members=MEMBERS[1:])
        assert role_in(service, INES, "MA-2") is None
        (facility.folder / "members.csv").unlink()
        assert role_in(service, INES, "MA-2") is None
        assert role_in(service, INES, "TO-3") is not None

    def test_the_state_survives_a_restart_with_broken_files(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        service.stop()
        (facility.folder / "members.csv").unlink()
        with closing_service(facility) as again:
            assert role_in(again, INES, "MA-2") == "pi of MA-2 (user_office:office)"
            assert again.health().user_office_read_at == NOW

    def test_days_are_whole_days_of_the_facilitys_zone(
        self, facility: Facility, service: CatalogueService
    ) -> None:
        row = office_row("MA-2", "nina", since="2026-06-10", until="2026-06-10")
        facility.write_office(members=(row,))
        nina = person("nina")
        begins, ends = datetime(2026, 6, 9, 22, tzinfo=UTC), datetime(2026, 6, 10, 22, tzinfo=UTC)
        second = timedelta(seconds=1)
        seen = []
        for facility.clock.now in (begins - second, begins, ends - second, ends):
            seen.append(role_in(service, nina, "MA-2") is not None)
        assert seen == [False, True, True, False]

    @pytest.mark.parametrize(
        ("since", "until"), [("0001-01-01", "9999-12-31"), ("0001-01-02", "9999-12-30"), ("0001-01-01", "")]
    )
    def test_the_calendars_ends_are_no_bounds(
        self, facility: Facility, service: CatalogueService, since: str, until: str
    ) -> None:
        facility.write_office(
            ("MA-2,Electrodes,standard,bl09,0001-01-01,9999-12-31",),
            (office_row("MA-2", "nina", since=since, until=until),),
        )
        assert role_in(service, person("nina"), "MA-2") is not None
        assert not reads(service, person("nobody"), "MA-2")

    def test_many_requests_at_once_see_one_state(self, facility: Facility, service: CatalogueService) -> None:
        facility.write_office(members=(office_row("MA-2", "nina"),))
        seen: list[tuple[bool, bool]] = []

        def look() -> None:
            with service.desk.reading(INES) as mine, service.desk.reading(person("nina")) as hers:
                seen.append(tuple(c.judge.on_proposal("MA-2").may_read for c in (mine, hers)))  # type: ignore[arg-type]  # a pair

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [(False, True)] * 8


@contextmanager
def closing_service(facility: Facility) -> Iterator[CatalogueService]:
    made = facility.service()
    try:
        yield made
    finally:
        made.stop()


class TwoOffices(Facility):
    """A facility with a second user office."""

    def write_second(self, *proposals: str) -> None:
        header = "proposal,title,class,instrument,start,end"
        replace_file(self.folder / "proposals-2.csv", "\n".join([header, *proposals, ""]))
        members = "proposal,issuer,subject,orcid,facility_account,name,role,from,until"
        replace_file(self.folder / "members-2.csv", members + "\n")

    def config(self) -> FacilityConfig:
        offices = [
            {"name": name, "kind": "csv", "proposals": str(self.folder / p), "members": str(self.folder / m)}
            for name, p, m in (
                ("office", "proposals.csv", "members.csv"),
                ("second", "proposals-2.csv", "members-2.csv"),
            )
        ]
        self.changes = {"user_offices": offices}
        return super().config()


MINE, TOLD_OTHERWISE = PROPOSALS[0], PROPOSALS[0].replace("open", "confidential")


@pytest.mark.parametrize("late", ["office", "second"])
def test_a_proposal_that_two_offices_tell_differently_is_closed_whoever_tells_it_first(
    tmp_path: Path, late: str
) -> None:
    facility = TwoOffices(tmp_path, MovableClock())
    facility.prepare()
    facility.write_office(() if late == "office" else (MINE,))
    facility.write_second(*((TOLD_OTHERWISE,) if late == "office" else ()))
    with closing_service(facility) as service:
        facility.write_office((MINE,))
        facility.write_second(TOLD_OTHERWISE)
        for n_rows in (0, 1, 2):  # and stays closed when files change again
            facility.write_office((MINE,), MEMBERS[:n_rows])
            assert not reads(service, person("nobody"), "OP-1")
            reasons = [p.reason for p in service.health().problems]
            assert [r for r in reasons if "OP-1 is told differently" in r] != []
        facility.write_second()
        assert reads(service, person("nobody"), "OP-1")


def test_a_proposal_that_moved_to_another_office_is_there_once(tmp_path: Path) -> None:
    facility = TwoOffices(tmp_path, MovableClock())
    facility.prepare()
    facility.write_second()
    with closing_service(facility) as service:
        facility.write_office(PROPOSALS[1:])
        facility.write_second(MINE)
        assert reads(service, person("nobody"), "OP-1")
        with service.database.reading() as session:
            sources = session.execute(select(ProposalRow.id, ProposalRow.source)).all()
        assert dict(map(tuple, sources))["OP-1"] == "user_office:second"


def test_an_office_taken_out_of_the_configuration_gives_no_rights(tmp_path: Path) -> None:
    facility = TwoOffices(tmp_path, MovableClock())
    facility.prepare()
    facility.write_office(PROPOSALS[1:])
    facility.write_second(MINE)
    with closing_service(facility) as service:
        assert reads(service, person("nobody"), "OP-1")
    with closing_service(Facility(tmp_path, facility.clock)) as service:
        assert not reads(service, COLIN, "OP-1")
