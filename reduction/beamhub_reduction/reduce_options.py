"""Command-line options made from a step's parameters: what the model takes, the command line takes."""

from __future__ import annotations

import argparse
import json
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from beamhub_reduction.pipeline.step import StepKind

_NUMBER = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|^-(inf|nan)$")


class StepParser(argparse.ArgumentParser):
    """A parser that knows -1e-3 for a number, and abbreviates nothing: scripts outlive new options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self._negative_number_matcher = _NUMBER


def add_parameters(parser: argparse.ArgumentParser, kind: StepKind) -> None:
    """One option for each parameter of a step that has a place on the command line."""
    group = parser.add_argument_group("parameters")
    for name, field in kind.parameters.model_fields.items():
        extra = field.json_schema_extra
        if not (isinstance(extra, dict) and extra.get("command_line") is False):
            _add_option(group, name, field)


def chosen_parameters(kind: StepKind, arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given on the command line; parameters that were not are left to their defaults."""
    values = {name: getattr(arguments, name, None) for name in kind.parameters.model_fields}
    return {name: value for name, value in values.items() if value is not None}


def _add_option(group: Any, name: str, field: FieldInfo) -> None:
    """One option for one field; its value stays a word where only the model knows what it means."""
    inner = _without_none(field.annotation)
    settings: dict[str, Any] = {"help": _help(field), "default": None, "dest": name}
    if field.is_required():
        settings["required"] = True
    flag = "--" + name.replace("_", "-")
    if inner is bool:
        settings["action"] = argparse.BooleanOptionalAction
    elif get_origin(inner) is Literal:
        choices = get_args(inner)
        settings.update(choices=choices, type=type(choices[0]))
    elif get_origin(inner) in (tuple, list):
        settings.update(_sequence(name, get_args(inner)))
    elif get_origin(inner) in (dict, Mapping) or inner is dict:
        settings.update(type=_json_value, metavar="JSON")
    else:
        settings.update(type=_word_type(inner), metavar=_metavar(name, inner))
    group.add_argument(flag, **settings)


def _sequence(name: str, of: tuple[Any, ...]) -> dict[str, Any]:
    """A tuple or list: its items as words; a list of tuples is the option given several times."""
    is_open = Ellipsis in of or len(of) == 1
    first = _without_none(of[0]) if of else str
    if get_origin(first) in (tuple, list):
        inner = get_args(first)
        n: int | str = "+" if Ellipsis in inner or not inner else len(inner)
        item = _word_type(_without_none(inner[0])) if inner else str
        return {"action": "append", "nargs": n, "type": item, "metavar": name.upper()}
    if not isinstance(first, type) and get_origin(first) is not Literal:
        return {"type": _json_value, "metavar": "JSON"}
    item = type(get_args(first)[0]) if get_origin(first) is Literal else _word_type(first)
    return {"nargs": "+" if is_open else len(of), "type": item, "metavar": name.upper()}


def _word_type(inner: Any) -> Any:
    """What turns a word into a value; words that only the model understands stay words."""
    if inner in (int, float, str):
        return inner
    if inner is Path:
        return Path
    return _json_or_word


def _json_or_word(text: str) -> Any:
    """JSON where the word looks like an object or a list, else the word."""
    return _json_value(text) if text[:1] in ("{", "[") else text


def _json_value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no JSON ({error})") from error


def _without_none(annotation: Any) -> Any:
    """The first type of a union that is not None, without what Annotated adds."""
    if get_origin(annotation) is Annotated:
        return _without_none(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [a for a in get_args(annotation) if a is not type(None)]
        return _without_none(kinds[0]) if len(kinds) == 1 else Any
    return annotation


def _metavar(name: str, inner: Any) -> str:
    return {int: "N", float: "X", Path: "PATH"}.get(inner, name.upper())


def _help(field: FieldInfo) -> str:
    """The field's description, and its default; % is argparse's."""
    text = field.description or ""
    if (
        not field.is_required()
        and field.default not in (None, ())
        and isinstance(field.default, (int, float, str))
    ):
        text += f" (default: {field.default})"
    return text.replace("%", "%%")
