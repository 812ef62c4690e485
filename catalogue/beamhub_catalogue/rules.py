"""Policy and user offices in force: read again when they change, kept when they break."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Row, delete, func, select
from sqlalchemy.orm import Session

from beamhub_catalogue.acts import standing_acts
from beamhub_catalogue.database import Database
from beamhub_catalogue.models import ActRow, DatasetRow, PolicyRow, ProposalRow, SourceRow
from beamhub_catalogue.offices import UserOffices, source_row
from beamhub_catalogue.views import ProblemView
from beamhub_core.clock import Clock
from beamhub_core.config.catalogue import CatalogueConfig
from beamhub_core.errors import ConfigInvalid
from beamhub_core.policy import ProposalFacts, chosen_rule, class_of, ends_at, opens_under
from beamhub_core.policy_document import PolicyDocument
from beamhub_core.policy_file import read_policy

POLICY_SOURCE = "policy"
MAX_UNGOVERNED = 50
_GOVERNED = (
    "withdrawn",
    "extension_months",
    "released_on",
    "support_until",
    "rule",
    "embargo_class",
    "opens_at",
    "ends_at",
    "metadata_public",
)


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
        self.offices = UserOffices(config.user_offices)
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
        return {POLICY_SOURCE: policy} | self.offices.fingerprints()

    def _read_again(self, fingerprints: dict[str, str]) -> PolicyDocument:
        news = self.offices.read(self._database, fingerprints)
        with self._database.writing() as session:
            policy = self._read_policy(session, fingerprints[POLICY_SOURCE])
            self.offices.store(session, news, policy.zone, self._clock())
            names = [POLICY_SOURCE, *self.offices.labels]
            session.execute(delete(SourceRow).where(SourceRow.name.not_in(names)))
            apply_policy(session, policy, self._clock())
            session.flush()
            row = source_row(session, POLICY_SOURCE)
            row.problems = [*row.problems, *_ungoverned(session, self._config.policy_file.name)]
        return policy

    def _read_policy(self, session: Session, fingerprint: str) -> PolicyDocument:
        row = source_row(session, POLICY_SOURCE)
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
        _keep_document(session, policy, self._clock())
        return policy


def _keep_document(session: Session, policy: PolicyDocument, now: datetime) -> None:
    """Remember a document that comes into force; `in_force_since` is when it last did."""
    latest = session.scalar(select(PolicyRow).order_by(PolicyRow.in_force_since.desc()).limit(1))
    if latest is not None and latest.label == policy.label:
        return
    row = session.get(PolicyRow, policy.label)
    if row is None:
        row = PolicyRow(label=policy.label, version=policy.version, digest=policy.digest)
        row.body = policy.model_dump(mode="json")
        session.add(row)
    row.in_force_since = now


def apply_policy(session: Session, policy: PolicyDocument, now: datetime) -> None:
    """Write on every proposal what acts and the policy make of it, by the function that decides."""
    acts = standing_acts(session)
    told = _told_embargoes(session)
    for row in session.scalars(select(ProposalRow)):
        row.not_before = told.get(row.id)
        govern(row, acts.get(row.id, ()), policy, now)


def govern(row: ProposalRow, acts: Sequence[ActRow], policy: PolicyDocument, now: datetime) -> None:
    """Write on one proposal what its standing acts and the policy make of it, and when that changed."""
    before = [getattr(row, name) for name in _GOVERNED]
    row.withdrawn = any(act.kind == "withdrawal" and act.pid is None for act in acts)
    row.extension_months = [act.months for act in acts if act.kind == "extension" and act.months]
    row.released_on = min((act.day for act in acts if act.kind == "early_release" and act.day), default=None)
    consents = [act.until for act in acts if act.kind == "support_consent" and act.until]
    row.support_until = max(consents, default=None)
    facts = proposal_facts(row.id, row)
    chosen = chosen_rule(facts, policy)
    rules = class_of(chosen, policy)
    row.rule, row.embargo_class = chosen or (None, None)
    row.opens_at, row.ends_at = opens_under(rules, facts, policy), ends_at(facts, policy)
    row.metadata_public = rules.metadata == "public"
    if row.changed_at is None or before != [getattr(row, name) for name in _GOVERNED]:
        row.changed_at = now


def _told_embargoes(session: Session) -> dict[str, date]:
    """The last day to which another catalogue keeps some dataset of a proposal closed, by proposal."""
    last = select(DatasetRow.proposal, func.max(DatasetRow.embargo_until))
    rows = session.execute(last.where(DatasetRow.embargo_until.is_not(None)).group_by(DatasetRow.proposal))
    return {proposal: day for proposal, day in rows if day is not None}


def _ungoverned(session: Session, file: str) -> list[dict[str, Any]]:
    """Problems that name the proposals to which no rule of the policy applies, by what their office says."""
    named = (ProposalRow.policy_class, ProposalRow.access_route)
    groups = session.execute(
        select(*named, func.min(ProposalRow.id), func.count())
        .where(ProposalRow.embargo_class.is_(None), ProposalRow.policy_class.is_not(None))
        .group_by(*named)
        .order_by(*named)
        .limit(MAX_UNGOVERNED)
    )
    found: list[dict[str, Any]] = []
    for name, route, example, count in groups:
        of = f"class {name!r}" + (f" and access route {route!r}" if route else "")
        reason = f"no rule applies to {count} proposal(s) of {of}, e.g. {example}: they stay closed"
        found.append({"file": file, "line": None, "reason": reason})
    return found


def proposal_facts(proposal: str, row: ProposalRow | Row[Any] | None) -> ProposalFacts:
    """The facts of a proposal from its row, or from the `FACTS` of it; one without a row is closed."""
    if row is None:
        return ProposalFacts(proposal, None, None)
    return ProposalFacts(
        id=row.id,
        policy_class=row.policy_class,
        ended=row.end,
        withdrawn=row.withdrawn,
        instrument=row.instrument,
        access_route=row.access_route,
        started=row.start,
        extension_months=tuple(row.extension_months),
        released_on=row.released_on,
        support_until=row.support_until,
        not_before=row.not_before,
    )


_COLUMNS = ProposalRow.__table__.c
FACTS = tuple(
    _COLUMNS[name]
    for name in (
        "id",
        "policy_class",
        "end",
        "withdrawn",
        "instrument",
        "access_route",
        "start",
        "extension_months",
        "released_on",
        "support_until",
        "not_before",
    )
)
"""The columns that make the facts of a proposal; of the table, so that rows need not pass the mapper."""
