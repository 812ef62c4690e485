"""Made from and used by, walked both ways within a reader's rights; PROV-JSON; products told once."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.models import DatasetRow, InputRow
from beamhub_catalogue.provenance import prov_json, walk_lineage
from beamhub_catalogue.write_back import write_back
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import INES, Facility
from catalogue.catalogue_reader_parts import HIDDEN, Made, furnish, proposal_row, put


def lineage_of(
    service: CatalogueService, who: Principal | None, pid: str
) -> tuple[set[str], set[tuple[str, str]]]:
    """Pids and (product, input) pairs."""
    with service.desk.reading(who) as catalogue:
        row = catalogue.row(pid)
        assert row is not None
        found = walk_lineage(catalogue, row)
        pids = {i: one.pid for i, one in found.datasets.items()}
        return set(pids.values()), {(pids[a], pids[b]) for a, b in found.edges}


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service whose rows each test replaces."""
    facility = Facility(tmp_path_factory.mktemp("lineage"))
    facility.prepare()
    service = facility.service()
    yield service
    service.stop()


@given(st.lists(st.sets(st.integers(0, 7), max_size=3), min_size=1, max_size=8))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_walk_finds_all_that_is_above_and_below(chained: CatalogueService, inputs: list[set[int]]) -> None:
    made = [
        Made(f"t:{i}", "OP-1", inputs=tuple(sorted(j for j in above if j < i)))
        for i, above in enumerate(inputs)
    ]
    put(chained, [proposal_row("OP-1", "open", date(2021, 3, 4))], [], made)
    above = {i: set(one.inputs) for i, one in enumerate(made)}
    for i in above:
        above[i] |= {k for j in above[i] for k in above[j]}
    for i in above:
        below = {j for j in above if i in above[j]}
        pids, edges = lineage_of(chained, None, f"t:{i}")
        assert pids == {f"t:{j}" for j in {i} | above[i] | below}
        assert all(a in pids and b in pids for a, b in edges)


def test_nobody_learns_of_hidden_inputs_or_of_how_closed_products_were_made(
    service: CatalogueService,
) -> None:
    furnish(service)
    pids, _ = lineage_of(service, None, "t:OP-1:a")
    assert not pids & HIDDEN
    with service.desk.reading(None) as catalogue:
        row = catalogue.row("t:OP-1:veiled-product")
        assert row is not None
        told = prov_json(catalogue, row, "test")
    assert "activity" not in told
    assert len(told["wasDerivedFrom"]) == 2
    assert "hush" not in str(told).lower()
    pids, edges = lineage_of(service, INES, "t:OP-1:hush-product")
    assert ("t:OP-1:hush-product", "t:TO-3:a") in edges


class Takes:
    """A source that takes products and says nothing else."""

    name = "other"

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def write_product(self, product: dict[str, Any]) -> str:
        """Keep it."""
        self.told.append(product)
        return str(len(self.told))


def test_a_product_is_told_once_and_only_where_all_its_inputs_come_from(
    service: CatalogueService,
) -> None:
    furnish(service)
    facts = {"made_at": "2026-05-01T10:00:00Z", "who": "I", "software": {"b": "1"}, "parameters": {}}
    with service.database.writing() as session:
        rows = {row.pid: row for row in session.query(DatasetRow)}
        for pid in ("t:OP-1:a", "t:OP-1:b"):
            rows[pid].source, rows[pid].source_id = "other", pid[-1]
        product = rows["t:OP-1:hush-home"]
        product.private_to, product.product = None, facts
        rows["t:OP-1:veiled-product"].product = facts  # of which one input is our own
        session.add(InputRow(product_id=product.id, input_id=rows["t:OP-1:b"].id))
    source = Takes()
    assert write_back(service, source) == ["t:OP-1:hush-home"]  # type: ignore[arg-type]  # all that is asked of it
    assert source.told[0]["inputs"] == ["a", "b"]
    assert write_back(service, source) == []  # type: ignore[arg-type]  # as above
