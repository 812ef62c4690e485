"""YAML as plain data: nothing is guessed, nothing grows."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from beamhub_core.config.document import MAX_DEPTH, MAX_NODES, DocumentRefused, read_document

any_words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=20)
# PyYAML writes YAML 1.1, in which 1e3 is a word and needs no quotes; in the core schema it is a number.
words = any_words.filter(lambda word: not re.fullmatch(r"[-+]?[0-9.]+[eE][-+]?[0-9]+", word))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | words,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(words.filter(lambda w: w != "<<"), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
def test_plain_data_comes_back_as_it_was_written(value: Any) -> None:
    document = read_document(yaml.safe_dump(value, allow_unicode=True))
    assert document.data == value
    assert document.problems == []


@given(st.text(max_size=200))
def test_any_text_is_data_or_refused(text: str) -> None:
    try:
        read_document(text)
    except DocumentRefused as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("0755", "0755"),
        ("12:30:00", "12:30:00"),
        ("2026-01-01", "2026-01-01"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        ("9" * 5000, "9" * 5000),
        ("true", True),
        ("~", None),
        ("-8", -8),
        ("2.5e3", 2500.0),
        ("0E0", 0.0),
        ("'0E0'", "0E0"),
        ("'8'", "8"),
    ],
)
def test_only_the_core_schema_is_resolved(text: str, value: Any) -> None:
    found = read_document(text).data
    assert (found, type(found)) == (value, type(value))


def test_a_key_that_stands_twice_is_a_problem_with_both_lines() -> None:
    document = read_document("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert document.problems == [
        (("b", "c"), "stands twice, in lines 2 and 2; remove one"),
        (("a",), "stands twice, in lines 1 and 3; remove one"),
    ]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: !!python/name:os.system x", "tag"),
        ("a: !!binary aGVsbG8=", "tag"),
        ("a: !!set {b}", "tag"),
        ("1: a", "no word"),
        ("[a]: b", "no word"),
        ("a: &x {b: 1}\nc: {<<: *x}", "merge"),
        ('a: "x\\0y"', "control character"),
        ('a: "\\ud800"', "surrogate"),
    ],
)
def test_what_is_no_plain_data_is_a_problem(text: str, word: str) -> None:
    assert any(word in message for _, message in read_document(text).problems)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nests deeper"),
        ("- " * 100_000, "nests deeper"),
        ("a: [" + "1," * (MAX_NODES + 1) + "]", "more than"),
        ("a: &a [*a]", "alias of something it is a part of"),
        ("a: 1\n---\nb: 2", "is not YAML"),
        ("a: *nothing", "is not YAML"),
        ("a: [1", "is not YAML"),
        ("%YAML 9.0\n---\na", "is not YAML"),
        ("a: \x00", "is not YAML"),
    ],
)
def test_what_is_no_document_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(DocumentRefused, match=reason):
        read_document(text)


def test_nested_aliases_cost_nothing() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    started = time.process_time()
    with pytest.raises(DocumentRefused, match="aliases written out"):
        read_document(bomb)
    assert time.process_time() - started < 2


def test_a_chain_of_aliases_is_as_deep_as_it_is_written_out() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, MAX_DEPTH + 5))
    with pytest.raises(DocumentRefused, match="nests deeper"):
        read_document(chain)


def test_a_few_aliases_are_welcome() -> None:
    document = read_document("a: &x {b: 1}\nc: *x\n")
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.line_of(("c",)) == 2
    assert document.line_of(("c", "unknown", 3)) == 2
