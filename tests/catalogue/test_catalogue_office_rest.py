"""The user office over HTTP: the contract of every office, the same answers as CSV, and bad servers."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamhub_catalogue.sources import RestUserOffice, SourceBroken, SourceReading
from beamhub_core.config.catalogue import RestOfficeConfig
from catalogue.rest_user_office import TOKEN, OfficeServer, serving
from catalogue.test_catalogue_office_csv import CsvSource
from contracts.membership_source_contract import (
    ISSUER,
    MembershipSourceContract,
    member,
    proposal,
    read,
    staff,
)

log = logging.getLogger(__name__)

Page = dict[str, Any]


class RestSource:
    """An office over HTTP that says what CSV files in its folder say."""

    first_line = 1
    gone_words = "cannot be reached|broke off"
    cut_words = "broke off its answer"

    def __init__(self, server: OfficeServer, **settings: Any) -> None:
        self.server = server
        self.files = CsvSource(server.folder)
        told = {"name": "office", "kind": "rest", "url": server.url, "timeout_s": 5.0} | settings
        self.office = RestUserOffice(RestOfficeConfig.model_validate(told))

    def tell(
        self,
        proposals: Sequence[dict[str, str]] = (),
        members: Sequence[dict[str, str]] = (),
        staff: Sequence[dict[str, str]] = (),
    ) -> None:
        """Say this, and behave."""
        self.server.misbehaviour = ""
        self.files.tell(proposals, members, staff)

    def vanish(self) -> None:
        """Say nothing that is HTTP."""
        self.server.misbehaviour = "no_http"

    def cut(self) -> None:
        """Break off in the middle."""
        self.server.misbehaviour = "cut"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OfficeServer]:
    """An honest office, with few rows on a page."""
    with serving(tmp_path, page_size=20) as made:
        yield made


@pytest.fixture
def source(server: OfficeServer) -> RestSource:
    """An office that knows one proposal and one member."""
    made = RestSource(server)
    made.tell([proposal()], [member()])
    return made


def broken(office: RestUserOffice) -> str:
    """Why the office is broken."""
    assert not office.poll()
    with pytest.raises(SourceBroken, match="cannot be read") as caught:
        office.read()
    (problem,) = caught.value.problems
    return problem.reason


class TestRestUserOffice(MembershipSourceContract):
    """The contract, with a state of one page and of several."""


class TestAnswers:
    """What an honest office may do."""

    def test_a_state_of_many_pages_is_one(self, source: RestSource) -> None:
        source.tell([proposal()], [member(subject=f"s{i}") for i in range(95)], [staff()])
        reading = read(source)
        assert [m.subject for m in reading.members] == [f"s{i}" for i in range(95)]
        assert len(source.server.statuses) == 5

    def test_an_unchanged_state_costs_one_small_request(self, source: RestSource) -> None:
        source.tell([proposal()], [member(subject=f"s{i}") for i in range(95)])
        source.office.poll()
        source.server.statuses.clear()
        assert source.office.poll()
        assert source.server.statuses == [304]

    def test_a_process_that_starts_takes_up_from_the_state_that_another_kept(
        self, source: RestSource
    ) -> None:
        source.office.poll()
        fresh = RestSource(source.server).office
        fresh.resume(source.office.fingerprint())
        source.server.statuses.clear()
        assert fresh.poll()
        assert source.server.statuses == [304]
        assert fresh.fingerprint() == source.office.fingerprint()
        assert len(fresh.read().members) == 1  # the one who wants it all the same has it sent

    def test_an_office_without_entity_tags_is_read_by_what_it_says(self, source: RestSource) -> None:
        source.server.gives_etag = False
        source.office.poll()
        first = source.office.fingerprint()
        source.office.poll()
        assert (source.office.fingerprint(), source.server.statuses) == (first, [200, 200])
        source.tell([proposal()], [member(subject="nina")])
        assert [m.subject for m in read(source).members] == ["nina"]

    def test_an_entity_tag_that_does_not_change_hides_nothing_that_is_sent(self, source: RestSource) -> None:
        source.office.poll()
        first = source.office.fingerprint()
        source.server.mangle = lambda page: page | {"members": [member(subject="nina")]}
        source.office.resume("")
        fresh = RestSource(source.server).office
        fresh.poll()
        assert fresh.fingerprint().partition(" ")[0] == first.partition(" ")[0]
        assert fresh.fingerprint() != first

    def test_null_says_what_empty_text_says_and_unknown_keys_say_nothing(self, source: RestSource) -> None:
        def with_nulls(page: Page) -> Page:
            row = {key: value or None for key, value in member().items()} | {"phone": ["1", {}]}
            return page | {"members": [row], "server": {"name": "x"}, "version": "1.7"}

        source.server.mangle = with_nulls
        reading = read(source)
        assert [m.identity for m in reading.members] == [(ISSUER, "ines", None, None)]
        assert reading.problems == ()

    def test_the_token_is_sent_and_read_anew_for_every_poll(self, source: RestSource, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("old-token\n")
        source.server.token = TOKEN
        office = RestSource(source.server, token_file=file).office
        assert "refuses us (401)" in broken(office)
        file.write_text(f"{TOKEN}\n")
        assert office.poll()


def _drop(table: str, key: str) -> Callable[[Page], Any]:
    def mangle(page: Page) -> Page:
        rows = [{name: value for name, value in row.items() if name != key} for row in page[table]]
        return page | {table: rows}

    return mangle


def _with(table: str, **fields: Any) -> Callable[[Page], Any]:
    return lambda page: page | {table: [row | fields for row in page[table]]}


def _body(body: bytes) -> Callable[[Page], Any]:
    return lambda page: body


def _sub(old: bytes, new: bytes) -> Callable[[Page], Any]:
    return lambda page: json.dumps(page).encode().replace(old, new, 1)


class TestBadAnswers:
    """What is no state, whatever its rows say; the last good one is kept by whoever asked."""

    @pytest.mark.parametrize(
        ("misbehaviour", "words"),
        [
            ("cut", "broke off its answer"),
            ("cut_unnoticed", "is not JSON, line 1: was the answer cut short?"),
            ("redirect", "redirects are not followed"),
            ("unasked", "answers with status 304"),
            ("other_type", "another type"),
            ("compressed", "compressed"),
            ("failing", "answers with status 500"),
            ("no_http", "speaks no HTTP"),
            ("endless", "more bytes than are read"),
        ],
    )
    def test_what_is_no_answer_is_named(self, source: RestSource, misbehaviour: str, words: str) -> None:
        source.server.misbehaviour = misbehaviour
        assert words in broken(source.office)
        assert source.server.statuses.count(302) <= 1

    @pytest.mark.parametrize("misbehaviour", ["drip", "drip_head", "silence"])
    def test_a_slow_office_is_given_up_at_the_deadline_of_the_whole(
        self, source: RestSource, misbehaviour: str
    ) -> None:
        office = RestSource(source.server, timeout_s=0.5).office
        source.server.misbehaviour = misbehaviour
        began = time.monotonic()
        assert broken(office) == "takes too long for its whole answer"
        assert time.monotonic() - began < 3

    def test_an_office_that_does_not_listen_is_named(self, source: RestSource, free_port: int) -> None:
        office = RestSource(source.server, url=f"http://127.0.0.1:{free_port}").office
        assert broken(office) == "cannot be reached"

    @pytest.mark.parametrize(
        ("mangle", "words"),
        [
            (_body(b""), "is not JSON"),
            (_body(b"[]"), "is no JSON object"),
            (_body(b"\xff"), "is not UTF-8 (byte 0)"),
            (_body(b"[" * 100_000), "nests too deep"),
            (_body(b"9" * 10_000), "is not JSON"),
            (_sub(b'"1.0"', b'"2.0"'), "is of version 2.0"),
            (_sub(b'"1.0"', b"1.0"), "has no 'version'"),
            (_sub(b'"page": 1', b'"page": NaN'), "holds NaN"),
            (_sub(b'"page": 1', b'"page": 2'), "gives page 2 for page 1"),
            (_sub(b'"page": 1', b'"page": "1"'), "page: Input should be a valid integer"),
            (_sub(b'"role"', b'"role": "member", "role"'), "holds a key twice"),
            (_sub(b'"state"', b'"stat"'), "state: Field required"),
            (_drop("members", "until"), "members.0.until: Field required"),
            (_drop("members", "issuer"), "members.0.issuer: Field required"),
            (_drop("proposals", "end"), "proposals.0.end: Field required"),
            (_drop("proposals", "class"), "proposals.0.class: Field required"),
            (_with("members", subject=7), "members.0.subject: Input should be a valid string"),
            (_with("members", until=["2026-01-01"]), "members.0.until"),
            (_with("members", name="a\0b"), "holds a zero"),
            (_with("members", name="n" * 4_001), "longer than 4000"),
            (_with("members", name="\ud800"), "half of a surrogate pair"),
            (lambda page: page | {"members": {}}, "members: Input should be a valid list"),
            (lambda page: page | {"members": page["members"] * 2}, "promises 1 rows of members and gives 2"),
            (lambda page: page | {"members": []}, "promises 1 rows of members and gives 0"),
            (lambda page: page | {"pages": 0}, "pages"),
            (lambda page: page | {"state": "\udfff"}, "half of a surrogate pair"),
            (lambda page: page | {"pages": 10**9}, "pages"),
            (lambda page: page | {"totals": page["totals"] | {"staff": 10**7}}, "totals.staff"),
            (lambda page: page | {"totals": {"members": 1}}, "totals.proposals: Field required"),
        ],
    )
    def test_what_is_not_in_the_documented_shape_is_named(
        self, source: RestSource, mangle: Callable[[Page], Any], words: str
    ) -> None:
        source.server.mangle = mangle
        assert words in broken(source.office)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"state": "another"}, "changed while its pages were read"),
            ({"pages": 9}, "other totals"),
            ({"page": 1}, "gives page 1 for page 2"),
        ],
    )
    def test_a_later_page_of_another_state_is_no_page(
        self, source: RestSource, change: Page, words: str
    ) -> None:
        source.tell([proposal()], [member(subject=f"s{i}") for i in range(50)])
        source.server.mangle = lambda page: page | (change if page["page"] == 2 else {})
        assert words in broken(source.office)

    def test_no_row_of_a_state_that_broke_is_ever_read(self, source: RestSource) -> None:
        before = read(source)
        source.tell([proposal()], [member(subject=f"s{i}") for i in range(50)])
        source.server.mangle = lambda page: page if page["page"] < 3 else b"{"
        broken(source.office)
        source.server.mangle = lambda page: page
        source.tell([proposal()], [member()])
        assert read(source) == before

    @pytest.mark.parametrize("misbehaviour", ["", "failing", "no_http", "redirect", "cut"])
    def test_the_token_stands_in_no_message_and_in_no_log(
        self, source: RestSource, tmp_path: Path, misbehaviour: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "token"
        file.write_text("sesame-0123456789")
        source.server.token, source.server.misbehaviour = TOKEN, misbehaviour
        office = RestSource(source.server, token_file=file).office
        with caplog.at_level(logging.INFO):
            reason = broken(office)
        assert "sesame" not in reason + office.fingerprint() + repr(office.__dict__) + caplog.text

    @pytest.mark.parametrize("text", ["", "  \n", "two words", "a\nb", "\N{SNOWMAN}", "t" * 9_000])
    def test_what_is_no_token_is_not_sent(self, source: RestSource, tmp_path: Path, text: str) -> None:
        file = tmp_path / "token"
        file.write_text(text)
        assert "no token of plain characters" in broken(RestSource(source.server, token_file=file).office)
        file.unlink()
        assert "cannot be read (No such file" in broken(RestSource(source.server, token_file=file).office)
        assert source.server.statuses == []

    def test_asking_for_the_fingerprint_never_waits_for_a_poll(self, source: RestSource) -> None:
        office = RestSource(source.server, timeout_s=2.0).office
        source.server.misbehaviour = "silence"
        poll = threading.Thread(target=office.poll)
        poll.start()
        began = time.monotonic()
        for _ in range(1_000):
            office.fingerprint()
        assert time.monotonic() - began < 1
        poll.join()


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_read_whole_over_http(tmp_path: Path) -> None:
    n_rows = 100_000
    with serving(tmp_path, page_size=50_000) as server:
        source = RestSource(server, timeout_s=60.0)
        rows = [member(proposal=f"P-{i % 5_000}", subject=f"s{i}") for i in range(n_rows)]
        source.tell([proposal(proposal=f"P-{i}") for i in range(5_000)], rows)
        began = time.monotonic()
        reading = read(source)
        log.info("rows read", extra={"n_rows": n_rows, "duration_s": time.monotonic() - began})
    assert len(reading.members) == n_rows
    assert reading.problems == ()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestSource]:
    """One content, served both ways."""
    with serving(tmp_path_factory.mktemp("office"), page_size=3) as server:
        yield RestSource(server)


WILD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
DATES = st.sampled_from(["", "2025-01-01", "2025-06-30", "2026-12-31", "soon", " 2025-02-01 "])
IDS = st.sampled_from(["MA-2", "OP-1", "ZZ-9", " MA-2", "../x", ""])
PEOPLE = {
    "issuer": st.sampled_from([ISSUER, "", f" {ISSUER}"]),
    "subject": st.sampled_from(["ines", "nina", "", "ines "]) | WILD,
    "orcid": st.sampled_from(["", "0000-0002-1825-0097", "https://orcid.org/0000-0002-1825-0097", "1"]),
    "facility_account": st.sampled_from(["", "ferreira"]),
    "name": WILD,
    "from": DATES,
    "until": DATES,
}
PROPOSALS = st.fixed_dictionaries(
    {
        "proposal": IDS,
        "title": WILD,
        "class": st.sampled_from(["open", "standard", "", "c" * 81]),
        "instrument": st.sampled_from(["bl09", "", "i" * 201]),
        "start": DATES,
        "end": DATES,
        "access_route": st.sampled_from(["", "long-term", "r" * 81]),
    }
)
ROLES = st.sampled_from(["pi", "member", "local_contact", "boss", ""])
MEMBERS = st.fixed_dictionaries(PEOPLE | {"proposal": IDS, "role": ROLES})
STAFF = st.fixed_dictionaries(PEOPLE | {"instrument": st.sampled_from(["bl09", "bl10", ""])})


def _told(reading: SourceReading) -> tuple[object, ...]:
    """A reading without what the two kinds call the places of their rows."""
    reasons = [re.sub(r"(line|row) \d+", "row", p.reason) for p in reading.problems]
    return reading.proposals, reading.members, reading.staff, reasons, reading.n_problems


@settings(max_examples=60, deadline=None)
@given(
    proposals=st.lists(PROPOSALS, max_size=4),
    members=st.lists(MEMBERS, max_size=6),
    people=st.lists(STAFF, max_size=3),
)
def test_the_same_rows_say_the_same_whichever_way_they_come(
    both: RestSource, proposals: list[Any], members: list[Any], people: list[Any]
) -> None:
    both.tell(proposals, members, people)
    assert _told(read(both)) == _told(both.files.office.read())
