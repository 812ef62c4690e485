"""The words of `beamhub audit` and `beamhub account`; like `command`, it loads no library."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_AUDIT = "beamhub_catalogue.audit_verbs"
_ACCOUNT = "beamhub_catalogue.account_verbs"


def add_audit(subparsers: Any) -> None:
    """`beamhub audit head|verify|list|prune`."""
    verbs = _noun(subparsers, "audit", "who did what: read it, verify it, end its retention")
    _verb(verbs, "head", "the end of the chain, to be kept where no administrator can write", _AUDIT)
    verify = _verb(verbs, "verify", "walk the chain and name the first broken entry", _AUDIT)
    verify.add_argument("--expect", metavar="SEQ:DIGEST", help="what `audit head` printed earlier")
    listing = _verb(
        verbs, "list", "entries as they stand, newest first; that you read them is recorded", _AUDIT
    )
    listing.add_argument("--account", metavar="SUBJECT", help="what this person did or what happened to them")
    listing.add_argument("--proposal", help="what touched this proposal")
    listing.add_argument("--kind", help="only entries of this kind")
    listing.add_argument("--since", metavar="TIME", help="a time with its zone")
    listing.add_argument("--before", type=int, metavar="SEQ", help="older than this entry")
    listing.add_argument("--limit", type=int, default=50)
    _verb(verbs, "prune", "remove what is past its retention", _AUDIT)


def add_account(subparsers: Any) -> None:
    """`beamhub account show|link|unlink|export|erase`."""
    verbs = _noun(subparsers, "account", "people and their linked accounts")
    show = _verb(verbs, "show", "who somebody is, and which accounts are theirs", _ACCOUNT)
    _subject(show)
    link = _verb(verbs, "link", "join accounts: they belong to one person", _ACCOUNT)
    link.add_argument("subjects", nargs="+", metavar="SUBJECT", help="the first is whom the others join")
    unlink = _verb(verbs, "unlink", "make an account a person of its own", _ACCOUNT)
    _subject(unlink)
    export = _verb(verbs, "export", "everything that is stored about a person, for the person", _ACCOUNT)
    _subject(export)
    export.add_argument("-o", "--output", type=Path, required=True, help="a file that is not there yet")
    erase = _verb(verbs, "erase", "forget a person; what is not ours to forget is named", _ACCOUNT)
    _subject(erase)
    erase.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def _noun(subparsers: Any, name: str, help_text: str) -> Any:
    return subparsers.add_parser(name, help=help_text).add_subparsers(metavar="VERB", required=True)


def _verb(verbs: Any, name: str, help_text: str, module: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help_text)
    parser.add_argument("--config", type=Path, required=True, help="facility.yaml")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(run=f"{module}:run_{name}")
    return parser


def _subject(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", metavar="SUBJECT", help="as the provider names the person, or an account")
