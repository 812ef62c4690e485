"""The words of `beamhub session`; like `command`, it loads no library."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_SESSION = "beamhub_catalogue.session_verbs"


def add_session(subparsers: Any) -> None:
    """`beamhub session list|why|stop|usage`."""
    noun = subparsers.add_parser("session", help="what runs, why it runs where it does, and its end")
    verbs = noun.add_subparsers(metavar="VERB", required=True)
    listing = _verb(verbs, "list", "sessions that live, and how many wait for room")
    listing.add_argument("--account", metavar="SUBJECT", help="only this person's, ended ones too")
    why = _verb(verbs, "why", "why a session runs here and not there, and how its start went")
    why.add_argument("id", metavar="ID", help="its id, or the first 6 digits or more")
    usage = _verb(verbs, "usage", "core hours and GiB hours by person or proposal")
    usage.add_argument("--by", choices=("account", "proposal"), default="account", help="(default: account)")
    usage.add_argument(
        "--days", type=int, default=30, metavar="N", help="sessions of so many days (default: 30)"
    )
    stop = _verb(verbs, "stop", "stop a session through the hub")
    stop.add_argument("id", metavar="ID", help="its id, or the first 6 digits or more")


def _verb(verbs: Any, name: str, help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help_text)
    parser.add_argument("--config", type=Path, required=True, help="facility.yaml")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=f"{_SESSION}:run_{name}")
    return parser
