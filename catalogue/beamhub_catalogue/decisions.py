"""Decisions on stored datasets: the facts come from the tables, the rules from `beamhub_core.policy`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.models import DatasetRow, GovernorRow, ProposalRow
from beamhub_catalogue.people import Reader
from beamhub_catalogue.rules import proposal_facts
from beamhub_core.policy import RAW, DatasetFacts, Decision, PolicyDocument, decide, strictest


class Judge:
    """Decides for one reader at one instant; remembers proposals, so that a page costs few queries."""

    def __init__(self, session: Session, reader: Reader, policy: PolicyDocument, now: datetime) -> None:
        self._session, self._reader, self._policy, self._now = session, reader, policy, now
        self._proposals: dict[str, ProposalRow | None] = {}

    def proposal_row(self, proposal: str) -> ProposalRow | None:
        """The user office's row of a proposal."""
        if proposal not in self._proposals:
            self._proposals[proposal] = self._session.get(ProposalRow, proposal)
        return self._proposals[proposal]

    def on_proposal(self, proposal: str) -> Decision:
        """What the reader may see and touch of a proposal's raw data as a whole."""
        return self._decide(proposal, RAW)

    def on_dataset(self, row: DatasetRow) -> Decision:
        """What the reader may see and touch of a dataset; of a product, what all its inputs allow."""
        own = self._decide(row.proposal, DatasetFacts(row.withdrawn, row.private_to))
        if row.kind == "raw":
            return own
        governors = self._session.execute(
            select(DatasetRow.proposal, DatasetRow.withdrawn, DatasetRow.private_to)
            .join(GovernorRow, GovernorRow.governor_id == DatasetRow.id)
            .where(GovernorRow.product_id == row.id)
            .distinct()
        ).all()
        return strictest(
            [own, *(self._decide(g.proposal, DatasetFacts(g.withdrawn, g.private_to)) for g in governors)]
        )

    def _decide(self, proposal: str, dataset: DatasetFacts) -> Decision:
        facts = proposal_facts(proposal, self.proposal_row(proposal))
        return decide(
            self._reader.principal, self._reader.memberships, facts, dataset, self._policy, self._now
        )
