"""The platform of `compose.yaml`, brought up once: what survives a death, an upgrade and a `down`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from journey.compose_platform import SERVICES, Compose, ComposePlatform, compose_command, docker, inspect
from journey.kernel import open_channel
from journey.person import Person
from journey.pictures import QUIET, chromium
from journey.platform import free_block
from journey.stops import PORTAL, Journey, Session

pytestmark = [pytest.mark.docker, pytest.mark.hub]
BACK_S = 90.0
IMAGES = ("base", "hub", "web", "gateway", "proxy", "postgresql")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposePlatform]:
    """One platform for this module, under a project of its own."""
    if compose_command() is None:
        pytest.skip("Compose is missing (docker-compose, or the plugin of docker)")
    if os.geteuid() != 0:
        pytest.skip("only root writes to a facility's folders, as this test does")
    tag = os.environ.get("BEAMHUB_TAG", "dev")
    for name in IMAGES:
        if not docker("images", "--quiet", f"beamhub-{name}:{tag}").strip():
            pytest.skip(f"there is no image beamhub-{name}:{tag}; `make images` builds it")
    root = tmp_path_factory.mktemp("compose") / "facility"
    compose = Compose("beamhub-test-compose", root, free_block(25000))
    try:
        compose.run("up", "--detach")
        compose.wait_until_well()
        yield ComposePlatform(compose, 0.0)
    finally:
        compose.remove()
    left = docker("ps", "--all", "--quiet", "--filter", f"label=org.beamhub.facility={compose.project}")
    assert left == ""


@pytest.fixture(scope="module")
def session(platform: ComposePlatform) -> Iterator[Session]:
    """Ines' notebook with a kernel that remembers something."""
    person = Person(platform.url, "ines")
    person.log_in(PORTAL)
    journey = Journey(platform, lambda _: None)
    page, pid = journey.find(person, "SrTiO3")
    session = journey.open_notebook(person, page, pid)
    with journey.start_kernel(session) as channel:
        channel.run("remembered = 6202")
    yield session
    session.person.close()


def eventually(what: Callable[[], Any], *, seconds: float = BACK_S) -> Any:
    """What a question answers, once it answers at all."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = what()
        except (httpx.HTTPError, OSError, TimeoutError):
            answer = None
        if answer:
            return answer
        assert time.monotonic() < deadline, f"nothing in {seconds:.0f} s"
        time.sleep(0.5)


def remembered(session: Session) -> str:
    """What the session's kernel remembers."""
    with open_channel(session.person, session.server_url, session.kernel_id, seconds=BACK_S) as channel:
        return channel.run("print(remembered)").text.strip()


def container_of(session: Session) -> dict[str, Any]:
    """The session's container."""
    return inspect(session.stored["record"]["backend_id"].removeprefix("container:"))


def test_a_session_is_a_container_of_the_agents_in_a_network_of_its_own(session: Session) -> None:
    facts = container_of(session)
    assert facts["HostConfig"]["ReadonlyRootfs"]
    assert facts["Config"]["User"] == "52001:52001"
    assert list(facts["NetworkSettings"]["Networks"]) == [f"beamhub-{session.stored['plan']['id']}"]
    assert not any(mount["Source"].endswith(".sock") for mount in facts["Mounts"])


@pytest.mark.browser
def test_a_browser_finds_its_way_from_the_search_into_the_notebook(
    platform: ComposePlatform, session: Session
) -> None:
    """Chromium resolves the names below localhost itself, and keeps the cookies of each."""
    program = chromium()
    if program is None:
        pytest.skip("Chromium is missing")
    from playwright.sync_api import sync_playwright  # optional: only where there is a browser

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        page = browser.new_page()
        page.set_default_timeout(BACK_S * 1000)
        page.goto(f"{platform.url}/")
        page.get_by_role("link", name="Log in").first.click()
        page.get_by_role("link", name="Demo identity provider").click()
        page.get_by_text("Ines Ferreira").click()
        page.get_by_role("searchbox").fill("SrTiO3")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="SrTiO3").first.click()
        page.get_by_role("link", name="Open in notebook").first.click()
        page.get_by_role("button", name="Go to the running session").click()
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        assert page.url.startswith(session.server_url)
        assert "beamhub.localhost" in page.url.partition("//")[2].partition(".")[2]
        browser.close()


