"""Login through the hub, and every way in which it must not work."""

from __future__ import annotations

import logging
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from sqlalchemy import create_engine, text

from portal.hub_double import ACCESS  # the folder of these tests, not the room
from portal.portal_parts import (
    BASE,
    EMBARGOED,
    Browser,
    House,
    person,
    text_of,
)

VISIT_COOKIE = "beamhub-portal"


def begin_login(browser: Browser, path: str = f"{BASE}/login") -> dict[str, str]:
    """Start a login and let the hub answer; what it hands to the callback."""
    answer = browser.get(path)
    hub = urlsplit(browser.house.hub.api_url)
    sent = httpx.get(f"{hub.scheme}://{hub.netloc}{answer.headers['location']}")
    return dict(parse_qsl(urlsplit(sent.headers["location"]).query))


def test_a_login_shows_the_person_and_leads_back_to_the_page(browser: Browser, house: House) -> None:
    pid = house.pid(EMBARGOED)
    page = browser.log_in(person("ines"), f"{BASE}/login?next={BASE}/datasets/{pid}")
    assert page.status_code == 200
    assert "Ines Example" in text_of(page)
    assert page.request.url.path == f"{BASE}/datasets/{pid}"


def test_the_cookie_is_a_random_name_for_our_path_only(browser: Browser, house: House) -> None:
    house.hub.person = house.introduce(person("ines"))
    query = begin_login(browser)
    answer = browser.get(f"{BASE}/oauth_callback?{urlencode(query)}")
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith(VISIT_COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert f"Path={BASE}" in cookie
    assert "Secure" not in cookie  # the public address of this house is plain http on loopback
    token = next(iter(house.hub.tokens))
    assert token not in str(answer.headers)


def test_the_database_opens_no_visit(browser: Browser, house: House) -> None:
    browser.log_in(person("ines"))
    token = next(iter(house.hub.tokens))
    name = browser.client.cookies.get(VISIT_COOKIE)
    engine = create_engine(house.config.web.database_url)
    with engine.connect() as connection:
        rows = str(connection.execute(text("SELECT * FROM portal_visits")).all())
    engine.dispose()
    assert token not in rows
    assert name is not None
    assert name not in rows


def test_a_callback_of_another_browser_is_no_login(
    browser: Browser, other_browser: Browser, house: House
) -> None:
    house.hub.person = house.introduce(person("ines"))
    query = begin_login(other_browser)
    answer = browser.get(f"{BASE}/oauth_callback?{urlencode(query)}")
    assert answer.status_code == 400
    assert VISIT_COOKIE not in browser.client.cookies
    assert query["code"] not in answer.text


def test_a_callback_works_once(browser: Browser, house: House) -> None:
    house.hub.person = house.introduce(person("ines"))
    query = begin_login(browser)
    assert browser.get(f"{BASE}/oauth_callback?{urlencode(query)}").status_code == 303
    assert browser.get(f"{BASE}/oauth_callback?{urlencode(query)}").status_code == 400


@pytest.mark.parametrize("spoiled", ["state", "code"])
def test_a_spoiled_callback_is_no_login(browser: Browser, house: House, spoiled: str) -> None:
    house.hub.person = house.introduce(person("ines"))
    query = begin_login(browser) | {spoiled: "spoiled"}
    assert browser.get(f"{BASE}/oauth_callback?{urlencode(query)}").status_code in (400, 403)
    assert VISIT_COOKIE not in browser.client.cookies


def test_a_login_that_the_hub_denies_is_a_page(browser: Browser, house: House) -> None:
    page = browser.visit(f"{BASE}/login")
    assert page.status_code == 403
    assert "You are not logged in" in text_of(page)


def test_a_verifier_of_another_login_is_refused_by_the_hub(browser: Browser, house: House) -> None:
    house.hub.person = house.introduce(person("ines"))
    first, second = begin_login(browser), begin_login(browser)
    mixed = {"state": first["state"], "code": second["code"]}
    assert browser.get(f"{BASE}/oauth_callback?{urlencode(mixed)}").status_code == 403


def test_two_tabs_log_in_beside_each_other(browser: Browser, house: House) -> None:
    house.hub.person = house.introduce(person("ines"))
    first, second = begin_login(browser), begin_login(browser)
    for query in (second, first):
        assert browser.get(f"{BASE}/oauth_callback?{urlencode(query)}").status_code == 303


def test_a_login_never_leads_to_another_site(browser: Browser, house: House) -> None:
    house.hub.person = house.introduce(person("ines"))
    query = begin_login(browser, f"{BASE}/login?next=//evil.example/")
    answer = browser.get(f"{BASE}/oauth_callback?{urlencode(query)}")
    assert answer.headers["location"] == f"{BASE}/"


def test_the_page_before_the_login_is_found_without_being_named(browser: Browser, house: House) -> None:
    house.hub.person = house.introduce(person("ines"))
    answer = browser.get(f"{BASE}/login", referer=f"{house.public}{BASE}/datasets/x")
    assert answer.status_code == 303
    query = dict(parse_qsl(urlsplit(browser.visit(answer.headers["location"]).request.url.path).query))
    assert query == {}
    foreign = browser.get(f"{BASE}/login", referer=f"https://evil.example{BASE}/datasets/x")
    assert foreign.status_code == 303


def test_after_logout_at_the_hub_the_visit_is_over(browser: Browser, house: House) -> None:
    browser.log_in(person("ines"))
    house.hub.log_out(person("ines").account)
    page = browser.get(f"{BASE}/")
    assert "Ines Example" not in text_of(page)
    assert browser.get(f"{BASE}/sessions").status_code == 303


def test_logging_out_here_forgets_the_visit_and_goes_on_to_the_hub(browser: Browser, house: House) -> None:
    browser.log_in(person("ines"))
    kept = browser.client.cookies.get(VISIT_COOKIE)
    page = browser.send(f"{BASE}/logout", _xsrf=browser.xsrf())
    assert 'url=/hub/logout"' in page.text
    browser.client.cookies.set(VISIT_COOKIE, kept or "", domain="127.0.0.1", path=BASE)
    assert browser.get(f"{BASE}/sessions").status_code == 303


def test_logging_out_needs_our_own_form(browser: Browser) -> None:
    browser.log_in(person("ines"))
    assert browser.get(f"{BASE}/logout").status_code == 405
    assert browser.send(f"{BASE}/logout").status_code == 403
    assert "Ines Example" in text_of(browser.get(f"{BASE}/"))


def test_a_silent_hub_is_never_a_login(browser: Browser, other_browser: Browser, house: House) -> None:
    browser.log_in(person("ines"))
    house.hub.broken = True
    page = browser.get(f"{BASE}/")
    assert page.status_code == 503
    assert "Cannot tell now" in text_of(page)
    assert "Ines Example" not in page.text
    assert other_browser.get(f"{BASE}/").status_code == 200  # who never logged in still sees what is public


def test_a_hub_that_is_down_during_the_callback_is_a_page(browser: Browser, house: House) -> None:
    house.hub.person = house.introduce(person("ines"))
    query = begin_login(browser)
    house.hub.broken = True
    answer = browser.get(f"{BASE}/oauth_callback?{urlencode(query)}")
    assert answer.status_code == 503
    assert VISIT_COOKIE not in browser.client.cookies


def test_no_token_or_code_is_logged(browser: Browser, house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="beamhub_portal")
    caplog.set_level(logging.DEBUG, logger="beamhub_catalogue")
    house.hub.person = house.introduce(person("ines"))
    query = begin_login(browser)
    browser.get(f"{BASE}/oauth_callback?{urlencode(query)}")
    browser.get(f"{BASE}/oauth_callback?{urlencode(query)}")
    spoken = " ".join(str(record.__dict__) for record in caplog.records if record.name.startswith("beamhub"))
    for secret in (*house.hub.tokens, query["code"], query["state"]):
        assert secret not in spoken


def test_a_bearer_token_needs_access_to_this_service(house: House, browser: Browser) -> None:
    account = house.introduce(person("ines"))
    resolve = house.app.state.portal.visitors.resolve_principal
    address = f"{BASE}/api/Datasets/count"
    seen = {}
    for name, token in {
        "with": house.hub.token_for(account, ACCESS),
        "without": house.hub.token_for(account, "read:users"),
        "unknown": "0" * 32,
    }.items():
        seen[name] = browser.get(address, authorization=f"Bearer {token}").status_code
    assert seen == {"with": 200, "without": 401, "unknown": 401}
    assert browser.get(address).status_code == 200
    assert browser.get(address, authorization="Basic eDp5").status_code == 401
    assert resolve is not None
