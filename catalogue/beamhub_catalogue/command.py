"""The words of `beamhub catalogue`, `dataset`, `policy` and `proposal`; other modules add theirs.

Every `beamhub --help` imports this module, so it loads no library: the modules that it names do the work.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import Any

from beamhub_catalogue.audit_command import add_account, add_audit
from beamhub_catalogue.session_command import add_session

_VERBS = "beamhub_catalogue.verbs"
_POLICY = "beamhub_catalogue.policy_verbs"
_PROPOSAL = "beamhub_catalogue.proposal_verbs"
_PERSON = "a subject at a configured provider, an account u-..., or an ORCID iD"


def add(subparsers: Any) -> None:
    """Add the verbs to the `beamhub` command."""
    _add_catalogue(subparsers)
    _add_dataset(subparsers)
    _add_policy(subparsers)
    add_audit(subparsers)
    add_account(subparsers)
    _add_proposal(subparsers)
    add_session(subparsers)


def _add_catalogue(subparsers: Any) -> None:
    verbs = subparsers.add_parser("catalogue", help="fill the catalogue, and serve it").add_subparsers(
        metavar="VERB", required=True
    )
    harvest = verbs.add_parser(
        "harvest", help="read what is new or changed in the harvest roots, or in another catalogue"
    )
    _common(harvest)
    harvest.add_argument(
        "source", nargs="?", default="files", help="'files' (default), or a name of catalogue.sources"
    )
    harvest.add_argument("--pool", help="only this pool")
    harvest.add_argument("--path", help="only this folder or file of the pool, relative to it")
    harvest.add_argument("--paths", choices=["-"], help="only the files named on standard input, one a line")
    harvest.add_argument("--dry-run", action="store_true", help="store nothing; show what would be kept")
    harvest.add_argument("--full", action="store_true", help="of a catalogue: everything, from the beginning")
    harvest.set_defaults(run="beamhub_catalogue.harvest_verb:run_harvest")
    ingest = verbs.add_parser(
        "ingest", help="load NeXus files or folders of a pool, or JSON as the API gives"
    )
    _common(ingest)
    ingest.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    ingest.set_defaults(run="beamhub_catalogue.ingest:run_ingest")
    validate = verbs.add_parser("validate", help="compare a NeXus file with its application definition")
    validate.add_argument("file", type=Path, metavar="FILE")
    validate.add_argument("--definition", help="e.g. NXmx; default: what the file says of itself")
    validate.add_argument("--definitions", type=Path, metavar="FOLDER", help="more definitions (*.nxdl.xml)")
    validate.add_argument("--json", action="store_true", help="one JSON object on standard output")
    validate.set_defaults(run="beamhub_catalogue.validate_verb:run_validate")
    serve = verbs.add_parser("serve", help="serve the search API alone, to anonymous callers")
    serve.add_argument("--config", type=Path, required=True, help="facility.yaml")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    serve.add_argument("--port", type=int, default=8030, help="port to listen at (8030)")
    serve.set_defaults(run="beamhub_catalogue.serve_verbs:run_serve")
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
    listing.add_argument("--proposal", help="only of this proposal, to the letter")
    listing.add_argument("--readable", action="store_true", help="only what the reader may read now")
    listing.add_argument("--page", type=int, default=1)
    listing.add_argument("--limit", type=int, default=20, help="datasets of a page, at most 100; default 20")
    listing.set_defaults(run=f"{_VERBS}:run_list")
    getting = verbs.add_parser("get", help="one dataset as a reader sees it")
    _common(getting)
    _reader(getting)
    getting.add_argument("pid")
    getting.set_defaults(run=f"{_VERBS}:run_get")
    provenance = verbs.add_parser("provenance", help="what a dataset was made from and what was made from it")
    _common(provenance)
    _reader(provenance)
    provenance.add_argument("pid")
    provenance.add_argument("--prov", action="store_true", help="W3C PROV-JSON on standard output")
    provenance.set_defaults(run="beamhub_catalogue.provenance_verb:run_provenance")


def _add_policy(subparsers: Any) -> None:
    verbs = subparsers.add_parser("policy", help="check and explain the data policy").add_subparsers(
        metavar="VERB", required=True
    )
    check = verbs.add_parser("check", help="whether a policy file is valid; all problems at once")
    check.add_argument("file", type=Path)
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=f"{_POLICY}:run_check")
    explain = verbs.add_parser("explain", help="what a person may do with a dataset or proposal, and why")
    _common(explain)
    explain.add_argument("name", metavar="PID", help="a dataset's pid, or a proposal")
    explain.add_argument(
        "--as",
        dest="reader",
        action=_Person,
        nargs="+",
        metavar="SUBJECT",
        help=f"{_PERSON}; or ISSUER SUBJECT. Stands behind the PID; default: an anonymous reader",
    )
    explain.add_argument("--at", metavar="TIME", help="a time with its zone; default: now")
    explain.set_defaults(run=f"{_POLICY}:run_explain")


def _add_proposal(subparsers: Any) -> None:
    verbs = subparsers.add_parser(
        "proposal", help="show a proposal; extend, open or withdraw its data"
    ).add_subparsers(metavar="VERB", required=True)
    showing = verbs.add_parser("show", help="a proposal, what the policy makes of it, the acts upon it")
    _common(showing)
    showing.add_argument("proposal", metavar="ID")
    showing.set_defaults(run=f"{_PROPOSAL}:run_show")
    extend = _act(verbs, "extend", "extend the embargo by some months")
    extend.add_argument("--months", type=int, required=True)
    release = _act(verbs, "release", "open the data on a day before the embargo's end")
    release.add_argument("--on", type=date.fromisoformat, required=True, metavar="DAY", help="YYYY-MM-DD")
    withdraw = _act(verbs, "withdraw", "let nobody read the data until that is revoked")
    withdraw.add_argument("--dataset", metavar="PID", help="only this dataset of the proposal")
    consent = _act(verbs, "consent", "note that the team lets user support read its data")
    consent.add_argument("--until", required=True, metavar="TIME", help="a time with its zone")
    revoke = verbs.add_parser("revoke", help="take an act back; it stays in the list")
    _common(revoke)
    revoke.add_argument("act", metavar="ACT", help="the act's id, 32 hexadecimal digits")
    revoke.set_defaults(run=f"{_PROPOSAL}:run_revoke")


def _act(verbs: Any, name: str, does: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=does)
    _common(parser)
    parser.add_argument("proposal", metavar="ID")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; without names of persons")
    parser.set_defaults(run=f"{_PROPOSAL}:run_{name}")
    return parser


class _Person(argparse.Action):
    """One word or two: a person, or issuer and subject."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Keep the words; a usage error for more than two."""
        if len(values) > 2:
            parser.error("--as takes a SUBJECT, or ISSUER SUBJECT, and stands behind the PID")
        setattr(namespace, self.dest, values)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="facility.yaml")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _reader(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as", dest="reader", metavar="SUBJECT", help=f"{_PERSON}; default: anonymous")
