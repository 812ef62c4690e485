"""What only a browser can tell: script, styles and policy work together, and a phone's width is enough."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright

from portal.hub_double import Server  # the folder of these tests, not the room
from portal.portal_parts import BASE, EMBARGOED, Browser, House, person

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(
    request: pytest.FixtureRequest, chromium: Chromium, browser: Browser, house: House
) -> Iterator[Page]:
    """A page of somebody logged in, as wide as a phone; an error on its console fails the test."""
    browser.log_in(person("ines"))
    context = chromium.new_context(color_scheme=request.param, viewport={"width": 360, "height": 740})
    name = browser.client.cookies["beamhub-portal"]
    context.add_cookies([{"name": "beamhub-portal", "value": name, "domain": "127.0.0.1", "path": BASE}])
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{house.public}{BASE}/")
    assert page.evaluate("document.documentElement.dataset.bsTheme") == request.param
    yield page
    context.close()
    assert problems == []


def test_no_page_is_wider_than_a_phone(page: Page, house: House) -> None:
    house.hub.servers[person("ines").account] = {"d-0": Server(ready=True), "d-1": Server(pending="spawn")}
    pid = house.pid(EMBARGOED)
    for path in ("", f"datasets/{pid}", f"open?pid={pid}", "sessions", "about"):
        page.goto(f"{house.public}{BASE}/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        assert page.locator("nav.site-bar").evaluate("bar => getComputedStyle(bar).display") == "flex", path


def test_the_launch_page_follows_the_start_to_the_notebook(page: Page, house: House) -> None:
    server = Server(pending="spawn", messages=[{"progress": 5, "message": "Asking for your rights"}])
    account = person("ines").account
    house.hub.servers[account] = {"d-0": server}
    target = f"/user/{account}/d-0/beamhub/open"
    page.route(f"**{target}", lambda route: route.fulfill(body="the notebook"))
    page.goto(f"{house.public}{BASE}/sessions/d-0/launch")
    server.messages.append({"progress": 45, "message": "Starting the <b>server</b>"})
    page.get_by_text("Starting the <b>server</b>").wait_for(timeout=5000)
    server.pending, server.ready = None, True
    page.wait_for_url(f"**{target}", timeout=5000)
    assert page.text_content("body") == "the notebook"