def test_nobody_but_the_agent_has_the_engines_socket(platform: ComposePlatform) -> None:
    holders = {
        service
        for service in SERVICES
        for mount in platform.compose.facts(service)["Mounts"]
        if mount["Destination"].endswith("docker.sock")
    }
    assert holders == {"agent"}


def test_a_killed_hub_container_costs_no_session(platform: ComposePlatform, session: Session) -> None:
    started = container_of(session)["State"]["StartedAt"]
    platform.compose.run("kill", "hub")
    assert remembered(session) == "6202"
    platform.compose.run("up", "--detach")
    platform.compose.wait_until_well("hub")
    assert container_of(session)["State"]["StartedAt"] == started
    name = session.server_url.rstrip("/").rsplit("/", 1)[1]
    eventually(lambda: name in session.person.visit(f"{PORTAL}sessions").html)
    assert remembered(session) == "6202"


def test_an_upgrade_brings_new_containers_back_into_the_networks_of_sessions(
    platform: ComposePlatform, session: Session
) -> None:
    renewed = ("hub", "proxy", "web", "gateway")
    platform.compose.run("up", "--detach", "--force-recreate", "--no-deps", *renewed)
    platform.compose.wait_until_well(*renewed)
    eventually(lambda: session.person.http.get(f"{session.server_url}/api/status").status_code == 200)
    assert remembered(session) == "6202"
    network = f"beamhub-{session.plan_id}"
    eventually(lambda: network in platform.compose.facts("gateway")["NetworkSettings"]["Networks"])


def test_without_its_agent_a_host_starts_nothing_and_the_page_says_so(
    platform: ComposePlatform, session: Session
) -> None:
    platform.compose.run("stop", "agent")
    try:
        person = Person(platform.url, "colin")
        person.log_in(PORTAL)
        journey = Journey(platform, lambda _: None)
        page, _ = journey.find(person, "SrTiO3")
        refusal = person.submit(person.visit(page.link("open in notebook")).form("open"))
        assert refusal.status == 503
        assert "docker-host" in refusal.text
        assert "does not answer" in refusal.text
        assert "Nothing was started" in refusal.text
        person.close()
        assert remembered(session) == "6202"
    finally:
        platform.compose.run("start", "agent")
        platform.compose.wait_until_well("agent")


def test_down_keeps_data_and_sessions_and_up_finds_them(platform: ComposePlatform, session: Session) -> None:
    secret = platform.layout.secret("hub-crypt-key").read_text()
    before = {one["plan"]["id"] for one in Journey(platform, lambda _: None).live_sessions()}
    platform.compose.run("down", "--timeout", "10")
    assert container_of(session)["State"]["Running"]
    platform.compose.run("up", "--detach")
    platform.compose.wait_until_well()
    assert platform.layout.secret("hub-crypt-key").read_text() == secret
    assert {one["plan"]["id"] for one in Journey(platform, lambda _: None).live_sessions()} == before
    # The demo's provider keeps its logins in memory, so its people log in again.
    session.person.close()
    session.person = Person(platform.url, "ines")
    session.person.log_in(PORTAL)
    # Until the host's agent, web and the sweep have all been there, the hub answers in the session's place.
    lab = f"{session.server_url}/lab"
    eventually(lambda: "jupyter-config-data" in session.person.visit(lab).html, seconds=2 * BACK_S)
    assert remembered(session) == "6202"


def test_a_lost_secret_stops_the_start_and_is_named(platform: ComposePlatform) -> None:
    secret = platform.layout.secret("hub-crypt-key")
    value = secret.read_bytes()
    kept = secret.stat()
    secret.unlink()
    try:
        platform.compose.run("up", "--detach", check=False)
        said = platform.compose.run("logs", "--no-color", "--tail=3", "prepare").stdout
        assert str(secret) in said
        assert inspect(f"{platform.compose.project}_prepare_1")["State"]["ExitCode"] == 7
    finally:
        secret.write_bytes(value)
        os.chown(secret, kept.st_uid, kept.st_gid)
        secret.chmod(0o600)


def test_a_port_that_is_taken_is_named(platform: ComposePlatform, tmp_path: Path) -> None:
    other = Compose("beamhub-test-second", tmp_path / "facility", platform.compose.port)
    try:
        done = other.run("up", "--detach", "--no-deps", "proxy", check=False)
        assert done.returncode != 0
        assert str(platform.compose.port) in done.stderr
    finally:
        other.remove()
