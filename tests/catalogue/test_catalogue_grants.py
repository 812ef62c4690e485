"""Grants over the internal API: which folders of the asked datasets somebody may read or write."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.audit import find_pseudonym
from beamhub_catalogue.internal import MAX_NAMED_DATASETS
from beamhub_catalogue.models import AuditRow
from beamhub_core.identity import Principal
from catalogue.catalogue_api_parts import HIDDEN, NOBODY, OPEN, RAW, Api, Stocked
from catalogue.catalogue_parts import (
    COLIN,
    INES,
    MEMBERS,
    NOW,
    OSCAR,
    PROPOSALS,
    SAM,
    Facility,
    person,
    write_detector_file,
    write_master,
)


def folders(answer: dict[str, Any], mode: str) -> list[str]:
    return sorted(g["folder"]["path"] for g in answer["grants"] if g["mode"] == mode)


def test_a_member_may_read_the_data_and_write_the_processed_folder(stocked: Stocked) -> None:
    answer = stocked.api.grants(COLIN, RAW).json()
    assert (folders(answer, "ro"), folders(answer, "rw")) == (["MA-2/raw/scan1"], ["MA-2/processed"])
    assert [d["pid"] for d in answer["datasets"]] == [RAW]
    assert {g["because"] for g in answer["grants"]} == {"membership"}
    assert answer["policy_version"].startswith("t1@")


def test_a_principal_investigator_from_the_user_office_may_write(stocked: Stocked) -> None:
    assert folders(stocked.api.grants(INES, RAW).json(), "rw") == ["MA-2/processed"]


def test_a_local_contact_and_an_instrument_scientist_read_and_never_write(stocked: Stocked) -> None:
    contact = person("contact", orcid="0000-0002-1825-0097")
    stocked.api.push(contact)
    for who, because in ((contact, "membership"), (SAM, "role")):
        answer = stocked.api.grants(who, RAW).json()
        assert (folders(answer, "ro"), folders(answer, "rw")) == (["MA-2/raw/scan1"], [])
        assert answer["grants"][0]["because"] == because


def test_open_data_is_for_everybody_to_read_and_for_nobody_to_write(stocked: Stocked) -> None:
    answer = stocked.api.grants(OSCAR, OPEN).json()
    assert (folders(answer, "ro"), folders(answer, "rw")) == (["OP-1/raw/scan1"], [])


def test_an_outsider_learns_until_when_the_embargo_lasts(stocked: Stocked) -> None:
    answer = stocked.api.grants(OSCAR, RAW)
    refusal = answer.json()["refusal"]
    assert (answer.status_code, refusal["code"], refusal["subject"]) == (403, "embargoed", RAW)
    assert refusal["until"] == "2028-10-10T00:00:00+02:00"
    stocked.facility.clock.now = NOW.replace(year=2028, month=10, day=9, hour=21, minute=59)
    assert stocked.api.grants(OSCAR, RAW).status_code == 403
    stocked.facility.clock.now = NOW.replace(year=2028, month=10, day=9, hour=22, minute=0)
    assert stocked.api.grants(OSCAR, RAW).status_code == 200


def test_a_hidden_dataset_is_refused_in_the_words_of_an_unknown_one(stocked: Stocked) -> None:
    told = []
    for pid in (HIDDEN, "test:TO-3:no-such"):
        answer = stocked.api.grants(OSCAR, pid)
        refusal = answer.json()["refusal"]
        assert (refusal.pop("subject"), len(refusal.pop("reference"))) == (pid, 10)
        told.append((answer.status_code, refusal))
    assert told[0] == told[1]
    assert (told[0][0], told[0][1]["code"]) == (404, "not_found")
    assert stocked.api.grants(INES, HIDDEN).status_code == 200


def test_one_dataset_that_may_not_be_read_refuses_all(stocked: Stocked) -> None:
    assert stocked.api.grants(OSCAR, OPEN, RAW).json()["refusal"]["subject"] == RAW


def test_a_dataset_named_twice_is_granted_once(stocked: Stocked) -> None:
    assert folders(stocked.api.grants(COLIN, RAW, RAW).json(), "ro") == ["MA-2/raw/scan1"]


def test_an_account_that_nobody_pushed_has_no_rights(stocked: Stocked) -> None:
    answer = stocked.api.ask("POST", "/grants", {"account": NOBODY, "datasets": [OPEN]})
    assert (answer.status_code, answer.json()["refusal"]["code"]) == (403, "not_a_member")


def test_links_into_folders_of_the_proposal_are_granted_and_others_are_named(
    api: Api, facility: Facility, service: CatalogueService
) -> None:
    for folder in ("MA-2/raw/det", "TO-3/raw/det", "MA-2/processed/det"):
        write_detector_file(facility.pool / folder / "f0.h5")
    links = {
        "a": "../det/f0.h5",
        "b": str(facility.pool / "TO-3/raw/det/f0.h5"),
        "c": str(facility.pool / "MA-2/processed/det/f0.h5"),
    }
    write_master(facility.pool / "MA-2/raw/scan1/scan1.h5", links=links, experiment_identifier="MA-2")
    service.harvester.scan()
    only_ma = person("mia", "MA-2")
    api.push(only_ma, INES)
    answer = api.grants(only_ma, RAW).json()
    assert folders(answer, "ro") == ["MA-2/raw/det", "MA-2/raw/scan1"]
    named = sorted(folder["path"] for folder in answer["ungranted_links"])
    assert named == ["MA-2/processed/det", "TO-3/raw/det"]
    both = api.grants(INES, RAW).json()
    assert folders(both, "ro") == ["MA-2/raw/det", "MA-2/raw/scan1", "TO-3/raw/det"]
    # Only the proposal of what was asked for is opened to write.
    assert folders(both, "rw") == ["MA-2/processed"]


def test_a_proposal_is_not_the_beginning_of_another_ones_name(
    api: Api, facility: Facility, service: CatalogueService
) -> None:
    facility.write_office((*PROPOSALS, "P1,A,confidential,b,2026-01-01,", "P10,B,confidential,b,2026-01-01,"))
    for proposal in ("P1", "P10"):
        write_detector_file(facility.pool / proposal / "raw/det/f0.h5")
        write_master(
            facility.pool / proposal / "raw/s/s.h5",
            links={"own": "../det/f0.h5", "other": str(facility.pool / "P10/raw/det/f0.h5")},
            experiment_identifier=proposal,
        )
    service.harvester.scan()
    only_p1 = person("pia", "P1")
    api.push(only_p1)
    answer = api.grants(only_p1, "test:P1:s").json()
    assert folders(answer, "ro") == ["P1/raw/det", "P1/raw/s"]
    assert folders(answer, "rw") == ["P1/processed"]
    assert answer["ungranted_links"] == [{"pool": "pool", "path": "P10/raw/det"}]
    assert api.grants(only_p1, "test:P10:s").status_code == 404


def test_a_row_that_the_user_office_removes_ends_the_right_at_the_next_question(stocked: Stocked) -> None:
    assert stocked.api.grants(INES, RAW).status_code == 200
    stocked.facility.write_office(members=MEMBERS[1:])
    assert stocked.api.grants(INES, RAW).json()["refusal"]["code"] == "embargoed"
    assert stocked.api.grants(INES, HIDDEN).status_code == 200
    stocked.facility.write_office(members=())
    assert stocked.api.grants(INES, HIDDEN).status_code == 404


def test_entitlements_end_with_the_grace_time(stocked: Stocked) -> None:
    stocked.facility.wall_clock.now = NOW + timedelta(days=400)
    assert stocked.api.grants(COLIN, RAW).status_code == 403
    assert stocked.api.grants(INES, RAW).status_code == 200  # the user office still says so


def test_decisions_are_written_down_with_what_was_decided(stocked: Stocked) -> None:
    stocked.api.grants(OSCAR, OPEN)
    stocked.api.grants(OSCAR, RAW)
    with stocked.service.database.reading() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.kind == "decision").order_by(AuditRow.seq))
        who = find_pseudonym(session, "person", OSCAR.account)
        told = [(row.actor, row.subject, row.detail["decision"]) for row in rows]
    assert told == [(who, OPEN, "granted"), (who, RAW, "embargoed")]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"account": INES.account},
        {"account": INES.account, "datasets": RAW},
        {"account": INES.account, "datasets": [""]},
        {"account": INES.account, "datasets": ["x" * 301]},
        {"account": INES.account, "datasets": [f"p{i}" for i in range(MAX_NAMED_DATASETS + 1)]},
        {"account": INES.account, "datasets": [], "role": "pi"},
        {"account": "u" * 81, "datasets": []},
        [],
        "x",
        None,
    ],
)
def test_a_question_that_is_none_is_refused_before_anything_is_looked_up(api: Api, body: Any) -> None:
    content = json.dumps(body).encode()
    answer = api.ask("POST", "/grants", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert set(answer.json()) == {"detail"}


def test_two_people_are_two_people(stocked: Stocked) -> None:
    twins: list[Principal] = [person("Ines"), person("ines ")]
    stocked.api.push(*twins)
    assert [stocked.api.grants(who, RAW).status_code for who in twins] == [403, 403]
