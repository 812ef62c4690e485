"""How many datasets there are of what: counted once for each proposal, summed over those a reader knows.

What a reader knows of goes by proposals, so sums over proposals are exact. Products, private and withdrawn
datasets stand under more than their proposal and are counted live. So are the datasets of proposals whose
counts are stale: triggers of the database mark them, whoever writes, and `count_again` makes them good.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    String,
    and_,
    case,
    cast,
    delete,
    extract,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import Session

from beamhub_catalogue.models import DatasetCountRow, DatasetRow, StaleCountRow, TechniqueRow, UtcDateTime

AT_ONCE = 500
ALL = "all"
SPECIAL: ColumnElement[bool] = or_(
    DatasetRow.kind != "raw", DatasetRow.private_to.is_not(None), DatasetRow.withdrawn
)


def facet_columns() -> dict[str, ColumnElement[str]]:
    """What is counted of every dataset itself, by the name of the facet."""
    created = func.coalesce(DatasetRow.start, DatasetRow.harvested_at, type_=UtcDateTime())
    return {
        ALL: literal(""),
        "instrument": DatasetRow.instrument,  # type: ignore[dict-item]  # mapped columns are columns
        "year": cast(extract("year", created), String()),
        "kind": DatasetRow.kind,  # type: ignore[dict-item]
        "lifecycle": DatasetRow.lifecycle,  # type: ignore[dict-item]
    }


def technique_value() -> ColumnElement[str]:
    """A technique's term, or its label where it has none."""
    return case((TechniqueRow.pid != "", TechniqueRow.pid), else_=TechniqueRow.label)


def is_stale() -> ColumnElement[bool]:
    """Datasets of a proposal whose counts are not those of now."""
    found: ColumnElement[bool] = DatasetRow.proposal.in_(select(StaleCountRow.proposal).correlate(None))
    return found


def uncounted() -> ColumnElement[bool]:
    """Datasets that the counts leave out: to be counted live."""
    special = select(DatasetRow.id).where(SPECIAL)
    stale = select(DatasetRow.id).where(is_stale(), not_(SPECIAL))
    left_out = union_all(special, stale).subquery("left_out")
    found: ColumnElement[bool] = DatasetRow.id.in_(select(left_out.c.id).correlate(None))
    return found


def count_again(session: Session, at_most: int = AT_ONCE) -> int:
    """Count the datasets of some stale proposals; how many proposals were counted. 0: nothing is stale."""
    names = list(session.scalars(select(StaleCountRow.proposal).limit(at_most)))
    if not names:
        return 0
    session.execute(delete(DatasetCountRow).where(DatasetCountRow.proposal.in_(names)))
    counted = and_(DatasetRow.proposal.in_(names), not_(SPECIAL))
    for facet, column in facet_columns().items():
        told = (DatasetRow.proposal, column.label("value"), literal("").label("label"))
        _keep(session, facet, select(*told), counted)
    techniques = select(
        DatasetRow.proposal, technique_value().label("value"), TechniqueRow.label.label("label")
    )
    _keep(session, "technique", techniques.join(TechniqueRow), counted)
    session.execute(delete(StaleCountRow).where(StaleCountRow.proposal.in_(names)))
    return len(names)


def _keep(session: Session, facet: str, rows: Any, counted: ColumnElement[bool]) -> None:
    """Count rows of (proposal, value, label)."""
    told = rows.where(counted).subquery("told")
    numbers = select(told.c.proposal, literal(facet), told.c.value, func.max(told.c.label), func.count())
    names = ["proposal", "facet", "value", "label", "n"]
    grouped = numbers.group_by(told.c.proposal, told.c.value)
    session.execute(insert(DatasetCountRow).from_select(names, grouped))
