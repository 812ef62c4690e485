"""One question, two databases, one answer: random rows sorted, filtered, searched and compared on both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from beamhub_catalogue.database import Database, ensure_schema
from beamhub_catalogue.models import DatasetRow, MemberRow, ParameterRow, ProposalRow, SampleRow
from beamhub_catalogue.people import Reader
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.records import parameter_row
from beamhub_catalogue.search_answers import Answers
from beamhub_catalogue.search_filter import parse_filter
from beamhub_catalogue.search_patterns import PatternRefused, read_pattern
from beamhub_catalogue.texts import contains, like
from beamhub_catalogue.views import SearchFilters
from beamhub_core.policy import PolicyDocument
from beamhub_core.rights import Membership
from catalogue.catalogue_parts import CLASSES, INES, NOW

pytestmark = pytest.mark.postgresql
POLICY = PolicyDocument.model_validate({"version": "t1", "timezone": "Europe/Paris", "classes": CLASSES})
MEMBER = Reader(
    INES, (Membership(proposal="MA-2", account=INES.account, role="member", source="user_office:office"),)
)
# Letters whose order, case or folding differs from language to language, and what LIKE and JSON mind.
ODD = (
    "aAbBzZ09 _-%\\.'\"~\u00e4\u00c4\u00e9\u00c9\u00df\u1e9e\u017f\u0130\u0131I\u03a3\u03c3\u03c2\u0149"
    "\u01f0\u0301\u00a0\ufb01\u03a9\uff80\u65e5\U0001f600\U00010400\U00010428"
)
TEXTS = st.text(st.sampled_from(ODD), max_size=5) | st.text(
    st.characters(exclude_categories=("Cs", "Cn"), exclude_characters="\0"), max_size=4
)
NUMBERS = st.integers(0, 2**53 - 1) | st.sampled_from([0, 1, 2, 3, 2**31, 2**53 - 1])
FIRST, LAST = datetime(1, 1, 3), datetime(9999, 12, 29)  # noqa: DTZ001  # hypothesis takes naive bounds
INSTANTS = st.datetimes(FIRST, LAST, timezones=st.just(NOW.tzinfo)) | st.just(NOW)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "proposal": st.sampled_from(["OP-1", "MA-2", "TO-3", "NO-4"]),
            "title": TEXTS,
            "instrument": TEXTS,
            "technique_label": TEXTS,
            "sample": st.none() | TEXTS,
            "start": st.none() | INSTANTS,
            "size_bytes": NUMBERS,
            "withdrawn": st.booleans(),
            "parameter": st.none() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
        }
    ),
    max_size=6,
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


def fill(session: Session, rows: list[dict[str, Any]]) -> None:
    """Put the rows in place of whatever was there."""
    for table in (ParameterRow, SampleRow, DatasetRow, ProposalRow, MemberRow):
        session.execute(delete(table))
    opens = {"OP-1": NOW - timedelta(days=1), "MA-2": NOW + timedelta(days=1), "TO-3": None}
    for name, opens_at in opens.items():
        session.add(
            ProposalRow(
                id=name,
                source="user_office:office",
                title=f"Title of {name}",
                policy_class="confidential" if name == "TO-3" else "standard",
                instrument="bl09",
                opens_at=opens_at,
                metadata_public=name != "TO-3",
            )
        )
    for i, row in enumerate(rows):
        told = dict(row)
        value = told.pop("parameter")
        made = DatasetRow(
            id=i + 1,
            pid=f"t:{row['proposal']}:{'aBcDeF'[i]}-{row['title']}",
            kind="raw",
            technique="",
            end=None,
            pool="pool",
            folder=f"{row['proposal']}/{i}",
            file=f"{row['proposal']}/{i}/a.h5",
            link_closure=[],
            missing_links=[],
            harvested_at=NOW,
            **told,
        )
        made.set_techniques(("", made.technique_label))
        made.set_samples(*([SampleRow(name=made.sample)] if made.sample is not None else []))
        if value is not None:
            unit = ("eV", "keV", None)[i % 3] if isinstance(value, float) else None
            made.parameters = [parameter_row("x", value, unit)]
            made.parameters[0].id = i + 1
        session.add(made)


def readable(pattern: str) -> bool:
    """Whether the API takes a pattern."""
    try:
        read_pattern(pattern)
    except PatternRefused:
        return False
    return True


def conditions(field: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """One condition on a field."""
    one = st.sampled_from(["eq", "neq", "gt", "gte", "lt", "lte"])
    many = st.sampled_from(["inq", "nin"])
    return st.one_of(
        st.tuples(one, values).map(lambda c: {field: {c[0]: c[1]}}),
        st.tuples(many, st.lists(values, max_size=3)).map(lambda c: {field: {c[0]: c[1]}}),
        st.tuples(values, values).map(lambda c: {field: {"between": list(c)}}),
    )


REGEXPS = st.sampled_from(
    [
        "^a",
        "[A-Z]",
        "/[a-c]+.$/i",
        "(a|b)*c?",
        "\\W",
        "[^a]{1,2}",
        "\\s|-",
        "/\u00e4/i",
        "a{0,3}b+?",
        "",
        "()|x",
        "^$",
    ]
) | st.text(st.sampled_from("aAb.*+?|()[]^$-\\\u00e4%_ "), max_size=5).filter(readable)


def likes(field: str) -> st.SearchStrategy[dict[str, Any]]:
    """A pattern on a field."""
    plain = st.tuples(st.sampled_from(["like", "ilike", "nlike", "nilike"]), TEXTS)
    return st.one_of(plain, REGEXPS.map(lambda text: ("regexp", text))).map(lambda c: {field: {c[0]: c[1]}})


FLOATS = NUMBERS | st.floats(-1e6, 1e6) | st.sampled_from([0.5, 1.5, 2.5])
WHERES = st.recursive(
    st.one_of(
        conditions("title", TEXTS),
        conditions("pid", TEXTS),
        conditions("size", FLOATS),
        conditions("creationDate", INSTANTS.map(datetime.isoformat)),
        st.sampled_from([{"isPublic": True}, {"isPublic": {"neq": True}}, {"isPublic": {"inq": [False]}}]),
        likes("title"),
        likes("pid"),
        TEXTS.map(lambda t: {"text": t}),
    ),
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, max_size=3)).map(
        lambda g: {g[0]: g[1]}
    ),
    max_leaves=4,
)
VALUES = st.one_of(
    st.tuples(conditions("value", FLOATS), st.sampled_from(["meV", "keV", "K", "", "1"])).map(
        lambda c: {"and": [c[0], {"unit": c[1]}]}
    ),
    conditions("value", FLOATS),
    conditions("value", TEXTS),
    conditions("unit", TEXTS),
    likes("name"),
)


def inner(relation: str, where: dict[str, Any]) -> dict[str, Any]:
    """An include with a condition."""
    return {"relation": relation, "scope": {"where": where}}


INCLUDES = st.one_of(
    VALUES.map(lambda where: {"relation": "parameters", "scope": {"where": where}}),
    st.one_of(conditions("name", TEXTS), conditions("facility", TEXTS | st.just("Facility"))).map(
        lambda where: {"relation": "instrument", "scope": {"where": where}}
    ),
    conditions("type", TEXTS | st.sampled_from(["proposal", "Proposal", "a-z"])).map(
        lambda where: {"relation": "documents", "scope": {"where": where}}
    ),
    conditions("name", TEXTS).map(lambda where: {"relation": "samples", "scope": {"where": where}}),
    likes("name").map(lambda where: {"relation": "techniques", "scope": {"where": where}}),
    VALUES.map(
        lambda where: {
            "relation": "documents",
            "scope": {
                "include": [{"relation": "datasets", "scope": {"include": [inner("parameters", where)]}}]
            },
        }
    ),
)
ORDERS = st.lists(
    st.tuples(
        st.sampled_from(["pid", "title", "size", "creationDate", "isPublic"]),
        st.sampled_from(["ASC", "DESC"]),
    ).map(" ".join),
    max_size=2,
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "where": WHERES,
        "include": st.lists(INCLUDES, max_size=2),
        "order": ORDERS,
        "query": TEXTS,
        "limit": st.integers(1, 4),
        "skip": st.integers(0, 3),
    },
)


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
