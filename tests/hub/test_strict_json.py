"""JSON from outside has one meaning or none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_hub.strict_json import MAX_DEPTH, read_strict_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_json_says_in_one_way_is_read(value: Any) -> None:
    assert read_strict_json(json.dumps(value).encode()) == value


@given(st.text(min_size=1), VALUES, VALUES)
def test_a_name_given_twice_is_refused_even_if_it_is_written_differently(
    name: str, first: Any, second: Any
) -> None:
    escaped = "".join(f"\\u{unit:04x}" for unit in _units(name))
    text = f'{{{json.dumps(name)}: {json.dumps(first)}, "{escaped}": {json.dumps(second)}}}'
    with pytest.raises(ValueError, match="twice"):
        read_strict_json(text)


def _units(text: str) -> list[int]:
    data = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        read_strict_json(data)
    except ValueError as error:
        assert isinstance(error, ValueError)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_has_a_bound(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    allowed = opening * MAX_DEPTH + "1" + closing * MAX_DEPTH
    assert read_strict_json(allowed)
    for depth in (MAX_DEPTH + 1, 500, 100_000):
        with pytest.raises(ValueError, match="nested"):
            read_strict_json(opening * depth + "1" + closing * depth)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"exp": -Infinity}', "1e", "9" * 5000])
def test_what_is_no_json_number_or_longer_than_any_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_strict_json(text)
