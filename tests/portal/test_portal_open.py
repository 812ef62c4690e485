"""From a link to a running server: nothing without a click, everything as the person."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest

from beamhub_core.session import server_name_for
from portal.hub_double import Server  # the folder of these tests, not the room
from portal.portal_parts import (
    BASE,
    EMBARGOED,
    OPEN,
    TEAM,
    Browser,
    House,
    person,
    text_of,
)


@pytest.fixture
def ines(browser: Browser) -> Browser:
    """The principal investigator's browser, logged in."""
    browser.log_in(person("ines"))
    return browser


def open_link(house: House) -> str:
    return f"{BASE}/open?pid={house.pid(EMBARGOED)}&template=powder&profile=small"


def server_name(house: House) -> str:
    return server_name_for((house.pid(EMBARGOED),))


def servers(house: House) -> dict[str, Server]:
    return house.hub.servers.setdefault(person("ines").account, {})


def test_the_form_is_filled_in_and_starts_nothing(ines: Browser, house: House) -> None:
    page = ines.get(open_link(house))
    assert page.status_code == 200
    assert re.search(r'name="template" value="powder" checked', page.text)
    assert re.search(r'name="profile" value="small" checked', page.text)
    assert 'value="huge"' not in page.text  # a size of another role
    assert house.hub.starts == 0
    assert house.hub.bodies == []


def test_a_login_in_between_keeps_the_link(browser: Browser, house: House) -> None:
    page = browser.log_in(person("ines"), open_link(house))
    assert page.status_code == 200
    assert page.request.url.path == f"{BASE}/open"
    assert re.search(r'name="template" value="powder" checked', page.text)


def test_one_click_starts_with_names_only(ines: Browser, house: House) -> None:
    pid = house.pid(EMBARGOED)
    answer = ines.send(f"{BASE}/open", _xsrf=ines.xsrf(), pid=pid, template="powder", profile="small")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{BASE}/sessions/{server_name(house)}/launch"
    body = json.loads(house.hub.bodies[0])
    assert body["user_options"] == {"datasets": [pid], "profile": "small", "template": "powder"}


@pytest.mark.parametrize("token", [None, "", "0" * 64, "short", "\u00e9" * 64])
def test_a_form_without_the_right_token_starts_nothing(
    ines: Browser, house: House, token: str | None
) -> None:
    fields = {"pid": house.pid(EMBARGOED)} | ({} if token is None else {"_xsrf": token})
    answer = ines.send(f"{BASE}/open", **fields)
    assert answer.status_code == 403
    assert "Nothing was done" in text_of(answer)
    assert house.hub.bodies == []


def test_the_token_of_another_visit_starts_nothing(
    ines: Browser, other_browser: Browser, house: House
) -> None:
    other_browser.log_in(person("ines"))
    assert ines.send(f"{BASE}/open", _xsrf=other_browser.xsrf(), pid=house.pid(EMBARGOED)).status_code == 403


def test_a_form_that_another_site_sends_starts_nothing(ines: Browser, house: House) -> None:
    fields = {"_xsrf": ines.xsrf(), "pid": house.pid(EMBARGOED)}
    for site in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        assert ines.client.post(f"{BASE}/open", data=fields, headers=headers).status_code == 403
    assert house.hub.bodies == []


def test_nobody_starts_without_a_login(browser: Browser, house: House) -> None:
    assert browser.send(f"{BASE}/open", pid=house.pid(OPEN), _xsrf="0" * 64).status_code == 403
    assert house.hub.bodies == []


def test_an_outsider_is_told_when_the_embargo_ends(browser: Browser, house: House) -> None:
    browser.log_in(person("oscar"))
    for answer in (
        browser.get(open_link(house)),
        browser.send(f"{BASE}/open", _xsrf=browser.xsrf(), pid=house.pid(EMBARGOED)),
    ):
        assert answer.status_code == 403
        assert "Under embargo" in text_of(answer)
        assert re.search(r"\(20\d\d-\d\d-\d\d\)", text_of(answer))
    assert house.hub.bodies == []
    house.clock.ahead = timedelta(days=4 * 366)
    assert browser.get(open_link(house)).status_code == 200


def test_a_forged_form_for_hidden_data_is_a_404(browser: Browser, house: House) -> None:
    browser.log_in(person("oscar"))
    for pid in (house.pid(TEAM), "test:ZZ-9:nothing"):
        answer = browser.send(f"{BASE}/open", _xsrf=browser.xsrf(), pid=pid)
        assert answer.status_code == 404
        assert pid not in answer.text


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"profile": "huge"}, 403),
        ({"profile": "unknown"}, 403),
        ({"template": "../../etc/passwd"}, 400),
        ({"template": "unknown"}, 400),
        ({"environment": "unknown"}, 400),
        ({"pid": "../../etc/passwd"}, 404),
        ({"pid": "x" * 5000}, 400),
        ({"pid": "a\nb"}, 400),
        ({"pid": ""}, 400),
    ],
)
def test_a_wish_that_does_not_fit_is_a_page_and_starts_nothing(
    ines: Browser, house: House, fields: dict[str, str], status: int
) -> None:
    sent = {"_xsrf": ines.xsrf(), "pid": house.pid(EMBARGOED)} | fields
    assert ines.send(f"{BASE}/open", **sent).status_code == status
    assert house.hub.bodies == []


def test_more_datasets_than_a_session_takes_are_refused(ines: Browser, house: House) -> None:
    query = "&".join(f"pid=test:x:{i}" for i in range(65))
    assert ines.get(f"{BASE}/open?{query}").status_code == 400


