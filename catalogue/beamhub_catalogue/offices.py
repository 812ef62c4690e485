"""User offices in force: what they say now, in the tables of proposals and members."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from beamhub_catalogue.models import MemberRow, ProposalRow, SourceRow
from beamhub_catalogue.sources import CsvUserOffice, MemberEntry, SourceBroken, SourceReading, UserOffice
from beamhub_core.config.catalogue import UserOfficeConfig


class UserOffices:
    """The configured user offices, and how their answers become rows."""

    def __init__(self, configs: tuple[UserOfficeConfig, ...]) -> None:
        self._offices: tuple[UserOffice, ...] = tuple(CsvUserOffice(c) for c in configs)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names under which rows carry their source."""
        return tuple(label_of(office) for office in self._offices)

    def fingerprints(self) -> dict[str, str]:
        """Changes with whatever an office says; cheap."""
        return {label_of(office): office.fingerprint() for office in self._offices}

    def store(self, session: Session, fingerprints: dict[str, str], zone: ZoneInfo, now: datetime) -> None:
        """Write what every office says now; of one that is broken, the last good state stays.

        Rows of offices that are no longer configured go.
        """
        readings = [
            (office, reading)
            for office in self._offices
            if (reading := _read_office(session, office, fingerprints[label_of(office)])) is not None
        ]
        # All that is to be replaced goes first: a contradiction is one between two present states.
        for office, _ in readings:
            session.execute(delete(ProposalRow).where(ProposalRow.source == label_of(office)))
        for office, reading in readings:
            row = source_row(session, label_of(office))
            contradictions = _store_proposals(session, label_of(office), reading)
            _store_members(session, label_of(office), reading.members, zone, now)
            row.problems = [asdict(problem) for problem in reading.problems] + contradictions
            row.read_at = now
        session.execute(delete(ProposalRow).where(ProposalRow.source.not_in(self.labels)))
        session.execute(delete(MemberRow).where(MemberRow.source.not_in(self.labels)))


def label_of(office: UserOffice) -> str:
    """The name under which an office's rows carry their source."""
    return f"user_office:{office.name}"


def source_row(session: Session, name: str) -> SourceRow:
    """The row that remembers a user office or the policy, made where there is none."""
    row = session.get(SourceRow, name)
    if row is None:
        row = SourceRow(name=name, fingerprint="", good=None, read_at=None, checked_at=None, problems=[])
        session.add(row)
    return row


def _read_office(session: Session, office: UserOffice, fingerprint: str) -> SourceReading | None:
    """What an office says now; None, with a note of the problem, where its last good state stays."""
    row = source_row(session, label_of(office))
    row.fingerprint = fingerprint
    try:
        return office.read()
    except SourceBroken as error:
        row.problems = [asdict(problem) for problem in error.problems]
        return None


def _store_proposals(session: Session, source: str, reading: SourceReading) -> list[dict[str, Any]]:
    """Add a source's proposals; a proposal that another source tells differently is closed."""
    others = {row.id: row for row in session.scalars(select(ProposalRow))}
    problems: list[dict[str, Any]] = []
    for entry in reading.proposals:
        other = others.get(entry.id)
        if other is None:
            session.add(ProposalRow(source=source, withdrawn=False, metadata_public=False, **asdict(entry)))
        elif (other.policy_class, other.end) != (entry.policy_class, entry.end):
            other.policy_class = None
            reason = f"{entry.id} is told differently by {other.source}: it stays closed"
            problems.append({"file": source, "line": None, "reason": reason})
    return problems


def _store_members(
    session: Session, source: str, members: tuple[MemberEntry, ...], zone: ZoneInfo, now: datetime
) -> None:
    """Replace a source's rows; a person's row that is gone leaves a mark that it was removed."""
    rows = session.scalars(select(MemberRow).where(MemberRow.source == source)).all()
    before = {_key(row): row for row in rows}
    present = {(entry.proposal, *entry.identity) for entry in members}
    session.execute(delete(MemberRow).where(MemberRow.source == source))
    fresh = [_columns(entry, source, zone) for entry in members]
    fresh += [
        {name: getattr(row, name) for name in _COLUMNS} | {"removed_at": row.removed_at or now}
        for key, row in before.items()
        if key not in present
    ]
    if fresh:
        session.execute(insert(MemberRow), fresh)


_COLUMNS = (
    "source",
    "proposal",
    "issuer",
    "subject",
    "orcid",
    "facility_account",
    "name",
    "role",
    "since",
    "until",
)


def _key(row: MemberRow) -> tuple[str | None, ...]:
    return row.proposal, row.issuer, row.subject, row.orcid, row.facility_account


def _columns(entry: MemberEntry, source: str, zone: ZoneInfo) -> dict[str, Any]:
    """A row with its days as instants: from the first one's beginning to the last one's end."""
    until = entry.until + timedelta(days=1) if entry.until and entry.until < date.max else None
    # The first and the last day that a calendar has mean no bound, and may not exist in UTC.
    since = entry.since if entry.since and entry.since > date.min else None
    return asdict(entry) | {
        "source": source,
        "since": datetime.combine(since, time.min, tzinfo=zone) if since else None,
        "until": datetime.combine(until, time.min, tzinfo=zone) if until else None,
        "removed_at": None,
    }
