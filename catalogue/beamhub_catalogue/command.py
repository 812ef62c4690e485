"""The words of `beamhub catalogue`, `beamhub dataset` and `beamhub policy`.

Every `beamhub --help` imports this module, so it loads no library: `beamhub_catalogue.verbs` does the work.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_VERBS = "beamhub_catalogue.verbs"


def add(subparsers: Any) -> None:
    """Add the verbs to the `beamhub` command."""
    _add_catalogue(subparsers)
    _add_dataset(subparsers)
    _add_policy(subparsers)


def _add_catalogue(subparsers: Any) -> None:
    verbs = subparsers.add_parser("catalogue", help="fill the catalogue").add_subparsers(
        metavar="VERB", required=True
    )
    harvest = verbs.add_parser("harvest", help="read new and changed files of the harvest roots")
    _common(harvest)
    harvest.add_argument("--pool", help="only this pool")
    harvest.add_argument("--path", help="only this folder or file of the pool, relative to it")
    harvest.set_defaults(run=f"{_VERBS}:run_harvest")
    openapi = verbs.add_parser("openapi", help="write the internal API's OpenAPI document into a checkout")
    openapi.add_argument("--root", type=Path, default=Path(), help="the checkout (this folder)")
    openapi.add_argument("--check", action="store_true", help="write nothing; fail when the file is stale")
    openapi.set_defaults(run="beamhub_catalogue.internal_openapi:run_openapi")


def _add_dataset(subparsers: Any) -> None:
    verbs = subparsers.add_parser("dataset", help="look at datasets").add_subparsers(
        metavar="VERB", required=True
    )
    listing = verbs.add_parser("list", help="datasets that a reader may know of")
    _common(listing)
    _reader(listing)
    listing.add_argument("text", nargs="*", help="words that all have to occur")
    listing.add_argument("--page", type=int, default=1)
    listing.set_defaults(run=f"{_VERBS}:run_list")
    getting = verbs.add_parser("get", help="one dataset as a reader sees it")
    _common(getting)
    _reader(getting)
    getting.add_argument("pid")
    getting.set_defaults(run=f"{_VERBS}:run_get")


def _add_policy(subparsers: Any) -> None:
    verbs = subparsers.add_parser("policy", help="check and explain the data policy").add_subparsers(
        metavar="VERB", required=True
    )
    check = verbs.add_parser("check", help="whether a policy file is valid; all problems at once")
    check.add_argument("file", type=Path)
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=f"{_VERBS}:run_check")
    explain = verbs.add_parser("explain", help="what a person may do with a dataset, and why")
    _common(explain)
    explain.add_argument("pid")
    explain.add_argument(
        "--as", dest="reader", nargs=2, metavar=("ISSUER", "SUBJECT"), help="default: anonymous"
    )
    explain.add_argument("--at", help="a time with its zone; default: now")
    explain.set_defaults(run=f"{_VERBS}:run_explain")


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="facility.yaml")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _reader(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as", dest="reader", metavar="SUBJECT", help="default: an anonymous reader")