def test_a_refusal_of_the_hub_is_shown_with_its_own_reference(ines: Browser, house: House) -> None:
    house.hub.start_answer = (503, "Both places are full until 14:00. [full, reference ab12cd34]")
    answer = ines.send(f"{BASE}/open", _xsrf=ines.xsrf(), pid=house.pid(EMBARGOED))
    assert answer.status_code == 503
    assert "Both places are full until 14:00." in text_of(answer)
    assert "ab12cd34" in answer.text


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
def test_inner_words_of_the_hub_are_not_shown(ines: Browser, house: House, status: int) -> None:
    house.hub.start_answer = (status, "OSError: /home/secret/token is not writable")
    answer = ines.send(f"{BASE}/open", _xsrf=ines.xsrf(), pid=house.pid(EMBARGOED))
    assert answer.status_code in (503, 403)
    assert "secret" not in answer.text
    assert re.search(r"Reference [0-9a-f]{8}", text_of(answer))


def test_a_second_open_leads_to_the_running_server(ines: Browser, house: House) -> None:
    servers(house)[server_name(house)] = Server(ready=True)
    answer = ines.send(f"{BASE}/open", _xsrf=ines.xsrf(), pid=house.pid(EMBARGOED))
    assert answer.status_code == 303
    assert house.hub.starts == 0
    page = ines.get(answer.headers["location"])
    target = f"/user/{person('ines').account}/{server_name(house)}/beamhub/open"
    assert f'content="1; url={target}"' in page.text


def test_the_launch_page_tells_the_phases_and_then_opens(ines: Browser, house: House) -> None:
    ines.send(f"{BASE}/open", _xsrf=ines.xsrf(), pid=house.pid(EMBARGOED))
    server = servers(house)[server_name(house)]
    launch = f"{BASE}/sessions/{server_name(house)}/launch"
    server.messages.append({"progress": 20, "message": "Choosing a <b>place</b> beside the data"})
    page = ines.get(launch)
    assert "Starting your session" in text_of(page)
    assert "<b>place</b>" not in page.text
    assert 'http-equiv="refresh" content="3"' in page.text  # without script
    status = ines.get(f"{launch}/status").json()
    assert (status["state"], status["percent"]) == ("starting", 20)
    server.pending, server.ready = None, True
    status = ines.get(f"{launch}/status").json()
    assert status["state"] == "ready"
    assert status["url"] == f"/user/{person('ines').account}/{server_name(house)}/beamhub/open"


def test_a_failed_start_says_so_with_its_reference(ines: Browser, house: House) -> None:
    failed = {"failed": True, "message": "Spawn failed: No place has room. [no_place, reference 00ff00ff]"}
    servers(house)["d-0"] = Server(messages=[failed])
    page = ines.get(f"{BASE}/sessions/d-0/launch")
    assert "No place has room." in text_of(page)
    assert "00ff00ff" in page.text
    assert ines.get(f"{BASE}/sessions/d-0/launch/status").json()["state"] == "failed"


def test_inner_words_of_a_failed_start_go_to_the_log_only(
    ines: Browser, house: House, caplog: pytest.LogCaptureFixture
) -> None:
    servers(house)["d-0"] = Server(messages=[{"failed": True, "message": "Spawn failed: KeyError '/x'"}])
    page = ines.get(f"{BASE}/sessions/d-0/launch")
    assert "KeyError" not in page.text
    found = re.search(r"Reference ([0-9a-f]{8})", text_of(page))
    assert found is not None
    assert found[1] in caplog.text


def test_a_silent_hub_makes_the_launch_unknown_not_failed(ines: Browser, house: House) -> None:
    servers(house)["d-0"] = Server(pending="spawn")
    house.hub.broken = True
    assert ines.get(f"{BASE}/sessions/d-0/launch/status").json()["state"] == "unknown"


def test_one_stops_only_ones_own_server_and_only_by_form(ines: Browser, house: House) -> None:
    servers(house)["d-0"] = Server(ready=True)
    house.hub.servers["u-else"] = {"d-1": Server(ready=True)}
    assert ines.get(f"{BASE}/sessions/d-0/stop").status_code == 405
    assert ines.send(f"{BASE}/sessions/d-0/stop").status_code == 403
    assert servers(house)["d-0"].ready
    ines.send(f"{BASE}/sessions/d-1/stop", _xsrf=ines.xsrf())
    assert house.hub.servers["u-else"]["d-1"].ready
    answer = ines.send(f"{BASE}/sessions/d-0/stop", _xsrf=ines.xsrf())
    assert answer.status_code == 303
    assert not servers(house)["d-0"].ready
    assert "asked to stop" in text_of(ines.visit(answer.headers["location"]))


def test_the_sessions_page_names_each_state(ines: Browser, house: House) -> None:
    assert "Nothing runs" in text_of(ines.get(f"{BASE}/sessions"))
    servers(house).update(
        {"d-0": Server(ready=True), "d-1": Server(pending="spawn"), "gone-server": Server()}
    )
    page = ines.get(f"{BASE}/sessions")
    text = text_of(page)
    assert "Running" in text
    assert "Follow the start" in text
    assert f"/user/{person('ines').account}/d-0/beamhub/open" in page.text
    assert "gone<" not in page.text  # a stopped server is no session


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a%2fb", "x" * 80, "d-0;", "<b>"])
def test_a_server_name_that_is_none_is_a_404(ines: Browser, name: str) -> None:
    assert ines.get(f"{BASE}/sessions/{name}/launch").status_code == 404
