"""What every user office promises."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol

from beamhub_core.errors import BeamhubError
from beamhub_core.rights import ProposalRole


@dataclass(frozen=True, slots=True)
class ProposalEntry:
    """A proposal of a user office; `policy_class` None: its row cannot be trusted, and it stays closed."""

    id: str
    title: str
    policy_class: str | None
    instrument: str
    start: date | None
    end: date | None


@dataclass(frozen=True, slots=True)
class MemberEntry:
    """A person's place in a proposal, both days included; any one of the identities names the person."""

    proposal: str
    issuer: str | None
    subject: str | None
    orcid: str | None
    facility_account: str | None
    name: str
    role: ProposalRole
    since: date | None
    until: date | None

    @property
    def identity(self) -> tuple[str | None, str | None, str | None, str | None]:
        """The identities that the row gives."""
        return self.issuer, self.subject, self.orcid, self.facility_account


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """Something of a user office that a person must look at."""

    file: str
    line: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class SourceReading:
    """All that a user office says at one time, and what it says wrongly."""

    proposals: tuple[ProposalEntry, ...]
    members: tuple[MemberEntry, ...]
    problems: tuple[SourceProblem, ...] = ()


class SourceBroken(BeamhubError):
    """A user office gives no usable state; what it said last stays valid."""

    exit_code = 6

    def __init__(self, source: str, problems: tuple[SourceProblem, ...]) -> None:
        super().__init__(source, problems)
        self.source, self.problems = source, problems

    def __str__(self) -> str:
        first = self.problems[0]
        where = f"{first.file}, line {first.line}" if first.line else first.file
        return f"The user office {self.source!r} cannot be read: {where}: {first.reason}."


class UserOffice(Protocol):
    """A source of proposals and memberships."""

    @property
    def name(self) -> str:
        """As in the configuration."""

    def fingerprint(self) -> str:
        """Changes whenever `read` may give something else; cheap."""

    def read(self) -> SourceReading:
        """All proposals and members.

        Raises
        ------
        SourceBroken
            If what is there is not a complete, well-formed state.
        """
