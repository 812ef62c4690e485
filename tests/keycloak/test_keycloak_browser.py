"""Login and logout as a person sees them: Chromium, Keycloak's own form, the real proxy, the real hub."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright

from hub.hostile_provider import served  # the folder of these tests, not the room
from hub.hub_parts import (
    SECRETS,
    Addresses,
    WebDouble,
    await_hub,
    facility_fields,
    free_port,
    start_hub,
    stop,
    write_facility,
)
from hub.session_parts import await_that
from hub.test_hub_behind_proxy import await_answer, find_proxy
from keycloak.keycloak_parts import (  # the folder of these tests, not a library
    START_PATH,
    Realm,
    provider_fields,
)

pytestmark = [pytest.mark.hub, pytest.mark.keycloak, pytest.mark.browser]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def public_url(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The one address of proxy and hub; a double for web."""
    command, folder = find_proxy(), tmp_path_factory.mktemp("platform")
    public, api, hub_port = (free_port() for _ in range(3))
    with ExitStack() as stack:
        addresses = Addresses(
            issuer=realm.issuer,
            hub_port=hub_port,
            proxy_api=f"http://127.0.0.1:{api}",
            web=f"http://127.0.0.1:{stack.enter_context(served(WebDouble().handler()))}",
            public_url=f"http://127.0.0.1:{public}",
        )
        fields = facility_fields(folder, addresses)
        fields["login"]["providers"] = [provider_fields(fields, realm)]
        realm.register(addresses.public_url)
        write_facility(folder, fields)
        log = folder / "proxy.log"
        with log.open("wb") as output:
            proxy = subprocess.Popen(
                [*command, "--ip=127.0.0.1", f"--port={public}", "--api-ip=127.0.0.1", f"--api-port={api}"],
                stdout=output,
                stderr=output,
                env={**os.environ, "CONFIGPROXY_AUTH_TOKEN": SECRETS["proxy"]},
            )
        stack.callback(stop, proxy)
        await_answer(addresses.public_url, proxy, log)
        hub = start_hub(folder)
        stack.callback(stop, hub)
        await_hub(hub, f"http://127.0.0.1:{hub_port}", folder)
        yield addresses.public_url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Page]:
    """A window of a fresh profile, in which no script of a page fails."""
    context = chromium.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert problems == []


def picture(page: Page, name: str) -> None:
    """Keep what the window shows, where BEAMHUB_PICTURES names a folder."""
    folder = os.environ.get("BEAMHUB_PICTURES")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def give_password(page: Page, username: str) -> None:
    """Fill Keycloak's form and send it."""
    page.get_by_role("textbox", name="Username").fill(username)
    page.locator("#password").fill(f"{username}-password")
    page.get_by_role("button", name="Sign In").click()


def test_a_person_logs_in_out_and_in_again(page: Page, public_url: str, realm: Realm) -> None:
    page.goto(f"{public_url}{START_PATH}?next=%2Fhub%2Fhome")
    page.wait_for_url(f"{realm.issuer}/**")
    picture(page, "1-keycloak")
    give_password(page, "ines")
    page.wait_for_url(f"{public_url}/hub/home")
    page.get_by_text("Ines Ferreira").first.wait_for()
    picture(page, "2-home")
    assert realm.sessions("ines") == 1

    page.goto(f"{public_url}/hub/logout")
    page.wait_for_url(f"{public_url}/**")
    picture(page, "3-logged-out")
    await_that(lambda: realm.sessions("ines") == 0, "the end of the realm's session")
    names = {cookie["name"] for cookie in page.context.cookies(public_url)}
    assert not names & {"jupyterhub-hub-login", "jupyterhub-session-id"}

    page.goto(f"{public_url}{START_PATH}?next=%2Fhub%2Fhome")
    page.locator("#password").wait_for()
    give_password(page, "ines")
    page.wait_for_url(f"{public_url}/hub/home")


def test_a_wrong_password_stays_at_keycloak(page: Page, public_url: str, realm: Realm) -> None:
    name = f"nobody-{secrets.token_hex(2)}"
    page.goto(f"{public_url}{START_PATH}?next=%2Fhub%2Fhome")
    give_password(page, name)
    page.get_by_text("Invalid username or password").wait_for()
    assert page.url.startswith(realm.issuer)
    page.goto(f"{public_url}/hub/home")
    assert not page.url.startswith(f"{public_url}/hub/home")
