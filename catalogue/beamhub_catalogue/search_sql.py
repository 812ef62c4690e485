"""Checked search conditions as SQL, over closed tables of fields: no name of a request reaches SQL."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Double, and_, case, false, literal, null, or_, true

from beamhub_catalogue.search_filter import Condition, FilterInvalid, Group, Scalar
from beamhub_catalogue.texts import contains, like

Kind = Literal["text", "number", "date", "day", "bool", "either"]
MAX_QUERY_TERMS = 12
QUERY_SATURATION = 2.0
"""Score where half of the weight is reached; x / (x + k) keeps scores strictly inside (0, 1).
Source: DESIGN, decisions; the federated search drops items that score 0 or 1."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field that may be asked for.

    `only_where` hides a value from a reader also in comparisons: where it does not hold, no condition on the
    field does. `word` is the second column of a value that is a number or a text.
    """

    column: Any
    kind: Kind
    only_where: ColumnElement[bool] | None = None
    word: Any = None


@dataclass(frozen=True, slots=True)
class Entity:
    """The fields of one kind of item, and those that `text` looks at."""

    name: str
    fields: Mapping[str, Field]
    texts: tuple[Any, ...]


def compile_where(where: Group | None, entity: Entity) -> ColumnElement[bool]:
    """A group of conditions as SQL.

    Raises
    ------
    FilterInvalid
        For a field that the entity has not, or a value of another kind.
    """
    if where is None:
        return true()
    parts = [
        compile_where(part, entity) if isinstance(part, Group) else _compile(part, entity)
        for part in where.parts
    ]
    if where.kind == "or":
        return or_(false(), *parts)
    return and_(true(), *parts)


def sort_key(name: str, entity: Entity) -> Any:
    """What to sort by; a value that the reader may not see sorts as if it were absent.

    Raises
    ------
    FilterInvalid
        For a field that the entity has not.
    """
    field = _field(name, entity, "filter.order")
    return field.column if field.only_where is None else case((field.only_where, field.column), else_=null())


def relevance(query: str, weighted: tuple[tuple[Any, float], ...]) -> ColumnElement[float]:
    """How much of a query stands in some columns: for each word, the weights of the columns that hold it."""
    total: ColumnElement[float] = literal(0.0)
    for term in query.lower().split()[:MAX_QUERY_TERMS]:
        for column, weight in weighted:
            total = total + case((contains(column, term), weight), else_=0.0)
    return total


def score_of(weight: float) -> float:
    """A relevance as a score, strictly between 0 and 1 and growing with it."""
    return (weight + 0.01) / (weight + 0.01 + QUERY_SATURATION)


def _compile(condition: Condition, entity: Entity) -> ColumnElement[bool]:
    if condition.field == "text":
        return _text(condition, entity)
    field = _field(condition.field, entity, condition.place)
    column, values = _typed(field, condition)
    found = _compare(column, condition.operator, values)
    return found if field.only_where is None else and_(field.only_where, found)


def _text(condition: Condition, entity: Entity) -> ColumnElement[bool]:
    value = condition.values[0] if condition.operator == "eq" else None
    if not isinstance(value, str):
        raise FilterInvalid(condition.place, "is no text")
    return or_(false(), *(contains(column, value) for column in entity.texts))


def _field(name: str, entity: Entity, place: str) -> Field:
    field = entity.fields.get(name)
    if field is None:
        close = difflib.get_close_matches(name[:60], list(entity.fields), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(entity.fields)}"
        raise FilterInvalid(place, f"{entity.name} has no field {name[:60]!r}{hint}")
    return field


def _typed(field: Field, condition: Condition) -> tuple[Any, list[Any]]:
    """The column to compare and the values as it has them."""
    values = condition.values
    if field.kind == "either":
        if all(isinstance(value, str) for value in values):
            return field.word, list(values)
        return field.column, [_number(value, condition.place) for value in values]
    if condition.operator in ("like", "ilike") and field.kind != "text":
        raise FilterInvalid(condition.place, "compares text, and this field is none")
    if field.kind == "number":
        # Of a whole number's type PostgreSQL would round 1.5 to 2 before it compares.
        return field.column, [literal(_number(value, condition.place), Double()) for value in values]
    if field.kind == "date":
        return field.column, [_date(value, condition.place) for value in values]
    if field.kind == "day":
        return field.column, [_date(value, condition.place).date() for value in values]
    if field.kind == "bool" and condition.operator not in ("eq", "neq", "inq", "nin"):
        raise FilterInvalid(condition.place, "puts in order what is true or false")
    wanted = bool if field.kind == "bool" else str
    if not all(isinstance(value, wanted) for value in values):
        raise FilterInvalid(condition.place, "is true or false" if wanted is bool else "is a text")
    return field.column, list(values)


def _number(value: Scalar, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, float):
        raise FilterInvalid(place, "is a number")
    return value


def _date(value: Scalar, place: str) -> datetime:
    try:
        when = datetime.fromisoformat(str(value))
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        when.astimezone(UTC)  # as it is stored: the first and last days of the calendar may not have a UTC
    except (ValueError, OverflowError):
        raise FilterInvalid(place, "is no date like 2026-03-31T12:00:00Z") from None
    return when


def _compare(column: Any, operator: str, values: list[Any]) -> ColumnElement[bool]:
    first = values[0] if values else None
    if operator == "inq":
        found = column.in_(values)
    elif operator == "nin":
        found = column.not_in(values)
    elif operator == "between":
        found = column.between(first, values[1])
    elif operator in ("like", "ilike"):
        found = like(column, str(first), fold_case=operator == "ilike")
    else:
        found = {
            "eq": column.__eq__,
            "neq": column.__ne__,
            "gt": column.__gt__,
            "gte": column.__ge__,
            "lt": column.__lt__,
            "lte": column.__le__,
        }[operator](first)
    result: ColumnElement[bool] = found
    return result
