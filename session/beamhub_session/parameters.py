"""Filling the parameters cell of a notebook: values become Python literals in place of the defaults."""

from __future__ import annotations

import ast
import math

Value = str | int | float | bool


class ParameterError(ValueError):
    """A parameters cell and the values for it do not fit together."""


def fill_parameters(source: str, values: dict[str, Value]) -> str:
    """The source of a parameters cell with new values; comments and all other lines stay.

    Parameters
    ----------
    source:
        Python code with one assignment `name = value` (or `name: type = value`) for each parameter.
    values:
        New values by name. A value only ever becomes its literal, `repr(value)`: no text in it is code.

    Raises
    ------
    ParameterError
        If the source is not Python, a value is not finite, or a name has no assignment of its own.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise ParameterError(f"the parameters cell is not Python ({error})") from error
    places = _assigned_values(tree)
    missing = sorted(set(values) - set(places))
    if missing:
        raise ParameterError(f"the parameters cell assigns no {', '.join(missing)}")
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    # From the last to the first, so that earlier positions stay valid.
    for name in sorted(values, key=lambda name: places[name].lineno, reverse=True):
        _replace(lines, places[name], _literal(name, values[name]))
    return b"".join(lines).decode()


def _assigned_values(tree: ast.Module) -> dict[str, ast.expr]:
    """The value expression of each name that is assigned once, alone, at the top of a cell."""
    places: dict[str, ast.expr] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if isinstance(target, ast.Name):
            if target.id in places:
                raise ParameterError(f"the parameters cell assigns {target.id} twice")
            places[target.id] = value
    return places


def _literal(name: str, value: Value) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ParameterError(f"the value of {name} is not finite")
    # str, int, float and bool only: repr of a subclass could be anything.
    for kind in (bool, int, float, str):
        if type(value) is kind:
            return ascii(value)
    raise ParameterError(f"the value of {name} is not a text, number or truth value")


def _replace(lines: list[bytes], place: ast.expr, text: str) -> None:
    """Put a text in place of an expression; positions of `ast` count UTF-8 bytes."""
    first, last = place.lineno - 1, (place.end_lineno or place.lineno) - 1
    before = lines[first][: place.col_offset]
    after = lines[last][place.end_col_offset :]
    lines[first : last + 1] = [before + text.encode() + after]
