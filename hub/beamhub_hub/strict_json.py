"""JSON from outside in one meaning only: no name twice in an object, no NaN, no endless nesting."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 32


def read_strict_json(data: bytes | str) -> Any:
    """The value of a JSON text that every reader understands alike.

    Of a name given twice most readers take the last and some the first, so a claim given twice could
    mean two things to two parties. Source: RFC 8259, section 4; RFC 7519, section 4 lets us refuse it.

    Raises
    ------
    ValueError
        If it is no JSON or not UTF-8, an object has a name twice, a number is no JSON number, or
        objects and arrays are nested deeper than MAX_DEPTH.
    """
    try:
        value = json.loads(data, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _no_number(name: str) -> Any:
    raise ValueError("not a JSON number")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [item for each in level for item in _items(each)]
        if not level:
            return
    raise ValueError("nested too deeply")


def _items(value: Any) -> list[Any]:
    """What stands directly inside a container; nothing for a plain value."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
