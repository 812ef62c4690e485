"""Withdrawals over the internal API: nobody reads what was withdrawn, until that is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from beamhub_catalogue.models import DatasetRow
from beamhub_catalogue.views import DatasetView
from catalogue.catalogue_acts_parts import act, open_acting, reads, revoke, tell, view
from catalogue.catalogue_api_parts import HIDDEN, OPEN, RAW, Api, Stocked, mount_of, plan_with
from catalogue.catalogue_parts import COLIN, INES, OSCAR, SAM, write_master, write_product

pytestmark = pytest.mark.slow


@pytest.fixture
def stocked(prepared: Path, tmp_path: Path) -> Iterator[Stocked]:
    with open_acting(prepared, tmp_path / "stocked") as made:
        yield made


@pytest.fixture
def api(stocked: Stocked) -> Api:
    return stocked.api


def test_a_withdrawn_dataset_is_known_and_read_by_nobody_until_that_is_taken_back(stocked: Stocked) -> None:
    api, facility = stocked.api, stocked.facility
    write_master(facility.pool / "MA-2/raw/scan2/scan2.h5", experiment_identifier="MA-2")
    stocked.service.harvester.scan()
    plan = api.running(plan_with(facility, INES, mount_of(facility, "MA-2/raw/scan1", pid=RAW)))
    assert tell(api, None, act("withdrawal", pid=RAW))[0] == 201
    assert [reads(stocked, who) for who in (INES, COLIN, SAM, None)] == [False] * 4
    assert view(stocked, None).embargo.state == "withdrawn"
    assert view(stocked, INES).files == ()
    assert reads(stocked, INES, "test:MA-2:scan2")
    assert api.grants(INES, RAW).json()["refusal"]["code"] == "withdrawn"
    (verdict,) = api.ask("POST", "/recheck").json()
    assert (verdict["plan_id"], verdict["action"]) == (plan.id, "stop")
    write_master(facility.pool / "MA-2/raw/scan1/scan1.h5", experiment_identifier="MA-2", title="again")
    assert stocked.service.harvester.scan().harvested != ()
    assert not reads(stocked, INES)
    assert revoke(api) == 204
    assert reads(stocked, INES)
    assert api.ask("POST", "/recheck").json()[0]["action"] != "stop"


def test_a_withdrawn_proposal_closes_its_datasets_also_those_to_come(stocked: Stocked) -> None:
    api, facility = stocked.api, stocked.facility
    plan = plan_with(facility, OSCAR, mount_of(facility, "OP-1/raw/scan1", pid=OPEN))
    api.running(plan)
    assert tell(api, None, act("withdrawal", "OP-1"))[0] == 201
    write_master(facility.pool / "OP-1/raw/scan2/scan2.h5", experiment_identifier="OP-1")
    stocked.service.harvester.scan()
    for pid in (OPEN, "test:OP-1:scan2"):
        assert not reads(stocked, OSCAR, pid)
        assert view(stocked, None, pid).embargo.state == "withdrawn"
    assert api.ask("POST", "/recheck").json()[0]["action"] == "stop"
    assert revoke(api) == 204
    assert not reads(stocked, None)
    assert reads(stocked, None, OPEN)


def test_a_hidden_dataset_stays_hidden_when_it_is_withdrawn(stocked: Stocked) -> None:
    assert tell(stocked.api, None, act("withdrawal", "TO-3", pid=HIDDEN))[0] == 201
    assert not isinstance(stocked.service.dataset_page(OSCAR, HIDDEN), DatasetView)
    assert view(stocked, INES, HIDDEN).embargo.state == "withdrawn"


def test_only_a_dataset_of_the_proposal_can_be_withdrawn_with_it(api: Api) -> None:
    for pid in (OPEN, "test:MA-2:none", "test:MA-20:scan1"):
        assert tell(api, None, act("withdrawal", pid=pid))[0] == 404


def test_a_folder_with_withdrawn_data_is_mounted_for_none_of_its_datasets(stocked: Stocked) -> None:
    api, facility = stocked.api, stocked.facility
    write_master(facility.pool / "MA-2/raw/scan1/other.h5", experiment_identifier="MA-2")
    stocked.service.harvester.scan()
    other = "test:MA-2:other"
    assert api.grants(INES, other).status_code == 200
    api.running(plan_with(facility, INES, mount_of(facility, "MA-2/raw/scan1", pid=other)))
    tell(api, None, act("withdrawal", pid=RAW))
    refusal = api.grants(INES, other).json()["refusal"]
    assert (refusal["code"], refusal["subject"]) == ("withdrawn", other)
    assert "one folder with data that was withdrawn" in refusal["reason"]
    assert api.ask("POST", "/recheck").json()[0]["action"] == "stop"
    revoke(api)
    assert api.grants(INES, other).status_code == 200


def test_a_product_of_withdrawn_data_is_read_by_nobody(stocked: Stocked) -> None:
    write_product(stocked.facility.pool / "MA-2/processed/p.h5", RAW)
    stocked.service.harvester.scan()
    (pid,) = [hit.pid for hit in stocked.service.search(INES).hits if hit.kind == "product"]
    assert reads(stocked, INES, pid)
    tell(stocked.api, None, act("withdrawal", pid=RAW))
    assert not reads(stocked, INES, pid)


def test_a_product_that_was_replaced_does_not_come_back_with_a_revocation(stocked: Stocked) -> None:
    file = stocked.facility.pool / "MA-2/processed/p.h5"
    pids = []
    for title in ("first", "second"):
        write_product(file, RAW, title=title)
        stocked.service.harvester.scan()
        stocked.facility.clock.now += timedelta(minutes=1)
        with stocked.service.database.reading() as session:
            newest = select(DatasetRow.pid).order_by(DatasetRow.id.desc()).limit(1)
            pids.append(str(session.scalar(newest)))
    assert [reads(stocked, INES, pid) for pid in pids] == [False, True]
    for number, pid in enumerate(pids, 1):
        assert tell(stocked.api, None, act("withdrawal", number=number, pid=pid))[0] == 201
        assert revoke(stocked.api, number) == 204
    assert [reads(stocked, INES, pid) for pid in pids] == [False, True]


def test_two_withdrawals_are_taken_back_one_by_one(stocked: Stocked) -> None:
    for number in (1, 2):
        assert tell(stocked.api, None, act("withdrawal", number=number))[0] == 201
    revoke(stocked.api, 1)
    assert not reads(stocked, INES)
    revoke(stocked.api, 2)
    assert reads(stocked, INES)
