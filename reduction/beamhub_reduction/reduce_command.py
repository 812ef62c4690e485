"""`beamhub reduce STEP`: the options of every step, made from its parameters."""

from __future__ import annotations

import argparse
import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from beamhub_reduction.cluster import connect
from beamhub_reduction.pipeline.step import STEPS, StepKind, step_kind
from beamhub_reduction.result import Result
from beamhub_reduction.run import open_run

ALIASES = {"tof": "time_of_flight"}


def run_words(words: Sequence[str]) -> int:
    """Do what the words after `beamhub reduce` say."""
    parser = argparse.ArgumentParser(
        prog="beamhub reduce", description="Reduce a NeXus file and write a product."
    )
    names = sorted({*(name.replace("_", "-") for name in STEPS), *ALIASES})
    described = "; ".join(f"{name.replace('_', '-')}: {text}" for name, (_, text) in STEPS.items())
    parser.add_argument("step", choices=names, metavar="STEP", help=described)
    chosen, rest = parser.parse_known_args(words[:1])
    kind = step_kind(ALIASES.get(chosen.step, chosen.step))
    arguments = build_step_parser(kind).parse_args([*rest, *words[1:]])
    return run_step(kind, arguments)


def build_step_parser(kind: StepKind) -> argparse.ArgumentParser:
    """The parser of one step: its parameters, and what all steps have."""
    parser = argparse.ArgumentParser(
        prog=f"beamhub reduce {kind.name.replace('_', '-')}", description=kind.title
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="FILE or FILE::/path/of/the/data, or the pid of a dataset of this session",
    )
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="a new file, or a folder"
    )
    for name, field in kind.parameters.model_fields.items():
        extra = field.json_schema_extra
        if not (isinstance(extra, dict) and extra.get("command_line") is False):
            _add_option(parser, name, field)
    parser.add_argument("--workers", type=int, help="Dask workers (default: as many as processors)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def _add_option(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    """One option for one field; its value stays a word where only the model knows what it means."""
    flag = "--" + name.replace("_", "-")
    inner: Any = field.annotation
    if get_origin(inner) in (Union, types.UnionType):
        inner = next(a for a in get_args(inner) if a is not type(None))
    settings: dict[str, Any] = {"help": field.description, "default": None, "dest": name}
    if inner is bool:
        settings["action"] = argparse.BooleanOptionalAction
    elif get_origin(inner) is Literal:
        settings["choices"] = get_args(inner)
    elif get_origin(inner) is tuple:
        of = get_args(inner)
        settings.update(nargs="+" if Ellipsis in of else len(of), type=of[0], metavar=name.upper())
    elif inner in (int, float):
        settings["type"] = inner
    parser.add_argument(flag, **settings)


def run_step(kind: StepKind, arguments: argparse.Namespace) -> int:
    """Reduce, write, report."""
    values = {name: getattr(arguments, name, None) for name in kind.parameters.model_fields}
    parameters = {name: value for name, value in values.items() if value is not None}
    run = open_run(arguments.file)
    with connect(arguments.workers) as client:
        result = run.reduce(kind.name, client=client, **parameters)
    return _report(result, arguments)


def _report(result: Result, arguments: argparse.Namespace) -> int:
    product = result.write(arguments.output)
    statistics = result.statistics.as_dict()
    if arguments.json:
        facts = {
            "ok": True,
            "product": product.model_dump(mode="json"),
            "statistics": statistics,
            "warnings": list(result.warnings),
        }
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        for warning in result.warnings:
            sys.stderr.write(f"warning: {warning}\n")
        counts = "\n".join(f"  {name:<22} {n}" for name, n in statistics.items() if n)
        sys.stdout.write(f"{product.path}\n{counts}\n")
    return 0
