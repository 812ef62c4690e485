"""Answers of the PaNOSC search API for one reader: lists, counts and single items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Select, func, not_, select

from beamhub_catalogue.models import DatasetRow, FileRow
from beamhub_catalogue.queries import Catalogue, equals
from beamhub_catalogue.search_entities import Entities
from beamhub_catalogue.search_facets import Facets
from beamhub_catalogue.search_filter import Group, Include, SearchFilter
from beamhub_catalogue.search_items import Item
from beamhub_catalogue.search_joins import Joins
from beamhub_catalogue.search_sql import Entity, any_term, relevance, score_of, sort_key

UNRANKED_SCORE = 0.5
"""For lists without a `query`: federated searches drop items whose score is missing, 0 or 1."""


class Answers:
    """What one reader is answered; all conditions are compiled together with the reader's guard."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._session = catalogue.session
        self._entities = Entities(catalogue)
        self._joins = Joins(catalogue.session, self._entities)
        self._catalogue = catalogue

    def datasets(self, wanted: SearchFilter) -> list[Item]:
        """Datasets, each with a score."""
        return self._list("Dataset", wanted)

    def dataset(self, pid: str, wanted: SearchFilter) -> Item | None:
        """One dataset, without a score; None when there is none for this reader."""
        return self._one("Dataset", pid, wanted)

    def count_datasets(self, where: Group | None, include: tuple[Include, ...] = ()) -> int:
        """How many datasets match."""
        return self._count("Dataset", where, include)

    def files(self, pid: str, wanted: SearchFilter) -> list[Item] | None:
        """The files of a dataset: none while the reader may not read it; None when there is no dataset."""
        found = self._readable(pid)
        if found is None or found[1] is False:
            return None if found is None else []
        file = self._entities.file
        query = self._joins.matching(file, wanted.where, wanted.include, *file.columns)
        rows = self._page(query.where(FileRow.dataset_id == found[0]), wanted, file)
        return [_cut(item, wanted, "id") for item in self._joins.items(file, rows, ())]

    def count_files(self, pid: str, where: Group | None) -> int | None:
        """How many files of a dataset the reader may read; None when there is no dataset."""
        found = self._readable(pid)
        if found is None:
            return None
        query = self._joins.matching(self._entities.file, where, (), FileRow.id)
        return self._counted(query.where(FileRow.dataset_id == found[0])) if found[1] else 0

    def documents(self, wanted: SearchFilter) -> list[Item]:
        """Proposals and publications, each with a score."""
        return self._list("Document", wanted)

    def document(self, pid: str, wanted: SearchFilter) -> Item | None:
        """One document, without a score."""
        return self._one("Document", pid, wanted)

    def count_documents(self, where: Group | None, include: tuple[Include, ...] = ()) -> int:
        """How many documents match."""
        return self._count("Document", where, include)

    def instruments(self, wanted: SearchFilter) -> list[Item]:
        """Instruments of which the reader knows a dataset, each with a score."""
        return self._list("Instrument", wanted)

    def instrument(self, pid: str, wanted: SearchFilter) -> Item | None:
        """One instrument, without a score."""
        return self._one("Instrument", pid, wanted)

    def count_instruments(self, where: Group | None, include: tuple[Include, ...] = ()) -> int:
        """How many instruments match."""
        return self._count("Instrument", where, include)

    def facets(self, where: Group | None, include: tuple[Include, ...] = ()) -> dict[str, Any]:
        """How many datasets match, and of what."""
        return self._facets().answer(where, include)

    def _facets(self) -> Facets:
        return Facets(self._catalogue, self._entities, self._joins)

    def _list(self, kind: str, wanted: SearchFilter) -> list[Item]:
        entity = self._entities.named(kind)
        rank = relevance(wanted.query or "", self._weighted(entity)).label("rank")
        columns = self._joins.columns(entity, wanted.include)
        query = self._joins.matching(entity, wanted.where, wanted.include, *columns, rank)
        rows = (
            self._page(query, wanted, entity)
            if wanted.query is None
            else self._ranked(query, rank, wanted, entity)
        )
        items = self._joins.items(entity, rows, wanted.include)
        scored = [UNRANKED_SCORE if wanted.query is None else round(score_of(row.rank), 6) for row in rows]
        return [
            _cut(item, wanted, "pid") | {"score": score} for item, score in zip(items, scored, strict=True)
        ]

    def _ranked(self, query: Select[Any], rank: Any, wanted: SearchFilter, entity: Entity) -> list[Any]:
        """What holds a word of the query, best first, and behind it the rest, which no index need look at."""
        hit = any_term(wanted.query or "", self._weighted(entity))
        rows = list(self._page(query.where(hit).order_by(rank.desc()), wanted, entity))
        missing = wanted.limit - len(rows)
        if not missing:
            return rows
        n_hits = wanted.skip + len(rows) if rows else self._counted(query.where(hit))
        skip = max(wanted.skip - n_hits, 0)
        return rows + list(
            self._page(query.where(not_(hit)), replace(wanted, limit=missing, skip=skip), entity)
        )

    def _one(self, kind: str, pid: str, wanted: SearchFilter) -> Item | None:
        entity = self._entities.named(kind)
        columns = self._joins.columns(entity, wanted.include)
        query = self._joins.matching(entity, wanted.where, wanted.include, *columns)
        row = self._session.execute(query.where(equals(entity.key[0], pid)).limit(1)).first()
        if row is None:
            return None
        return _cut(self._joins.items(entity, [row], wanted.include)[0], wanted, "pid")

    def _count(self, kind: str, where: Group | None, include: tuple[Include, ...]) -> int:
        entity = self._entities.named(kind)
        if kind == "Dataset" and (where is None or not where.parts) and not include:
            return self._facets().total()
        return self._counted(self._joins.matching(entity, where, include, entity.key[0]))

    def _counted(self, query: Select[Any]) -> int:
        return self._session.scalar(select(func.count()).select_from(query.subquery())) or 0

    def _page(self, query: Select[Any], wanted: SearchFilter, entity: Entity) -> Any:
        for name, down in wanted.order:
            key = sort_key(name, entity, "filter.order")
            # What is absent comes first going up and last going down, on every database.
            query = query.order_by(key.desc().nulls_last() if down else key.asc().nulls_first())
        if wanted.after is not None:
            query = query.where(entity.key[0] > wanted.after)
        query = query.order_by(*entity.key).limit(wanted.limit).offset(wanted.skip)
        return self._session.execute(query).all()

    def _readable(self, pid: str) -> tuple[int, bool] | None:
        entity = self._entities.dataset
        row = self._session.execute(
            entity.source(DatasetRow.id, entity.columns[1]).where(equals(DatasetRow.pid, pid)).limit(1)
        ).first()
        return None if row is None else (row[0], bool(row[1]))

    @staticmethod
    def _weighted(entity: Entity) -> tuple[tuple[Any, float], ...]:
        """Where the words of a query count, and how much: a title more than what stands beside it."""
        if entity.name == "Dataset":
            return (
                (DatasetRow.title, 3.0),
                (DatasetRow.technique_label, 2.0),
                (DatasetRow.instrument, 1.0),
            )
        if entity.name == "Document":
            named = ((entity.fields[name].column, weight) for name, weight in _DOCUMENT)
            return tuple(named)
        return ((entity.key[0], 3.0),)


_DOCUMENT = (("title", 3.0), ("pid", 2.0), ("summary", 1.0))


def _cut(item: Item, wanted: SearchFilter, name: str) -> Item:
    """Only the asked fields; the name and what was included stay."""
    if wanted.fields is None:
        return item
    kept = wanted.fields | {name} | {include.relation for include in wanted.include}
    return {name: value for name, value in item.items() if name in kept}
