"""The documented shape of a REST user office's answers; docs/reference/user-office.md is its page.

Unknown keys are ignored, unlike at our other borders: an office may say more one day, and must not lose
its platform over it. A known key that is missing is refused, so that a column that changed its name cannot
turn a membership that ended into one without an end; null and "" both say that the office knows nothing.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beamhub_catalogue.sources.tables import unfit_fields

MAJOR_VERSION = 1
MAX_PAGES = 10_000
MAX_ROWS = 1_000_000

_HALF = re.compile("[\ud800-\udfff]")
_VERSION = re.compile(r"([0-9]{1,6})\.[0-9]{1,6}", re.ASCII)


class NotInShape(Exception):
    """A page that is not in the documented shape; `reason` names the place, never a value of the page."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Proposal(_Shape):
    """A row of `proposals`."""

    proposal: str | None
    title: str | None
    class_: str | None = Field(alias="class")
    instrument: str | None
    start: str | None
    end: str | None
    access_route: str | None = None


class _Person(_Shape):
    """What rows of `members` and `staff` share."""

    issuer: str | None
    subject: str | None
    orcid: str | None
    facility_account: str | None
    name: str | None
    from_: str | None = Field(alias="from")
    until: str | None


class _Member(_Person):
    """A row of `members`."""

    proposal: str | None
    role: str | None


class _Staff(_Person):
    """A row of `staff`."""

    instrument: str | None


class Totals(_Shape):
    """How many rows the whole state has."""

    proposals: int = Field(ge=0, le=MAX_ROWS)
    members: int = Field(ge=0, le=MAX_ROWS)
    staff: int = Field(ge=0, le=MAX_ROWS)


class Page(_Shape):
    """One page of a state."""

    state: str = Field(min_length=1, max_length=200)
    page: int = Field(ge=1)
    pages: int = Field(ge=1, le=MAX_PAGES)
    totals: Totals
    proposals: list[_Proposal]
    members: list[_Member]
    staff: list[_Staff]

    def rows(self, table: str) -> list[dict[str, str]]:
        """The rows of one table, by the names of their columns; what the office does not know is empty.

        Raises
        ------
        NotInShape
            If a field is nothing that an office would write.
        """
        models: list[_Shape] = getattr(self, table)
        return [_row(table, i, model) for i, model in enumerate(models)]


def _row(table: str, i: int, model: _Shape) -> dict[str, str]:
    row = {name.rstrip("_"): value or "" for name, value in model}
    if unfit := unfit_fields(row.values()):
        raise NotInShape(f"{table}.{i}: {unfit}")
    return row


def read_page(body: bytes) -> Page:
    """One page of a state.

    Raises
    ------
    NotInShape
        If the body is no JSON, holds a key twice, says another major version, or lacks something.
    """
    data = _json(body)
    if not isinstance(data, dict):
        raise NotInShape("is no JSON object")
    version = data.get("version")
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise NotInShape(f"has no 'version' like '{MAJOR_VERSION}.0'")
    if int(match[1]) != MAJOR_VERSION:
        raise NotInShape(f"is of version {version}, and only {MAJOR_VERSION} is understood")
    try:
        return Page.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise NotInShape(f"is not in the documented shape: {place[:200]}: {first['msg'][:200]}") from None


def _json(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotInShape(f"is not UTF-8 (byte {error.start})") from None
    try:
        return json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)
    except RecursionError:
        raise NotInShape("nests too deep") from None
    except ValueError as error:
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise NotInShape(f"is not JSON{where}: was the answer cut short?") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotInShape("holds a key twice")
    for value in found.values():
        if isinstance(value, str) and not value.isascii() and _HALF.search(value):
            raise NotInShape("holds half of a surrogate pair, which no database takes")
    return found


def _no_number(word: str) -> Any:
    raise NotInShape(f"holds {word}, which is no JSON")
