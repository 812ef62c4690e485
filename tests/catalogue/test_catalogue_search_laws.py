"""Whatever an outsider asks, hidden records change nothing of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_catalogue.counts import count_again
from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.people import Reader
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.search_answers import Answers
from beamhub_catalogue.search_filter import FilterInvalid, parse_filter
from beamhub_core.policy import PolicyDocument
from catalogue.catalogue_parts import CLASSES, NOW  # the folder of these tests, not the room
from catalogue.catalogue_search_parts import FILTERS, ROWS, WHERES, fill  # likewise

pytestmark = pytest.mark.slow

POLICY = PolicyDocument.model_validate({"version": "t1", "timezone": "Europe/Paris", "classes": CLASSES})
DOCUMENTS = st.fixed_dictionaries(
    {"include": st.just([{"relation": "members"}])},
    optional={
        "query": st.sampled_from(["title", "author", "a b"]),
        "order": st.sampled_from(["title DESC", "releaseDate ASC"]),
        "limit": st.integers(1, 3),
    },
)


@pytest.fixture(scope="module")
def databases() -> Iterator[tuple[Database, Database]]:
    """One with the hidden records, and one without."""
    made = Database("sqlite://"), Database("sqlite://")
    for database in made:
        ensure_schema(database)
    yield made
    for database in made:
        database.close()


def told(database: Database, wanted: str, documents: str) -> Any:
    """All that an outsider is told: lists with scores, counts, facets, single items, or why not."""
    with database.reading() as session:
        answers = Answers(Catalogue(session, Reader(None), POLICY, NOW, "Facility"))
        try:
            parsed = parse_filter(wanted)
            listed = answers.datasets(parsed)
            return (
                listed,
                answers.count_datasets(parsed.where, parsed.include),
                answers.facets(parsed.where, parsed.include),
                answers.facets(None),
                answers.count_datasets(None),
                answers.documents(parse_filter(documents)),
                answers.count_documents(None),
                answers.instruments(parse_filter(json.dumps({"query": "a", "include": ["datasets"]}))),
                [answers.document(f"10.1/{i}", parse_filter(None)) for i in range(6)],
            )
        except FilterInvalid as error:
            return str(error)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, wanted=FILTERS, documents=DOCUMENTS, is_counted=st.booleans(), also=WHERES)
def test_an_outsider_is_told_the_same_with_and_without_hidden_records(
    databases: tuple[Database, Database],
    rows: list[dict[str, Any]],
    wanted: dict[str, Any],
    documents: dict[str, Any],
    is_counted: bool,
    also: dict[str, Any],
) -> None:
    documents["include"] = [*documents["include"], {"relation": "datasets", "scope": {"where": also}}]
    found = []
    for database, hidden in zip(databases, (True, False), strict=True):
        with database.writing() as session:
            fill(session, rows, hidden=hidden)
        if is_counted:
            with database.writing() as session:
                count_again(session)
        found.append(told(database, json.dumps(wanted), json.dumps(documents)))
    assert found[0] == found[1]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, wanted=FILTERS)
def test_a_count_is_the_length_of_the_whole_list_and_pages_behind_a_cursor_are_its_parts(
    databases: tuple[Database, Database], rows: list[dict[str, Any]], wanted: dict[str, Any]
) -> None:
    whole = {name: wanted[name] for name in ("where", "include") if name in wanted}
    with databases[0].writing() as session:
        fill(session, rows)
    with databases[0].reading() as session:
        answers = Answers(Catalogue(session, Reader(None), POLICY, NOW, "Facility"))
        parsed = parse_filter(json.dumps(whole))
        pids = [item["pid"] for item in answers.datasets(parsed)]
        assert answers.count_datasets(parsed.where, parsed.include) == len(pids)
        walked: list[str] = []
        while True:
            after = {"after": walked[-1]} if walked else {}
            page = answers.datasets(parse_filter(json.dumps(whole | {"limit": 2} | after)))
            if not page:
                break
            walked += [item["pid"] for item in page]
        assert walked == pids
