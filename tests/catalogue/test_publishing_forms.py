"""Every form of a record: checked by other people's code where there is some, by laws where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from datacite import schema45
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from rdflib import Graph
from rdflib.namespace import DCAT, PROV

from beamhub_catalogue.publishing import citations
from beamhub_catalogue.publishing.datacite import datacite_attributes
from beamhub_catalogue.publishing.datacite_xml import datacite_xml
from beamhub_catalogue.publishing.dcat import dcat
from beamhub_catalogue.publishing.dublin_core import dublin_core_xml
from beamhub_catalogue.publishing.fair import MAXIMUM, assess
from beamhub_catalogue.publishing.forms import FORMS, chosen_form
from beamhub_catalogue.publishing.places import PublicPlaces
from beamhub_catalogue.publishing.record import Contributor, Record
from beamhub_catalogue.publishing.ro_crate import ro_crate
from beamhub_catalogue.publishing.schema_org import schema_org, script_text
from beamhub_catalogue.publishing.signposting import link_header
from catalogue.publishing_parts import EMBARGOED, PRODUCT, RECORD  # the folder of these tests, not the room

HOME = "https://facility.example/services/web/"
EVERY = pytest.mark.parametrize("record", [RECORD, PRODUCT, EMBARGOED], ids=lambda one: one.pid)
anything = st.text(max_size=60)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A record in which strangers wrote what they liked."""
    people = draw(st.lists(st.builds(Contributor, anything), max_size=3))
    return replace(
        draw(st.sampled_from([RECORD, PRODUCT, EMBARGOED])),
        title=draw(anything),
        creators=tuple(people),
        instrument=draw(anything),
        abstract=draw(anything),
        keywords=tuple(draw(st.lists(anything, max_size=2))),
    )


def registered(record: Record) -> dict[str, Any]:
    """The attributes as they are sent to DataCite, whose library wants a DOI in them."""
    return datacite_attributes(replace(record, doi="10.12345/abc-1"))


@EVERY
def test_datacites_own_schema_takes_the_attributes(record: Record) -> None:
    schema45.validator.validate(registered(record))


@EVERY
def test_datacites_own_library_writes_the_same_elements(record: Record) -> None:
    record = replace(record, doi="10.12345/abc-1")
    theirs = schema45.dump_etree(registered(record))
    assert elements(datacite_xml(record)) == elements(etree.fromstring(etree.tostring(theirs)))


