"""The PaNOSC search API: what it offers, and what it keeps from outsiders on every way there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from beamhub_core.identity import Principal
from beamhub_core.techniques import POWDER_DIFFRACTION
from catalogue.catalogue_parts import INES, OSCAR, SAM  # the folder of these tests, not the room
from catalogue.catalogue_reader_parts import (  # likewise
    HIDDEN,
    OUTSIDERS_READ,
    OUTSIDERS_SEE,
    Api,
    furnished_api,
)

EVERYBODY_OUTSIDE = pytest.mark.parametrize("who", [None, OSCAR], ids=["anonymous", "outsider"])
RELATIONS = ["documents", "techniques", "instrument", "files", "parameters", "samples"]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API on the furnished catalogue, which no test here changes."""
    with furnished_api(tmp_path_factory.mktemp("facility")) as made:
        yield made


def told(**words: Any) -> str:
    """A filter."""
    return json.dumps(words)


def where(**conditions: Any) -> str:
    """A filter with nothing but conditions."""
    return told(where=conditions)


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({"pid": "t:OP-1:a"}, {"t:OP-1:a"}),
        ({"pid": {"eq": "t:OP-1:a"}}, {"t:OP-1:a"}),
        ({"pid": {"inq": ["t:OP-1:a", "t:OP-1:b", "t:TO-3:a"]}}, {"t:OP-1:a", "t:OP-1:b"}),
        ({"pid": {"inq": []}}, set()),
        ({"pid": {"nin": ["t:OP-1:a"]}}, OUTSIDERS_SEE - {"t:OP-1:a"}),
        ({"pid": {"neq": "t:OP-1:a"}}, OUTSIDERS_SEE - {"t:OP-1:a"}),
        ({"size": {"gt": 10}}, {"t:OP-1:b"}),
        ({"size": {"gte": 10}}, OUTSIDERS_READ),
        ({"size": {"lt": 20}}, {"t:OP-1:a"}),
        ({"size": {"lte": 20}}, OUTSIDERS_READ),
        ({"size": {"between": [5, 15]}}, {"t:OP-1:a"}),
        ({"size": {"neq": 10}}, {"t:OP-1:b"}),
        ({"size": {"nin": [1]}}, OUTSIDERS_READ),
        ({"isPublic": True}, OUTSIDERS_READ),
        ({"isPublic": {"neq": True}}, OUTSIDERS_SEE - OUTSIDERS_READ),
        ({"isPublic": {"inq": [False]}}, OUTSIDERS_SEE - OUTSIDERS_READ),
        ({"creationDate": {"lt": "2022-01-01T00:00:00Z"}}, {"t:OP-1:a"}),
        ({"creationDate": {"between": ["2021-03-02T10:00:00+01:00", "2021-03-02T09:00:00Z"]}}, {"t:OP-1:a"}),
        ({"title": {"like": "Silicon"}}, OUTSIDERS_READ),
        ({"title": {"like": "silicon"}}, set()),
        ({"title": {"ilike": "silicon"}}, OUTSIDERS_READ),
        ({"title": {"like": "Silicon%b"}}, {"t:OP-1:b"}),
        ({"title": {"like": "(a|b)*"}}, {"t:MA-2:a"}),
        ({"title": {"like": ".*"}}, set()),
        ({"title": {"like": "[A-Z]"}}, set()),
        ({"title": {"ilike": "^electrode"}}, set()),
        ({"text": "silicon"}, OUTSIDERS_READ),
        ({"text": "100%"}, {"t:OP-1:a"}),
        ({"or": [{"pid": "t:OP-1:a"}, {"pid": "t:MA-2:a"}]}, {"t:OP-1:a", "t:MA-2:a"}),
        ({"and": [{"pid": {"like": "OP-1"}}, {"size": {"gt": 10}}]}, {"t:OP-1:b"}),
        ({"or": [{"and": [{"size": 10}, {"isPublic": False}]}, {"size": 20}]}, {"t:OP-1:b"}),
        ({"or": []}, set()),
    ],
)
def test_conditions_select_the_datasets_and_counts_agree(
    api: Api, conditions: dict[str, Any], found: set[str]
) -> None:
    assert set(api.pids("Datasets", filter=told(where=conditions))) == found
    assert api.get("Datasets/count", where=json.dumps(conditions)).json() == {"count": len(found)}


@pytest.mark.parametrize(
    ("relation", "conditions", "found"),
    [
        ("techniques", {"pid": POWDER_DIFFRACTION}, OUTSIDERS_SEE),
        ("techniques", {"panetId": "PaNET01101"}, OUTSIDERS_SEE),
        ("techniques", {"name": {"ilike": "NEUTRON"}}, set()),
        ("instrument", {"name": "bl09"}, OUTSIDERS_SEE),
        ("documents", {"title": "Electrodes"}, {"t:MA-2:a"}),
        ("files", {"name": {"like": "plain"}}, OUTSIDERS_READ),
        ("parameters", {"value": {"gt": 15}}, {"t:OP-1:b"}),
        ("parameters", {"and": [{"name": "mode"}, {"value": "plain-mode"}]}, OUTSIDERS_READ),
        ("samples", {"name": "plain-sample"}, OUTSIDERS_READ),
    ],
)
def test_conditions_on_related_items_select_their_datasets(
    api: Api, relation: str, conditions: dict[str, Any], found: set[str]
) -> None:
    include = [{"relation": relation, "scope": {"where": conditions}}]
    assert set(api.pids("Datasets", filter=told(include=include))) == found


