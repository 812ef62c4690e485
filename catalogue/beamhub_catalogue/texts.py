"""Search words as SQL patterns, and text that both databases fold and order alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Boolean, ColumnElement, String, Text, any_, false, literal, or_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import FunctionElement

from beamhub_catalogue.search_patterns import Pattern

ESCAPE = "\\"


class _Folded(FunctionElement[str]):
    """Small letters of any alphabet. On PostgreSQL by Unicode's rules, whatever the column's collation is."""

    name = "folded"
    type = String()
    inherit_cache = True


class _InOrder(FunctionElement[str]):
    """A text that compares by code points, as our columns do; else it would as the database does."""

    name = "in_order"
    type = String()
    inherit_cache = True


class _Matches(FunctionElement[bool]):
    """Whether a text holds a match of a pattern of `search_patterns`."""

    name = "re2_matches"
    type = Boolean()
    inherit_cache = True


MAX_PARAMETERS = 30_000
"""Of one statement. Source: SQLITE_MAX_VARIABLE_NUMBER is 32,766 since SQLite 3.32."""


def among(session: Session, column: Any, texts: Iterable[str]) -> ColumnElement[bool]:
    """Rows whose column is one of the texts, however many there are.

    On PostgreSQL they travel as one array: a thousand parameters of their own would be taken apart twice
    on their way, which takes longer than the rows. SQLite has its index used only for parameters.
    """
    wanted = list(texts)
    if session.get_bind().dialect.name == "postgresql":
        found: ColumnElement[bool] = column == any_(literal(wanted, ARRAY(Text())))
        return found
    parts = [wanted[i : i + MAX_PARAMETERS] for i in range(0, len(wanted), MAX_PARAMETERS)]
    return or_(false(), *(column.in_(part) for part in parts))


@compiles(_Folded)
def _folded(element: _Folded, compiler: Any, **words: Any) -> str:
    return f"lower({compiler.process(element.clauses, **words)})"


@compiles(_Folded, "postgresql")
def _folded_postgresql(element: _Folded, compiler: Any, **words: Any) -> str:
    return f'lower(({compiler.process(element.clauses, **words)}) COLLATE "und-x-icu")'


@compiles(_InOrder)
def _in_order(element: _InOrder, compiler: Any, **words: Any) -> str:
    return f"({compiler.process(element.clauses, **words)})"


@compiles(_InOrder, "postgresql")
def _in_order_postgresql(element: _InOrder, compiler: Any, **words: Any) -> str:
    return f'(({compiler.process(element.clauses, **words)}) COLLATE "C")'


@compiles(_Matches)
def _matches(element: _Matches, compiler: Any, **words: Any) -> str:
    return f"re2_matches({compiler.process(element.clauses, **words)})"


@compiles(_Matches, "postgresql")
def _matches_postgresql(element: _Matches, compiler: Any, **words: Any) -> str:
    pattern, text = (compiler.process(clause, **words) for clause in element.clauses)
    return f'(({text}) COLLATE "C" ~ ({pattern}))'


def is_storable(text: str) -> bool:
    """Whether a database can hold a text: no zero character (PostgreSQL), no half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def constant(text: str) -> ColumnElement[str]:
    """A text that is the same in every row."""
    return _InOrder(literal(text))


def contains(column: ColumnElement[str], word: str) -> ColumnElement[bool]:
    """Rows whose column holds the word anywhere, letter case aside; the word has no wildcards."""
    escaped = word.replace(ESCAPE, ESCAPE * 2).replace("%", ESCAPE + "%").replace("_", ESCAPE + "_")
    return _Folded(column).like(f"%{escaped.lower()}%", escape=ESCAPE)


def matches(column: ColumnElement[str], pattern: Pattern) -> ColumnElement[bool]:
    """Rows whose column holds a match of a pattern."""
    return _Matches(literal(pattern.text), _Folded(column) if pattern.fold_case else column)


def like(column: ColumnElement[str], pattern: str, *, fold_case: bool) -> ColumnElement[bool]:
    """PaNOSC's like: % and _ are wildcards and nothing else is; without any, the text may stand anywhere."""
    text = pattern.replace(ESCAPE, ESCAPE * 2)
    if "%" not in text and "_" not in text:
        text = f"%{text}%"
    if fold_case:
        return _Folded(column).like(text.lower(), escape=ESCAPE)
    return column.like(text, escape=ESCAPE)
