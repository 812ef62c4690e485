"""The bracket form of a filter: `filter[where][title][like]=Lo&filter[limit]=5`, as nested objects."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from beamhub_catalogue.search_filter import MAX_CHARS, MAX_DEPTH, FilterInvalid, Word

MAX_WORDS = 500
_KEY = re.compile(r"\[([^\[\]]*)\]")


def told_in_brackets(query: Iterable[tuple[str, str]], name: str) -> str | dict[str, Any] | None:
    """What a request says of a parameter: its JSON text, its brackets put together, or None.

    Raises
    ------
    FilterInvalid
        If it says it twice, or its brackets contradict each other.
    """
    pairs = [(key, value) for key, value in query if key == name or key.startswith(f"{name}[")]
    if not pairs:
        return None
    if len(pairs) == 1 and pairs[0][0] == name:
        return pairs[0][1]
    if len(pairs) > MAX_WORDS or sum(len(key) + len(value) for key, value in pairs) > MAX_CHARS:
        raise FilterInvalid(name, f"is longer than {MAX_CHARS} characters or {MAX_WORDS} values")
    whole: dict[str, Any] = {}
    for key, value in pairs:
        _put(whole, _path(key, name), Word(value), name)
    told = _listed(whole)
    return told if isinstance(told, dict) else {str(i): one for i, one in enumerate(told)}


def _path(key: str, name: str) -> list[str]:
    rest = key.removeprefix(name)
    path = _KEY.findall(rest)
    if "".join(f"[{part}]" for part in path) != rest or not 1 <= len(path) <= 2 * MAX_DEPTH:
        raise FilterInvalid(name, "has both forms, or brackets that do not match or nest too deep")
    return path


def _put(whole: dict[str, Any], path: list[str], value: Word, name: str) -> None:
    """Set a value in nested objects; an empty bracket appends, and so does a key that is told again."""
    place: Any = whole
    for part in path[:-1]:
        place = place.setdefault(part or str(len(place)), {})
        if not isinstance(place, dict):
            raise FilterInvalid(name, f"says two things of {part[:60]!r}")
    last = path[-1] or str(len(place))
    before = place.get(last)
    if isinstance(before, Word):
        place[last] = {"0": before, "1": value}
    elif isinstance(before, dict):
        before[str(len(before))] = value
    else:
        place[last] = value


def _listed(told: Any) -> Any:
    """Objects whose keys count from 0 are lists."""
    if not isinstance(told, dict):
        return told
    values = [_listed(value) for value in told.values()]
    if told and list(told) == [str(i) for i in range(len(told))]:
        return values
    return dict(zip(told, values, strict=True))
