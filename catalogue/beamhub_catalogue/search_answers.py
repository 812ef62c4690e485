"""Answers of the PaNOSC search API for one reader: lists, counts and single items."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select

from beamhub_catalogue.models import DatasetRow, ProposalRow
from beamhub_catalogue.queries import Catalogue, equals
from beamhub_catalogue.search_filter import FilterInvalid, Group, SearchFilter
from beamhub_catalogue.search_items import (
    DatasetItems,
    Item,
    Vocabulary,
    dataset_condition,
    document_item,
    instrument_item,
    member_items,
)
from beamhub_catalogue.search_sql import Entity, compile_where, relevance, score_of, sort_key

UNRANKED_SCORE = 0.5
"""For lists without a `query`: federated searches drop items whose score is missing, 0 or 1."""


class Answers:
    """What one reader is answered; all conditions are compiled together with the reader's guard."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._words = Vocabulary(catalogue)
        self._items = DatasetItems(catalogue, self._words)

    def datasets(self, wanted: SearchFilter) -> list[Item]:
        """Datasets, each with a score."""
        weighted = ((DatasetRow.title, 3.0), (DatasetRow.technique_label, 2.0), (DatasetRow.instrument, 1.0))
        rank = relevance(wanted.query or "", weighted)
        query = self._datasets(wanted, DatasetRow, self._words.reads, self._words.is_public, rank)
        rows = self._page(query, wanted, self._words.dataset, rank, DatasetRow.pid)
        items = self._items.build([(row[0], row[1], row[2]) for row in rows], wanted.include)
        return [_finished(item, wanted, row[3]) for item, row in zip(items, rows, strict=True)]

    def dataset(self, pid: str, wanted: SearchFilter) -> Item | None:
        """One dataset, without a score; None when there is none for this reader."""
        columns = (DatasetRow, self._words.reads, self._words.is_public)
        row = self._session_one(self._datasets(wanted, *columns).where(equals(DatasetRow.pid, pid)))
        if row is None:
            return None
        return _cut(self._items.build([(row[0], row[1], row[2])], wanted.include)[0], wanted)

    def count_datasets(self, where: Group | None) -> int:
        """How many datasets match."""
        query = self._catalogue.guard.datasets(DatasetRow.id)
        return self._count(query.where(compile_where(where, self._words.dataset)))

    def files(self, pid: str, where: Group | None) -> list[Item] | None:
        """The files of a dataset: none while the reader may not read it; None when there is no dataset."""
        query = self._catalogue.guard.datasets(DatasetRow, self._words.reads).where(
            equals(DatasetRow.pid, pid)
        )
        row = self._session_one(query)
        if row is None:
            return None
        return self._items.files_of(row[0], where) if row[1] else []

    def documents(self, wanted: SearchFilter) -> list[Item]:
        """Proposals, each with a score."""
        rank = relevance(wanted.query or "", ((ProposalRow.title, 3.0), (ProposalRow.id, 2.0)))
        query = self._documents(wanted, ProposalRow, rank)
        rows = self._page(query, wanted, self._words.document, rank, ProposalRow.id)
        return [_finished(self._document(row[0], wanted), wanted, row[1]) for row in rows]

    def document(self, pid: str, wanted: SearchFilter) -> Item | None:
        """One proposal, without a score."""
        row = self._session_one(self._documents(wanted, ProposalRow).where(equals(ProposalRow.id, pid)))
        return None if row is None else _cut(self._document(row[0], wanted), wanted)

    def count_documents(self, where: Group | None) -> int:
        """How many proposals match."""
        query = self._catalogue.guard.proposals(ProposalRow.id)
        return self._count(query.where(compile_where(where, self._words.document)))

    def instruments(self, wanted: SearchFilter) -> list[Item]:
        """Instruments of which the reader knows a dataset, each with a score."""
        rank = func.max(relevance(wanted.query or "", ((DatasetRow.instrument, 3.0),)))
        query = self._instruments(wanted, DatasetRow.instrument, rank).group_by(DatasetRow.instrument)
        rows = self._page(query, wanted, self._words.instrument, rank, DatasetRow.instrument)
        return [_finished(self._instrument(row[0], wanted), wanted, row[1]) for row in rows]

    def instrument(self, pid: str, wanted: SearchFilter) -> Item | None:
        """One instrument, without a score."""
        query = self._instruments(wanted, DatasetRow.instrument).where(equals(DatasetRow.instrument, pid))
        row = self._session_one(query.distinct())
        return None if row is None else _cut(self._instrument(row[0], wanted), wanted)

    def count_instruments(self, where: Group | None) -> int:
        """How many instruments match."""
        query = self._catalogue.guard.datasets(DatasetRow.instrument).where(DatasetRow.instrument != "")
        return self._count(query.where(compile_where(where, self._words.instrument)).distinct())

    def _datasets(self, wanted: SearchFilter, *columns: Any) -> Select[Any]:
        query = self._catalogue.guard.datasets(*columns)
        query = query.where(compile_where(wanted.where, self._words.dataset))
        for include in wanted.include:
            condition = dataset_condition(include, self._words)
            if condition is not None:
                query = query.where(condition)
        return query

    def _documents(self, wanted: SearchFilter, *columns: Any) -> Select[Any]:
        query = self._catalogue.guard.proposals(*columns)
        query = query.where(compile_where(wanted.where, self._words.document))
        for include in wanted.include:
            if include.relation == "datasets" and include.where is not None:
                matching = self._known_datasets(DatasetRow.id, include.where)
                query = query.where(
                    ProposalRow.id.in_(matching.with_only_columns(DatasetRow.proposal).correlate(None))
                )
            elif include.relation not in ("datasets", "members") or include.where is not None:
                raise FilterInvalid(include.place, "a Document has datasets, and members without conditions")
        return query

    def _instruments(self, wanted: SearchFilter, *columns: Any) -> Select[Any]:
        query = self._catalogue.guard.datasets(*columns).where(DatasetRow.instrument != "")
        query = query.where(compile_where(wanted.where, self._words.instrument))
        for include in wanted.include:
            if include.relation != "datasets":
                raise FilterInvalid(include.place, "an Instrument has datasets and no other relation")
            query = query.where(compile_where(include.where, self._words.dataset))
        return query

    def _known_datasets(self, column: Any, where: Group | None) -> Select[Any]:
        query = self._catalogue.guard.datasets(column)
        return query.where(compile_where(where, self._words.dataset))

    def _document(self, row: ProposalRow, wanted: SearchFilter) -> Item:
        item = document_item(row, self._catalogue)
        for include in wanted.include:
            if include.relation == "members":
                item["members"] = member_items(row.id, self._catalogue)[: include.limit]
            else:
                same = DatasetRow.proposal == row.id
                item["datasets"] = self._included_datasets(same, include.where, include.limit)
        return item

    def _instrument(self, name: str, wanted: SearchFilter) -> Item:
        item = instrument_item(name, self._catalogue.facility)
        for include in wanted.include:
            same = DatasetRow.instrument == name
            item["datasets"] = self._included_datasets(same, include.where, include.limit)
        return item

    def _included_datasets(self, same: Any, where: Group | None, limit: int | None) -> list[Item]:
        columns = (DatasetRow, self._words.reads, self._words.is_public)
        query = self._catalogue.guard.datasets(*columns).where(same)
        query = query.where(compile_where(where, self._words.dataset))
        rows = self._catalogue.session.execute(query.order_by(DatasetRow.pid).limit(limit or 100)).all()
        return self._items.build([(row[0], row[1], row[2]) for row in rows], ())

    def _page(self, query: Select[Any], wanted: SearchFilter, entity: Entity, rank: Any, tie: Any) -> Any:
        if wanted.query is not None:
            query = query.order_by(rank.desc())
        for name, down in wanted.order:
            key = sort_key(name, entity)
            # What is absent comes first going up and last going down, on every database.
            query = query.order_by(key.desc().nulls_last() if down else key.asc().nulls_first())
        query = query.order_by(tie).limit(wanted.limit).offset(wanted.skip)
        return self._catalogue.session.execute(query).all()

    def _session_one(self, query: Select[Any]) -> Any:
        return self._catalogue.session.execute(query.limit(1)).first()

    def _count(self, query: Select[Any]) -> int:
        return self._catalogue.session.scalar(select(func.count()).select_from(query.subquery())) or 0


def _finished(item: Item, wanted: SearchFilter, weight: float) -> Item:
    score = UNRANKED_SCORE if wanted.query is None else round(score_of(weight), 6)
    return _cut(item, wanted) | {"score": score}


def _cut(item: Item, wanted: SearchFilter) -> Item:
    """Only the asked fields; the pid and what was included stay."""
    if wanted.fields is None:
        return item
    kept = wanted.fields | {"pid"} | {include.relation for include in wanted.include}
    return {name: value for name, value in item.items() if name in kept}
