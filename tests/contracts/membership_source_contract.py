"""What every user office promises, whatever it is read from; subclass it with a `source` fixture."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Protocol

import pytest

from beamhub_catalogue.sources import SourceBroken, SourceReading, UserOffice
from beamhub_catalogue.sources.tables import MAX_PROBLEMS

ISSUER = "https://provider.example/oidc"


class Source(Protocol):
    """What the tests of one kind of user office bring: an office, and ways to change what it says.

    `first_line` is what the office calls its first row, `gone_words` and `cut_words` what it says of a state
    that is not there or not whole.
    """

    office: UserOffice
    first_line: int
    gone_words: str
    cut_words: str

    def tell(
        self,
        proposals: Sequence[dict[str, str]] = (),
        members: Sequence[dict[str, str]] = (),
        staff: Sequence[dict[str, str]] = (),
    ) -> None:
        """Make the office say this and no more; the keys are the columns of its tables."""
        ...

    def vanish(self) -> None:
        """Make the office give nothing at all."""
        ...

    def cut(self) -> None:
        """Make the office give the beginning of what it says, as a transfer that broke does."""
        ...


def read(source: Source) -> SourceReading:
    """What the office says now."""
    source.office.poll()
    return source.office.read()


def proposal(**fields: str) -> dict[str, str]:
    """A proposal that is in order."""
    known = {"proposal": "MA-2", "title": "Electrodes", "class": "standard", "instrument": "bl09"}
    return known | {"start": "2025-10-06", "end": "2025-10-09", "access_route": ""} | fields


def member(**fields: str) -> dict[str, str]:
    """A member of it who is in order."""
    known = {"proposal": "MA-2", "issuer": ISSUER, "subject": "ines", "orcid": "", "facility_account": ""}
    return known | {"name": "Ines Ferreira", "role": "pi", "from": "", "until": ""} | fields


def staff(**fields: str) -> dict[str, str]:
    """A person of the staff who is in order."""
    known = {"instrument": "bl09", "issuer": "", "subject": "", "orcid": "0000-0002-1825-0097"}
    return known | {"facility_account": "", "name": "Sam Okafor", "from": "", "until": ""} | fields


class MembershipSourceContract:
    """Tests for any kind of user office."""

    def test_what_the_office_says_is_read_whole(self, source: Source) -> None:
        source.tell([proposal()], [member(**{"from": "2025-01-01", "until": "2026-12-31"})])
        reading = read(source)
        (told,), (person,) = reading.proposals, reading.members
        assert (told.id, told.title, told.policy_class) == ("MA-2", "Electrodes", "standard")
        assert (told.instrument, told.start, told.end) == ("bl09", date(2025, 10, 6), date(2025, 10, 9))
        assert person.identity == (ISSUER, "ines", None, None)
        assert (person.proposal, person.name, person.role) == ("MA-2", "Ines Ferreira", "pi")
        assert (person.since, person.until) == (date(2025, 1, 1), date(2026, 12, 31))
        assert reading.problems == ()

    def test_an_office_that_knows_nobody_is_a_state_too(self, source: Source) -> None:
        source.tell()
        reading = read(source)
        assert (reading.proposals, reading.members, reading.problems) == ((), (), ())

    @pytest.mark.parametrize(
        "fields",
        [
            {"issuer": "", "subject": "", "orcid": "0000-0002-1825-0097"},
            {"issuer": "", "subject": "", "facility_account": "ferreira"},
            {"orcid": "0000-0002-1825-009X", "facility_account": "ferreira"},
        ],
    )
    def test_any_one_identity_names_a_person(self, source: Source, fields: dict[str, str]) -> None:
        told = member(**fields)
        source.tell([proposal()], [told])
        reading = read(source)
        names = ("issuer", "subject", "orcid", "facility_account")
        assert reading.members[0].identity == tuple(told[name] or None for name in names)
        assert reading.problems == ()

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"role": "boss"}, "the role 'boss'"),
            ({"role": "PI"}, "the role 'PI'"),
            ({"role": ""}, "the role ''"),
            ({"subject": ""}, "stand only together"),
            ({"issuer": ""}, "stand only together"),
            ({"issuer": "", "subject": ""}, "no identity"),
            ({"orcid": "0000-0002-1825"}, "no ORCID"),
            ({"orcid": "0000-0002-1825-009x"}, "no ORCID"),
            ({"until": "2025-13-01"}, "no date"),
            ({"until": "2025-W10-1"}, "no date"),
            ({"from": "1.3.2025"}, "no date"),
            ({"from": "2026-01-02", "until": "2026-01-01"}, "before it begins"),
            ({"proposal": "../MA-2"}, "no proposal id"),
            ({"proposal": ""}, "no proposal id"),
            ({"subject": "ines "}, "begins or ends with a space"),
            ({"subject": "\u00a0ines"}, "begins or ends with a space"),
            ({"issuer": f" {ISSUER}"}, "begins or ends with a space"),
            ({"facility_account": "ferreira\t"}, "begins or ends with a space"),
            ({"subject": "i" * 513}, "longer than 512"),
        ],
    )
    def test_a_member_whose_row_is_wrong_gets_no_right_and_is_reported(
        self, source: Source, fields: dict[str, str], words: str
    ) -> None:
        source.tell([proposal()], [member(subject="colin"), member(**fields)])
        reading = read(source)
        assert [m.subject for m in reading.members] == ["colin"]
        (problem,) = reading.problems
        assert words in problem.reason
        assert problem.line == source.first_line + 1

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"class": ""}, "the class is empty"),
            ({"end": "soon"}, "no date"),
            ({"end": "2025-10-05"}, "before it begins"),
            ({"class": "c" * 81}, "longer than 80"),
        ],
    )
    def test_a_proposal_whose_row_is_wrong_stays_closed_and_is_reported(
        self, source: Source, fields: dict[str, str], words: str
    ) -> None:
        source.tell([proposal(**fields)], [member()])
        reading = read(source)
        assert [(p.id, p.policy_class, p.end) for p in reading.proposals] == [("MA-2", None, None)]
        (problem,) = reading.problems
        assert words in problem.reason
        assert "stays closed" in problem.reason
        assert problem.line == source.first_line

    def test_a_contradicted_proposal_stays_closed_whatever_comes_after(self, source: Source) -> None:
        told = [proposal(), proposal(**{"class": "open"}), proposal(), proposal(proposal="OP-1")]
        source.tell(told, [member(), member(proposal="OP-1")])
        reading = read(source)
        assert {p.id: p.policy_class for p in reading.proposals} == {"MA-2": None, "OP-1": "standard"}
        assert [p.line for p in reading.problems] == [source.first_line + 1, source.first_line + 2]
        assert f" {source.first_line} about MA-2" in reading.problems[0].reason

    def test_a_repeated_proposal_is_one(self, source: Source) -> None:
        source.tell([proposal(), proposal()], [member()])
        reading = read(source)
        assert [p.policy_class for p in reading.proposals] == ["standard"]
        assert reading.problems == ()

    def test_a_member_of_an_unknown_proposal_is_kept_and_reported(self, source: Source) -> None:
        source.tell([proposal()], [member(), member(proposal="ZZ-9")])
        reading = read(source)
        assert [m.proposal for m in reading.members] == ["MA-2", "ZZ-9"]
        assert "'ZZ-9' is not known" in reading.problems[0].reason
        assert reading.problems[0].line == source.first_line + 1

    def test_overlapping_rows_of_a_person_both_stay_and_are_reported(self, source: Source) -> None:
        first = {"from": "2025-01-01", "until": "2025-06-30"}
        second = {"from": "2025-06-30", "until": "2025-12-31", "role": "member"}
        source.tell([proposal()], [member(**first), member(**second)])
        reading = read(source)
        assert [m.role for m in reading.members] == ["pi", "member"]
        (problem,) = reading.problems
        assert "member against pi" in problem.reason
        assert f" {source.first_line} for some days" in problem.reason
        assert problem.line == source.first_line + 1

    def test_a_row_that_overlaps_a_long_one_is_reported_whatever_stands_between(self, source: Source) -> None:
        days = (("2025-01-01", "2025-12-31"), ("2025-02-01", "2025-02-02"), ("2025-06-01", "2025-06-02"))
        source.tell([proposal()], [member(**{"from": since, "until": until}) for since, until in days])
        reading = read(source)
        assert len(reading.members) == 3
        assert [p.line for p in reading.problems] == [source.first_line + 1, source.first_line + 2]

    def test_the_access_route_is_read(self, source: Source) -> None:
        source.tell([proposal(access_route=" long term ")], [member()])
        assert [p.access_route for p in read(source).proposals] == ["long term"]

    def test_staff_are_read_with_their_instrument_and_days(self, source: Source) -> None:
        source.tell([proposal()], [member()], [staff(**{"from": "2025-01-01", "until": "2026-12-31"})])
        reading = read(source)
        (person,) = reading.staff
        assert (person.instrument, person.name) == ("bl09", "Sam Okafor")
        assert person.identity == (None, None, "0000-0002-1825-0097", None)
        assert (person.since, person.until) == (date(2025, 1, 1), date(2026, 12, 31))
        assert reading.problems == ()

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"instrument": ""}, "the instrument is empty"),
            ({"instrument": "i" * 201}, "longer than 200"),
            ({"orcid": ""}, "no identity"),
            ({"until": "soon"}, "no date"),
        ],
    )
    def test_staff_whose_row_is_wrong_are_in_charge_of_nothing_and_are_reported(
        self, source: Source, fields: dict[str, str], words: str
    ) -> None:
        source.tell([proposal()], [member()], [staff(), staff(**fields)])
        reading = read(source)
        assert len(reading.staff) == 1
        (problem,) = reading.problems
        assert words in problem.reason
        assert problem.line == source.first_line + 1

    def test_gaps_are_named_together(self, source: Source) -> None:
        source.tell(
            [proposal(), proposal(proposal="OP-1"), proposal(proposal="OP-2"), proposal(proposal="TO-3")],
            [member(), member(proposal="TO-3", role="member")],
            [staff(), staff(instrument="bl10")],
        )
        reading = read(source)
        assert [p.reason for p in reading.problems] == [
            "2 proposal(s) without any member: OP-1, OP-2",
            "1 proposal(s) with members, but without a principal investigator: TO-3",
            "1 instrument(s) of the staff that no proposal names: bl10",
        ]

    def test_a_flood_of_problems_is_counted_and_cut(self, source: Source) -> None:
        source.tell([proposal()], [member(), *(member(role=f"r{i}") for i in range(MAX_PROBLEMS + 7))])
        reading = read(source)
        assert (len(reading.problems), reading.n_problems) == (MAX_PROBLEMS, MAX_PROBLEMS + 7)

    def test_rows_that_follow_each_other_are_in_order(self, source: Source) -> None:
        first = {"from": "2025-01-01", "until": "2025-06-29"}
        source.tell([proposal()], [member(**first), member(**{"from": "2025-06-30"})])
        reading = read(source)
        assert len(reading.members) == 2
        assert reading.problems == ()

    def test_letter_case_makes_another_person(self, source: Source) -> None:
        source.tell([proposal()], [member(), member(subject="Ines"), member(issuer=ISSUER.upper())])
        reading = read(source)
        assert len({m.identity for m in reading.members}) == 3
        assert reading.problems == ()

    def test_the_fingerprint_changes_with_what_is_said_and_not_without(self, source: Source) -> None:
        source.tell([proposal()], [member()])
        source.office.poll()
        first = source.office.fingerprint()
        source.office.poll()
        assert source.office.fingerprint() == first
        source.tell([proposal()], [member(subject="nina")])
        source.office.poll()
        assert source.office.fingerprint() != first

    def test_a_state_that_was_read_can_be_read_again(self, source: Source) -> None:
        source.tell([proposal()], [member()], [staff()])
        first = read(source)
        assert source.office.read() == first
        source.office.poll()
        assert source.office.read() == first

    def test_an_office_that_is_gone_is_broken_and_says_so_until_it_is_back(self, source: Source) -> None:
        source.tell([proposal()], [member()])
        assert source.office.poll()
        there = source.office.fingerprint()
        source.vanish()
        assert not source.office.poll()
        gone = source.office.fingerprint()
        assert gone != there
        source.office.poll()
        assert source.office.fingerprint() == gone
        with pytest.raises(SourceBroken, match=source.gone_words) as caught:
            source.office.read()
        assert caught.value.source == source.office.name
        source.tell([proposal()], [member()])
        assert source.office.poll()
        assert len(source.office.read().members) == 1

    def test_a_transfer_that_broke_is_no_state(self, source: Source) -> None:
        rows: list[Any] = [member(subject=f"s{i}", until="2026-12-31") for i in range(50)]
        source.tell([proposal()], rows)
        source.cut()
        with pytest.raises(SourceBroken, match=source.cut_words):
            read(source)
