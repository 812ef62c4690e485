"""Includes of a filter: what they demand of an item, and the related items themselves.

An include with a `where`, its own or one further in, makes an inner join: items without a match drop before
the limit counts, and only what matches is sent. Every level selects through the reader's guard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, null, true
from sqlalchemy.orm import Session

from beamhub_catalogue.search_entities import Entities
from beamhub_catalogue.search_filter import Condition, FilterInvalid, Group, Include
from beamhub_catalogue.search_items import Item
from beamhub_catalogue.search_sql import Entity, Relation, compile_where, sort_key

MAX_CHILDREN = 20_000
PAGE_OF_EACH = 100


class Joins:
    """For one reader, in one transaction."""

    def __init__(self, session: Session, entities: Entities) -> None:
        self._session, self._entities = session, entities

    def matching(
        self, entity: Entity, where: Group | None, includes: Sequence[Include], *columns: Any
    ) -> Select[Any]:
        """Rows that meet all conditions, also those on what is related to them.

        Raises
        ------
        FilterInvalid
            For a field or relation that there is not.
        """
        query = entity.source(*columns).where(compile_where(where, entity))
        for include in includes:
            demand = self._demand(entity, include)
            if demand is not None:
                query = query.where(demand)
        return query

    def columns(self, entity: Entity, includes: Sequence[Include]) -> list[Any]:
        """What to select for items and for finding what is related to them."""
        return [*entity.columns, *self._nears(entity, includes)]

    def items(self, entity: Entity, rows: Sequence[Any], include: Sequence[Include]) -> list[Item]:
        """Items of rows that were selected by `columns`, with what was included."""
        return self._built(entity, rows, include, None)

    def _demand(self, entity: Entity, include: Include) -> ColumnElement[bool] | None:
        relation = _relation(entity, include)
        target = self._entities.named(relation.target)
        inner = [self._demand(target, further) for further in include.include]
        if include.where is None and all(demand is None for demand in inner):
            return None
        if relation.inline is not None:
            parts = [compile_where(include.where, target), *(d for d in inner if d is not None)]
            return and_(_is_named(entity, target), *parts)
        wheres: list[Group | None] = [include.where]
        if relation.apart and include.where is not None:
            wheres = [Group("and", (part,)) for part in _and_parts(include.where)] or [include.where]
        found = [
            relation.near.in_(self._theirs(target, relation, where, include.include)) for where in wheres
        ]
        return and_(true() if relation.only_where is None else relation.only_where, *found)

    def _theirs(
        self, target: Entity, relation: Relation, where: Group | None, further: Sequence[Include]
    ) -> Select[Any]:
        """The values of `near` for which there is a match: a selection bound to nothing outside."""
        parent = relation.link[1] if relation.link else relation.far
        query = _linked(self.matching(target, where, further, parent), relation)
        return query.correlate(None)

    def _nears(self, entity: Entity, includes: Sequence[Include]) -> list[Any]:
        nears = []
        for number, include in enumerate(includes):
            relation = _relation(entity, include)
            if relation.inline is None:
                near, shown = relation.near, relation.only_where
                near = near if shown is None else case((shown, near), else_=null())
                nears.append(near.label(f"near_{number}"))
        return nears

    def _built(
        self, entity: Entity, rows: Sequence[Any], includes: Sequence[Include], asked: Include | None
    ) -> list[Item]:
        items = [_cut(entity.build(row, asked), asked) for row in rows]
        for number, include in enumerate(includes):
            relation = _relation(entity, include)
            target = self._entities.named(relation.target)
            if relation.inline is not None:
                for item, row in zip(items, rows, strict=True):
                    one = relation.inline(row)
                    _add(item, include.relation, [_cut(one, include)] if one else [], relation.many)
                continue
            nears = [getattr(row, f"near_{number}") for row in rows]
            values = list(dict.fromkeys(near for near in nears if near is not None))
            found = self._related(target, relation, include, values)
            for item, near in zip(items, nears, strict=True):
                _add(item, include.relation, found.get(near, []), relation.many)
        return items

    def _related(
        self, target: Entity, relation: Relation, include: Include, values: list[Any]
    ) -> dict[Any, list[Item]]:
        """The items that belong to each of some values of `near`."""
        if not values:
            return {}
        parent = relation.link[1] if relation.link else relation.far
        query = self._children(target, relation, include, parent)
        if relation.each:
            size = include.limit or PAGE_OF_EACH
            pages = (query.where(parent == v).limit(size).offset(include.skip) for v in values)
            rows = [row for page in pages for row in self._session.execute(page)]
        else:
            rows = list(self._session.execute(query.where(parent.in_(values)).limit(MAX_CHILDREN)))
        items = self._built(target, rows, include.include, include)
        found: dict[Any, list[Item]] = defaultdict(list)
        for row, item in zip(rows, items, strict=True):
            found[row.parent].append(item)
        if relation.each:
            return found
        end = include.skip + include.limit if include.limit else None
        return {near: related[include.skip : end] for near, related in found.items()}

    def _children(self, target: Entity, relation: Relation, include: Include, parent: Any) -> Select[Any]:
        columns = self.columns(target, include.include)
        where = _any_part(include.where) if relation.apart else include.where
        query = _linked(
            self.matching(target, where, include.include, parent.label("parent"), *columns), relation
        )
        for name, down in include.order:
            key = sort_key(name, target, f"{include.place}.scope.order")
            query = query.order_by(key.desc().nulls_last() if down else key.asc().nulls_first())
        return query.order_by(*target.key)


def _relation(entity: Entity, include: Include) -> Relation:
    found = entity.relations.get(include.relation)
    if found is None:
        known = ", ".join(entity.relations) or "none"
        raise FilterInvalid(include.place, f"a {entity.name} has no such relation; it has {known}")
    return found()


def _linked(query: Select[Any], relation: Relation) -> Select[Any]:
    if relation.link is None:
        return query
    table, _, theirs = relation.link
    return query.join(table, theirs == relation.far)


def _any_part(where: Group | None) -> Group | None:
    """Where every part may be met by another item, an item is sent that meets one of them."""
    if where is None or not where.parts:
        return where
    return Group("or", tuple(_and_parts(where)))


def _and_parts(where: Group) -> list[Condition | Group]:
    """What a condition demands, one by one."""
    if where.kind == "or":
        return [where]
    nested = (_and_parts(part) if isinstance(part, Group) else [part] for part in where.parts)
    return [one for parts in nested for one in parts]


def _is_named(entity: Entity, target: Entity) -> ColumnElement[bool]:
    """An instrument without a name, or an affiliation that is not told, is none."""
    name: Any = target.fields["name"].column if "name" in target.fields else None
    if name is None:
        return true()
    return and_(name.is_not(None), name != "")


def _add(item: Item, relation: str, found: list[Item], many: bool) -> None:
    """Put related items into their item; several includes of a relation add up, each item once."""
    if not many:
        item |= {relation: found[0]} if found else {}
        return
    held = item.setdefault(relation, [])
    if not isinstance(held, list):
        held = item[relation] = []
    held += [one for one in found if one not in held] if held else found


def _cut(item: Item, include: Include | None) -> Item:
    """Only the fields that the scope asked for."""
    if include is None or include.fields is None:
        return item
    kept = include.fields | {"pid", "id"}
    return {name: value for name, value in item.items() if name in kept}
