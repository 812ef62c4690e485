"""Products that a session tells of: which files count, what they may claim, and who may see them."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from httpx import Response
from sqlalchemy import bindparam, text
from sqlalchemy.exc import StatementError

from beamhub_catalogue.harvest import is_about_values
from beamhub_catalogue.models import UtcDateTime
from beamhub_catalogue.views import DatasetView
from beamhub_core.identity import Principal
from beamhub_core.session import SessionPlan
from catalogue.catalogue_api_parts import HIDDEN, OPEN, RAW, SESSION_TOKEN, Stocked
from catalogue.catalogue_parts import COLIN, INES, OSCAR, person, session_plan, write_master, write_product

pytestmark = pytest.mark.slow

PROCESSED = "MA-2/processed"


@pytest.fixture
def plan(stocked: Stocked) -> SessionPlan:
    """A running session of Ines, who may write to the processed folder of MA-2 and to her home."""
    (stocked.facility.pool / PROCESSED).mkdir()
    home(stocked, INES).mkdir()
    return stocked.api.running(session_plan(stocked.facility, INES))


def home(stocked: Stocked, who: Principal) -> Path:
    return stocked.facility.folder / "homes" / who.account


def page(stocked: Stocked, who: Principal | None, pid: str) -> DatasetView:
    view = stocked.service.dataset_page(who, pid)
    assert isinstance(view, DatasetView)
    return view


def sees(stocked: Stocked, who: Principal | None, pid: str) -> tuple[bool, bool]:
    """Whether a reader may know of a dataset, and may read it."""
    view = stocked.service.dataset_page(who, pid)
    return isinstance(view, DatasetView), isinstance(view, DatasetView) and view.may_read


def taken(answer: Response) -> str:
    assert answer.status_code == 201, answer.text
    pid: str = answer.json()["pid"]
    return pid


def refused(answer: Response) -> str:
    assert answer.status_code == 422, answer.text
    refusal = answer.json()["refusal"]
    assert refusal["code"] == "bad_request"
    reason: str = refusal["reason"]
    return reason


def test_a_product_is_catalogued_at_once_and_once(stocked: Stocked, plan: SessionPlan) -> None:
    path = write_product(stocked.facility.pool / PROCESSED / "p.h5", RAW)
    pid = taken(stocked.api.product(path))
    assert taken(stocked.api.product(path)) == pid
    assert pid.startswith("test:MA-2:product-")
    view = page(stocked, INES, pid)
    assert (view.kind, view.title, view.private, view.preview_available) == (
        "product",
        "Pattern of Si",
        False,
        True,
    )
    assert view.provenance is not None
    assert view.provenance.who == "Ines Ferreira"
    assert view.provenance.evidence == (
        ("frames_read", "12"), ("frames_missing", "1"), ("integrity", "not verifiable")
    )  # fmt: skip
    stocked.service.harvester.scan()
    assert stocked.service.search(INES, "pattern").total == 1


def test_origin_and_use_are_shown_both_ways_to_who_may_know(stocked: Stocked, plan: SessionPlan) -> None:
    folder = stocked.facility.pool / PROCESSED
    one = taken(stocked.api.product(write_product(folder / "one.h5", RAW, OPEN)))
    two = taken(stocked.api.product(write_product(folder / "two.h5", OPEN, HIDDEN, title="Two")))
    assert [r.pid for r in page(stocked, INES, one).made_from] == [RAW, OPEN]
    assert [r.pid for r in page(stocked, INES, two).made_from] == [OPEN, HIDDEN]
    assert sorted(r.pid for r in page(stocked, INES, OPEN).used_by) == sorted([one, two])
    # An outsider may know of MA-2 but not of TO-3, nor of what was made from it.
    assert [r.pid for r in page(stocked, OSCAR, one).made_from] == [RAW, OPEN]
    assert [r.pid for r in page(stocked, OSCAR, OPEN).used_by] == [one]
    assert [r.pid for r in page(stocked, None, RAW).used_by] == [one]
    assert sees(stocked, OSCAR, two) == (False, False)


def test_a_product_stands_under_the_strictest_policy_of_all_it_was_made_from(
    stocked: Stocked, plan: SessionPlan
) -> None:
    folder = stocked.facility.pool / PROCESSED
    mixed = taken(stocked.api.product(write_product(folder / "mixed.h5", RAW, HIDDEN)))
    onward = taken(stocked.api.product(write_product(folder / "onward.h5", mixed, OPEN, title="Onward")))
    only_ma, only_to = person("mia", "MA-2"), person("tom", "TO-3")
    for pid in (mixed, onward):
        assert sees(stocked, INES, pid) == (True, True)
        assert sees(stocked, COLIN, pid) == (True, True)
        for who in (only_ma, OSCAR, None):
            assert sees(stocked, who, pid) == (False, False)
        assert sees(stocked, only_to, pid) == (True, False)


def test_a_product_in_a_home_is_its_makers_alone(stocked: Stocked, plan: SessionPlan) -> None:
    pid = taken(stocked.api.product(write_product(home(stocked, INES) / "work/p.h5", RAW)))
    assert page(stocked, INES, pid).private
    for who in (COLIN, OSCAR, None):
        assert sees(stocked, who, pid) == (False, False)
        assert pid not in [r.pid for r in page(stocked, who, RAW).used_by]
    assert [r.pid for r in page(stocked, INES, RAW).used_by] == [pid]
    assert stocked.api.grants(COLIN, pid).status_code == 404
    assert stocked.api.grants(INES, pid).status_code == 403  # a home is mounted already


def test_a_product_moves_from_the_home_to_the_proposal_and_never_back(
    stocked: Stocked, plan: SessionPlan
) -> None:
    private = write_product(home(stocked, INES) / "p.h5", RAW)
    pid = taken(stocked.api.product(private))
    shared = stocked.facility.pool / PROCESSED / "p.h5"
    shared.write_bytes(private.read_bytes())
    assert taken(stocked.api.product(shared)) == pid
    assert sees(stocked, COLIN, pid) == (True, True)
    assert taken(stocked.api.product(private)) == pid
    assert sees(stocked, COLIN, pid) == (True, True)


@pytest.mark.parametrize(
    "place",
    [
        "pool/MA-2/raw/p.h5",
        "pool/TO-3/processed/p.h5",
        "pool/MA-2/processed-not/p.h5",
        "pool/MA-20/processed/p.h5",
        "pool/MA-2/processed/../../TO-3/processed/p.h5",
        "pool/MA-2/processed/../processed/p.h5",
        "homes/other/p.h5",
        "pool/MA-2/processed/p.txt",
        "pool/MA-2/processed/p",
    ],
)
def test_a_path_outside_the_writable_folders_is_no_product(
    stocked: Stocked, plan: SessionPlan, place: str
) -> None:
    path = f"{stocked.facility.folder}/{place}"
    write_product(Path(os.path.normpath(path)), RAW)
    assert "processed folder" in refused(stocked.api.product(path))


@pytest.mark.parametrize("path", ["p.h5", "/etc/passwd", "/", "", "/p.h5\u0000", "//p.h5"])
def test_a_path_that_is_no_absolute_one_of_the_session_is_no_product(
    stocked: Stocked, plan: SessionPlan, path: str
) -> None:
    refused(stocked.api.product(path))


def test_a_missing_file_and_a_name_that_no_file_can_have_are_refused(
    stocked: Stocked, plan: SessionPlan
) -> None:
    folder = stocked.facility.pool / PROCESSED
    (folder / "folder.h5").mkdir()
    os.mkfifo(folder / "fifo.h5")
    for name in ("none.h5", "folder.h5", "fifo.h5", "x" * 300 + ".h5", "x\n.h5", "p.h5/p.h5"):
        assert "no such file" in refused(stocked.api.product(folder / name))


def test_a_link_leads_to_no_product(stocked: Stocked, plan: SessionPlan) -> None:
    facility = stocked.facility
    folder, foreign = facility.pool / PROCESSED, facility.pool / "TO-3/processed"
    write_product(foreign / "p.h5", RAW)
    (folder / "file.h5").symlink_to(foreign / "p.h5")
    (folder / "deep").symlink_to(foreign)
    (home(stocked, INES) / "own.h5").symlink_to(write_product(folder / "real.h5", RAW))
    for path in (folder / "file.h5", folder / "deep/p.h5", home(stocked, INES) / "own.h5"):
        assert "link" in refused(stocked.api.product(path))


def test_a_processed_folder_that_is_a_link_is_none(stocked: Stocked) -> None:
    foreign = stocked.facility.pool / "TO-3/processed"
    write_product(foreign / "p.h5", RAW)
    (stocked.facility.pool / PROCESSED).symlink_to(foreign)
    stocked.api.running(session_plan(stocked.facility, INES))
    refused(stocked.api.product(stocked.facility.pool / PROCESSED / "p.h5"))


def test_inputs_that_the_account_may_not_read_and_unknown_ones_are_refused_alike(stocked: Stocked) -> None:
    mia = person("mia", "MA-2")
    stocked.api.push(mia)
    stocked.api.running(session_plan(stocked.facility, mia))
    told = []
    for name, claimed in (("a.h5", HIDDEN), ("b.h5", "test:TO-3:no-such")):
        path = write_product(stocked.facility.pool / PROCESSED / name, claimed, account=mia.account)
        told.append(refused(stocked.api.product(path)).replace(claimed, "PID"))
    assert told[0] == told[1]
    path = write_product(stocked.facility.pool / PROCESSED / "c.h5", RAW, account=mia.account)
    taken(stocked.api.product(path))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"account": COLIN.account}, "another account"),
        ({"proposal": "TO-3"}, "belongs to"),
        ({"inputs": []}, "provenance"),
        ({"made_at": "9999-12-31T23:59:59-12:00"}, "The file "),
        ({"made_at": "0001-01-01T00:00:00+12:00"}, "The file "),
        ({"surprise": 1}, "provenance"),
        ({"title": 7}, "provenance"),
    ],
)
def test_a_product_that_claims_too_much_is_refused(
    stocked: Stocked, plan: SessionPlan, told: dict[str, Any], words: str
) -> None:
    path = write_product(stocked.facility.pool / PROCESSED / "p.h5", RAW, **told)
    assert words in refused(stocked.api.product(path))
    assert stocked.service.search(INES, "pattern").total == 0


@pytest.mark.parametrize("proposal", ["TO-3", "../../etc", "OP-1", "x" * 500, "a b\n"])
def test_a_product_in_a_home_belongs_to_a_proposal_of_its_inputs(
    stocked: Stocked, plan: SessionPlan, proposal: str
) -> None:
    path = write_product(home(stocked, INES) / "p.h5", RAW, proposal=proposal)
    refused(stocked.api.product(path))


def test_a_file_that_is_no_product_is_refused(stocked: Stocked, plan: SessionPlan) -> None:
    path = stocked.facility.pool / PROCESSED / "p.h5"
    path.write_text("no HDF5 at all")
    assert "damaged" in refused(stocked.api.product(path))


def test_a_time_beyond_the_calendar_stops_no_scan(stocked: Stocked, plan: SessionPlan) -> None:
    beyond = "9999-12-31T23:59:59-12:00"
    write_master(stocked.facility.pool / "MA-2/raw/a/a.h5", experiment_identifier="MA-2", start_time=beyond)
    write_product(stocked.facility.pool / PROCESSED / "a.h5", RAW, made_at=beyond)
    write_product(stocked.facility.pool / PROCESSED / "b.h5", RAW)
    report = stocked.service.harvester.scan()
    assert f"{PROCESSED}/a.h5" in [p.file for p in report.problems]
    assert len([pid for pid in report.harvested if "product-" in pid]) == 1
    again = stocked.service.harvester.scan()
    assert (again.harvested, again.problems) == ([], [])
    assert again.standing_problems == report.problems


def test_a_failure_of_the_database_is_not_taken_for_a_bad_value(stocked: Stocked) -> None:
    for query, bad_value in (("SELECT no_such_column", False), ("SELECT :when", True)):
        when = bindparam("when", datetime(2026, 1, 1), UtcDateTime())  # noqa: DTZ001  # naive: never stored
        statement = text(query).bindparams(when) if bad_value else text(query)
        with stocked.service.database.reading() as session, pytest.raises(StatementError) as caught:
            session.execute(statement)
        assert is_about_values(caught.value) == bad_value


def test_a_token_is_good_only_while_its_session_lives(stocked: Stocked, plan: SessionPlan) -> None:
    path = write_product(stocked.facility.pool / PROCESSED / "p.h5", RAW)
    for state, status in (("unknown", 201), ("running", 201), ("stopping", 201), ("ended", 401)):
        stocked.api.update(plan, state=state)
        assert (state, stocked.api.product(path).status_code) == (state, status)
    stocked.api.update(plan, state="running", token_digest="0" * 64)
    assert stocked.api.product(path).status_code == 401


def test_a_token_writes_only_where_its_own_session_may(stocked: Stocked, plan: SessionPlan) -> None:
    other = session_plan(stocked.facility, COLIN, processed="TO-3", number=2)
    stocked.api.running(other, SESSION_TOKEN + "2")
    mine = write_product(stocked.facility.pool / PROCESSED / "p.h5", RAW)
    theirs = write_product(
        stocked.facility.pool / "TO-3/processed/p.h5", HIDDEN, proposal="TO-3", account=COLIN.account
    )
    refused(stocked.api.product(mine, SESSION_TOKEN + "2"))
    refused(stocked.api.product(theirs))
    taken(stocked.api.product(mine))
    taken(stocked.api.product(theirs, SESSION_TOKEN + "2"))


def test_a_token_that_two_sessions_claim_is_nobodys(stocked: Stocked, plan: SessionPlan) -> None:
    stocked.api.running(session_plan(stocked.facility, COLIN, number=2))
    path = write_product(stocked.facility.pool / PROCESSED / "p.h5", RAW)
    assert stocked.api.product(path).status_code == 401


def test_a_session_token_does_nothing_but_tell_of_products(stocked: Stocked, plan: SessionPlan) -> None:
    for method, path in (("POST", "/recheck"), ("GET", "/sessions?live=true"), ("POST", "/harvest")):
        assert stocked.api.ask(method, path, token=SESSION_TOKEN).status_code in (401, 422)
    assert stocked.api.ask("POST", "/harvest", {}, SESSION_TOKEN).status_code == 401


def test_an_account_that_was_ended_tells_of_no_product(stocked: Stocked, plan: SessionPlan) -> None:
    path = write_product(stocked.facility.pool / PROCESSED / "p.h5", RAW)
    stocked.api.ask("DELETE", f"/principals/{INES.account}")
    refused(stocked.api.product(path))
