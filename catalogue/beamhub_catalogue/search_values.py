"""The values of a condition, as its field has them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Double, literal

from beamhub_catalogue.search_filter import MAX_NUMBER, Condition, FilterInvalid, Scalar, Word


def is_number(value: Scalar) -> bool:
    """Whether a value is a number, also one that the bracket form wrote as a text."""
    if isinstance(value, Word):
        return _parsed(value) is not None
    return isinstance(value, float) and not isinstance(value, bool)


def is_bool(value: Scalar) -> bool:
    """Whether a value is true or false, also as the bracket form writes it."""
    return isinstance(value, bool) or (isinstance(value, Word) and value in ("true", "false"))


def typed_values(kind: str, condition: Condition) -> list[Any]:
    """The values of a condition for a field of a kind; "plain" numbers come as they are.

    Raises
    ------
    FilterInvalid
        For a value that is of another kind, or for an operator that the kind has not.
    """
    values, place = condition.values, condition.place
    if kind == "plain":
        return [_number(value, place) for value in values]
    if kind == "number":
        # Of a whole number's type PostgreSQL would round 1.5 to 2 before it compares.
        return [literal(_number(value, place), Double()) for value in values]
    if kind == "date":
        return [_date(value, place) for value in values]
    if kind == "day":
        return [_date(value, place).date() for value in values]
    if kind == "bool":
        if condition.operator not in ("eq", "neq", "inq", "nin"):
            raise FilterInvalid(place, "puts in order what is true or false")
        if not all(is_bool(value) for value in values):
            raise FilterInvalid(place, "is true or false")
        return [value is True or value == "true" for value in values]
    if not all(isinstance(value, str) for value in values):
        raise FilterInvalid(place, "is a text")
    return [str(value) for value in values]


def _number(value: Scalar, place: str) -> float:
    parsed = _parsed(value) if isinstance(value, Word) else value
    if isinstance(parsed, bool) or not isinstance(parsed, float):
        raise FilterInvalid(place, "is a number")
    return parsed


def _parsed(word: Word) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < MAX_NUMBER else None


def _date(value: Scalar, place: str) -> datetime:
    try:
        when = datetime.fromisoformat(str(value))
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        when.astimezone(UTC)  # as it is stored: the first and last days of the calendar may not have a UTC
    except (ValueError, OverflowError):
        raise FilterInvalid(place, "is no date like 2026-03-31T12:00:00Z") from None
    return when