def test_related_items_come_with_a_dataset(api: Api) -> None:
    item = api.item("Datasets", "t:OP-1:a", filter=told(include=RELATIONS)).json()
    assert item["documents"][0]["pid"] == "OP-1"
    assert item["documents"][0]["license"] == "CC-BY-4.0"
    assert item["techniques"] == [
        {"pid": POWDER_DIFFRACTION, "name": "x-ray powder diffraction", "panetId": "PaNET01101"}
    ]
    assert item["instrument"] == {"pid": "bl09", "name": "bl09", "facility": "Test facility"}
    assert [file["name"] for file in item["files"]] == ["plain-file.h5"]
    assert {p["name"]: p["value"] for p in item["parameters"]} == {
        "plain-temperature": 10,
        "mode": "plain-mode",
    }
    assert item["samples"] == [{"name": "plain-sample"}]
    assert "score" not in item


def test_limit_and_skip_walk_through_a_list_once(api: Api) -> None:
    pages = [api.pids("Datasets", filter=told(limit=2, skip=skip, order="pid ASC")) for skip in (0, 2, 4, 6)]
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    assert [pid for page in pages for pid in page] == sorted(OUTSIDERS_SEE)


def test_order_goes_up_and_down(api: Api) -> None:
    up = api.pids("Datasets", filter=told(order=["isPublic ASC", "title ASC"]))
    assert api.pids("Datasets", filter=told(order=["isPublic DESC", "title DESC"])) == up[::-1]
    assert set(up[-2:]) == OUTSIDERS_READ


@pytest.mark.parametrize("kind", ["Datasets", "Documents", "Instruments"])
@pytest.mark.parametrize(
    "query",
    ["silicon", "silicon 100% powder diffraction bl09", "nowhere", "standards electrodes", "e " * 100],
)
def test_scores_lie_strictly_between_0_and_1_and_fall_along_the_list(api: Api, kind: str, query: str) -> None:
    items = api.items(kind, filter=told(query=query))
    scores = [item["score"] for item in items]
    assert items
    assert all(0 < score < 1 for score in scores)
    assert scores == sorted(scores, reverse=True)


def test_the_best_match_comes_first(api: Api) -> None:
    assert api.pids("Datasets", filter=told(query="electrode"))[0] == "t:MA-2:a"
    assert api.pids("Documents", filter=told(query="electrodes"))[0] == "MA-2"


def test_chosen_fields_come_alone_with_their_pid(api: Api) -> None:
    items = api.items("Datasets", filter=told(fields=["title"], limit=1))
    assert set(items[0]) == {"pid", "title", "score"}


def test_documents_and_instruments_are_found_by_pid_and_by_condition(api: Api) -> None:
    assert api.pids("Documents", filter=where(title={"ilike": "STAND"})) == ["OP-1"]
    assert api.pids("Documents", filter=where(endDate={"gt": "2025-01-01"})) == ["MA-2"]
    assert api.item("Documents", "MA-2").json()["isPublic"] is False
    assert api.get("Documents/count").json() == {"count": 2}
    assert api.pids("Instruments", filter=where(name="bl09")) == ["bl09"]
    assert api.item("Instruments", "bl09").json()["facility"] == "Test facility"
    assert api.get("Instruments/count").json() == {"count": 1}


def test_files_of_a_dataset_are_listed_and_counted(api: Api) -> None:
    assert [f["name"] for f in api.items("Datasets/t:OP-1:a/files")] == ["plain-file.h5"]
    assert api.get("Datasets/t:OP-1:a/files/count").json() == {"count": 1}
    assert api.items("Datasets/t:OP-1:a/files", filter=where(name="other")) == []


