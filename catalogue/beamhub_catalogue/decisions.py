"""Decisions on stored datasets: the facts come from the tables, the rules from `beamhub_core.policy`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from beamhub_catalogue.models import DatasetRow, GovernorRow, ProposalRow
from beamhub_catalogue.people import Reader
from beamhub_catalogue.rules import FACTS, proposal_facts
from beamhub_catalogue.texts import among
from beamhub_core.policy import RAW, DatasetFacts, Decision, ProposalFacts, decide, strictest
from beamhub_core.policy_document import PolicyDocument

MAX_IN_ONE_QUERY = 5_000


class Decidable(Protocol):
    """What of a dataset's row a decision needs."""

    @property
    def id(self) -> int:
        """The row's number."""

    @property
    def pid(self) -> str:
        """The dataset's pid."""

    @property
    def kind(self) -> str:
        """`raw` or `product`."""

    @property
    def proposal(self) -> str:
        """The proposal that it belongs to."""

    @property
    def withdrawn(self) -> bool:
        """Whether it was withdrawn."""

    @property
    def private_to(self) -> str | None:
        """The account that alone may see it."""


class ProposalShelf:
    """Facts of proposals that were asked for; shared by the judges of one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows: dict[str, ProposalRow | None] = {}
        self._facts: dict[str, ProposalFacts] = {}

    def load(self, proposals: Iterable[str]) -> None:
        """Fetch the facts of many proposals with few queries; what no user office knows is closed."""
        wanted = [p for p in dict.fromkeys(proposals) if p not in self._facts]
        if wanted:
            for row in self._session.execute(
                select(*FACTS).where(among(self._session, ProposalRow.id, wanted))
            ):
                self._facts[row.id] = proposal_facts(row.id, row)
        for proposal in wanted:
            self._facts.setdefault(proposal, proposal_facts(proposal, None))

    def row(self, proposal: str) -> ProposalRow | None:
        """The user office's row of a proposal."""
        if proposal not in self._rows:
            self._rows[proposal] = self._session.get(ProposalRow, proposal)
        return self._rows[proposal]

    def facts(self, proposal: str) -> ProposalFacts:
        """What policy needs to know of a proposal."""
        if proposal not in self._facts:
            self.load((proposal,))
        return self._facts[proposal]


class Judge:
    """Decides for one reader at one instant; remembers what it decided, so that a page costs few queries."""

    def __init__(
        self,
        session: Session,
        reader: Reader,
        policy: PolicyDocument,
        now: datetime,
        shelf: ProposalShelf | None = None,
    ) -> None:
        self._session, self._reader, self._policy, self._now = session, reader, policy, now
        self._shelf = shelf or ProposalShelf(session)
        self._on_raw: dict[str, Decision] = {}
        self._on_others: dict[DatasetFacts, dict[str, Decision]] = {}

    def proposal_row(self, proposal: str) -> ProposalRow | None:
        """The user office's row of a proposal."""
        return self._shelf.row(proposal)

    def on_proposal(self, proposal: str) -> Decision:
        """What the reader may see and touch of a proposal's raw data as a whole."""
        return self._decide(proposal, RAW)

    def on_dataset(self, row: Decidable) -> Decision:
        """What the reader may see and touch of a dataset; of a product, what all its inputs allow."""
        return self.on_datasets([row])[row.pid]

    def on_datasets(self, rows: Sequence[Decidable]) -> dict[str, Decision]:
        """The decisions on many datasets, by pid, with few queries."""
        governors = self._governors([row.id for row in rows if row.kind != "raw"])
        self._shelf.load([row.proposal for row in rows] + [p for each in governors.values() for p, _ in each])
        found: dict[str, Decision] = {}
        for row in rows:
            plain = not row.withdrawn and row.private_to is None
            facts = RAW if plain else DatasetFacts(row.withdrawn, row.private_to)
            own = (plain and self._on_raw.get(row.proposal)) or self._decide(row.proposal, facts)
            if row.kind != "raw":
                above = [self._decide(proposal, of_it) for proposal, of_it in governors.get(row.id, ())]
                own = strictest([own, *above])
            found[row.pid] = own
        return found

    def _governors(self, products: Sequence[int]) -> Mapping[int, list[tuple[str, DatasetFacts]]]:
        found: dict[int, list[tuple[str, DatasetFacts]]] = defaultdict(list)
        for i in range(0, len(products), MAX_IN_ONE_QUERY):
            rows = self._session.execute(
                select(
                    GovernorRow.product_id, DatasetRow.proposal, DatasetRow.withdrawn, DatasetRow.private_to
                )
                .join(DatasetRow, GovernorRow.governor_id == DatasetRow.id)
                .where(GovernorRow.product_id.in_(products[i : i + MAX_IN_ONE_QUERY]))
                .distinct()
            )
            for product, proposal, withdrawn, private_to in rows:
                found[product].append((proposal, DatasetFacts(withdrawn, private_to)))
        return found

    def _decide(self, proposal: str, dataset: DatasetFacts) -> Decision:
        decided = self._on_raw if dataset is RAW else self._on_others.setdefault(dataset, {})
        decision = decided.get(proposal)
        if decision is None:
            facts = self._shelf.facts(proposal)
            rows = self._reader.rows_for(proposal, facts.instrument)
            decision = decide(self._reader.principal, rows, facts, dataset, self._policy, self._now)
            decided[proposal] = decision
        return decision
