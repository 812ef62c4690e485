"""Random catalogues and random filters for laws about the search API."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.orm import Session

from beamhub_catalogue.models import (
    AffiliationRow,
    AuthorRow,
    AuthorshipRow,
    DatasetRow,
    MemberRow,
    ProposalRow,
    PublicationDatasetRow,
    PublicationRow,
    SampleRow,
)
from beamhub_catalogue.records import parameter_row
from beamhub_catalogue.search_patterns import PatternRefused, read_pattern
from catalogue.catalogue_parts import NOW

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


OUTSIDE = ("OP-1", "MA-2")
"""The proposals that an outsider knows of."""
TABLES = (AuthorshipRow, AuthorRow, AffiliationRow, PublicationRow, DatasetRow, ProposalRow, MemberRow)


def fill(session: Session, rows: list[dict[str, Any]], *, hidden: bool = True) -> None:
    """Put the rows in place of whatever was there; without the hidden ones, only what an outsider knows of.

    Every dataset has an author, and a publication that names it and the dataset after it.
    """
    for table in TABLES:
        session.execute(delete(table))
    opens = {"OP-1": NOW - timedelta(days=1), "MA-2": NOW + timedelta(days=1), "TO-3": None}
    for name, opens_at in opens.items():
        if not hidden and name not in OUTSIDE:
            continue
        session.add(MemberRow(source="o", proposal=name, name=f"Member of {name}", role="pi"))
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
        if not hidden and row["proposal"] not in OUTSIDE:
            continue
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
        author = AuthorRow(id=i + 1, full_name=f"Author {row['title']}", first_name=row["sample"])
        made.authorships = [AuthorshipRow(id=i + 1, position=0, role="Creator", author=author)]
    session.flush()
    _publish(session, rows, hidden)


def _publish(session: Session, rows: list[dict[str, Any]], hidden: bool) -> None:
    for i, row in enumerate(rows):
        ids = [n + 1 for n in (i, i + 1) if n < len(rows) and (hidden or rows[n]["proposal"] in OUTSIDE)]
        if not ids:
            continue
        article = PublicationRow(id=i + 1, pid=f"10.1/{i}", title=row["title"], source="s", changed_at=NOW)
        article.keywords, article.summary = [row["instrument"]], row["technique_label"]
        article.datasets = [PublicationDatasetRow(dataset_id=one) for one in ids]
        session.add(article)


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
    conditions("title", TEXTS).map(lambda where: inner("documents", where)),
    conditions("fullName", TEXTS).map(
        lambda where: {"relation": "members", "scope": {"include": [inner("person", where)]}}
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
