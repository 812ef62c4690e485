"""One contract for every adapter of another catalogue, and what mirrors do with what they tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyscicat.model import DerivedDataset
from sqlalchemy import select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.mirror import mirror
from beamhub_catalogue.models import AdapterCursorRow, DatasetRow, ProposalRow
from beamhub_catalogue.sources.catalogue import CatalogueBroken
from beamhub_catalogue.sources.open_source import open_source
from beamhub_core.config.catalogue_sources import CatalogueSourceConfig
from beamhub_core.policy import ProposalFacts, opens_at
from beamhub_core.policy_document import PolicyDocument
from catalogue.catalogue_parts import CLASSES, Facility
from catalogue.other_catalogues import PASSWORD, CatalogueServer, Known, running_catalogue

KINDS = ("scicat-v3", "scicat-v4", "icat", "mymdc", "beamhub")
PRODUCT = {
    "pid": "test:700002:product-1",
    "title": "Pattern",
    "who": "Ines Ferreira",
    "proposal": "MA-2",
    "folder": "/data/MA-2/processed",
    "made_at": "2026-05-01T10:00:00+00:00",
    "inputs": ["20.500.1/1"],
    "software": ["beamhub_reduction 0.1"],
    "parameters": {"bins": 1000},
}


@dataclass
class Mirrored:
    """A stand-in and the facility that mirrors it."""

    server: CatalogueServer
    service: CatalogueService
    proposal: str

    @property
    def config(self) -> CatalogueSourceConfig:
        """The source's configuration."""
        return self.service.config.catalogue.sources[0]

    def dataset(self, number: int, **facts: Any) -> Known:
        """A dataset of the proposal."""
        return Known(number, self.proposal, **facts)

    def rows(self) -> dict[str, DatasetRow]:
        """What is mirrored, by source id."""
        with self.service.database.reading() as session:
            found = session.scalars(select(DatasetRow).where(DatasetRow.source == "other")).all()
            return {row.source_id or "": row for row in found}


@pytest.fixture(params=KINDS)
def mirrored(request: pytest.FixtureRequest, facility: Facility) -> Iterator[Mirrored]:
    """A stand-in of every kind, with a facility that knows its proposal."""
    kind, _, version = request.param.partition("-")
    proposal = "700002" if kind == "mymdc" else "OP-1"
    secret = facility.folder / "secrets" / "other"
    secret.write_text(PASSWORD + "\n")
    facility.write_office(
        ("OP-1,Standards,open,bl09,2021-03-01,2021-03-04", "700002,Run,open,SPB,2021-03-01,2021-03-04"), ()
    )
    with running_catalogue(kind, version or "v4") as server:
        source: dict[str, Any] = {"name": "other", "kind": kind, "url": server.url}
        source |= {"page_size": 2, "requests_per_s": 1000}
        if kind == "scicat":
            source |= {"version": version}
        if kind == "icat":
            source |= {"username": "reader", "password_file": secret}
        if kind == "mymdc":
            source |= {"proposals": [proposal], "token_file": secret}
        facility.changes = {"sources": [source]}
        service = facility.service()
        try:
            yield Mirrored(server, service, proposal)
        finally:
            service.stop()


