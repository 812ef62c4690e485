"""What a dataset was made from and what was made from it, all the way, as far as a reader may know of it.

The walk never goes through a dataset that the reader may not know of: what lies behind it stays hidden too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from sqlalchemy import select

from beamhub_catalogue.models import DatasetRow, InputRow
from beamhub_catalogue.queries import Catalogue
from beamhub_core.product import Product

MAX_NODES = 1_000
MAX_STEPS = 50


@dataclass(slots=True)
class Lineage:
    """Datasets by id, and (product, input) pairs of ids between them."""

    datasets: dict[int, DatasetRow] = field(default_factory=dict)
    edges: set[tuple[int, int]] = field(default_factory=set)
    is_complete: bool = True
    """Whether nothing was left out for its number."""


def walk_lineage(catalogue: Catalogue, row: DatasetRow) -> Lineage:
    """The lineage of a dataset that the reader may know of, both ways."""
    lineage = Lineage({row.id: row})
    _walk(catalogue, row, lineage, upwards=True)
    _walk(catalogue, row, lineage, upwards=False)
    return lineage


def prov_json(catalogue: Catalogue, row: DatasetRow, namespace: str) -> dict[str, Any]:
    """The lineage as W3C PROV-JSON. How and by whom a product was made stands there for its readers only.

    Source: W3C Member Submission "The PROV-JSON Serialization" (2013), PROV-DM.
    """
    lineage = walk_lineage(catalogue, row)
    document: dict[str, Any] = {
        "prefix": {"data": f"urn:{quote(namespace)}:", "dcterms": "http://purl.org/dc/terms/"},
        "entity": {},
        "activity": {},
        "agent": {},
        "wasDerivedFrom": {},
        "wasGeneratedBy": {},
        "used": {},
        "wasAssociatedWith": {},
    }
    rows = sorted(lineage.datasets.values(), key=lambda one: one.pid)
    decisions = catalogue.judge.on_datasets(rows)
    for one in rows:
        document["entity"][_name(one)] = {"dcterms:identifier": one.pid, "dcterms:title": one.title}
        if one.product is not None and decisions[one.pid].may_read:
            _add_activity(document, one, Product.model_validate(one.product))
    for number, (product, source) in enumerate(sorted(lineage.edges)):
        made, used = lineage.datasets[product], lineage.datasets[source]
        told = {"prov:generatedEntity": _name(made), "prov:usedEntity": _name(used)}
        document["wasDerivedFrom"][f"_:d{number}"] = told
        if _activity(made) in document["activity"]:
            use = {"prov:activity": _activity(made), "prov:entity": _name(used)}
            document["used"][f"_:u{number}"] = use
    return {key: value for key, value in document.items() if value}


def _walk(catalogue: Catalogue, row: DatasetRow, lineage: Lineage, *, upwards: bool) -> None:
    here, there = InputRow.product_id, InputRow.input_id
    if not upwards:
        here, there = there, here
    frontier = {row.id}
    for _ in range(MAX_STEPS):
        pairs = catalogue.session.execute(
            select(here, there).where(here.in_(frontier)).limit(MAX_NODES)
        ).all()
        known = catalogue.guard.datasets(DatasetRow).where(DatasetRow.id.in_({pair[1] for pair in pairs}))
        shown = {one.id: one for one in catalogue.session.scalars(known)}
        for start, end in pairs:
            if end in shown:
                lineage.edges.add((start, end) if upwards else (end, start))
        frontier = set(shown) - set(lineage.datasets)
        lineage.datasets |= shown
        if not frontier:
            return
        if len(lineage.datasets) > MAX_NODES:
            break
    lineage.is_complete = False


def _add_activity(document: dict[str, Any], row: DatasetRow, product: Product) -> None:
    made, agent = _activity(row), f"data:person-{quote(product.account, safe='')}"
    document["activity"][made] = {
        "prov:endTime": product.made_at.isoformat(),
        "data:image": product.image,
        "data:environment": product.environment,
        "data:parameters": {name: str(value) for name, value in sorted(product.parameters.items())},
        "data:software": [f"{name} {version}" for name, version in sorted(product.software.items())],
    }
    document["agent"][agent] = {"prov:type": "prov:Person", "prov:label": product.who}
    number = len(document["wasGeneratedBy"])
    generated = {"prov:entity": _name(row), "prov:activity": made}
    document["wasGeneratedBy"][f"_:g{number}"] = generated
    document["wasAssociatedWith"][f"_:a{number}"] = {"prov:activity": made, "prov:agent": agent}


def _name(row: DatasetRow) -> str:
    return f"data:{quote(row.pid, safe='')}"


def _activity(row: DatasetRow) -> str:
    return f"data:making-of-{quote(row.pid, safe='')}"
