"""Filling a parameters cell: laws, and text that tries to be code."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamhub_session.parameters import ParameterError, Value, fill_parameters

CELL = """# What to reduce: a pid or a file.
dataset = ""  # é: filled in when the platform opens this notebook
bins: int = 1000
names = [
    "kept",
]
"""
values = st.one_of(st.text(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))


def assigned(source: str) -> dict[str, Value]:
    """What the cell assigns, read without running it."""
    found = {}
    for statement in ast.parse(source).body:
        assert isinstance(statement, ast.Assign | ast.AnnAssign)
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        assert isinstance(target, ast.Name)
        assert statement.value is not None
        found[target.id] = ast.literal_eval(statement.value)
    return found


@given(dataset=values, bins=values)
def test_every_value_comes_back_from_the_cell_as_itself(dataset: Value, bins: Value) -> None:
    filled = assigned(fill_parameters(CELL, {"dataset": dataset, "bins": bins}))
    assert filled == {"dataset": dataset, "bins": bins, "names": ["kept"]}
    assert (type(filled["dataset"]), type(filled["bins"])) == (type(dataset), type(bins))


@given(dataset=st.text())
def test_comments_and_other_lines_stay(dataset: str) -> None:
    filled = fill_parameters(CELL, {"dataset": dataset}).splitlines()
    before = CELL.splitlines()
    assert len(filled) == len(before)
    assert [line for i, line in enumerate(filled) if i != 1] == [
        line for i, line in enumerate(before) if i != 1
    ]
    assert filled[1].endswith("# é: filled in when the platform opens this notebook")


def test_without_values_the_cell_is_unchanged() -> None:
    assert fill_parameters(CELL, {}) == CELL


def test_a_value_over_several_lines_is_replaced_whole() -> None:
    assert assigned(fill_parameters("a = (\n  1\n)\nb = 2", {"a": 5, "b": 7})) == {"a": 5, "b": 7}


@pytest.mark.parametrize(
    "text",
    ['"; import os; os.system("true") #', "'\\\n'", "{dataset}", "\x00", "\u2028", '"""', "a\nb = 3"],
)
def test_text_that_looks_like_code_stays_text(text: str) -> None:
    assert assigned(fill_parameters("dataset = ''\n", {"dataset": text})) == {"dataset": text}


@pytest.mark.parametrize(
    ("source", "given_values", "reason"),
    [
        ("dataset = ''", {"binz": 3}, "assigns no binz"),
        ("a = 1; a = 2", {"a": 3}, "assigns a twice"),
        ("a = b = 1", {"a": 3}, "assigns no a"),
        ("a = ", {"a": 3}, "is not Python"),
        ("a = 1", {"a": float("nan")}, "a is not finite"),
        ("a = 1", {"a": [1]}, "not a text, number"),
    ],
)
def test_a_cell_that_does_not_fit_its_values_is_refused(
    source: str, given_values: dict[str, Value], reason: str
) -> None:
    with pytest.raises(ParameterError, match=reason):
        fill_parameters(source, given_values)
