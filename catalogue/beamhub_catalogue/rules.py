"""Policy and user offices in force: read again when they change, kept when they break."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from beamhub_catalogue.database import Database
from beamhub_catalogue.models import ProposalRow, SourceRow
from beamhub_catalogue.offices import UserOffices, source_row
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
            apply_policy(session, policy)
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
        return policy


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
