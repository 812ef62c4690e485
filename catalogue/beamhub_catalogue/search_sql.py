"""Checked search conditions as SQL, over closed tables of fields: no name of a request reaches SQL."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, Text, and_, case, cast, false, literal, not_, null, or_, true

from beamhub_catalogue.search_filter import PATTERNS, Condition, FilterInvalid, Group
from beamhub_catalogue.search_patterns import PatternRefused, read_pattern
from beamhub_catalogue.search_values import is_bool, is_number, typed_values
from beamhub_catalogue.texts import contains, like, matches
from beamhub_catalogue.units import Unit, find_unit

Kind = Literal["text", "number", "date", "day", "bool", "measured", "words", "term"]
Row = Any
MAX_QUERY_TERMS = 12
QUERY_SATURATION = 2.0
"""Score where half of the weight is reached; x / (x + k) keeps scores strictly inside (0, 1).
Source: DESIGN, decisions; the federated search drops items that score 0 or 1."""
SAME = 1e-6
"""How far apart two converted numbers are the same, relative. Source: the electronvolt of 2010 and that of
2019, which clients convert with, differ by 4e-8; single precision by 6e-8."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field that may be asked for.

    `only_where` hides a value from a reader also in comparisons: where it does not hold, no condition on the
    field does. A measured field is a number as it was told, with `word` for a text, and `si` and `dimension`.
    `terms` gives the PaNET terms that an operator and a text mean.
    """

    column: Any
    kind: Kind
    only_where: ColumnElement[bool] | None = None
    word: Any = None
    si: Any = None
    dimension: Any = None
    term: Any = None
    terms: Callable[[str, str], frozenset[str]] | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """How items of another entity belong to one of this.

    Theirs are the rows whose `far` is this one's `near`, over `link` (a table, its column for this one and
    its column for the other) where neither holds the other. `inline` makes what stands in the row itself.
    `apart` lets every part of a condition be met by another item. `only_where` hides them. `each` says that
    they may be many: every one has its own first page.
    """

    target: str
    near: Any = None
    far: Any = None
    many: bool = True
    only_where: ColumnElement[bool] | None = None
    link: tuple[Any, Any, Any] | None = None
    inline: Callable[[Any], dict[str, Any] | None] | None = None
    apart: bool = False
    each: bool = False


@dataclass(frozen=True, slots=True)
class Entity:
    """One kind of item: its fields, those that `text` looks at, and where its rows come from.

    `source` selects from the rows that the reader may know of. `columns` is what `build` makes an item of,
    for an include or None; `key` puts them in an order. Relations are made when they are asked for: making
    conditions takes longer than a look by pid.
    """

    name: str
    fields: Mapping[str, Field]
    texts: tuple[Any, ...]
    source: Callable[..., Select[Any]]
    columns: tuple[Any, ...]
    key: tuple[Any, ...]
    build: Callable[..., dict[str, Any]]
    relations: Mapping[str, Callable[[], Relation]] = field(default_factory=dict)


def compile_where(where: Group | None, entity: Entity, unit: Unit | None = None) -> ColumnElement[bool]:
    """A group of conditions as SQL.

    Raises
    ------
    FilterInvalid
        For a field that the entity has not, or a value of another kind.
    """
    if where is None:
        return true()
    if where.kind == "and" and "value" in entity.fields:
        unit = _asked_unit(where) or unit
    parts = [
        compile_where(part, entity, unit) if isinstance(part, Group) else _compile(part, entity, unit)
        for part in where.parts
    ]
    if where.kind == "or":
        return or_(false(), *parts)
    return and_(true(), *parts)


def sort_key(name: str, entity: Entity, place: str) -> Any:
    """What to sort by; a value that the reader may not see sorts as if it were absent.

    Raises
    ------
    FilterInvalid
        For a field that the entity has not, or that has no order.
    """
    wanted = _field(name, entity, place)
    if wanted.kind == "words":
        raise FilterInvalid(place, f"a list such as {name!r} has no order")
    return (
        wanted.column if wanted.only_where is None else case((wanted.only_where, wanted.column), else_=null())
    )


def relevance(query: str, weighted: tuple[tuple[Any, float], ...]) -> ColumnElement[float]:
    """How much of a query stands in some columns: for each word, the weights of the columns that hold it."""
    total: ColumnElement[float] = literal(0.0)
    for term in query.lower().split()[:MAX_QUERY_TERMS]:
        for column, weight in weighted:
            total = total + case((contains(column, term), weight), else_=0.0)
    return total


def any_term(query: str, weighted: tuple[tuple[Any, float], ...]) -> ColumnElement[bool]:
    """Whether any word of a query stands in any of the columns; what an index answers, unlike a relevance."""
    terms = query.lower().split()[:MAX_QUERY_TERMS]
    return or_(false(), *(contains(column, term) for term in terms for column, _ in weighted))


def score_of(weight: float) -> float:
    """A relevance as a score, strictly between 0 and 1 and growing with it."""
    return (weight + 0.01) / (weight + 0.01 + QUERY_SATURATION)


def asked_unit(where: Group | None) -> str | None:
    """The unit in which a condition on parameters asks for their values."""
    named = _unit_condition(where)
    return str(named.values[0]) if named is not None and find_unit(str(named.values[0])) else None


def _unit_condition(where: Group | None) -> Condition | None:
    """The first `unit` that all alternatives of a condition have to meet."""
    if where is None or where.kind == "or":
        return None
    for part in where.parts:
        if isinstance(part, Group):
            found = _unit_condition(part)
        else:
            is_unit = part.field == "unit" and part.operator == "eq" and isinstance(part.values[0], str)
            found = part if is_unit else None
        if found is not None:
            return found
    return None


def _asked_unit(where: Group) -> Unit | None:
    named = _unit_condition(where)
    if named is None:
        return None
    unit = find_unit(str(named.values[0]))
    if unit is None and _compares_numbers(where):
        raise FilterInvalid(named.place, f"no unit is called {str(named.values[0])[:60]!r}")
    return unit


def _compares_numbers(where: Group) -> bool:
    return any(
        _compares_numbers(part)
        if isinstance(part, Group)
        else part.field == "value" and any(is_number(value) for value in part.values)
        for part in where.parts
    )


def _compile(condition: Condition, entity: Entity, unit: Unit | None) -> ColumnElement[bool]:
    if condition.field == "text":
        return _text(condition, entity)
    wanted = _field(condition.field, entity, condition.place)
    found = _compared(wanted, condition, unit)
    return found if wanted.only_where is None else and_(wanted.only_where, found)


def _compared(wanted: Field, condition: Condition, unit: Unit | None) -> ColumnElement[bool]:
    if condition.operator == "exists":
        there: ColumnElement[bool] = wanted.column.is_not(None)
        if wanted.word is not None:
            there = or_(there, wanted.word.is_not(None))
        return there if _is_true(condition) else not_(there)
    if wanted.kind == "measured":
        if all(isinstance(value, str) and not is_number(value) for value in condition.values):
            return _compare(wanted.word, condition, list(condition.values))
        return _measured(wanted, condition, unit)
    if wanted.kind == "words":
        return _words(wanted, condition)
    if wanted.kind == "term":
        return _term(wanted, condition)
    if wanted.dimension is not None and unit is not None and condition.operator == "eq":
        dimension: ColumnElement[bool] = wanted.dimension == unit.dimension
        return dimension
    if condition.operator in PATTERNS and wanted.kind != "text":
        raise FilterInvalid(condition.place, "compares text, and this field is none")
    values = typed_values(wanted.kind, condition)
    return _compare(wanted.column, condition, values)


def _measured(wanted: Field, condition: Condition, unit: Unit | None) -> ColumnElement[bool]:
    """A number beside a unit is compared in SI, within what conversions cost."""
    if condition.operator in PATTERNS:
        raise FilterInvalid(condition.place, "compares text with a number")
    numbers = [float(value) for value in typed_values("plain", condition)]
    if unit is None:
        return _compare(wanted.column, condition, numbers)
    ends = [(si - abs(si) * SAME, si + abs(si) * SAME) for si in map(unit.to_si, numbers)]
    si, operator = wanted.si, condition.operator
    inside = or_(false(), *(si.between(low, high) for low, high in ends))
    if operator in ("eq", "inq", "neq", "nin"):
        return not_(inside) if operator in ("neq", "nin") else inside
    low, high = ends[0]
    found: ColumnElement[bool]
    if operator == "between":
        found = si.between(low, ends[1][1])
    else:
        found = {"gt": si > high, "gte": si >= low, "lt": si < low, "lte": si <= high}[operator]
    return found


def _words(wanted: Field, condition: Condition) -> ColumnElement[bool]:
    """A list of words, stored as JSON, holds one of some words to the letter."""
    if condition.operator not in ("eq", "inq", "neq", "nin"):
        raise FilterInvalid(condition.place, "is a list: ask with eq, neq, inq or nin")
    values = typed_values("text", condition)
    text: Any = cast(wanted.column, Text)
    found = or_(false(), *(text.contains(json.dumps(str(value)), autoescape=True) for value in values))
    return not_(found) if condition.operator in ("neq", "nin") else found


def _term(wanted: Field, condition: Condition) -> ColumnElement[bool]:
    """A technique by name or pid means all that stand below it; another word is only itself."""
    assert wanted.terms is not None  # noqa: S101  # of this kind of field
    operator = condition.operator
    opposite = operator in ("neq", "nin", "nlike", "nilike")
    plain = {"neq": "eq", "nin": "inq", "nlike": "like", "nilike": "ilike"}.get(operator, operator)
    values = typed_values("text", condition)
    means: frozenset[str] = frozenset()
    if plain in ("eq", "inq", "like", "ilike", "regexp"):
        means = means.union(*(wanted.terms(plain, str(value)) for value in values))
    same = Condition(condition.field, plain, condition.values, condition.place)
    found = or_(wanted.term.in_(sorted(means)), _compare(wanted.column, same, values))
    return not_(found) if opposite else found


def _is_true(condition: Condition) -> bool:
    value = condition.values[0]
    if not is_bool(value):
        raise FilterInvalid(condition.place, "is true or false")
    return value is True or value == "true"


def _text(condition: Condition, entity: Entity) -> ColumnElement[bool]:
    value = condition.values[0] if condition.operator == "eq" else None
    if not isinstance(value, str):
        raise FilterInvalid(condition.place, "is no text")
    return or_(false(), *(contains(column, value) for column in entity.texts))


def _field(name: str, entity: Entity, place: str) -> Field:
    found = entity.fields.get(name)
    if found is None:
        close = difflib.get_close_matches(name[:60], list(entity.fields), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(entity.fields)}"
        raise FilterInvalid(place, f"{entity.name} has no field {name[:60]!r}{hint}")
    return found


def _compare(column: Any, condition: Condition, values: list[Any]) -> ColumnElement[bool]:
    operator, first = condition.operator, values[0] if values else None
    found: ColumnElement[bool]
    if operator == "inq":
        found = column.in_(values)
    elif operator == "nin":
        found = column.not_in(values)
    elif operator == "between":
        found = column.between(first, values[1])
    elif operator == "regexp":
        try:
            found = matches(column, read_pattern(str(first)))
        except PatternRefused as error:
            raise FilterInvalid(condition.place, str(error)) from None
    elif operator in PATTERNS:
        found = like(column, str(first), fold_case=operator.endswith("ilike"))
        found = not_(found) if operator.startswith("n") else found
    else:
        found = {
            "eq": column.__eq__,
            "neq": column.__ne__,
            "gt": column.__gt__,
            "gte": column.__ge__,
            "lt": column.__lt__,
            "lte": column.__le__,
        }[operator](first)
    return found
