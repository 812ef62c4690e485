"""The verbs `beamhub reduce` and `beamhub job`."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if find_spec("pyFAI") is None:
    # The reduction extra is not installed: the command line then leaves this verb out.
    raise ModuleNotFoundError("pyFAI", name="pyFAI")

NO_OPTIONS = "\0"
"""No word begins with it: all words, --help too, are left to the parsers of the steps."""


def add(subparsers: Any) -> None:
    """Add `beamhub reduce STEP FILE -o OUT`, and `beamhub job submit|list|stop`."""
    reduce = subparsers.add_parser(
        "reduce", help="reduce a NeXus file and write a product", add_help=False, prefix_chars=NO_OPTIONS
    )
    reduce.add_argument("words", nargs=argparse.REMAINDER, metavar="STEP FILE -o OUT")
    reduce.set_defaults(run=run)
    noun = subparsers.add_parser("job", help="reductions that the session's server does by itself")
    verbs = noun.add_subparsers(metavar="VERB", required=True)
    submit = _job_verb(verbs, "submit", "hand the reductions of a file over; they go on without a browser")
    submit.add_argument("--config", required=True, type=Path, metavar="JOBS.json", help="as for reduce")
    submit.add_argument("--workers", type=int, metavar="N", help="on a cluster of so many (default: threads)")
    submit.add_argument("--title", default="", help="how it is called in lists")
    _job_verb(verbs, "list", "the jobs of your sessions, and how far they are")
    stop = _job_verb(verbs, "stop", "end a job; what is finished is kept")
    stop.add_argument("id", metavar="ID", help="its id, or the first digits of it")


def _job_verb(verbs: Any, name: str, help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help_text)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=f"beamhub_reduction.job_command:run_{name}")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Read the words of one step, reduce, write, report."""
    arguments.json = "--json" in arguments.words
    # The steps' options are read from their parameters, whose modules take seconds to import.
    from beamhub_reduction.reduce_command import run_words

    return run_words(arguments.words)
