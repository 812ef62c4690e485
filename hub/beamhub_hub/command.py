"""`beamhub login`: what identity providers say and offer, and what it would mean here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_EXPLAIN = """Show what a login with these claims would be here, by the very code of a login. FILE holds one
JSON object {"issuer": ..., "id_token": {claims}, "userinfo": {claims}} of a verified ID token and userinfo
answer; without "issuer", the ID token's `iss`, --provider, or the first provider counts. Proposals are those
that entitlements name; what user offices say is web's to know (`beamhub catalogue`). Claims are judged at the
ID token's `iat`, else now."""
_EXIT = "Exit codes: 0 the login is allowed, 4 it is denied, 2 the file holds no claims, 3 no such provider."


def add(subparsers: Any) -> None:
    """Add the verbs; what they need is loaded when they run."""
    login = subparsers.add_parser("login", help="explain what identity providers say")
    verbs = login.add_subparsers(metavar="VERB", required=True)
    explain = verbs.add_parser(
        "explain", help="show who a file of claims would be here, and why", description=_EXPLAIN, epilog=_EXIT
    )
    explain.add_argument("file", metavar="FILE", type=Path, help="JSON file with verified claims")
    explain.add_argument("--config", type=Path, required=True, help="facility.yaml")
    explain.add_argument("--provider", default=None, help="name of the provider, where FILE names no issuer")
    explain.add_argument("--json", action="store_true", help="print one JSON object")
    explain.set_defaults(run="beamhub_hub.explain_command:run_explain")
    check = verbs.add_parser("check-provider", help="show what a provider offers of what the login needs")
    check.add_argument("name", metavar="NAME", help="name of the provider in the configuration")
    check.add_argument("--config", type=Path, required=True, help="facility.yaml")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run="beamhub_hub.check_provider:run")
