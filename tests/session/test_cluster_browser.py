"""A cluster's dashboards in Chromium, drawn through the session's server; its end by the button."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from beamhub_reduction import connect
from session.test_session_server import TOKEN, start_server, stop_server

if TYPE_CHECKING:
    from session.conftest import Stage  # the tests' folder, not the room

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)
LONG_MS = 150_000


def test_a_person_sees_the_workers_and_stops_the_cluster(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(stage.root.parent / "runtime"))
    monkeypatch.delenv("BEAMHUB_SESSION_FILE", raising=False)
    process, url = start_server(stage, {})
    with connect(2) as cluster, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(f"{url}beamhub/clusters?token={TOKEN}")
            page.get_by_text("2 workers, 2 cores").wait_for(timeout=LONG_MS)
            page.get_by_role("link", name=f"Dashboards of {cluster.facts.id[:8]}").click()
            page.wait_for_url("**/status")
            page.get_by_role("link", name="Workers").click(timeout=LONG_MS)
            page.get_by_text("inproc").first.wait_for(timeout=LONG_MS)  # a row of the table, by the websocket
            page.goto(f"{url}beamhub/clusters")
            page.get_by_role("button", name="Stop").click()
            page.get_by_text("does not answer now").wait_for(timeout=LONG_MS)
            assert problems == []
        finally:
            browser.close()
            stop_server(process)
