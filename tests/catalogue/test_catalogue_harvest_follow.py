"""Harvest of a tree that changes: named files, half-written ones, those that leave; and a dry run."""

from __future__ import annotations

import os

import pytest
from sqlalchemy import select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.dry_run import dry_run
from beamhub_catalogue.models import AuthorRow, DatasetRow
from catalogue.catalogue_parts import Facility, write_master

pytestmark = pytest.mark.slow


def lifecycles(service: CatalogueService) -> dict[str, str]:
    """Of every dataset."""
    with service.database.reading() as session:
        return {row.pid: row.lifecycle for row in session.scalars(select(DatasetRow))}


def test_named_files_are_taken_by_the_rules_of_a_walk(facility: Facility, service: CatalogueService) -> None:
    good = write_master(facility.pool / "OP-1/raw/a.h5", experiment_identifier="OP-1")
    write_master(facility.pool / "OP-1/raw/b.h5", experiment_identifier="OP-1")
    outside = write_master(facility.folder / "elsewhere.h5")
    link = facility.pool / "OP-1/raw/link.h5"
    link.symlink_to(good)
    hidden = write_master(facility.pool / "OP-1/raw/.part.h5")
    report = service.harvester.take([good, outside, link, hidden, facility.pool / "OP-1/raw/none.h5"])
    assert report.harvested == ["test:OP-1:a"]
    assert len(report.problems) == 4
    assert set(lifecycles(service)) == {"test:OP-1:a"}


def test_a_file_that_leaves_is_offline_until_it_is_back(
    facility: Facility, service: CatalogueService
) -> None:
    for name in "abc":
        write_master(facility.pool / f"OP-1/raw/{name}.h5", experiment_identifier="OP-1")
    service.harvester.scan()
    away = facility.folder / "tape.h5"
    (facility.pool / "OP-1/raw/a.h5").rename(away)
    service.harvester.scan()
    assert lifecycles(service) == {"test:OP-1:a": "offline", "test:OP-1:b": "online", "test:OP-1:c": "online"}
    away.rename(facility.pool / "OP-1/raw/a.h5")
    service.harvester.scan()
    assert set(lifecycles(service).values()) == {"online"}


def test_a_half_written_file_waits_and_a_dry_run_stores_nothing(facility: Facility) -> None:
    facility.changes = {"unfinished_wait_s": 60}
    service = facility.service()
    try:
        whole = write_master(facility.pool / "OP-1/raw/a.h5", experiment_identifier="OP-1")
        half = write_master(facility.pool / "OP-1/raw/half.h5", experiment_identifier="OP-1")
        os.truncate(half, half.stat().st_size - 500)
        harvester = service.harvester
        run = dry_run(service, harvester.found(harvester.roots(None, None)))
        assert (run.n_files, len(run.problems)) == (2, 1)
        assert ("title", "/entry/title") in run.found
        assert ("NXinstrument/NXdetector/data", "uint16 (3, 16, 16)") in run.unmapped
        assert lifecycles(service) == {}
        report = harvester.scan()
        assert (report.harvested, report.waiting, report.problems) == (
            ["test:OP-1:a"],
            ["OP-1/raw/half.h5"],
            [],
        )
        long_ago = half.stat().st_mtime - 3600
        os.utime(half, (long_ago, long_ago))
        report = harvester.scan()
        assert [problem.file for problem in report.problems] == ["OP-1/raw/half.h5"]
        with service.database.reading() as session:
            assert session.scalars(select(AuthorRow)).all() == []
        assert whole.exists()
    finally:
        service.stop()