def elements(root: Any) -> list[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """All elements with texts and attributes, without regard to their order."""
    found = []
    for one in root.iter():
        name = etree.QName(one).localname
        marks = {key: value for key, value in one.attrib.items() if "schemaLocation" not in key}
        found.append((name, one.text or "", tuple(sorted(marks.items()))))
    return sorted(found)


@settings(max_examples=15)
@given(record=records())
def test_whatever_a_title_holds_every_form_is_written_and_read_again(record: Record) -> None:
    for form in FORMS:
        text = form.write(record, HOME)
        text.encode("utf-8", "surrogatepass")
        if "json" in form.media_type:
            json.loads(text)
        elif "xml" in form.media_type:
            etree.fromstring(text.encode())
    etree.fromstring(etree.tostring(dublin_core_xml(record)))
    inert = script_text(schema_org(record, catalogue_url=HOME))
    assert not set("<>&\u2028\u2029").intersection(inert)
    assert json.loads(inert)["description"]
    link_header(record).encode("latin-1")


@given(title=anything, authors=st.lists(st.text(max_size=20), max_size=3))
def test_bibtex_keeps_its_braces_balanced_whatever_a_title_holds(title: str, authors: list[str]) -> None:
    people = tuple(Contributor(one) for one in authors)
    entry = citations.bibtex(replace(RECORD, doi=None, title=title, creators=people))
    bare = entry.replace(r"\{", "").replace(r"\}", "")
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    assert entry.startswith("@misc{t-OP-1-a,\n")


@given(title=anything)
def test_no_title_makes_a_tag_of_a_ris_record(title: str) -> None:
    lines = citations.ris(replace(RECORD, title=title)).split("\r\n")
    assert all(line[2:6] == "  - " for line in lines[:-1])
    assert [line[:2] for line in lines].count("ER") == 1


def test_a_citation_names_people_year_title_publisher_and_doi() -> None:
    assert citations.apa(RECORD) == (
        "Ferreira, I., & Sam Okafor (2021). Silicon standard (Version 2) [Data set]. Test facility. "
        "https://doi.org/10.12345/abc-1"
    )
    item = citations.csl(RECORD)
    assert item["author"] == [{"family": "Ferreira", "given": "Ines"}, {"literal": "Sam Okafor"}]
    assert item["issued"] == {"date-parts": [[2021, 3, 5]]}


def test_an_embargo_is_two_dates_and_its_end_is_the_year_of_publication() -> None:
    attributes = datacite_attributes(EMBARGOED)
    dates = {one["dateType"]: one["date"] for one in attributes["dates"]}
    assert (dates["Accepted"], dates["Available"]) == ("2021-03-02", "2028-10-10")
    assert attributes["publicationYear"] == "2028"
    assert attributes["rightsList"][0]["rightsUri"].endswith("c_f1cf")
    assert {"sizes"}.isdisjoint(attributes)


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")  # rdflib uses its own old class
@EVERY
def test_an_rdf_library_reads_the_dcat_description(record: Record) -> None:
    graph = Graph().parse(data=json.dumps(dcat(record, catalogue_url=HOME)), format="json-ld")
    (dataset,) = graph.subjects(DCAT.landingPage, None)
    assert str(dataset) == record.identifier
    assert graph.value(dataset, PROV.wasGeneratedBy) is not None
    assert (graph.value(dataset, DCAT.distribution) is not None) is (record.access == "open")


@EVERY
def test_a_crate_names_each_thing_once_and_all_that_it_refers_to(record: Record) -> None:
    graph = ro_crate(record)["@graph"]
    names = [one["@id"] for one in graph]
    assert len(names) == len(set(names))
    root = next(one for one in graph if one["@id"] == record.identifier)
    assert {"name", "description", "datePublished", "license"} <= set(root)
    described = set(names) | {"https://w3id.org/ro/crate/1.2", "https://w3id.org/ro/wfrun/process/0.5"}
    for one in graph:
        for value in one.values():
            for linked in value if isinstance(value, list) else [value]:
                assert not isinstance(linked, dict) or linked["@id"] in described
    action = next(one for one in graph if one["@type"] == "CreateAction")
    assert action["result"] == {"@id": record.identifier}


def test_an_open_record_with_a_doi_is_as_fair_as_can_be_told_without_asking_outside() -> None:
    points = {one.name: one.points for one in assess(RECORD, HOME)}
    assert MAXIMUM == 26
    assert sum(points.values()) >= 24
    without = {one.name: one.points for one in assess(replace(RECORD, doi=None, license=None), HOME)}
    assert {name for name in points if without[name] < points[name]} == {"FsF-F1-02", "FsF-R1.1-01"}
    assert sum(one.points for one in assess(EMBARGOED, HOME)) < 24
    assert sum(one.points for one in assess(replace(RECORD, ours=False), HOME)) < 10


def test_a_form_with_a_profile_is_given_to_who_names_it() -> None:
    chosen = chosen_form('application/ld+json;profile="https://w3id.org/ro/crate/1.2"')
    assert chosen is not None
    assert chosen.name == "ro-crate-metadata.json"
    assert chosen_form("text/html, */*;q=0.8") is None
    assert chosen_form("application/json") is None


@given(kind=st.sampled_from(["dataset", "document"]), pid=st.text(min_size=1, max_size=40))
def test_an_oai_identifier_leads_back_to_its_record(kind: str, pid: str) -> None:
    places = PublicPlaces("https://facility.example/services/web", "facility.example", True)
    assert places.local_name(places.oai_identifier(kind, pid)) == (kind, pid)
    assert places.local_name(f"oai:other.example:datasets/{pid}") is None


def test_a_time_in_a_zone_keeps_it() -> None:
    item = schema_org(replace(RECORD, created=datetime(2021, 3, 2, 9, tzinfo=UTC)), catalogue_url=HOME)
    assert item["temporalCoverage"] == "2021-03-02T09:00:00+00:00/2021-03-02T10:00:00+00:00"
