"""Policy and user offices in force: read again when they change, kept when they break."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from beamhub_catalogue.database import Database
from beamhub_catalogue.models import MemberRow, ProposalRow, SourceRow
from beamhub_catalogue.sources import CsvUserOffice, MemberEntry, SourceBroken, SourceReading, UserOffice
from beamhub_catalogue.views import ProblemView
from beamhub_core.clock import Clock
from beamhub_core.config.catalogue import CatalogueConfig
from beamhub_core.errors import ConfigInvalid
from beamhub_core.policy import PolicyDocument, ProposalFacts, opens_at, rules_for
from beamhub_core.policy_file import read_policy

POLICY_SOURCE = "policy"


@dataclass(slots=True)
class _State:
    fingerprints: dict[str, str]
    policy: PolicyDocument


class RuleBook:
    """The policy in force and the tables of proposals and members, as of the files on disk.

    `refresh` costs a few `stat` calls when nothing changed. A lock lets one thread read a changed file
    while the others wait: nobody decides by a mixture of two states.
    """

    def __init__(self, database: Database, config: CatalogueConfig, clock: Clock) -> None:
        self._database, self._config, self._clock = database, config, clock
        self._offices: tuple[UserOffice, ...] = tuple(CsvUserOffice(c) for c in config.user_offices)
        self._lock = threading.Lock()
        self._state: _State | None = None

    def refresh(self) -> PolicyDocument:
        """The policy in force, after the tables caught up with the files.

        Raises
        ------
        ConfigInvalid
            If the policy cannot be read and never could.
        """
        with self._lock:
            fingerprints = self._fingerprints()
            if self._state is None or self._state.fingerprints != fingerprints:
                self._state = _State(fingerprints, self._read_again(fingerprints))
            return self._state.policy

    @property
    def policy(self) -> PolicyDocument:
        """The policy as of the last `refresh`, which has to come first."""
        state = self._state
        return state.policy if state is not None else self.refresh()

    def problems(self) -> tuple[ProblemView, ...]:
        """What a person should look at in policy and user offices."""
        with self._database.reading() as session:
            rows = session.scalars(select(SourceRow).order_by(SourceRow.name)).all()
        return tuple(
            ProblemView(row.name, problem["file"], problem["reason"], problem["line"])
            for row in rows
            for problem in row.problems
        )

    def _fingerprints(self) -> dict[str, str]:
        try:
            stat = self._config.policy_file.stat()
            policy = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
        except OSError as error:
            policy = f"missing:{error.errno}"
        return {POLICY_SOURCE: policy} | {_label(office): office.fingerprint() for office in self._offices}

    def _read_again(self, fingerprints: dict[str, str]) -> PolicyDocument:
        with self._database.writing() as session:
            policy = self._read_policy(session, fingerprints[POLICY_SOURCE])
            readings = [
                (office, reading)
                for office in self._offices
                if (reading := _read_office(session, office, fingerprints[_label(office)])) is not None
            ]
            # All that is to be replaced goes first: a contradiction is one between two present states.
            for office, _ in readings:
                session.execute(delete(ProposalRow).where(ProposalRow.source == _label(office)))
            for office, reading in readings:
                self._store_reading(session, office, reading, policy)
            labels = [_label(office) for office in self._offices]
            session.execute(delete(ProposalRow).where(ProposalRow.source.not_in(labels)))
            session.execute(delete(MemberRow).where(MemberRow.source.not_in(labels)))
            session.execute(delete(SourceRow).where(SourceRow.name.not_in([POLICY_SOURCE, *labels])))
            apply_policy(session, policy)
        return policy

    def _read_policy(self, session: Session, fingerprint: str) -> PolicyDocument:
        row = _source_row(session, POLICY_SOURCE)
        try:
            policy = read_policy(self._config.policy_file)
        except ConfigInvalid as error:
            name = self._config.policy_file.name
            row.fingerprint = fingerprint
            row.problems = [{"file": name, "line": None, "reason": text} for text in error.problems]
            if row.good is None:
                raise
            return PolicyDocument.model_validate(row.good)
        row.fingerprint, row.read_at, row.problems = fingerprint, self._clock(), []
        row.good = policy.model_dump(mode="json")
        return policy

    def _store_reading(
        self, session: Session, office: UserOffice, reading: SourceReading, policy: PolicyDocument
    ) -> None:
        row = _source_row(session, _label(office))
        contradictions = _store_proposals(session, _label(office), reading)
        _store_members(session, _label(office), reading.members, policy.zone, self._clock())
        unknown = sorted({p.policy_class for p in reading.proposals if p.policy_class} - set(policy.classes))
        problems = [asdict(problem) for problem in reading.problems] + contradictions
        problems += [
            {"file": office.name, "line": None, "reason": f"policy has no class {name!r}: stays closed"}
            for name in unknown
        ]
        row.read_at, row.problems = self._clock(), problems


def apply_policy(session: Session, policy: PolicyDocument) -> None:
    """Write on every proposal what the policy makes of it, by the function that decides."""
    for row in session.scalars(select(ProposalRow)):
        facts = proposal_facts(row.id, row)
        row.opens_at = opens_at(facts, policy)
        row.metadata_public = rules_for(facts, policy).metadata == "public"


def proposal_facts(proposal: str, row: ProposalRow | None) -> ProposalFacts:
    """The facts of a proposal; a proposal that no user office knows is closed."""
    if row is None:
        return ProposalFacts(proposal, None, None)
    return ProposalFacts(row.id, row.policy_class, row.end, row.withdrawn)


def _label(office: UserOffice) -> str:
    return f"user_office:{office.name}"


def _source_row(session: Session, name: str) -> SourceRow:
    row = session.get(SourceRow, name)
    if row is None:
        row = SourceRow(name=name, fingerprint="", good=None, read_at=None, problems=[])
        session.add(row)
    return row


def _read_office(session: Session, office: UserOffice, fingerprint: str) -> SourceReading | None:
    """What an office says now; None, with a note of the problem, where its last good state stays."""
    row = _source_row(session, _label(office))
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
