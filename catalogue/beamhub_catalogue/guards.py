"""The rules of `beamhub_core.policy` as SQL conditions: what a reader may know of, and may read.

They are part of the query, never of the client's filter, and never applied to rows afterwards. A law test
holds them and `decide` together.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, func, literal, not_, or_, select, true
from sqlalchemy.orm import aliased

from beamhub_catalogue.models import DatasetRow, GovernorRow, ProposalRow
from beamhub_catalogue.people import Reader
from beamhub_core.policy_document import PolicyDocument

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
        self._instruments = reader.instruments_at(now)
        principal = reader.principal
        self._account = principal.account if principal else None
        self._roles = frozenset(principal.roles) if principal else frozenset()
        self._rules = sorted(policy.classes.items())
        asserted = set(principal.assurance) if principal else set()
        acr = principal.acr if principal else None
        self._beyond_login = [
            name
            for name, rules in self._rules
            if not asserted.issuperset(rules.required_assurance)
            or (rules.required_acr and acr not in rules.required_acr)
        ]

    def datasets(self, *columns: Any) -> Select[Any]:
        """A selection of datasets that the reader may know to exist."""
        joined = select(*columns).select_from(DatasetRow)
        return joined.outerjoin(ProposalRow, ProposalRow.id == DatasetRow.proposal).where(self.knows())

    def proposals(self, *columns: Any) -> Select[Any]:
        """A selection of proposals that the reader may know to exist."""
        inside = self._inside(ProposalRow, ProposalRow.id)
        known = or_(self._is_open(ProposalRow), ProposalRow.metadata_public, inside)
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
        inside = self._inside(proposal, dataset.proposal)
        known = or_(self._is_open(proposal), proposal.metadata_public, inside)
        return and_(known, self._not_private_to_others(dataset))

    def _reads_one(self, dataset: type[DatasetRow], proposal: type[ProposalRow]) -> Condition:
        assured = or_(proposal.embargo_class.is_(None), proposal.embargo_class.not_in(self._beyond_login))
        return and_(
            or_(self._is_open(proposal), and_(self._inside(proposal, dataset.proposal), assured)),
            self._not_private_to_others(dataset),
            not_(dataset.withdrawn),
            not_(func.coalesce(proposal.withdrawn, false())),
        )

    def _is_open(self, proposal: type[ProposalRow]) -> Condition:
        return and_(proposal.opens_at.is_not(None), proposal.opens_at <= self._now)

    def _inside(self, proposal: type[ProposalRow], proposal_id: Any) -> Condition:
        """The team, and the facility's people as far as the proposal's class lets them in."""
        inside = [proposal_id.in_(self._mine)]
        scientist: Condition | None = None
        if "instrument_scientist" in self._roles:
            scientist = true()
        elif self._instruments:
            scientist = proposal.instrument.in_(self._instruments)
        if scientist is not None:
            during = or_(proposal.ends_at.is_(None), proposal.ends_at > self._now)
            inside += [
                and_(scientist, self._of_class(proposal, "instrument_scientist", "during_and_after")),
                and_(scientist, self._of_class(proposal, "instrument_scientist", "during"), during),
            ]
        if "support" in self._roles:
            consent = and_(proposal.support_until.is_not(None), proposal.support_until > self._now)
            inside += [
                self._of_class(proposal, "support", "always"),
                and_(self._of_class(proposal, "support", "with_consent"), consent),
            ]
        if "service" in self._roles:
            inside.append(self._of_class(proposal, "service", "read"))
        return or_(*inside)

    def _of_class(self, proposal: type[ProposalRow], role: str, says: str) -> Condition:
        """Proposals of a class that says something of a role; NULL, of no class, is none of them."""
        names = [name for name, rules in self._rules if getattr(rules.roles, role) == says]
        found: Condition = and_(proposal.embargo_class.is_not(None), proposal.embargo_class.in_(names))
        return found

    def _not_private_to_others(self, dataset: type[DatasetRow]) -> Condition:
        return or_(dataset.private_to.is_(None), dataset.private_to == self._account)
