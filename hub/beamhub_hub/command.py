"""`beamhub login`: what a provider's claims would mean here, by the very code of the login, and its check."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from beamhub_core.clock import utc_now
from beamhub_core.config import FacilityConfig, read_config
from beamhub_core.config.provider import ProviderConfig
from beamhub_core.entitlements import display_text
from beamhub_core.errors import BeamhubError
from beamhub_core.identity import Principal
from beamhub_hub import check_provider
from beamhub_hub.check_provider import find_provider
from beamhub_hub.claims import merge_claims, principal_from_claims
from beamhub_hub.role_assignments import read_role_assignments

MAX_BYTES = 1_000_000
PARTS = ("id_token", "userinfo")


class ClaimsUnreadable(BeamhubError):
    """The file does not hold claims."""

    exit_code = 2

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.reason}. Give one JSON object of claims, or one with the keys "
            "'id_token' and 'userinfo', each an object of claims."
        )


def add(subparsers: Any) -> None:
    """Add the verb."""
    login = subparsers.add_parser("login", help="explain what identity providers say")
    verbs = login.add_subparsers(metavar="VERB", required=True)
    explain = verbs.add_parser("explain", help="show who a file of claims would be here, and why")
    explain.add_argument("file", type=Path, help="JSON file with claims")
    explain.add_argument("--config", type=Path, required=True, help="facility.yaml")
    explain.add_argument("--provider", default=None, help="name of the provider (default: the first)")
    explain.add_argument("--json", action="store_true", help="print one JSON object")
    explain.set_defaults(run=run_explain)
    check = verbs.add_parser("check-provider", help="show what a provider offers of what the login needs")
    check.add_argument("name", help="name of the provider in the configuration")
    check.add_argument("--config", type=Path, required=True, help="facility.yaml")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=check_provider.run)


def run_explain(arguments: argparse.Namespace) -> int:
    """Print the Principal; the denial of a login ends with exit code 4."""
    config = read_config(arguments.config)
    provider = find_provider(config, arguments.provider)
    principal = explain(_read_claims(arguments.file), config, provider)
    if arguments.json:
        answer = {"version": 1, "ok": True, "principal": principal.model_dump(mode="json")}
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(principal, provider)) + "\n")
    return 0


def explain(document: dict[str, Any], config: FacilityConfig, provider: ProviderConfig) -> Principal:
    """The person that claims speak of, once a login had verified them.

    Raises
    ------
    LoginDenied
        As the login itself would be.
    """
    claims: Any = document
    if set(document) == set(PARTS):
        claims = merge_claims(document["id_token"], document["userinfo"])
    roles = read_role_assignments(config.login.role_assignments)
    return principal_from_claims(claims, provider=provider, roles=roles, checked_at=utc_now())


def _read_claims(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ClaimsUnreadable(path, f"the file is larger than {MAX_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClaimsUnreadable(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise ClaimsUnreadable(path, "is no JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise ClaimsUnreadable(path, "holds no claims")
    parts = [document[key] for key in PARTS if key in document]
    if parts and not (len(parts) == len(document) == 2 and all(isinstance(part, dict) for part in parts)):
        raise ClaimsUnreadable(path, "mixes claims with parts of a login")
    return document


def _lines(principal: Principal, provider: ProviderConfig) -> list[str]:
    groups = [
        f"  {':'.join(display_text(part) for part in (item.group, *item.subgroups))}"
        + (f" as {display_text(item.role)}" if item.role else "")
        for item in principal.entitlements
    ]
    return [
        f"{principal.display_name}, account {principal.account}",
        f"provider {provider.name} ({principal.issuer}), subject {principal.subject!r}",
        f"home organisation: {principal.home_organisation or 'not said'}",
        f"ORCID: {principal.orcid or 'not said'}",
        f"facility roles: {', '.join(principal.roles) or 'none'}",
        f"assurance: {', '.join(principal.assurance) or 'none asserted'}",
        f"groups that count: {len(groups)}",
        *groups,
        f"entitlements of other namespaces or without sense: {principal.ignored_entitlements}",
    ]
