"""One question, two databases, one answer: random rows sorted, filtered, searched and compared on both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.models import MemberRow
from beamhub_catalogue.people import Reader
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.search_answers import Answers
from beamhub_catalogue.search_filter import parse_filter
from beamhub_catalogue.texts import contains, like
from beamhub_catalogue.views import SearchFilters
from beamhub_core.policy import PolicyDocument
from beamhub_core.rights import Membership
from catalogue.catalogue_parts import CLASSES, INES, NOW
from catalogue.catalogue_search_parts import FILTERS, ROWS, TEXTS, fill

pytestmark = pytest.mark.postgresql
POLICY = PolicyDocument.model_validate({"version": "t1", "timezone": "Europe/Paris", "classes": CLASSES})
MEMBER = Reader(
    INES, (Membership(proposal="MA-2", account=INES.account, role="member", source="user_office:office"),)
)


@pytest.fixture(scope="module")
def sqlite() -> Iterator[Database]:
    """A database in memory."""
    made = Database("sqlite://")
    ensure_schema(made)
    yield made
    made.close()


@pytest.fixture(scope="module")
def postgresql(postgresql_server: Any) -> Iterator[Database]:
    """A database whose own order of text is that of English words."""
    name = postgresql_server.make_database()
    made = Database(postgresql_server.url(name))
    yield made
    made.close()
    postgresql_server.drop_database(name)


def answers(database: Database, rows: list[dict[str, Any]], wanted: str, reader: Reader) -> Any:
    """All that a reader is answered."""
    with database.writing() as session:
        fill(session, rows)
    with database.reading() as session:
        made = Answers(Catalogue(session, reader, POLICY, NOW, "Facility"))
        return made.datasets(parse_filter(wanted))


def dataset(proposal: str, size_bytes: int, **told: Any) -> dict[str, Any]:
    """A row for `fill`."""
    texts = {"title": "a", "instrument": "bl", "technique_label": "x", "sample": None, "start": NOW}
    return (
        {"proposal": proposal, "size_bytes": size_bytes, "withdrawn": False, "parameter": None} | texts | told
    )


@pytest.mark.parametrize(
    ("wanted", "sizes"),
    [
        ({"where": {"size": {"gt": 1.5}}}, [2, 3]),
        ({"where": {"size": {"lte": 2.5}}}, [2, 1]),
        ({"where": {"size": {"inq": [1.5, 3]}}}, [3]),
        ({"order": "size ASC"}, [None, 1, 2, 3]),
        ({"order": "size DESC"}, [3, 2, 1, None]),
    ],
)
def test_numbers_are_not_rounded_and_what_is_hidden_sorts_as_absent(
    sqlite: Database, postgresql: Database, wanted: Any, sizes: list[int | None]
) -> None:
    rows = [dataset("OP-1", 3), dataset("MA-2", 9), dataset("OP-1", 1), dataset("OP-1", 2)]
    for database in (sqlite, postgresql):
        found = answers(database, rows, json.dumps(wanted), Reader(None))
        assert [item.get("size") for item in found] == sizes


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, wanted=FILTERS, as_member=st.booleans())
def test_the_search_api_answers_alike(
    sqlite: Database, postgresql: Database, rows: list[dict[str, Any]], wanted: Any, as_member: bool
) -> None:
    reader = MEMBER if as_member else Reader(None)
    question = json.dumps(wanted)
    assert answers(sqlite, rows, question, reader) == answers(postgresql, rows, question, reader)


@given(rows=ROWS, words=TEXTS, instrument=st.none() | TEXTS, page=st.integers(1, 2))
def test_pages_and_facets_are_alike(
    sqlite: Database,
    postgresql: Database,
    rows: list[dict[str, Any]],
    words: str,
    instrument: str | None,
    page: int,
) -> None:
    found = []
    for database in (sqlite, postgresql):
        with database.writing() as session:
            fill(session, rows)
        with database.reading() as session:
            catalogue = Catalogue(session, MEMBER, POLICY, NOW, "Facility")
            found.append(catalogue.search(words, SearchFilters(instrument=instrument), page, 3))
    assert found[0] == found[1]


@given(texts=st.lists(TEXTS, min_size=1, max_size=8), word=TEXTS, fold=st.booleans())
def test_words_and_patterns_are_found_alike(
    sqlite: Database, postgresql: Database, texts: list[str], word: str, fold: bool
) -> None:
    found = []
    for database in (sqlite, postgresql):
        with database.writing() as session:
            session.execute(delete(MemberRow))
            session.execute(
                insert(MemberRow),
                [{"source": "s", "proposal": "p", "name": text, "role": "member"} for text in texts],
            )
        with database.reading() as session:
            name: Any = MemberRow.name
            asked = (contains(name, word), like(name, word, fold_case=fold), name < word, name >= word)
            found.append([list(session.scalars(select(name).where(where).order_by(name))) for where in asked])
    assert found[0] == found[1]
    assert found[0][2] == sorted(text for text in texts if text < word)