@EVERYBODY_OUTSIDE
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("Datasets", {}),
        ("Datasets", {"limit": 1000, "include": RELATIONS}),
        ("Datasets", {"order": ["size DESC", "title ASC"]}),
        ("Datasets", {"query": "hush hushweld hushtof"}),
        ("Datasets", {"where": {"text": "hush"}}),
        ("Datasets", {"where": {"title": {"ilike": "hush%"}}}),
        ("Datasets", {"where": {"or": [{"pid": {"inq": sorted(HIDDEN)}}, {"pid": {"nin": []}}]}}),
        ("Datasets", {"include": [{"relation": "documents", "scope": {"where": {"pid": "TO-3"}}}]}),
        ("Datasets", {"include": [{"relation": "instrument", "scope": {"where": {"name": "hushtof"}}}]}),
        ("Documents", {"include": ["datasets", "members"]}),
        ("Documents", {"include": [{"relation": "datasets", "scope": {"where": {"text": "hush"}}}]}),
        ("Documents", {"query": "hushweld", "order": "releaseDate DESC", "include": ["members"]}),
        ("Documents", {"where": {"title": {"like": "Hush"}}}),
        ("Instruments", {"include": ["datasets"]}),
        ("Instruments", {"where": {"pid": {"ilike": "hush"}}}),
        ("Instruments", {"include": [{"relation": "datasets", "scope": {"where": {"text": "hush"}}}]}),
    ],
)
def test_nothing_hidden_stands_in_any_list(
    api: Api, who: Principal | None, path: str, words: dict[str, Any]
) -> None:
    answer = api.get(path, who, filter=told(**words))
    assert answer.status_code == 200
    assert "hush" not in answer.text.lower()
    assert "TO-3" not in answer.text
    if "where" in words:
        assert api.get(f"{path}/count", who, where=json.dumps(words["where"])).json() == {
            "count": len(answer.json())
        }


@EVERYBODY_OUTSIDE
def test_counts_count_what_the_lists_hold(api: Api, who: Principal | None) -> None:
    counts = {
        kind: api.get(f"{kind}/count", who).json()["count"]
        for kind in ("Datasets", "Documents", "Instruments")
    }
    assert counts == {"Datasets": len(OUTSIDERS_SEE), "Documents": 2, "Instruments": 1}


@EVERYBODY_OUTSIDE
@pytest.mark.parametrize(
    ("kind", "hidden"),
    [*(("Datasets", pid) for pid in sorted(HIDDEN)), ("Documents", "TO-3"), ("Instruments", "hushtof")],
)
def test_a_hidden_pid_is_answered_like_one_that_never_was(
    api: Api, who: Principal | None, kind: str, hidden: str
) -> None:
    never = "n" * len(hidden)
    for tail in ("", "/files", "/files/count") if kind == "Datasets" else ("",):
        answer, unknown = api.get(f"{kind}/{hidden}{tail}", who), api.get(f"{kind}/{never}{tail}", who)
        assert (answer.status_code, unknown.status_code) == (404, 404)
        assert answer.text.replace(hidden, never) == unknown.text
        assert answer.headers == unknown.headers


@EVERYBODY_OUTSIDE
@pytest.mark.parametrize("pid", ["t:MA-2:a", "t:OP-1:veiled-product", "t:OP-1:gone"])
def test_files_parameters_sample_and_size_wait_for_the_end_of_the_embargo(
    api: Api, who: Principal | None, pid: str
) -> None:
    answer = api.item("Datasets", pid, who, filter=told(include=RELATIONS))
    assert answer.status_code == 200
    item = answer.json()
    assert [item[name] for name in ("files", "parameters", "samples")] == [[], [], []]
    assert "size" not in item
    assert "veiled-" not in answer.text.replace("veiled-product", "")
    assert api.items(f"Datasets/{pid}/files", who) == []
    assert api.get(f"Datasets/{pid}/files/count", who).json() == {"count": 0}


@EVERYBODY_OUTSIDE
@pytest.mark.parametrize(
    "include",
    [
        {"relation": "files", "scope": {"where": {"name": {"like": "veiled"}}}},
        {"relation": "parameters", "scope": {"where": {"value": "veiled-mode"}}},
        {"relation": "parameters", "scope": {"where": {"value": {"gte": 30}}}},
        {"relation": "samples", "scope": {"where": {"name": {"neq": "plain-sample"}}}},
    ],
)
def test_no_condition_tells_what_an_embargoed_dataset_holds(
    api: Api, who: Principal | None, include: dict[str, Any]
) -> None:
    assert api.pids("Datasets", who, filter=told(include=[include])) == []
    assert api.pids("Datasets", who, filter=where(size={"gte": 30})) == []


def test_size_of_embargoed_datasets_does_not_show_in_the_order(api: Api) -> None:
    hidden_last = api.pids("Datasets", filter=told(order="size DESC"))
    assert hidden_last[:2] == ["t:OP-1:b", "t:OP-1:a"]
    assert hidden_last[2:] == sorted(hidden_last[2:])  # 40 of the product would come before 30


def test_insiders_find_what_outsiders_do_not(api: Api) -> None:
    assert set(api.pids("Datasets", INES)) == OUTSIDERS_SEE | HIDDEN
    assert set(api.pids("Datasets", SAM)) == OUTSIDERS_SEE | HIDDEN - {"t:OP-1:hush-home"}
    assert set(api.pids("Instruments", INES)) == {"bl09", "hushtof"}
    assert set(api.pids("Documents", SAM)) == {"OP-1", "MA-2", "TO-3"}
    item = api.item("Datasets", "t:MA-2:a", INES, filter=told(include=["files"])).json()
    assert [file["name"] for file in item["files"]] == ["veiled-file.h5"]
