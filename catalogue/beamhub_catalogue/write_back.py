"""Products told to the catalogue that their inputs come from, once each."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import aliased

from beamhub_catalogue.models import DatasetRow, InputRow
from beamhub_catalogue.service import CatalogueService
from beamhub_catalogue.sources.catalogue import CatalogueSource

MAX_PRODUCTS = 1_000


def write_back(service: CatalogueService, source: CatalogueSource) -> list[str]:
    """Tell a source of products of its datasets that it does not know yet; their pids.

    A product counts as told when the source has named an id for it, which its `source_id` keeps. What lies in
    a home, was withdrawn, or has an input of another source is not told.

    Raises
    ------
    CatalogueBroken
        If the source takes no product; those told before stay told.
    """
    told: list[str] = []
    for pid, body in _untold(service, source.name):
        name = source.write_product(body)
        with service.database.writing() as session:
            row = session.scalars(select(DatasetRow).where(DatasetRow.pid == pid)).one()
            row.source_id = f"{source.name}:{name}"[:300]
        told.append(pid)
    return told


def _untold(service: CatalogueService, name: str) -> list[tuple[str, dict[str, Any]]]:
    origin = aliased(DatasetRow)
    inputs = select(InputRow.product_id).join(origin, origin.id == InputRow.input_id)
    query = select(DatasetRow).where(
        DatasetRow.kind == "product",
        DatasetRow.private_to.is_(None),
        DatasetRow.withdrawn.is_(False),
        DatasetRow.source_id.is_(None),
        DatasetRow.id.in_(inputs.where(origin.source == name)),
        DatasetRow.id.not_in(inputs.where(origin.source != name)),
    )
    pools = {pool.name: pool for pool in service.config.pools}
    found: list[tuple[str, dict[str, Any]]] = []
    with service.database.reading() as session:
        for row in session.scalars(query.order_by(DatasetRow.id).limit(MAX_PRODUCTS)):
            if row.product is None or row.pool not in pools:
                continue
            ids = session.scalars(
                select(origin.source_id)
                .join(InputRow, InputRow.input_id == origin.id)
                .where(InputRow.product_id == row.id)
                .order_by(origin.pid)
            )
            facts = row.product
            found.append(
                (
                    row.pid,
                    {
                        "pid": row.pid,
                        "title": row.title,
                        "proposal": row.proposal,
                        "folder": str(PurePosixPath(pools[row.pool].target) / PurePosixPath(row.file).parent),
                        "made_at": facts["made_at"],
                        "who": facts["who"],
                        "inputs": list(ids),
                        "software": [f"{n} {v}" for n, v in sorted(facts["software"].items())],
                        "parameters": facts["parameters"],
                    },
                )
            )
    return found
