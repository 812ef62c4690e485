"""A session prepared for later, and one that is kept although nothing happens in it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from beamhub_catalogue.models import SessionRow
from beamhub_core.session import server_name_for
from beamhub_core.trace import read_trace_id
from portal.hub_double import Server  # the folder of these tests, not the room
from portal.portal_parts import BASE, EMBARGOED, OPEN, TEAM, Browser, House, person, text_of
from portal.test_portal_queue import leave_all, wait_for

PLAN = "f" * 32


@pytest.fixture
def ines(browser: Browser, house: House) -> Iterator[Browser]:
    """The principal investigator's browser, logged in."""
    browser.log_in(person("ines"))
    yield browser
    for who in ("ines", "oscar"):
        leave_all(house, person(who).account)
    with house.service.database.writing() as session:
        row = session.get(SessionRow, PLAN)
        if row is not None:
            session.delete(row)


def name_of(house: House) -> str:
    return server_name_for((house.pid(EMBARGOED),))


def prepare(browser: Browser, house: House, **fields: str) -> tuple[int, str]:
    told = {"_xsrf": browser.xsrf(), "pid": house.pid(EMBARGOED), "profile": "small"} | fields
    answer = browser.send(f"{BASE}/prepare", **told)
    return answer.status_code, answer.headers.get("location", "") or text_of(answer)


def keep_row(house: House, account: str, plan: dict[str, object]) -> None:
    """A running session as the hub would have stored it, prepared and warned of a stop."""
    with house.service.database.writing() as session:
        now = house.service.desk.wall_clock()
        session.add(
            SessionRow(
                plan_id=PLAN,
                plan_hash="0" * 64,
                plan=plan,
                account=account,
                server_name=name_of(house),
                state="running",
                created_at=now,
                expires_at=now + timedelta(hours=8),
                last_seen=now,
                place="here",
                prepared_until=now + timedelta(minutes=20),
                idle_stop_at=now + timedelta(minutes=15),
            )
        )


def row(house: House) -> SessionRow:
    with house.service.database.reading() as session:
        found = session.get_one(SessionRow, PLAN)
        session.expunge(found)
        return found


def test_one_click_prepares_with_names_only_and_leads_to_my_sessions(ines: Browser, house: House) -> None:
    assert "Prepare it for later" in ines.get(f"{BASE}/open?pid={house.pid(EMBARGOED)}").text
    assert prepare(ines, house) == (303, f"{BASE}/sessions?done=prepare")
    body = json.loads(house.hub.bodies[0])
    assert body["user_options"] == {"datasets": [house.pid(EMBARGOED)], "profile": "small", "prepare": True}


def test_a_forged_form_a_foreign_dataset_or_a_size_of_others_prepares_nothing(
    ines: Browser, other_browser: Browser, house: House
) -> None:
    for forged in ({"_xsrf": "0" * 64}, {"_xsrf": ""}):
        assert prepare(ines, house, **forged)[0] == 403
    assert prepare(ines, house, profile="huge")[0] == 403
    assert prepare(ines, house, pid=house.pid(TEAM))[0] == 404
    token = ines.xsrf()
    other_browser.log_in(person("oscar"))
    assert prepare(other_browser, house, _xsrf=token)[0] == 403  # another person's form
    assert other_browser.send(f"{BASE}/prepare", pid=house.pid(OPEN)).status_code == 403
    assert house.hub.bodies == []


def test_nothing_is_prepared_while_people_wait(ines: Browser, house: House) -> None:
    wait_for(house, "d-of-oscar", person("oscar").account)
    status, said = prepare(ines, house)
    assert status >= 400
    assert "People wait for room" in said
    assert house.hub.bodies == []


def test_opening_a_prepared_session_puts_it_to_use(ines: Browser, house: House) -> None:
    account = person("ines").account
    keep_row(house, account, plan={})
    house.hub.servers[account] = {name_of(house): Server(ready=True)}
    house.hub.start_answer = (400, "already running")
    answer = ines.send(f"{BASE}/open", _xsrf=ines.xsrf(), pid=house.pid(EMBARGOED), profile="small")
    assert answer.status_code == 303
    assert row(house).prepared_until is None
    assert row(house).idle_stop_at is None


def test_only_its_person_keeps_a_session_running(ines: Browser, other_browser: Browser, house: House) -> None:
    keep_row(house, person("ines").account, plan={})
    other_browser.log_in(person("oscar"))
    path = f"{BASE}/sessions/{name_of(house)}/keep"
    assert other_browser.send(path, _xsrf=other_browser.xsrf()).status_code == 303
    assert ines.send(path, _xsrf="0" * 64).status_code == 403
    assert row(house).idle_stop_at is not None
    assert ines.send(path, _xsrf=ines.xsrf()).headers["location"] == f"{BASE}/sessions?done=keep"
    assert row(house).idle_stop_at is None


def test_the_login_and_the_start_that_follows_have_one_trace(
    browser: Browser, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        browser.log_in(person("ines"), f"{BASE}/open?pid={house.pid(EMBARGOED)}")
        browser.send(f"{BASE}/open", _xsrf=browser.xsrf(), pid=house.pid(EMBARGOED), profile="small")
        browser.send(f"{BASE}/open", _xsrf=browser.xsrf(), pid=house.pid(EMBARGOED), profile="small")
    (login,) = re.findall(r"logged in at the portal: trace=([0-9a-f]{32})", caplog.text)
    first, second = re.findall(r"start asked of the hub: server=\S+ trace=([0-9a-f]{32})", caplog.text)
    assert first == login
    assert second != login
    assert read_trace_id(f"00-{second}-{'1' * 16}-01") == second
