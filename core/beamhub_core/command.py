"""The `beamhub` command: finds its verbs through entry points and gives every error an exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import entry_points
from pkgutil import resolve_name

from beamhub_core.errors import BeamhubError

ENTRY_POINT_GROUP = "beamhub.commands"


def build_parser() -> argparse.ArgumentParser:
    """The parser with the verbs of every installed room.

    An entry point names a function `add(subparsers)`, which adds its verb and sets
    `run=function(arguments) -> int`, or its name as "module:function", as its default.
    """
    parser = argparse.ArgumentParser(
        prog="beamhub",
        description="Data analysis as a service for photon and neutron facilities.",
        epilog="Exit codes: 0 fine, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 full or over quota, "
        "6 try later, 7 config invalid, 130 interrupted.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            add = point.load()
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("beamhub_"):
                raise
            continue  # the room's extra is not installed: its verbs are absent
        add(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        # A verb may name its function as "module:function": --help need not load what the verb needs.
        run = resolve_name(arguments.run) if isinstance(arguments.run, str) else arguments.run
        code: int = run(arguments)
        sys.stdout.flush()
    except BeamhubError as error:
        if getattr(arguments, "json", False):
            sys.stdout.write(
                json.dumps({"ok": False, "error": type(error).__name__, "message": str(error)}) + "\n"
            )
        sys.stderr.write(f"beamhub: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
