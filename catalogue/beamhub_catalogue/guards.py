"""The rules of `beamhub_core.policy` as SQL conditions: what a reader may know of, and may read.

They are part of the query, never of the client's filter, and never applied to rows afterwards. A law test
holds them and `decide` together.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, func, literal, not_, or_, select
from sqlalchemy.orm import aliased

from beamhub_catalogue.models import DatasetRow, GovernorRow, ProposalRow
from beamhub_catalogue.people import Reader
from beamhub_core.policy import READER_ROLES, PolicyDocument

Condition = ColumnElement[bool]
_Rule = Callable[[type[DatasetRow], type[ProposalRow]], Condition]
# Made once: half the time of a look by pid went into making them. Immutable, so threads may share them.
_SOURCE, _SOURCE_PROPOSAL = aliased(DatasetRow), aliased(ProposalRow)


class Guard:
    """What one reader may know of and read at one instant.

    The conditions speak of `DatasetRow` outer-joined with `ProposalRow`, as `datasets` selects them. A
    proposal that no user office knows joins as NULL, which lets nothing through.
    """

    def __init__(self, reader: Reader, policy: PolicyDocument, now: datetime) -> None:
        self._now = now
        self._knows: Condition | None = None
        self._reads: Condition | None = None
        self._mine = reader.proposals_at(now)
        principal = reader.principal
        self._account = principal.account if principal else None
        self._by_role = principal is not None and any(role in READER_ROLES for role in principal.roles)
        asserted = set(principal.assurance) if principal else set()
        self._beyond_assurance = sorted(
            name
            for name, rules in policy.classes.items()
            if not asserted.issuperset(rules.required_assurance)
        )

    def datasets(self, *columns: Any) -> Select[Any]:
        """A selection of datasets that the reader may know to exist."""
        joined = select(*columns).select_from(DatasetRow)
        return joined.outerjoin(ProposalRow, ProposalRow.id == DatasetRow.proposal).where(self.knows())

    def proposals(self, *columns: Any) -> Select[Any]:
        """A selection of proposals that the reader may know to exist."""
        known = or_(self._is_open(ProposalRow), ProposalRow.metadata_public, self._inside(ProposalRow.id))
        return select(*columns).select_from(ProposalRow).where(known)

    def knows(self) -> Condition:
        """Datasets that the reader may know to exist."""
        if self._knows is None:
            self._knows = self._under_all_governors(self._knows_one)
        return self._knows

    def reads(self) -> Condition:
        """Datasets that the reader may see fully and read."""
        if self._reads is None:
            self._reads = self._under_all_governors(self._reads_one)
        return self._reads

    def _under_all_governors(self, rule: _Rule) -> Condition:
        """The rule for the dataset itself and, for a product, for everything it was made from."""
        source, proposal = _SOURCE, _SOURCE_PROPOSAL
        broken = (
            select(literal(1))
            .select_from(GovernorRow)
            .join(source, source.id == GovernorRow.governor_id)
            .outerjoin(proposal, proposal.id == source.proposal)
            .where(
                GovernorRow.product_id == DatasetRow.id,
                not_(func.coalesce(rule(source, proposal), false())),
            )
        )
        return and_(
            rule(DatasetRow, ProposalRow),
            or_(DatasetRow.kind == "raw", not_(broken.correlate(DatasetRow).exists())),
        )

    def _knows_one(self, dataset: type[DatasetRow], proposal: type[ProposalRow]) -> Condition:
        known = or_(self._is_open(proposal), proposal.metadata_public, self._inside(dataset.proposal))
        return and_(known, self._not_private_to_others(dataset))

    def _reads_one(self, dataset: type[DatasetRow], proposal: type[ProposalRow]) -> Condition:
        assured = or_(proposal.policy_class.is_(None), proposal.policy_class.not_in(self._beyond_assurance))
        return and_(
            or_(self._is_open(proposal), and_(self._inside(dataset.proposal), assured)),
            self._not_private_to_others(dataset),
            not_(dataset.withdrawn),
            not_(func.coalesce(proposal.withdrawn, false())),
        )

    def _is_open(self, proposal: type[ProposalRow]) -> Condition:
        return and_(proposal.opens_at.is_not(None), proposal.opens_at <= self._now)

    def _inside(self, proposal_id: Any) -> Condition:
        inside: Condition = proposal_id.in_(self._mine)
        return or_(inside, literal(True)) if self._by_role else inside

    def _not_private_to_others(self, dataset: type[DatasetRow]) -> Condition:
        return or_(dataset.private_to.is_(None), dataset.private_to == self._account)
