"""The filter of the PaNOSC search API, from JSON text to checked values; everything else is a 400.

Source: PaNOSC common search API, https://github.com/panosc-eu/search-api (filter of LoopBack 3). What the
reference answers with an empty list or a 500 (an unknown field or operator, a malformed include) is an error
here, with its place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from beamhub_catalogue.texts import is_storable
from beamhub_core.errors import BeamhubError

MAX_CHARS = 16_000
MAX_DEPTH = 14
MAX_CONDITIONS = 200
MAX_LIST = 500
MAX_TEXT = 300
MAX_INCLUDES = 16
MAX_LIMIT = 1_000
MAX_SKIP = 10_000_000
MAX_NUMBER = 1e300

MAX_INCLUDE_LEVELS = 4

PATTERNS = ("like", "nlike", "ilike", "nilike", "regexp")
OPERATORS = ("eq", "neq", "gt", "gte", "lt", "lte", "between", "inq", "nin", *PATTERNS, "exists")

Scalar = str | float | bool


class Word(str):
    """A value of the bracket form, where `10` and `true` are texts until their field says what they are."""

    __slots__ = ()


class FilterInvalid(BeamhubError):
    """A filter that we do not understand: which place, and why."""

    exit_code = 2

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, reason)
        self.place, self.reason = place[:200], reason

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Condition:
    """One field compared with one or several values; `text` is a field of its own."""

    field: str
    operator: str
    values: tuple[Scalar, ...]
    place: str


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions that all hold, or of which any one holds."""

    kind: Literal["and", "or"]
    parts: tuple[Condition | Group, ...]


@dataclass(frozen=True, slots=True)
class Include:
    """Related items to send along; with a `where`, here or further in, an item without a match stays out."""

    relation: str
    place: str
    where: Group | None = None
    include: tuple[Include, ...] = ()
    order: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    skip: int = 0
    fields: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """A whole filter."""

    where: Group | None = None
    include: tuple[Include, ...] = ()
    order: tuple[tuple[str, bool], ...] = ()
    """Field and whether it goes down."""
    limit: int = MAX_LIMIT
    skip: int = 0
    query: str | None = None
    fields: frozenset[str] | None = None
    after: str | None = None
    """The pid behind which the page begins: as cheap for the last page as for the first."""


def parse_filter(told: str | dict[str, Any] | None) -> SearchFilter:
    """The filter of a request; none, an empty text and `null` are the filter that lets everything through.

    It comes as JSON, or as the objects that `search_brackets` made of the bracket form.

    Raises
    ------
    FilterInvalid
        For whatever is not a filter.
    """
    data = _object(told, "filter")
    if data is None:
        return SearchFilter()
    query, after, order = _text_or_none(data, "query"), _text_or_none(data, "after"), data.get("order")
    skip = data.get("skip", data.get("offset"))
    if after is not None and (query or order or skip):
        raise FilterInvalid("filter.after", "goes with the order by pid: without query, order and skip")
    counter = [0]  # of the whole filter: its conditions meet in one query, and SQLite nests 1000 deep
    return SearchFilter(
        where=_where(data.get("where"), "filter.where", counter),
        include=_includes(data.get("include"), "filter.include", counter),
        order=_order(order, "filter.order"),
        limit=_limit(data.get("limit"), "filter.limit") or MAX_LIMIT,
        skip=min(_number(skip, "filter.skip") or 0, MAX_SKIP),
        query=query[:MAX_TEXT] if query and query.strip() else None,
        fields=_fields(data.get("fields"), "filter.fields"),
        after=after,
    )


def _text_or_none(data: dict[str, Any], name: str) -> str | None:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        raise FilterInvalid(f"filter.{name}", "is no text")
    return value


def parse_where(told: str | dict[str, Any] | None) -> Group | None:
    """The `where` of a count.

    Raises
    ------
    FilterInvalid
        For whatever is not a where.
    """
    return _where(_object(told, "where"), "where", [0])


def _object(told: str | dict[str, Any] | None, place: str) -> dict[str, Any] | None:
    data = _parsed(told, place) if isinstance(told, str) else told
    _check_depth(data, place)
    if data is None:
        return None
    if not isinstance(data, dict):
        raise FilterInvalid(place, "is not an object")
    return data


def _parsed(text: str, place: str) -> Any:
    if not text.strip():
        return None
    if len(text) > MAX_CHARS:
        raise FilterInvalid(place, f"is longer than {MAX_CHARS} characters")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise FilterInvalid(place, "is no JSON") from None


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _check_depth(data: Any, place: str) -> None:
    level = [data]
    for _ in range(MAX_DEPTH * 2):
        for item in level:
            _check_letters(item, place)
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise FilterInvalid(place, f"nests deeper than {MAX_DEPTH} levels")


def _check_letters(item: Any, place: str) -> None:
    """No text holds what a database cannot store, and an answer cannot repeat."""
    for text in item if isinstance(item, dict) else (item,):
        if isinstance(text, str) and not is_storable(text):
            raise FilterInvalid(place, "holds a zero character or half a character")


def _where(data: Any, place: str, counter: list[int]) -> Group | None:
    if data is None:
        return None
    return _group(data, place, counter)


def _group(data: Any, place: str, counter: list[int]) -> Group:
    if not isinstance(data, dict):
        raise FilterInvalid(place, "is not an object")
    _count(data, place, counter)
    parts: list[Condition | Group] = []
    for key, value in data.items():
        here = f"{place}.{key[:60]}"
        if key in ("and", "or"):
            if not isinstance(value, list):
                raise FilterInvalid(here, "is not a list")
            inner = tuple(_group(item, f"{here}[{i}]", counter) for i, item in enumerate(value))
            parts.append(Group("and" if key == "and" else "or", inner))
        else:
            parts.extend(_conditions(key, value, here))
    return Group("and", tuple(parts))


