"""Who may touch what: the words of the policy."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from beamhub_core.errors import BeamhubError
from beamhub_core.word import Word

ProposalRole = Literal["pi", "member", "local_contact"]
MetadataClass = Literal["public", "team"]
RefusalCode = Literal[
    "not_found",  # unknown, or not to be known by this person
    "embargoed",
    "not_a_member",
    "assurance_too_low",
    "withdrawn",
    "no_place",
    "full",
    "over_quota",
    "profile_not_allowed",
    "unavailable",
    "bad_request",
]


_PART = r"(?:[^/\0\n.]|\.[^/\0\n.]|\.\.[^/\0\n])[^/\0\n]*"
_RELATIVE = re.compile(f"{_PART}(?:/{_PART})*")


def _check_relative(path: str) -> str:
    if _RELATIVE.fullmatch(path) is None:
        raise ValueError(
            f"{path!r} is not a plain path relative to its pool (no leading '/', no '..', no '.')"
        )
    return path


RelativePath = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_check_relative)]
"""A path below a pool's root: components only, compared component by component, never as text."""


class Membership(Word):
    """One row that joins an account to a proposal for a time."""

    proposal: str
    account: str
    role: ProposalRole
    since: datetime | None = None
    until: datetime | None = None
    source: str = Field(description="Where the row comes from: 'user_office:<name>' or 'entitlement'.")


class Assignment(Word):
    """One row that puts an account in charge of an instrument, as its scientist, for a time."""

    instrument: str
    account: str
    since: datetime | None = None
    until: datetime | None = None
    source: str = Field(description="Where the row comes from: 'user_office:<name>'.")


class PoolPath(Word):
    """A folder or file of a storage pool."""

    pool: str
    path: RelativePath


class DatasetRef(Word):
    """Where a dataset lies, and which other files it needs."""

    pid: str
    proposal: str
    title: str
    technique: str = Field(description="PaNET term, e.g. 'http://purl.org/pan-science/PaNET/PaNET01101'.")
    instrument: str
    folder: PoolPath
    file: RelativePath = Field(description="The master file, relative to the pool.")
    size_bytes: int = Field(ge=0)
    link_closure: tuple[PoolPath, ...] = Field(
        default=(), description="Folders that links of the file lead to."
    )
    missing_links: tuple[str, ...] = Field(default=(), description="Link targets that do not exist.")


class Grant(Word):
    """This account may read, or write, this folder of this pool, and why."""

    account: str
    folder: PoolPath
    mode: Literal["ro", "rw"]
    because: Literal["membership", "open", "role"]
    detail: str = Field(description="Which membership, open since when, or which role; for people.")
    until: datetime | None = None
    pid: str | None = None
    proposal: str
    required_assurance: tuple[str, ...] = ()
    required_acr: tuple[str, ...] = ()


class Refusal(Word):
    """Why somebody may not, said in words that the policy allows to be said."""

    code: RefusalCode
    subject: str = Field(max_length=300, description="What was asked for, as the asker named it.")
    reason: str = Field(max_length=500)
    until: datetime | None = None
    reference: str = Field(max_length=40, description="Finds the log line.")
    required_acr: tuple[str, ...] = Field(
        default=(),
        max_length=16,
        description="Authentication contexts of which a new login needs one; then the answer is another. "
        "Empty: a stronger login would not help.",
    )


class GrantAnswer(Word):
    """What web answers when the hub asks for rights on named datasets."""

    account: str
    datasets: tuple[DatasetRef, ...]
    grants: tuple[Grant, ...]
    ungranted_links: tuple[PoolPath, ...] = Field(
        default=(), description="Closure folders not granted; named, not mounted."
    )
    policy_version: str
    decided_at: datetime


class Refused(BeamhubError):
    """A refusal on its way to the person who asked."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # the class attribute becomes a property: it depends on the code
        return {
            "not_found": 3,
            "full": 5,
            "over_quota": 5,
            "no_place": 5,
            "unavailable": 6,
            "bad_request": 2,
        }.get(self.refusal.code, 4)

    def __str__(self) -> str:
        until = f" until {self.refusal.until:%Y-%m-%d %H:%M %Z}" if self.refusal.until else ""
        return f"{self.refusal.reason}{until} [{self.refusal.code}, reference {self.refusal.reference}]"
