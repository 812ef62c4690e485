"""Harvest: what becomes a dataset, what is reported, and what is left alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import h5py
import pytest

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.people import store_principal
from beamhub_catalogue.views import DatasetView
from beamhub_core.identity import Principal
from catalogue.catalogue_parts import (
    COLIN,
    INES,
    OSCAR,
    SAM,
    Facility,
    person,
    write_detector_file,
    write_master,
    write_product,
)

pytestmark = pytest.mark.slow

RAW = "test:MA-2:scan1"


def page(service: CatalogueService, who: Principal | None, pid: str) -> DatasetView:
    view = service.dataset_page(who, pid)
    assert isinstance(view, DatasetView)
    return view


def login(service: CatalogueService, who: Principal) -> None:
    with service.database.writing() as session:
        store_principal(session, who, service.config.login, who.checked_at)


def test_a_master_becomes_a_dataset_with_its_header_and_preview(
    facility: Facility, service: CatalogueService
) -> None:
    write_master(facility.pool / "OP-1/raw/scan1/scan1.h5", experiment_identifier="OP-1")
    report = service.harvester.scan()
    assert report.harvested == ["test:OP-1:scan1"]
    view = page(service, None, "test:OP-1:scan1")
    assert (view.title, view.proposal) == ("Si powder", "OP-1")
    assert view.technique_label == "x-ray powder diffraction"
    assert (view.instrument, view.sample, view.proposal_title) == ("bl09", "Si", "Standards")
    assert {p.name: (p.value, p.unit) for p in view.parameters}["incident_wavelength"] == (0.5, "angstrom")
    assert view.start is not None
    assert view.start.isoformat() == "2025-10-07T07:00:00+00:00"
    assert view.preview_available
    png = service.preview_png(None, "test:OP-1:scan1")
    assert png is not None
    assert png.startswith(b"\x89PNG")


def test_detector_files_are_part_of_their_scan_and_no_datasets(
    facility: Facility, service: CatalogueService
) -> None:
    raw = facility.pool / "MA-2" / "bl09"
    write_detector_file(raw / "det1" / "f0.h5")
    write_master(raw / "scan1" / "scan1.h5", links={"data_0": "../det1/f0.h5"}, experiment_identifier="MA-2")
    assert service.harvester.scan().harvested == [RAW]
    with service.desk.reading(INES) as catalogue:
        row = catalogue.row(RAW)
        assert row is not None
        assert row.link_closure == [{"pool": "pool", "path": "MA-2/bl09/det1"}]
        assert row.folder == "MA-2/bl09/scan1"
        assert [f.path for f in row.files] == ["MA-2/bl09/det1/f0.h5", "MA-2/bl09/scan1/scan1.h5"]


def test_a_file_that_was_a_dataset_becomes_part_of_the_scan_that_links_to_it(
    facility: Facility, service: CatalogueService
) -> None:
    raw = facility.pool / "OP-1" / "raw"
    write_master(raw / "det" / "f0.h5")  # says what it is, but not for which experiment
    assert service.harvester.scan().harvested == ["test:OP-1:f0"]
    with h5py.File(write_master(raw / "scan1" / "scan1.h5", experiment_identifier="OP-1"), "a") as file:
        file["entry/instrument/detector/more"] = h5py.ExternalLink(
            "../det/f0.h5", "/entry/instrument/detector/data"
        )
    service.harvester.scan()
    assert [hit.pid for hit in service.search(None).hits] == ["test:OP-1:scan1"]


def test_unchanged_files_are_not_read_again(facility: Facility, service: CatalogueService) -> None:
    master = write_master(facility.pool / "OP-1/raw/scan1.h5", experiment_identifier="OP-1")
    service.harvester.scan()
    again = service.harvester.scan()
    assert (again.harvested, again.n_unchanged) == ([], 1)
    write_master(master, title="New title", experiment_identifier="OP-1")
    assert service.harvester.scan().harvested == ["test:OP-1:scan1"]
    assert page(service, None, "test:OP-1:scan1").title == "New title"
    assert service.search(None).total == 1


def test_a_damaged_file_is_named_and_the_rest_goes_on(facility: Facility, service: CatalogueService) -> None:
    damaged = write_master(facility.pool / "OP-1/raw/bad/bad.h5", experiment_identifier="OP-1")
    os.truncate(damaged, damaged.stat().st_size // 2)
    (facility.pool / "OP-1/raw/text.h5").write_text("no HDF5 at all")
    write_master(facility.pool / "OP-1/raw/good/good.h5", experiment_identifier="OP-1")
    report = service.harvester.scan()
    assert report.harvested == ["test:OP-1:good"]
    assert sorted(p.file for p in report.problems) == ["OP-1/raw/bad/bad.h5", "OP-1/raw/text.h5"]
    assert all("damaged" in p.reason for p in report.problems)
    assert {p.file for p in service.health().problems} >= {"OP-1/raw/bad/bad.h5"}


def test_a_dangling_link_is_named_and_the_file_read_again_when_its_target_comes(
    facility: Facility, service: CatalogueService
) -> None:
    raw = facility.pool / "OP-1" / "raw"
    write_detector_file(raw / "det" / "f0.h5")
    links = {"data_0": "../det/f0.h5", "data_1": "../det/f1.h5"}
    write_master(raw / "scan1" / "scan1.h5", links=links, experiment_identifier="OP-1")
    service.harvester.scan()
    missing = page(service, None, "test:OP-1:scan1").missing_links
    assert len(missing) == 1
    assert "f1.h5" in missing[0]
    write_detector_file(raw / "det" / "f1.h5")
    service.harvester.scan()
    assert page(service, None, "test:OP-1:scan1").missing_links == ()


@pytest.mark.parametrize("claimed", ["MA-2", "OP-10", "OP"])
def test_the_path_is_the_authority_for_the_proposal(
    facility: Facility, service: CatalogueService, claimed: str
) -> None:
    write_master(facility.pool / "OP-1/raw/scan1.h5", experiment_identifier=claimed)
    report = service.harvester.scan()
    assert report.harvested == []
    assert claimed in report.problems[0].reason


def test_links_are_never_followed_out_of_the_pool(
    facility: Facility, service: CatalogueService, tmp_path: Path
) -> None:
    outside = write_master(tmp_path / "secret" / "scan1.h5", experiment_identifier="OP-1")
    (facility.pool / "OP-1").mkdir()
    (facility.pool / "OP-1" / "scan1.h5").symlink_to(outside)
    (facility.pool / "OP-1" / "folder").symlink_to(outside.parent)
    write_master(
        facility.pool / "OP-1/raw/scan2.h5", links={"data": str(outside)}, experiment_identifier="OP-1"
    )
    report = service.harvester.scan()
    assert report.harvested == ["test:OP-1:scan2"]
    assert [p.file for p in report.problems] == ["OP-1/scan1.h5"]
    view = page(service, None, "test:OP-1:scan2")
    assert [f.path for f in view.files] == ["OP-1/raw/scan2.h5"]
    assert len(view.missing_links) == 1


def test_odd_names_and_places_are_reported_and_pids_stay_plain(
    facility: Facility, service: CatalogueService
) -> None:
    write_master(facility.pool / "OP-1/raw/a b&c.h5", experiment_identifier="OP-1")
    write_master(facility.pool / "OP-1/other/a b&c.h5", experiment_identifier="OP-1")
    write_master(facility.pool / "stray.h5")
    write_master(facility.pool / "-bad-/x.h5")
    report = service.harvester.scan()
    assert len(set(report.harvested)) == 2
    assert all(pid.startswith("test:OP-1:a-b-c-") for pid in report.harvested)
    assert sorted(p.file for p in report.problems) == ["-bad-/x.h5", "stray.h5"]


def test_a_second_file_of_the_same_name_gets_a_pid_of_its_own(
    facility: Facility, service: CatalogueService
) -> None:
    write_master(facility.pool / "OP-1/a/scan.h5", experiment_identifier="OP-1")
    write_master(facility.pool / "OP-1/b/scan.h5", experiment_identifier="OP-1")
    service.harvester.scan()
    pids = {hit.pid for hit in service.search(None).hits}
    assert len(pids) == 2
    assert "test:OP-1:scan" in pids


def test_a_title_with_markup_is_kept_as_text(facility: Facility, service: CatalogueService) -> None:
    title = "<script>alert(1)</script> & 'x'"
    write_master(facility.pool / "OP-1/raw/scan1.h5", title=title, experiment_identifier="OP-1")
    service.harvester.scan()
    assert page(service, None, "test:OP-1:scan1").title == title


def test_a_master_in_the_proposals_own_folder_does_not_grant_the_whole_folder(
    facility: Facility, service: CatalogueService
) -> None:
    write_master(facility.pool / "MA-2/scan1.h5", experiment_identifier="MA-2")
    service.harvester.scan()
    with service.desk.reading(INES) as catalogue:
        row = catalogue.row(RAW)
        assert row is not None
        assert row.folder == "MA-2/scan1.h5"


def test_a_product_is_linked_both_ways(facility: Facility, service: CatalogueService) -> None:
    write_master(facility.pool / "MA-2/raw/scan1/scan1.h5", experiment_identifier="MA-2")
    write_product(facility.pool / "MA-2/processed/p.h5", RAW)
    report = service.harvester.scan()
    product = next(pid for pid in report.harvested if ":product-" in pid)
    view = page(service, INES, product)
    assert view.kind == "product"
    assert [r.pid for r in view.made_from] == [RAW]
    assert view.provenance is not None
    assert view.provenance.who == "Ines Ferreira"
    assert [r.pid for r in page(service, INES, RAW).used_by] == [product]
    assert service.preview_png(INES, product) is not None
    assert service.preview_png(OSCAR, product) is None


def test_a_product_waits_for_the_dataset_that_it_was_made_from(
    facility: Facility, service: CatalogueService
) -> None:
    write_product(facility.pool / "MA-2/processed/p.h5", RAW)
    assert "not catalogued" in service.harvester.scan().problems[0].reason
    write_master(facility.pool / "MA-2/raw/scan1/scan1.h5", experiment_identifier="MA-2")
    service.harvester.scan()
    assert any(":product-" in pid for pid in service.harvester.scan().harvested)


def test_a_product_stands_under_the_strictest_policy_of_its_inputs(
    facility: Facility, service: CatalogueService
) -> None:
    login(service, COLIN)
    write_master(facility.pool / "MA-2/raw/scan1/scan1.h5", experiment_identifier="MA-2")
    write_master(facility.pool / "TO-3/raw/run1/run1.h5", experiment_identifier="TO-3")
    write_product(facility.pool / "MA-2/processed/p.h5", RAW, "test:TO-3:run1", account=COLIN.account)
    service.harvester.scan()
    product = next(h.pid for h in service.search(COLIN).hits if h.kind == "product")
    outsider = service.search(OSCAR)
    assert [h.pid for h in outsider.hits] == [RAW]
    only_ma2 = person("mara", "MA-2")
    assert not isinstance(service.dataset_page(only_ma2, product), DatasetView)
    assert page(service, only_ma2, RAW).used_by == ()
    assert page(service, SAM, product).may_read


def test_a_product_that_claims_data_its_maker_may_not_read_is_refused(
    facility: Facility, service: CatalogueService
) -> None:
    mara = person("mara", "MA-2")
    login(service, mara)
    write_master(facility.pool / "MA-2/raw/scan1/scan1.h5", experiment_identifier="MA-2")
    write_master(facility.pool / "TO-3/raw/run1/run1.h5", experiment_identifier="TO-3")
    write_product(facility.pool / "MA-2/processed/p.h5", RAW, "test:TO-3:run1", account=mara.account)
    report = service.harvester.scan()
    assert not any(":product-" in pid for pid in report.harvested)
    assert "may not read" in report.problems[0].reason


@pytest.mark.parametrize(
    "told",
    [{"proposal": "TO-3"}, {"inputs": []}, {"inputs": "x"}, {"made_at": "yesterday"}, {"surprise": 1}],
)
def test_a_malformed_provenance_is_reported(
    facility: Facility, service: CatalogueService, told: dict[str, object]
) -> None:
    write_product(facility.pool / "MA-2/processed/p.h5", RAW, **told)
    report = service.harvester.scan()
    assert report.harvested == []
    assert len(report.problems) == 1


def test_new_content_under_an_old_name_is_another_product(
    facility: Facility, service: CatalogueService
) -> None:
    write_master(facility.pool / "MA-2/raw/scan1/scan1.h5", experiment_identifier="MA-2")
    write_product(facility.pool / "MA-2/processed/p.h5", RAW, title="first")
    service.harvester.scan()
    write_product(facility.pool / "MA-2/processed/p.h5", RAW, title="second")
    service.harvester.scan()
    states = {h.title: h.embargo.state for h in service.search(INES).hits if h.kind == "product"}
    assert states == {"first": "withdrawn", "second": "embargoed"}


def test_an_unmounted_pool_is_reported_and_forgets_nothing(
    facility: Facility, service: CatalogueService
) -> None:
    write_master(facility.pool / "OP-1/raw/scan1.h5", experiment_identifier="OP-1")
    service.harvester.scan()
    facility.pool.rename(facility.folder / "gone")
    report = service.harvester.scan()
    assert "mounted" in report.problems[0].reason
    assert service.search(None).total == 1


def test_the_background_scan_finds_a_new_file(facility: Facility) -> None:
    facility.changes = {"harvest_interval_s": 0.1}
    service = facility.service()
    try:
        service.start()
        service.start()
        write_master(facility.pool / "OP-1/raw/scan1.h5", experiment_identifier="OP-1")
        deadline = time.monotonic() + 30
        while service.search(None).total == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert service.search(None).total == 1
    finally:
        service.stop()
        service.stop()
