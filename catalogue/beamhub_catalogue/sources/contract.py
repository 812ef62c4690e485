"""What every user office promises."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

from beamhub_core.errors import BeamhubError
from beamhub_core.rights import ProposalRole

Identity = tuple[str | None, str | None, str | None, str | None]
"""Issuer, subject, ORCID, facility account: the first two together, or one of the others, name a person."""


@dataclass(frozen=True, slots=True)
class ProposalEntry:
    """A proposal of a user office; `policy_class` None: its row cannot be trusted, and it stays closed."""

    id: str
    title: str
    policy_class: str | None
    instrument: str
    start: date | None
    end: date | None
    access_route: str = ""
    """How its beamtime was given, where the policy asks for it; '' when the office does not say."""


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
    def identity(self) -> Identity:
        """The identities that the row gives."""
        return self.issuer, self.subject, self.orcid, self.facility_account


@dataclass(frozen=True, slots=True)
class StaffEntry:
    """A person of the staff in charge of an instrument, both days included; named as a member is."""

    instrument: str
    issuer: str | None
    subject: str | None
    orcid: str | None
    facility_account: str | None
    name: str
    since: date | None
    until: date | None

    @property
    def identity(self) -> Identity:
        """The identities that the row gives."""
        return self.issuer, self.subject, self.orcid, self.facility_account


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """Something of a user office that a person must look at; `line` is that of a file or row of a table."""

    file: str
    line: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class SourceReading:
    """All that a user office says at one time, and what it says wrongly.

    `problems` holds the first ones only; `n_problems` counts them all.
    """

    proposals: tuple[ProposalEntry, ...]
    members: tuple[MemberEntry, ...]
    staff: tuple[StaffEntry, ...] = ()
    problems: tuple[SourceProblem, ...] = ()
    n_problems: int = 0


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
    """A source of proposals, memberships and staff.

    Asking and reading are apart, because `fingerprint` is compared at every request of every reader:
    `poll` may take seconds and is called by one thread, now and then; the rest never waits for anybody.
    """

    @property
    def name(self) -> str:
        """As in the configuration."""

    @property
    def kind(self) -> Literal["csv", "rest"]:
        """As in the configuration."""

    @property
    def poll_interval_s(self) -> float:
        """How long to wait between two polls."""

    def resume(self, fingerprint: str) -> None:
        """Take up from a state that was read and kept before, perhaps by another process."""

    def poll(self) -> bool:
        """Ask the office now; whether it answered well. What went wrong, `read` raises."""

    def fingerprint(self) -> str:
        """Changes whenever `read` may give something else; cheap."""

    def read(self) -> SourceReading:
        """The state of the last poll, once: who asks for it again makes the office be asked again.

        Raises
        ------
        SourceBroken
            If what is there is not a complete, well-formed state.
        """
