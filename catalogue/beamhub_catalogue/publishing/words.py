"""The words of `beamhub catalogue doi` and `beamhub catalogue fair`; loads no library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_VERBS = "beamhub_catalogue.publishing.verbs"


def add_publishing(verbs: Any) -> None:
    """Add the verbs to `beamhub catalogue`."""
    doi = verbs.add_parser("doi", help="register DOIs at DataCite").add_subparsers(
        metavar="ACT", required=True
    )
    mint = doi.add_parser("mint", help="give a public record its DOI; again is the same one")
    _common(mint)
    mint.add_argument("pid", metavar="PID")
    mint.add_argument("--document", action="store_true", help="PID is a proposal, not a dataset")
    mint.add_argument("--draft", action="store_true", help="reserve it only: nobody finds it yet")
    mint.set_defaults(run=f"{_VERBS}:run_mint")
    renew = doi.add_parser("renew", help="tell DataCite what changed, and hide what was withdrawn")
    _common(renew)
    renew.set_defaults(run=f"{_VERBS}:run_renew")
    fair = verbs.add_parser("fair", help="check how FAIR a dataset's public record is")
    _common(fair)
    fair.add_argument("pid", metavar="PID")
    fair.set_defaults(run=f"{_VERBS}:run_fair")


def _common(parser: Any) -> None:
    parser.add_argument("--config", type=Path, required=True, help="facility.yaml")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
