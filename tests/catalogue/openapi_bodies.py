"""Bodies from a JSON Schema, some that fit and some that nearly do, for hypothesis to draw."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

TEXTS = ("", "x", "u-" + "a" * 26, "0" * 32, "f" * 64, "test:MA-2:scan1", "../..", "\0", "é" * 400, "\ud800")
TIMES = (
    "2026-06-01T12:00:00Z",
    "2026-06-01T12:00:00",
    "9999-12-31T23:59:59-12:00",
    "yesterday",
    "2026-06-01",
)
NUMBERS = (0, 1, -1, 2**63, 10**30, 0.5, 1e308)
ODD = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.just([]), st.just({})
)


def bodies(schema: dict[str, Any], document: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a schema; in one of about ten places stands something that need not fit."""
    fitting = _fitting(schema, document, depth)
    return st.integers(0, 11).flatmap(lambda n: ODD if n == 0 else fitting)


def _fitting(schema: dict[str, Any], document: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _fitting(document["components"]["schemas"][name], document, depth)
    if "anyOf" in schema:
        return st.one_of(*(_fitting(one, document, depth) for one in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    kind = schema.get("type")
    if kind == "object":
        return _object(schema, document, depth)
    if kind == "array":
        items = bodies(schema.get("items", {}), document, depth + 1)
        return st.lists(items, max_size=2 if depth < 6 else 0)
    return _plain(schema, kind)


def _plain(schema: dict[str, Any], kind: str | None) -> st.SearchStrategy[Any]:
    if kind == "string" and "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    if kind == "string" and str(schema.get("format", "")).startswith("date"):
        return st.sampled_from(TIMES)
    if kind == "string":
        return st.sampled_from(TEXTS[1:6])
    if kind in ("number", "integer"):
        return st.sampled_from([n for n in (1, 2, 0.5) if kind == "number" or isinstance(n, int)])
    if kind == "boolean":
        return st.booleans()
    return st.none() if kind == "null" else ODD


def _object(schema: dict[str, Any], document: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    properties = schema.get("properties", {})
    required = set(schema.get("required", ()))
    if not properties:
        return st.just({})
    made = {name: bodies(one, document, depth + 1) for name, one in properties.items()}
    return st.fixed_dictionaries(
        {name: one for name, one in made.items() if name in required},
        optional={name: one for name, one in made.items() if name not in required},
    )
