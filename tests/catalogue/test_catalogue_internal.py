"""The internal API: who may call what, principals, harvest and what no body may do to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from beamhub_catalogue import CatalogueService
from beamhub_catalogue.internal import MAX_BODY_BYTES
from catalogue.catalogue_api_parts import NOBODY, OPEN, RAW, Api, Stocked, open_api, write_data
from catalogue.catalogue_parts import COLIN, INES, NOW, OSCAR, TOKENS, Facility, person, write_master

PLAN_ID = "0" * 32
SCOPED = (
    ("PUT", f"/principals/{INES.account}"),
    ("DELETE", f"/principals/{INES.account}"),
    ("POST", "/grants"),
    ("PUT", f"/sessions/{PLAN_ID}"),
    ("POST", f"/sessions/{PLAN_ID}/update"),
    ("POST", "/recheck"),
    ("POST", "/harvest"),
)
READING = (("GET", f"/sessions/{PLAN_ID}"), ("GET", "/sessions?live=true"))


@pytest.mark.parametrize(("method", "path"), [*SCOPED, *READING, ("POST", "/products")])
@pytest.mark.parametrize("token", [None, "", "not-the-token-0123456789", TOKENS["hub"] + "x", "x" * 600])
def test_without_a_known_token_the_answer_is_401(api: Api, method: str, path: str, token: str | None) -> None:
    answer = api.ask(method, path, {"path": "/x.h5"} if path == "/products" else {}, token)
    # FastAPI judges a body before a scope: what is no body is told so, and nothing else is.
    assert answer.status_code == 401
    assert set(answer.json()) == {"detail"}
    assert token is None or token == "" or token not in answer.text


@pytest.mark.parametrize(("method", "path"), SCOPED)
def test_a_client_without_the_scope_is_refused_with_403(api: Api, method: str, path: str) -> None:
    answer = api.ask(method, path, {}, TOKENS["reader"])
    assert answer.status_code == 403
    assert "scope" in answer.json()["detail"]


def test_a_client_with_the_scope_may_read_plans(api: Api) -> None:
    assert api.ask("GET", "/sessions?live=true", token=TOKENS["reader"]).json() == []
    assert api.ask("GET", f"/sessions/{PLAN_ID}", token=TOKENS["reader"]).status_code == 404


def test_a_platform_token_tells_of_no_product(api: Api) -> None:
    assert api.product("/x.h5", TOKENS["hub"]).status_code == 401


def test_a_client_whose_token_is_too_short_may_do_nothing(facility: Facility) -> None:
    (facility.folder / "secrets" / "hub").write_text("short\n")
    (facility.folder / "secrets" / "reader").unlink()
    service = facility.service()
    try:
        with open_api(service) as api:
            assert api.ask("POST", "/recheck", token="short").status_code == 401
            assert api.ask("GET", "/sessions?live=true", token=TOKENS["reader"]).status_code == 401
    finally:
        service.stop()


def test_health_needs_no_token_and_tells_of_the_database(api: Api, service: CatalogueService) -> None:
    assert api.ask("GET", "/health", token=None).json() == {"status": "ok", "database": "ok"}


# Principals


def test_an_older_principal_changes_nothing(stocked: Stocked) -> None:
    assert stocked.api.grants(COLIN, RAW).status_code == 200
    stocked.api.push(person("colin", checked_at=NOW - timedelta(seconds=1)))
    assert stocked.api.grants(COLIN, RAW).status_code == 200
    stocked.api.push(person("colin", checked_at=NOW + timedelta(seconds=1)))
    assert stocked.api.grants(COLIN, RAW).status_code == 403


def test_a_removed_account_has_no_rights_at_once(stocked: Stocked) -> None:
    stocked.facility.wall_clock.now = NOW + timedelta(minutes=5)
    assert stocked.api.ask("DELETE", f"/principals/{INES.account}").status_code == 204
    answer = stocked.api.grants(INES, OPEN)
    assert (answer.status_code, answer.json()["refusal"]["code"]) == (403, "not_a_member")
    stocked.api.push(INES)  # late news from before the end
    assert stocked.api.grants(INES, RAW).status_code == 403
    stocked.api.push(person("ines", checked_at=NOW + timedelta(minutes=6)))
    assert stocked.api.grants(INES, RAW).status_code == 200


def test_removing_an_unknown_account_is_no_error(api: Api) -> None:
    assert api.ask("DELETE", f"/principals/{NOBODY}").status_code == 204


@pytest.mark.parametrize(
    "changes",
    [
        {"account": NOBODY},
        {"subject": "oscar"},
        {"checked_at": "2026-06-01T12:00:00"},
        {"checked_at": "9999-12-31T23:59:59-12:00"},
        {"checked_at": "0001-01-01T00:00:00+12:00"},
        {"roles": ["director"]},
        {"surprise": 1},
    ],
)
def test_a_principal_that_is_not_whole_is_refused(api: Api, changes: dict[str, Any]) -> None:
    body = INES.model_dump(mode="json") | changes
    assert api.ask("PUT", f"/principals/{INES.account}", body).status_code == 422
    assert api.grants(INES).status_code == 403


def test_an_account_in_the_address_is_checked(api: Api) -> None:
    assert api.ask("PUT", f"/principals/{OSCAR.account}", INES).status_code == 422
    assert api.ask("PUT", "/principals/ines", INES).status_code == 422


# Harvest


def test_harvest_tells_what_it_found_and_how_many_datasets_there_are(api: Api, facility: Facility) -> None:
    write_data(facility)
    (facility.pool / "OP-1/raw/bad.h5").write_text("no HDF5 at all")
    first = api.ask("POST", "/harvest", {}).json()
    assert (first["harvested"], first["unchanged"], first["datasets"]) == (3, 0, 3)
    assert [p["file"] for p in first["problems"]] == ["OP-1/raw/bad.h5"]


def test_a_file_that_was_set_aside_earlier_is_named_again(api: Api, facility: Facility) -> None:
    master = write_master(facility.pool / "OP-1/raw/bad/bad.h5", experiment_identifier="OP-1")
    whole = master.read_bytes()
    os.truncate(master, master.stat().st_size // 2)
    write_master(facility.pool / "OP-1/raw/other.h5", experiment_identifier="MA-2")
    first = api.ask("POST", "/harvest", {}).json()
    again = api.ask("POST", "/harvest", {}).json()
    assert sorted(p["file"] for p in again["problems"]) == ["OP-1/raw/bad/bad.h5", "OP-1/raw/other.h5"]
    assert sorted(map(str, again["problems"])) == sorted(map(str, first["problems"]))
    assert (again["harvested"], again["unchanged"], again["datasets"]) == (0, 2, 0)
    one = api.ask("POST", "/harvest", {"pool": "pool", "path": "OP-1/raw/bad"}).json()
    assert [p["file"] for p in one["problems"]] == ["OP-1/raw/bad/bad.h5"]
    master.write_bytes(whole)
    mended = api.ask("POST", "/harvest", {}).json()
    assert [p["file"] for p in mended["problems"]] == ["OP-1/raw/other.h5"]
    assert (mended["harvested"], mended["datasets"]) == (1, 1)
    (facility.pool / "OP-1/raw/other.h5").unlink()
    assert api.ask("POST", "/harvest", {}).json()["problems"] == []


def test_only_datasets_below_the_asked_folder_are_counted(api: Api, facility: Facility) -> None:
    for proposal in ("OP-1", "OP-10", "op-1"):
        write_master(facility.pool / proposal / "raw/s/s.h5", experiment_identifier=proposal)
    write_master(facility.pool / "OP-1/raw/s2/s2.h5", experiment_identifier="OP-1")
    assert api.ask("POST", "/harvest", {}).json()["datasets"] == 4
    for path, n_datasets in (("OP-1", 2), ("OP-1/raw/s", 1), ("OP-1/raw/s/s.h5", 1), ("OP-1/raw/sx", 0)):
        answer = api.ask("POST", "/harvest", {"pool": "pool", "path": path}).json()
        assert (path, answer["datasets"]) == (path, n_datasets)


@pytest.mark.parametrize(
    "body",
    [
        {"path": "OP-1"},
        {"pool": "other"},
        {"pool": "pool", "path": "../secrets"},
        {"pool": "pool", "path": "/etc"},
        {"pool": "pool", "path": "OP-1/../../x"},
        {"pool": "pool", "path": "x\u0000"},
        {"pool": "pool", "path": ""},
        {"surprise": 1},
    ],
)
def test_harvest_looks_nowhere_but_in_the_pools(api: Api, body: dict[str, Any]) -> None:
    assert api.ask("POST", "/harvest", body).status_code == 422


def test_a_name_too_long_for_a_file_is_a_problem_and_no_failure(api: Api) -> None:
    answer = api.ask("POST", "/harvest", {"pool": "pool", "path": "x" * 300})
    assert answer.status_code == 200
    assert len(answer.json()["problems"]) == 1


# Bounds


@pytest.mark.parametrize(("method", "path"), [*SCOPED[:1], *SCOPED[2:], ("POST", "/products")])
def test_a_body_over_the_bound_is_refused_before_it_is_read(api: Api, method: str, path: str) -> None:
    content = b'{"a": "' + b"x" * MAX_BODY_BYTES + b'"}'
    answer = api.ask(method, path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert set(answer.json()) == {"detail"}


def test_a_body_that_does_not_say_its_length_is_refused(api: Api) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"{}"

    answer = api.ask("POST", "/grants", content=pieces())
    assert answer.status_code == 411


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"account": NaN, "datasets": []}',
        b'{"account": "\\ud800", "datasets": []}',
        b'{"account": 1e999, "datasets": []}',
        b'{"account": ' + b"9" * 5_000 + b"}",
    ],
)
def test_bytes_that_are_no_good_json_are_told_so(api: Api, content: bytes) -> None:
    answer = api.ask("POST", "/grants", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"detail"}


def test_what_a_caller_sent_is_not_sent_back(api: Api) -> None:
    answer = api.ask("POST", "/grants", {"account": INES.account, "datasets": [], "claims": "secret-claim"})
    assert answer.status_code == 422
    assert "secret-claim" not in answer.text