def _count(data: dict[str, Any], place: str, counter: list[int]) -> None:
    """Adds what a group makes of SQL: its comparisons, its lists of groups, itself when it is empty."""
    counter[0] += 0 if data else 1
    for key, value in data.items():
        counter[0] += len(value) if isinstance(value, dict) and key not in ("and", "or") else 1
    if counter[0] > MAX_CONDITIONS:
        raise FilterInvalid(place, f"has more than {MAX_CONDITIONS} conditions")


def _conditions(field: str, value: Any, place: str) -> list[Condition]:
    if isinstance(value, list):
        return [Condition(field, "inq", _scalars(value, place), place)]
    if not isinstance(value, dict):
        return [Condition(field, "eq", (_scalar(value, place),), place)]
    if not value:
        raise FilterInvalid(place, "has no operator")
    return [_condition(field, operator, operand, place) for operator, operand in value.items()]


def _condition(field: str, operator: str, operand: Any, place: str) -> Condition:
    here = f"{place}.{operator[:40]}"
    if operator not in OPERATORS:
        raise FilterInvalid(here, f"is no operator; there are {', '.join(OPERATORS)}")
    if operator in ("inq", "nin", "between"):
        if not isinstance(operand, list):
            raise FilterInvalid(here, "is not a list")
        values = _scalars(operand, here)
        if operator == "between" and len(values) != 2:
            raise FilterInvalid(here, "needs two values")
        return Condition(field, operator, values, here)
    value = _scalar(operand, here)
    if operator in PATTERNS and not isinstance(value, str):
        raise FilterInvalid(here, "needs a text")
    return Condition(field, operator, (value,), here)


def _scalars(values: list[Any], place: str) -> tuple[Scalar, ...]:
    if len(values) > MAX_LIST:
        raise FilterInvalid(place, f"has more than {MAX_LIST} values")
    return tuple(_scalar(value, place) for value in values)


def _scalar(value: Any, place: str) -> Scalar:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and abs(value) < MAX_NUMBER:  # never for NaN, exact for any integer
        return float(value)
    raise FilterInvalid(place, "is no text, number, true or false")


def _includes(data: Any, place: str, counter: list[int], level: int = 1) -> tuple[Include, ...]:
    if data is None:
        return ()
    if level > MAX_INCLUDE_LEVELS:
        raise FilterInvalid(place, f"includes within includes go {MAX_INCLUDE_LEVELS} deep")
    if not isinstance(data, list) or len(data) > MAX_INCLUDES:
        raise FilterInvalid(place, f"is not a list of at most {MAX_INCLUDES} relations")
    found = tuple(_include(item, f"{place}[{i}]", counter, level) for i, item in enumerate(data))
    if counter[0] > MAX_CONDITIONS:
        raise FilterInvalid(place, f"the filter has more than {MAX_CONDITIONS} conditions and relations")
    return found


def _include(data: Any, place: str, counter: list[int], level: int = 1) -> Include:
    counter[0] += 1
    if isinstance(data, str):
        return Include(data, place)
    if not isinstance(data, dict) or not isinstance(data.get("relation"), str):
        raise FilterInvalid(place, "names no relation")
    scope, here = data.get("scope"), f"{place}.scope"
    if scope is None:
        return Include(data["relation"], place)
    if not isinstance(scope, dict):
        raise FilterInvalid(here, "is not an object")
    return Include(
        data["relation"],
        place,
        _where(scope.get("where"), f"{here}.where", counter),
        _includes(scope.get("include"), f"{here}.include", counter, level + 1),
        _order(scope.get("order"), f"{here}.order"),
        _limit(scope.get("limit"), f"{here}.limit"),
        min(_number(scope.get("skip", scope.get("offset")), f"{here}.skip") or 0, MAX_SKIP),
        _fields(scope.get("fields"), f"{here}.fields"),
    )


def _order(data: Any, place: str) -> tuple[tuple[str, bool], ...]:
    if data is None:
        return ()
    items = [data] if isinstance(data, str) else data
    if not isinstance(items, list) or len(items) > 8:
        raise FilterInvalid(place, "is no text or list of at most 8 texts")
    found = []
    for item in items:
        words = item.split() if isinstance(item, str) else []
        if not 1 <= len(words) <= 2 or (len(words) == 2 and words[1].upper() not in ("ASC", "DESC")):
            raise FilterInvalid(place, "has the form 'field', 'field ASC' or 'field DESC'")
        found.append((words[0], len(words) == 2 and words[1].upper() == "DESC"))
    return tuple(found)


def _limit(value: Any, place: str) -> int | None:
    """0 asks for everything, which is our largest page."""
    number = _number(value, place)
    return min(number, MAX_LIMIT) if number else None


def _number(value: Any, place: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isdecimal() and len(value) < 12:
        return int(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < MAX_NUMBER or value != int(value):
        raise FilterInvalid(place, "is no whole number from 0 up")
    return int(value)


def _fields(data: Any, place: str) -> frozenset[str] | None:
    if data is None:
        return None
    if isinstance(data, dict):
        data = [name for name, wanted in data.items() if wanted is True or wanted == "true"]
    if not isinstance(data, list) or not all(isinstance(name, str) for name in data) or len(data) > 100:
        raise FilterInvalid(place, "is no list of names")
    return frozenset(data)