class TestContract:
    """What every adapter promises."""

    def test_everything_comes_in_pages_and_a_second_pass_changes_nothing(self, mirrored: Mirrored) -> None:
        same_instant = "2026-02-01T00:00:00.000Z"
        mirrored.server.add(
            *(mirrored.dataset(n, updated=same_instant if n > 2 else Known(n).updated) for n in range(1, 6))
        )
        first = mirror(mirrored.service, mirrored.config)
        assert (len(set(first.stored)), first.problems, first.removed) == (5, [], [])
        before = {i: row.changed_at for i, row in mirrored.rows().items()}
        again = mirror(mirrored.service, mirrored.config)
        assert (again.stored, again.problems, again.removed) == ([], [], [])
        assert {i: row.changed_at for i, row in mirrored.rows().items()} == before

    def test_changes_come_a_bad_record_is_named_and_what_is_gone_becomes_a_tombstone(
        self, mirrored: Mirrored
    ) -> None:
        bad = {"size": -1, "fileSize": -1}
        mirrored.server.add(*(mirrored.dataset(n) for n in range(1, 4)), mirrored.dataset(4, facts=bad))
        first = mirror(mirrored.service, mirrored.config)
        assert (len(first.stored), len(first.problems)) == (3, 1)
        mirrored.server.add(mirrored.dataset(2, title="New title", updated="2026-03-01T00:00:00.000Z"))
        gone = mirrored.server.known.pop(3)
        report = mirror(mirrored.service, mirrored.config)
        assert (len(report.stored), len(report.removed)) == (1, 1)
        rows = sorted(mirrored.rows().values(), key=lambda row: row.id)
        assert [row.title for row in rows] == ["Electrode", "New title", "Electrode"]
        assert [(row.withdrawn, bool(row.tombstone)) for row in rows] == [(False, False)] * 2 + [(True, True)]
        mirrored.server.add(gone)
        mirror(mirrored.service, mirrored.config, full=True)
        assert not any(row.withdrawn or row.tombstone for row in mirrored.rows().values())

    def test_a_pass_that_breaks_off_is_gone_on_with(self, mirrored: Mirrored) -> None:
        mirrored.server.add(
            *(mirrored.dataset(n, updated=f"2026-01-{n:02d}T00:00:00.000Z") for n in range(1, 6))
        )
        mirrored.server.fails_after = 2 if mirrored.server.kind != "icat" else 1
        with pytest.raises(CatalogueBroken, match="status 503"):
            mirror(mirrored.service, mirrored.config)
        kept = len(mirrored.rows())
        assert 0 < kept < 5
        with mirrored.service.database.reading() as session:
            assert session.get_one(AdapterCursorRow, "other").cursor
        mirrored.server.fails_after = None
        mirror(mirrored.service, mirrored.config)
        assert len(mirrored.rows()) == 5

    @pytest.mark.parametrize("mirrored", ["scicat-v4"], indirect=True)
    def test_a_catalogue_that_lost_most_of_its_records_takes_none_of_ours(self, mirrored: Mirrored) -> None:
        mirrored.server.add(*(mirrored.dataset(n) for n in range(1, 14)))
        mirror(mirrored.service, mirrored.config)
        mirrored.server.known = {1: mirrored.server.known[1]}
        report = mirror(mirrored.service, mirrored.config)
        assert report.removed == []
        assert "may be in trouble" in report.problems[-1][1]

    @pytest.mark.parametrize("mirrored", ["scicat-v3", "icat", "beamhub"], indirect=True)
    def test_values_come_with_unit_and_in_si(self, mirrored: Mirrored) -> None:
        mirrored.server.add(mirrored.dataset(1))
        mirror(mirrored.service, mirrored.config)
        with mirrored.service.database.reading() as session:
            row = session.scalars(select(DatasetRow)).one()
            told = {p.name: (p.number, p.unit, p.si_number) for p in row.parameters}
            assert row.start is not None
            assert row.start.isoformat() == "2025-10-07T07:00:00+00:00"
            assert row.size_bytes == 1000
        assert told["temperature"] == (20.0, "celsius", pytest.approx(293.15))

    @pytest.mark.parametrize("mirrored", ["scicat-v4", "icat"], indirect=True)
    def test_a_folder_counts_only_inside_the_records_own_proposal(self, mirrored: Mirrored) -> None:
        pool = mirrored.service.config.pools[0].root
        mirrored.server.add(
            mirrored.dataset(1, folder=f"{pool}/{mirrored.proposal}/raw/a"),
            mirrored.dataset(2, folder=f"{pool}/TO-3/raw/a"),
            mirrored.dataset(3, folder=f"{pool}/{mirrored.proposal}/../TO-3/raw"),
        )
        mirror(mirrored.service, mirrored.config)
        assert {row.folder for row in mirrored.rows().values()} == {f"{mirrored.proposal}/raw/a", ""}


@given(st.dates(), st.dates() | st.none())
def test_nothing_opens_before_another_catalogue_lets_it(ended: date, not_before: date | None) -> None:
    policy = PolicyDocument.model_validate({"version": "1", "timezone": "Europe/Paris", "classes": CLASSES})
    alone = opens_at(ProposalFacts("P", "standard", ended), policy)
    both = opens_at(ProposalFacts("P", "standard", ended, not_before=not_before), policy)
    if alone is None or not_before == date.max:
        assert both is None
    elif not_before is None:
        assert both == alone
    else:
        assert both is not None
        assert both >= alone
        assert both.date() > not_before


@pytest.mark.parametrize("mirrored", ["scicat-v4", "icat", "beamhub"], indirect=True)
def test_of_two_embargoes_the_stricter_one_holds(mirrored: Mirrored) -> None:
    mirrored.server.add(mirrored.dataset(1), mirrored.dataset(2, is_open=False))
    mirror(mirrored.service, mirrored.config)
    with mirrored.service.database.reading() as session:
        proposal = session.get_one(ProposalRow, mirrored.proposal)
        assert (proposal.not_before, proposal.opens_at is None) == (date.max, True)
    shown = mirrored.service.search(None).hits
    assert {hit.embargo.state for hit in shown} == {"embargoed"}
    mirrored.server.add(mirrored.dataset(2, is_open=True, updated="2026-04-01T00:00:00.000Z"))
    mirror(mirrored.service, mirrored.config)
    assert {hit.embargo.state for hit in mirrored.service.search(None).hits} == {"open"}


@pytest.mark.parametrize("mirrored", ["scicat-v4", "icat", "mymdc"], indirect=True)
def test_a_product_is_written_back_where_the_catalogue_takes_it(mirrored: Mirrored) -> None:
    mirrored.server.add(mirrored.dataset(1))
    mirror(mirrored.service, mirrored.config)
    with open_source(mirrored.config) as source:
        if mirrored.server.kind == "mymdc":
            with pytest.raises(CatalogueBroken, match="takes no products"):
                source.write_product(PRODUCT)
            return
        assert source.write_product(PRODUCT) in ("20.500.1/new", "4711")
    written = mirrored.server.written[0]
    if mirrored.server.kind == "scicat":
        told = DerivedDataset.model_validate(written)
        assert told.inputDatasets == PRODUCT["inputs"]
    else:
        assert written["Dataset"]["investigation"] == {"id": 7}
