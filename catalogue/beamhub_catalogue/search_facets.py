"""Eight facets of the datasets that a reader knows of, counted exactly."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from sqlalchemy import Select, and_, case, func, literal, not_, null, select

from beamhub_catalogue.counts import (
    ALL,
    facet_columns,
    technique_value,
    uncounted,
)
from beamhub_catalogue.models import DatasetCountRow, DatasetRow, ProposalRow, StaleCountRow, TechniqueRow
from beamhub_catalogue.queries import Catalogue
from beamhub_catalogue.search_entities import Entities
from beamhub_catalogue.search_filter import Group, Include
from beamhub_catalogue.search_joins import Joins
from beamhub_catalogue.texts import among

MAX_VALUES = 50
FACETS = ("instrument", "technique", "year", "kind", "lifecycle", "access", "license", "proposal")
Counts = dict[str, Counter[str]]


class Facets:
    """For one reader, in one transaction."""

    def __init__(self, catalogue: Catalogue, entities: Entities, joins: Joins) -> None:
        self._catalogue, self._session = catalogue, catalogue.session
        self._entities, self._joins = entities, joins
        self._labels: dict[str, str] = {}
        opened = and_(ProposalRow.opens_at.is_not(None), ProposalRow.opens_at <= catalogue.now)
        open_now = and_(opened, not_(ProposalRow.withdrawn))
        self._access = case((open_now, "open"), else_="restricted")
        licensed = [
            (ProposalRow.embargo_class == name, literal(rules.license))
            for name, rules in catalogue.policy.classes.items()
            if rules.license
        ]
        self._license = case(*licensed, else_=null()) if licensed else null()

    def answer(self, where: Group | None, include: tuple[Include, ...]) -> dict[str, Any]:
        """How many datasets match, and of what; the fifty most frequent values of each facet."""
        counts: Counts = defaultdict(Counter)
        plain = where is None and not include
        matching = self._joins.matching(self._entities.dataset, where, include, DatasetRow.id)
        self._counted_now(counts, matching.where(uncounted()) if plain else matching)
        if plain:
            self._counted_before(counts)
        return {
            "total": counts[ALL][""],
            "facets": {name: self._values(name, counts[name]) for name in FACETS},
        }

    def total(self) -> int:
        """How many datasets the reader knows of."""
        known = self._counts(func.sum(DatasetCountRow.n)).where(DatasetCountRow.facet == ALL)
        live = self._entities.dataset.source(func.count()).where(uncounted())
        return (self._session.scalar(known) or 0) + (self._session.scalar(live) or 0)

    def _values(self, name: str, counts: Counter[str]) -> list[dict[str, Any]]:
        found = sorted(
            ((value, n) for value, n in counts.items() if value), key=lambda one: (-one[1], one[0])
        )
        label = self._labels if name == "technique" else {}
        return [
            {"value": value, "label": label.get(value, value), "count": n} for value, n in found[:MAX_VALUES]
        ]

    def _counts(self, *columns: Any) -> Select[Any]:
        """The counts of proposals that the reader knows of and that are not stale."""
        stale = select(StaleCountRow.proposal).correlate(None)
        joined = self._catalogue.guard.proposals(*columns).join(
            DatasetCountRow, DatasetCountRow.proposal == ProposalRow.id
        )
        return joined.where(DatasetCountRow.proposal.not_in(stale))

    def _counted_before(self, counts: Counts) -> None:
        c, n = DatasetCountRow, func.sum(DatasetCountRow.n)
        for facet, value, label, number in self._session.execute(
            self._counts(c.facet, c.value, func.max(c.label), n).group_by(c.facet, c.value)
        ):
            counts[facet][value] += number
            if facet == "technique":
                self._labels[value] = max(label, self._labels.get(value, ""))
        told = self._counts(self._access.label("access"), self._license.label("license"), c.n)
        rows = told.where(c.facet == ALL).subquery("told").c
        keys = (rows.access, rows.license)
        for access, license_, number in self._session.execute(
            select(*keys, func.sum(rows.n)).group_by(*keys)
        ):
            counts["access"][access] += number
            counts["license"][license_ or ""] += number
        self._proposals(counts["proposal"])

    def _proposals(self, counts: Counter[str]) -> None:
        """The largest proposals: those that lead by what was counted, and all that were counted live."""
        c = DatasetCountRow
        told = self._counts(c.proposal, c.n).where(c.facet == ALL)
        largest = self._session.execute(told.order_by(c.n.desc(), c.proposal).limit(MAX_VALUES))
        live = self._session.execute(told.where(among(self._session, c.proposal, list(counts))))
        for proposal, number in {row.proposal: row.n for row in (*largest, *live)}.items():
            counts[proposal] += number

    def _counted_now(self, counts: Counts, matching: Select[Any]) -> None:
        """What matches, once by all that has few values together, and once for each of what has many."""
        access = case((self._entities.is_public, "open"), else_="restricted")
        told = facet_columns() | {"access": access, "license": self._license}
        labelled = [column.label(f"facet_{name}") for name, column in told.items()]
        ids = matching.correlate(None)
        here = DatasetRow.id.in_(ids)
        base = select(*labelled).select_from(DatasetRow)
        rows = base.outerjoin(ProposalRow, ProposalRow.id == DatasetRow.proposal).where(here).subquery("told")
        for *values, number in self._session.execute(select(*rows.c, func.count()).group_by(*rows.c)):
            for name, value in zip(told, values, strict=True):
                counts[name][value or ""] += number
        by_proposal = select(DatasetRow.proposal, func.count()).where(here).group_by(DatasetRow.proposal)
        for proposal, number in self._session.execute(by_proposal):
            counts["proposal"][proposal] += number
        named = select(technique_value().label("value"), TechniqueRow.label.label("label"))
        rows = named.where(TechniqueRow.dataset_id.in_(ids)).subquery("told")
        by_technique = select(rows.c.value, func.max(rows.c.label), func.count()).group_by(rows.c.value)
        for value, label, number in self._session.execute(by_technique):
            counts["technique"][value] += number
            self._labels[value] = max(label, self._labels.get(value, ""))
