"""Ingest of JSON: what the API gives can be loaded again, and nothing that is loaded opens anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.api_shape import read_items
from beamhub_catalogue.ingest import IngestReport, ingest_json
from beamhub_catalogue.models import DatasetRow, ParameterRow, ProposalRow, PublicationRow
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import INES, Facility, write_master
from catalogue.catalogue_reader_parts import furnish, running_api

INCLUDE = json.dumps(
    {
        "include": [
            {"relation": r}
            for r in ("documents", "techniques", "instrument", "files", "parameters", "samples")
        ]
    }
)


def ingest(service: CatalogueService, told: Any, name: str = "told.json") -> IngestReport:
    """The report on a JSON value loaded from a file."""
    path = service.config.web.state_folder / name
    path.write_text(json.dumps(told))
    report = IngestReport()
    ingest_json(service, path, report)
    return report


def dataset(number: int, proposal: str = "OP-1", **facts: Any) -> dict[str, Any]:
    """A dataset in the API's shape."""
    return {
        "pid": f"told:{number}",
        "title": f"Told {number}",
        "isPublic": True,
        "creationDate": "2025-10-07T07:00:00.000Z",
        "documents": [{"pid": proposal, "type": "proposal", "title": "T"}],
    } | facts


def told_by(service: CatalogueService, who: Principal | None) -> dict[str, dict[str, Any]]:
    """What the API tells a reader of every dataset, without the ids that no record keeps."""
    with running_api(service) as api:
        items = {item["pid"]: item for item in api.items("Datasets", who, filter=INCLUDE)}
    for item in items.values():
        item.pop("score", None)
        for child in (*item.get("files", ()), *item.get("parameters", ())):
            child.pop("id", None)
    return items


@pytest.mark.parametrize("who", [None, INES], ids=["anonymous", "ines"])
def test_what_the_api_gives_can_be_loaded_again(tmp_path: Path, who: Principal | None) -> None:
    services = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        facility = Facility(tmp_path / name)
        facility.prepare()
        services.append(facility.service())
    try:
        furnish(services[0])
        given_out = told_by(services[0], who)
        report = ingest(services[1], {"datasets": list(given_out.values())})
        # Not public although its proposal is open: withdrawn, or a product of closed data.
        closed = {p for p, item in given_out.items() if not item["isPublic"] and ":OP-1:" in p}
        assert (len(report.problems), set(report.stored)) == (len(closed), set(given_out) - closed)
        again = told_by(services[1], who)
        assert set(again) <= set(given_out)
        for pid, item in again.items():
            readable = {key: value for key, value in given_out[pid].items() if key in item}
            # Whether it is public is for each catalogue's own policy and acts.
            assert item | {"isPublic": None, "documents": None, "size": None} == readable | {
                "isPublic": None,
                "documents": None,
                "size": None,
            }
        assert ingest(services[1], {"datasets": list(given_out.values())}).n_unchanged == len(report.stored)
    finally:
        for service in services:
            service.stop()


def test_nothing_that_is_loaded_opens_anything(facility: Facility, service: CatalogueService) -> None:
    write_master(facility.pool / "TO-3/raw/scan1.h5", experiment_identifier="TO-3")
    with service.database.writing() as session:
        session.add(
            DatasetRow(
                pid="test:TO-3:scan1", kind="raw", proposal="TO-3", title="Hush", technique="",
                technique_label="", instrument="", pool="pool", folder="TO-3/raw", file="TO-3/raw/scan1.h5",
                size_bytes=1, link_closure=[], missing_links=[], harvested_at=facility.clock(),
            )
        )  # fmt: skip
    report = ingest(
        service,
        {
            "datasets": [
                dataset(1, "TO-3"),
                dataset(2, "MA-2"),
                dataset(5, "OP-1", isPublic=False),
                dataset(3, "XX-9"),
                dataset(4, pid="test:TO-3:scan1"),
            ],
            "documents": [
                {"pid": "XX-9", "type": "proposal", "title": "Unknown", "isPublic": True},
                {"pid": "MA-2", "type": "proposal", "title": "Other", "releaseDate": "2020-01-01T00:00:00Z"},
            ],
        },
    )
    assert [reason for _, reason in report.problems] == [
        "is not public where it comes from, but its proposal 'OP-1' is open here",
        "is here already, told by 'files'",
        "no user office knows this proposal",
    ]
    seen = {hit.pid: hit.embargo.state for hit in service.search(None).hits}
    assert seen == {"told:2": "embargoed"}
    moved = ingest(service, {"datasets": [dataset(2, "OP-1")]})
    assert "never moves to another proposal" in moved.problems[0][1]
    with service.database.reading() as session:
        proposal = session.get_one(ProposalRow, "MA-2")
        assert proposal.title == "Electrodes"


def test_a_bad_record_gives_one_error_and_leaves_nothing(service: CatalogueService) -> None:
    bad = [
        {"pid": "a", "title": "no proposal"},
        dataset(2, title=None),
        dataset(3, creationDate="last Tuesday"),
        dataset(4, parameters=[{"name": "n", "value": {"$gt": 1}}]),
        dataset(5, title="a\0b"),
        dataset(6, files="all"),
        "not even an object",
        dataset(7, doi="10.1/x"),
        dataset(8, doi="10.1/x", parameters=[{"name": "n", "value": 1, "unit": "mm"}]),
        dataset(9),
    ]
    report = ingest(service, {"datasets": bad})
    assert sorted(report.stored) == ["told:7", "told:9"]
    assert len(report.problems) == 8
    with service.database.reading() as session:
        assert session.query(ParameterRow).count() == 0


def test_a_publication_is_kept_with_its_datasets(service: CatalogueService) -> None:
    paper = {"pid": "10.1/paper", "type": "publication", "title": "Paper", "datasets": [{"pid": "told:1"}]}
    told = {"datasets": [dataset(1)], "documents": [paper], "instruments": [{"pid": "i", "name": "bl09"}]}
    assert ingest(service, told).problems == []
    again = ingest(service, told)
    assert (again.stored, again.n_unchanged) == ([], 3)
    with service.database.reading() as session:
        row = session.query(PublicationRow).one()
        assert (row.title, len(row.datasets)) == ("Paper", 1)


@pytest.mark.parametrize("text", ["", "[", "[1]", '"x"', "{}", '{"datasets": 3}', "[" * 5000])
def test_a_file_that_is_none_is_named(service: CatalogueService, text: str) -> None:
    path = service.config.web.state_folder / "bad.json"
    path.write_text(text)
    report = IngestReport()
    ingest_json(service, path, report)
    assert len(report.problems) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    [
        "pid",
        "title",
        "documents",
        "parameters",
        "files",
        "creationDate",
        "members",
        "techniques",
        "samples",
        "size",
    ]
)


@given(st.lists(st.dictionaries(keys, json_values, max_size=6), max_size=3))
def test_any_json_is_taken_or_refused_record_by_record(entries: list[dict[str, Any]]) -> None:
    items = read_items({"datasets": entries, "documents": entries, "instruments": entries})
    n_taken = len(items.datasets) + len(items.documents) + len(items.instruments)
    assert n_taken + len(items.problems) == 3 * len(entries)
