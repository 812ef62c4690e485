"""A login and a refresh with a required identity map of kind `csv`, in a running hub."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beamhub_core.identity import account_name
from beamhub_hub.renewal import SAME_ANSWER_S
from hub.hub_parts import RunningHub, browser, log_in, login_cookies, running_hub
from hub.identity_map_parts import row, write_table

pytestmark = pytest.mark.hub


@pytest.fixture(scope="module")
def module_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    folder = tmp_path_factory.mktemp("hub")

    def change(fields: dict[str, Any]) -> None:
        file = str(write_table(folder / "people.csv"))
        fields["login"]["identity_map"] = {"kind": "csv", "file": file, "is_required": True}

    with running_hub(folder, change=change) as made:
        yield made


@pytest.fixture
def table(hub: RunningHub) -> Path:
    """The table, in which ines has an account with numbers."""
    return write_rows(
        hub, row(issuer=hub.provider.issuer, gids="20001 10", more="University,Name of the map")
    )


def write_rows(hub: RunningHub, *rows: str) -> Path:
    return write_table(hub.folder / "people.csv", *rows)


def ines(hub: RunningHub) -> str:
    return account_name(hub.provider.issuer, "ines")


def wait_for_age() -> None:
    """Until the last answer is old enough to be asked for again."""
    deadline = time.monotonic() + SAME_ANSWER_S + 0.1
    while time.monotonic() < deadline:
        time.sleep(0.05)


def test_web_is_told_of_the_facilitys_account_and_numbers(hub: RunningHub, table: Path) -> None:
    with browser() as client:
        assert log_in(hub, client).status_code == 200
    told = hub.web.principals[ines(hub)]
    assert (told["facility_account"], told["uid"], told["gid"], told["gids"]) == (
        "iferreira",
        12001,
        20000,
        [20001],
    )
    assert (told["home_organisation"], told["display_name"]) == ("University", "Name of the map")


def test_a_stranger_to_the_table_is_not_logged_in(hub: RunningHub, table: Path) -> None:
    hub.provider.script.subject = "oscar"
    with browser() as client:
        answer = log_in(hub, client)
        assert (answer.status_code, login_cookies(client)) == (403, set())
    assert "no account on file" in answer.text
    assert hub.web.pushes == []
    assert [notice["code"] for notice in hub.web.notices] == ["not_in_map"]


def test_a_broken_table_logs_nobody_in_and_keeps_who_is(hub: RunningHub, table: Path) -> None:
    with browser() as client, browser() as late:
        log_in(hub, client)
        table.write_text("broken\n")
        answer = log_in(hub, late)
        assert (answer.status_code, login_cookies(late)) == (503, set())
        wait_for_age()
        assert client.get(f"{hub.public_url}/hub/home").url.path == "/hub/home"
    assert hub.web.removed == []
    assert "line 1: the header must be" in hub.log


def test_a_row_that_is_taken_out_ends_the_rights_at_the_next_refresh(hub: RunningHub, table: Path) -> None:
    with browser() as client:
        log_in(hub, client)
        write_rows(hub)
        wait_for_age()
        assert client.get(f"{hub.public_url}/hub/home").url.path == "/hub/login"
    assert set(hub.web.removed) == {ines(hub)}
