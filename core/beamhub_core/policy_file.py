"""Reading `policy.yaml`: strict, with every problem of the file at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from beamhub_core.config.document import Document, DocumentRefused, Location, read_document
from beamhub_core.config.facility import nearest
from beamhub_core.errors import ConfigInvalid
from beamhub_core.policy_document import EmbargoClass, PolicyDocument, RoleRules
from beamhub_core.policy_rules import PolicyRule

MAX_POLICY_BYTES = 1_000_000


def read_policy(path: Path) -> PolicyDocument:
    """The data policy in a YAML file.

    Raises
    ------
    ConfigInvalid
        With every problem of the file: unknown and doubled keys, missing ones, values out of range, each
        with its path and line.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise ConfigInvalid(str(path), (f"cannot be read: {error.strerror or error}",)) from error
    if len(raw) > MAX_POLICY_BYTES:
        raise ConfigInvalid(str(path), (f"is larger than {MAX_POLICY_BYTES} bytes",))
    try:
        document = read_document(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigInvalid(str(path), (f"is not UTF-8 (byte {error.start})",)) from error
    except DocumentRefused as error:
        raise ConfigInvalid(str(path), (str(error),)) from None
    return _validated(path, document)


def _validated(path: Path, document: Document) -> PolicyDocument:
    problems = [*document.problems]
    policy: PolicyDocument | None = None
    if not isinstance(document.data, dict):
        raise ConfigInvalid(str(path), ("holds no mapping; it needs version, timezone and classes",))
    try:
        policy = PolicyDocument.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        problems += _problems(error)
    if policy is None or problems:
        raise ConfigInvalid(str(path), tuple(_rendered(problems, document)))
    return policy


def _problems(error: ValidationError) -> Iterator[tuple[Location, str]]:
    for item in error.errors(include_url=False):
        # The two kinds of `embargo_months` are one key of the file, not two places in it.
        location = item["loc"][:3] if item["loc"][2:3] == ("embargo_months",) else item["loc"]
        if item["type"] == "rules_disagree":
            yield from item["ctx"]["found"]
        elif item["type"] == "extra_forbidden":
            yield location, f"unknown key{nearest(str(location[-1]), _keys_at(location))}"
        elif item["type"] == "missing":
            yield location, "is missing"
        elif location[-1:] == ("embargo_months",):
            yield location, "is a number of months, 0 to 1200, or the word never"
        elif item["type"] == "value_error":
            yield location, item["msg"].removeprefix("Value error, ")
        else:
            yield location, item["msg"][:1].lower() + item["msg"][1:]


def _keys_at(location: Location) -> Iterable[str]:
    """The keys that may stand where an unknown one does."""
    if location[-2:-1] == ("roles",):
        return RoleRules.model_fields
    if location[:1] == ("rules",):
        return PolicyRule.model_fields
    return EmbargoClass.model_fields if len(location) == 3 else PolicyDocument.model_fields


def _rendered(problems: list[tuple[Location, str]], document: Document) -> Iterator[str]:
    """In the order of the file, each once."""
    known = {problem: document.line_of(problem[0]) or 0 for problem in problems}
    for location, message in sorted(known, key=lambda problem: known[problem]):
        place = ".".join(str(part)[:80] for part in location) or "(top)"
        line = f", line {known[location, message]}" if known[location, message] else ""
        yield f"{place}: {message}{line}"
