"""The OAI-PMH provider: what it tells, what it keeps back, and that no change falls between two harvests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from sickle import Sickle
from sickle.oaiexceptions import NoRecordsMatch

from beamhub_catalogue.models import DatasetRow, OaiStateRow
from beamhub_catalogue.publishing.oai_arguments import PREFIXES
from beamhub_catalogue.publishing.oai_sets import decoded, encoded, parse_set
from catalogue.catalogue_parts import CLASSES  # the folder of these tests, not the room
from catalogue.catalogue_reader_parts import HIDDEN, Made, member_row, proposal_row, put  # likewise
from catalogue.publishing_parts import OAI, SECRET, Published, on_a_port, publishing, text_of  # likewise

TOLD = {
    "datasets/t:OP-1:a",
    "datasets/t:OP-1:b",
    "datasets/t:MA-2:a",
    "datasets/t:OP-1:veiled-product",
    "documents/OP-1",
    "documents/MA-2",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """A provider whose catalogue no test here changes."""
    with publishing(tmp_path_factory.mktemp("publishing")) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Published]:
    """A provider of a test's own."""
    with publishing(tmp_path) as made:
        yield made


def test_a_whole_list_has_every_public_record_once_and_nothing_hidden(shared: Published) -> None:
    assert shared.pids() == dict.fromkeys(TOLD, False)
    assert set(shared.pids("ListRecords")) == TOLD
    assert {f"datasets/{pid}" for pid in HIDDEN}.isdisjoint(TOLD)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_record_of_a_list_can_be_got_by_itself_with_the_same_datestamp(
    shared: Published, prefix: str
) -> None:
    for name in sorted(TOLD) if prefix == "datacite" else ["datasets/t:MA-2:a"]:
        root = shared.ask(verb="GetRecord", identifier=f"oai:facility.example:{name}", metadataPrefix=prefix)
        stamp = text_of(next(root.iter(f"{OAI}header")), "datestamp")
        assert name in shared.pids(since=stamp, until=stamp, metadataPrefix=prefix)
        assert "hush" not in etree.tostring(root, encoding="unicode")
        if name == "datasets/t:MA-2:a":
            assert "veiled-sample" not in etree.tostring(root, encoding="unicode")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "badVerb"),
        ({"verb": "Nothing"}, "badVerb"),
        ({"verb": "Identify", "set": "x"}, "badArgument"),
        ({"verb": "ListRecords"}, "badArgument"),
        ({"verb": "ListRecords", "metadataPrefix": ""}, "badArgument"),
        ({"verb": "ListRecords", "metadataPrefix": "marc"}, "cannotDisseminateFormat"),
        ({"verb": "GetRecord", "metadataPrefix": "oai_dc"}, "badArgument"),
        ({"verb": "GetRecord", "metadataPrefix": "oai_dc", "identifier": "nothing"}, "idDoesNotExist"),
        (
            {"verb": "ListMetadataFormats", "identifier": "oai:facility.example:datasets/t:TO-3:a"},
            "idDoesNotExist",
        ),
        ({"verb": "ListSets", "resumptionToken": "x"}, "badResumptionToken"),
        ({"verb": "ListRecords", "resumptionToken": "x", "metadataPrefix": "oai_dc"}, "badArgument"),
        ({"verb": "ListRecords", "resumptionToken": "AAAA"}, "badResumptionToken"),
        ({"verb": "ListRecords", "metadataPrefix": "oai_dc", "since": "2026-13-01"}, "badArgument"),
        ({"verb": "ListRecords", "metadataPrefix": "oai_dc", "since": "2026-01-01T00:00Z"}, "badArgument"),
        (
            {
                "verb": "ListRecords",
                "metadataPrefix": "oai_dc",
                "since": "2026-01-01",
                "until": "2026-01-02T00:00:00Z",
            },
            "badArgument",
        ),
        (
            {"verb": "ListRecords", "metadataPrefix": "oai_dc", "since": "2026-02-01", "until": "2026-01-01"},
            "badArgument",
        ),
        ({"verb": "ListRecords", "metadataPrefix": "oai_dc", "since": "2090-01-01"}, "noRecordsMatch"),
        (
            {"verb": "ListRecords", "metadataPrefix": "oai_dc", "until": "9999-12-31", "set": "no"},
            "noRecordsMatch",
        ),
        ({"verb": "ListRecords", "metadataPrefix": "oai_dc", "set": "year:20x1"}, "noRecordsMatch"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_request_is_answered_with_the_protocols_error(
    shared: Published, arguments: dict[str, str], code: str
) -> None:
    assert shared.error(**arguments) == code


def test_an_argument_that_stands_twice_is_an_error_of_its_own_kind(shared: Published) -> None:
    assert shared.error(("verb", "Identify"), ("verb", "Identify")) == "badVerb"
    twice = [("metadataPrefix", "oai_dc"), ("metadataPrefix", "oai_dc")]
    assert shared.error(("verb", "ListRecords"), *twice) == "badArgument"


@settings(max_examples=6)
@given(changed=st.data())
def test_a_token_that_was_altered_anywhere_is_none(shared: Published, changed: st.DataObject) -> None:
    root = shared.ask(verb="ListIdentifiers", metadataPrefix="oai_dc")
    token = next(root.iter(f"{OAI}resumptionToken")).text
    place = changed.draw(st.integers(0, len(token) - 1))
    sign = changed.draw(st.sampled_from("ABCxyz019-_=+ "))
    altered = token[:place] + sign + token[place + 1 :]
    if altered != token:
        assert shared.error(verb="ListIdentifiers", resumptionToken=altered) == "badResumptionToken"
    assert shared.error(verb="ListRecords", resumptionToken=token) == "badResumptionToken"


def test_a_token_gives_the_same_page_again_and_ends_after_a_day(own: Published) -> None:
    token = next(own.ask(verb="ListRecords", metadataPrefix="datacite").iter(f"{OAI}resumptionToken")).text
    pages = [own.ask(verb="ListRecords", resumptionToken=token) for _ in range(2)]
    names = [[one.text for one in page.iter(f"{OAI}identifier")] for page in pages]
    assert names[0] == names[1]
    own.facility.clock.now += timedelta(days=1, seconds=2)
    assert own.error(verb="ListRecords", resumptionToken=token) == "badResumptionToken"


def test_the_last_page_ends_with_an_empty_token_and_the_sizes_agree(shared: Published) -> None:
    root = shared.ask(verb="ListIdentifiers", metadataPrefix="oai_dc")
    cursors = []
    while True:
        token = next(root.iter(f"{OAI}resumptionToken"))
        cursors.append(int(token.get("cursor")))
        assert token.get("completeListSize") == str(len(TOLD))
        if not token.text:
            break
        root = shared.ask(verb="ListIdentifiers", resumptionToken=token.text)
    assert cursors == [0, 2, 4]


def test_sets_of_headers_and_lists_of_sets_agree(shared: Published) -> None:
    sets = [one.text for one in shared.ask(verb="ListSets").iter(f"{OAI}setSpec")]
    assert {"facility:test", "openaire_data", "instrument:bl09", "technique:PaNET01101", "year:2021"} <= set(
        sets
    )
    assert not any("hush" in spec for spec in sets)
    for spec in sets:
        arguments = {"verb": "ListIdentifiers", "metadataPrefix": "oai_dc", "set": spec}
        root = shared.ask(**arguments)
        for header in root.iter(f"{OAI}header"):
            of = [one.text for one in header.iter(f"{OAI}setSpec")]
            assert any(one == spec or one.startswith(f"{spec}:") for one in of)


@given(name=st.text(min_size=1, max_size=40))
def test_a_name_comes_back_from_the_set_that_it_makes(name: str) -> None:
    spec = f"instrument:{encoded(name)}"
    choice = parse_set(spec)
    assert decoded(encoded(name)) == name
    assert choice is not None
    assert choice.value == name


def test_a_withdrawn_record_is_deleted_for_ever_and_at_once(own: Published) -> None:
    with own.service.database.writing() as session:
        row = session.query(DatasetRow).filter_by(pid="t:OP-1:a").one()
        row.withdrawn = True
        row.changed_at = own.facility.clock.now + timedelta(seconds=1)
    assert own.pids()["datasets/t:OP-1:a"], "told as deleted before it has a datestamp for it"
    before = own.facility.clock.now
    own.facility.clock.now += timedelta(seconds=5)
    own.service.publication.publish()
    own.facility.clock.now += timedelta(seconds=5)
    changed = own.pids(since=before.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert changed["datasets/t:OP-1:a"]
    assert not changed.get("datasets/t:OP-1:b", False)
    with own.service.database.writing() as session:
        session.delete(session.query(DatasetRow).filter_by(pid="t:OP-1:b").one())
    own.service.publication.publish()
    own.facility.clock.now += timedelta(seconds=5)
    assert own.pids()["datasets/t:OP-1:b"]


def test_a_record_that_opens_gets_a_datestamp_and_then_says_more(own: Published) -> None:
    whole = etree.tostring(get(own, "datasets/t:MA-2:a"), encoding="unicode")
    assert "embargoed access" in whole
    assert "veiled-temperature" not in whole
    own.facility.clock.now = own.facility.clock.now.replace(year=2029)
    own.service.publication.publish()
    own.facility.clock.now += timedelta(seconds=2)
    assert "datasets/t:MA-2:a" in own.pids(since="2029-01-01")
    assert "veiled-temperature" in etree.tostring(get(own, "datasets/t:MA-2:a"), encoding="unicode")


def test_what_the_policy_hides_is_deleted_with_no_word_of_it(own: Published) -> None:
    own.facility.write_policy(CLASSES | {"standard": {"embargo_months": 36, "metadata": "team"}}, "t2")
    assert own.pids()["datasets/t:MA-2:a"]
    assert "Electrode" not in etree.tostring(get(own, "datasets/t:MA-2:a"), encoding="unicode")


def get(published: Published, name: str) -> etree._Element:
    """One record in DataCite's form."""
    identifier = f"oai:facility.example:{name}"
    return published.ask(verb="GetRecord", identifier=identifier, metadataPrefix="datacite")


def test_what_is_being_published_is_told_only_when_all_of_it_is_there(own: Published) -> None:
    now = own.facility.clock.now.replace(microsecond=0)
    with own.service.database.writing() as session:
        state = session.get(OaiStateRow, 1)
        assert state is not None
        state.publishing_since = now - timedelta(seconds=300)
    root = own.ask(verb="Identify")
    assert text_of(root, "responseDate") == (now - timedelta(seconds=300)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert own.pids() == {}


def test_another_client_harvests_everything_resumes_and_sees_deletions(own: Published) -> None:
    app = FastAPI()
    app.include_router(own.service.publication.oai_router(SECRET))
    with on_a_port(app) as address:
        client = Sickle(f"{address}/oai", http_method="POST")
        found = {one.header.identifier for one in client.ListRecords(metadataPrefix="oai_datacite")}
        assert found == {f"oai:facility.example:{name}" for name in TOLD}
        assert client.Identify().deletedRecord == "persistent"
        assert {one.metadataPrefix for one in client.ListMetadataFormats()} == set(PREFIXES)
        with own.service.database.writing() as session:
            session.delete(session.query(DatasetRow).filter_by(pid="t:OP-1:b").one())
        own.service.publication.publish()
        own.facility.clock.now += timedelta(seconds=3)
        reader = Sickle(f"{address}/oai")
        gone = {one.identifier for one in reader.ListIdentifiers(metadataPrefix="oai_dc") if one.deleted}
        assert gone == {"oai:facility.example:datasets/t:OP-1:b"}
        kept = reader.ListRecords(metadataPrefix="oai_dc", ignore_deleted=True)
        assert {one.header.identifier for one in kept} == found - gone
        with pytest.raises(NoRecordsMatch, match="No record"):
            reader.ListRecords(metadataPrefix="oai_dc", set="instrument:nothing")


@settings(max_examples=3)
@given(steps=st.lists(st.sampled_from(["edit", "add", "publish", "harvest", "page"]), max_size=10))
def test_harvests_in_turn_with_writes_keep_a_mirror_without_gap_or_double(
    shared_writer: Published, steps: list[str]
) -> None:
    published, clock = shared_writer, shared_writer.facility.clock
    mirror, since, token = {}, None, None
    asked: str | None = None

    def follow(arguments: dict[str, str]) -> None:
        nonlocal token, since, asked
        root = published.ask(verb="ListRecords", **arguments)
        if "resumptionToken" not in arguments:
            asked = text_of(root, "responseDate")
        for record in root.iter(f"{OAI}record"):
            mirror[text_of(record[0], "identifier")] = etree.tostring(record)
        tokens = [one.text for one in root.iter(f"{OAI}resumptionToken") if one.text]
        token = tokens[0] if tokens else None
        if token is None:
            since = asked

    def first() -> dict[str, str]:
        return {"metadataPrefix": "oai_dc"} | ({"since": since} if since else {})

    for number, step in enumerate(steps):
        clock.now += timedelta(milliseconds=400)
        if step in ("edit", "add"):
            write(published, step, number)
        elif step == "publish":
            published.service.publication.publish()
        else:
            follow({"resumptionToken": token} if token else first())
    published.service.publication.publish()
    clock.now += timedelta(seconds=2)
    while token is not None:
        follow({"resumptionToken": token})
    follow(first())
    while token is not None:
        follow({"resumptionToken": token})
    fresh: dict[str, bytes] = {}
    kept, since, mirror = mirror, None, fresh
    follow(first())
    while token is not None:
        follow({"resumptionToken": token})
    assert kept == fresh


@pytest.fixture(scope="module")
def shared_writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """A provider whose catalogue a law writes to, example after example."""

    def fill(service: object) -> None:
        proposals = [proposal_row("OP-1", "open", date(2021, 3, 4))]
        members = [member_row("OP-1", "pi", name="Ines Ferreira")]
        put(service, proposals, members, [Made(f"t:OP-1:{i}", "OP-1") for i in range(5)])  # type: ignore[arg-type]

    with publishing(tmp_path_factory.mktemp("writer"), fill) as made:
        yield made


def write(published: Published, step: str, number: int) -> None:
    """Change a dataset, or add one."""
    now = published.facility.clock.now
    with published.service.database.writing() as session:
        rows = session.query(DatasetRow).order_by(DatasetRow.id).all()
        row = rows[number % len(rows)]
        if step == "add":
            names = {
                name: getattr(row, name)
                for name in (
                    "kind",
                    "proposal",
                    "technique",
                    "technique_label",
                    "instrument",
                    "pool",
                    "folder",
                )
            }
            session.add(
                DatasetRow(
                    pid=f"t:OP-1:new-{len(rows)}",
                    title=f"New {now}",
                    file=f"{len(rows)}.h5",
                    size_bytes=1,
                    link_closure=[],
                    missing_links=[],
                    harvested_at=now,
                    **names,
                )
            )
        else:
            row.title, row.changed_at = f"Title of {now}", now
