"""`beamhub login explain`: claims from a file, the answer as JSON or for people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beamhub_core.clock import utc_now
from beamhub_core.config import read_config
from beamhub_core.entitlements import display_text
from beamhub_core.errors import BeamhubError
from beamhub_core.identity import Capability, Entitlement
from beamhub_hub.denial import LoginDenied
from beamhub_hub.explain import ClaimSet, Explanation, explain
from beamhub_hub.named_provider import find_provider

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
            f"{self.path}: {self.reason}. Give one JSON object with the keys 'issuer' (a string), 'id_token' "
            "and 'userinfo' (objects of claims), or one object of claims alone."
        )


def run_explain(arguments: argparse.Namespace) -> int:
    """Print the answer; that of a denied login ends with the exit code of a denial."""
    config = read_config(arguments.config)
    find_provider(config, arguments.provider)
    answer = explain(read_claims(arguments.file), config, now=utc_now(), provider_name=arguments.provider)
    if arguments.json:
        sys.stdout.write(json.dumps(answer.as_json()) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(answer)) + "\n")
    return 0 if answer.is_allowed else LoginDenied.exit_code


def read_claims(path: Path) -> ClaimSet:
    """The claims in a file.

    Raises
    ------
    ClaimsUnreadable
        If it is too large, no JSON in UTF-8, or not in one of the two forms.
    """
    document = _read_object(path)
    if not {"issuer", *PARTS} & set(document):
        # One object of claims: the ID token says what only it may say, userinfo the rest.
        return ClaimSet(id_token=document, userinfo=document)
    unknown = set(document) - {"issuer", *PARTS}
    if unknown or not all(isinstance(document.get(part), dict) for part in PARTS):
        raise ClaimsUnreadable(path, "mixes claims with parts of a login, or lacks a part")
    issuer = document.get("issuer")
    if "issuer" in document and not isinstance(issuer, str):
        raise ClaimsUnreadable(path, "names an issuer that is no string")
    return ClaimSet(id_token=document["id_token"], userinfo=document["userinfo"], issuer=issuer)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ClaimsUnreadable(path, f"the file is larger than {MAX_BYTES} bytes")
        document = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise ClaimsUnreadable(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise ClaimsUnreadable(path, "is no JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise ClaimsUnreadable(path, "holds no claims")
    return document


def _lines(answer: Explanation) -> Iterator[str]:
    if answer.provider is not None:
        yield f"provider {answer.provider.name} ({answer.provider.issuer})"
    if answer.principal is None:
        yield f"denied: {answer.rule}"
        yield answer.reason or ""
        return
    person = answer.principal
    yield f"allowed: {person.display_name}, account {person.account}, subject {person.subject!r}"
    yield f"home organisation: {person.home_organisation or 'not said'}"
    yield f"ORCID: {person.orcid or 'not said'}"
    yield f"account at the facility: {person.facility_account or 'not said'}"
    ids = [f"{name} {number}" for name, number in (("uid", person.uid), ("gid", person.gid)) if number]
    yield f"numeric ids: {', '.join([*ids, *(f'group {gid}' for gid in person.gids)]) or 'not said'}"
    yield f"facility roles: {', '.join(person.roles) or 'none'}"
    yield f"groups in the hub: {', '.join(answer.groups) or 'none'}"
    yield f"assurance, with what it implies: {', '.join(person.assurance) or 'none asserted'}"
    yield f"authentication context: {person.acr or 'not said'}"
    yield f"groups that count: {len(person.entitlements)}"
    yield from (f"  {_group(item)}" for item in person.entitlements)
    yield f"capabilities: {len(person.capabilities)}"
    yield from (f"  {_capability(item)}" for item in person.capabilities)
    yield f"proposals that entitlements name (user offices are web's to know): {len(answer.proposals)}"
    yield from (f"  {proposal.id} as {proposal.role}" for proposal in answer.proposals)
    yield f"entitlements of other namespaces or without sense: {person.ignored_entitlements}"


def _group(item: Entitlement) -> str:
    name = ":".join(_readable(part) for part in (item.group, *item.subgroups))
    return f"{name} as {_readable(item.role)}" if item.role else name


def _capability(item: Capability) -> str:
    name = ":".join(_readable(part) for part in (item.resource, *item.children))
    return f"{name}: {', '.join(_readable(action) for action in item.actions) or 'no action, gives nothing'}"


def _readable(component: str) -> str:
    """Decoded, and harmless on a terminal: `%1B` must not become an escape sequence there."""
    return "".join(c if c.isprintable() else "�" for c in display_text(component))
