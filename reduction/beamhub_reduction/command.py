"""The verb `beamhub reduce`."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from typing import Any

if find_spec("pyFAI") is None:
    # The reduction extra is not installed: the command line then leaves this verb out.
    raise ModuleNotFoundError("pyFAI", name="pyFAI")

NO_OPTIONS = "\0"
"""No word begins with it: all words, --help too, are left to the parsers of the steps."""


def add(subparsers: Any) -> None:
    """Add `beamhub reduce STEP FILE -o OUT`."""
    reduce = subparsers.add_parser(
        "reduce", help="reduce a NeXus file and write a product", add_help=False, prefix_chars=NO_OPTIONS
    )
    reduce.add_argument("words", nargs=argparse.REMAINDER, metavar="STEP FILE -o OUT")
    reduce.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the words of one step, reduce, write, report."""
    arguments.json = "--json" in arguments.words
    # The steps' options are read from their parameters, whose modules take seconds to import.
    from beamhub_reduction.reduce_command import run_words

    return run_words(arguments.words)
