"""JupyterLab in Chromium: the time left in the status bar, the warnings, and the extension by a click."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, sync_playwright

from session.test_session_server import TOKEN, start_server, stop_server
from session.web_of_session import serve_session

if TYPE_CHECKING:
    from session.conftest import Stage  # the tests' folder, not the room

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)
LONG_MS = 150_000


def picture(page: Page, name: str) -> None:
    """Keep what a person sees, for whoever wants to look."""
    if folder := os.environ.get("BEAMHUB_TEST_PICTURES"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_lab_shows_the_time_warns_and_extends(stage: Stage, tmp_path: Path) -> None:
    # Half a minute without activity: less than Lab's own questions leave, if they counted.
    profile = {"idle_h": 0.008, "lifetime_h": 8, "max_lifetime_h": 24}
    facts = {"BEAMHUB_SESSION_FILE": str(stage.session_file), "BEAMHUB_TEMPLATES": str(stage.templates)}
    with (
        serve_session(tmp_path / "web", profile, timedelta(minutes=5)) as web,
        sync_playwright() as playwright,
    ):
        process, url = start_server(stage, facts | web.environment, with_lab=True)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(f"{url}lab?token={TOKEN}")
            page.get_by_text("This session ends in 4 min. Save your work.").first.wait_for(timeout=LONG_MS)
            picture(page, "warning")
            status = page.locator(".jp-beamhub-time")
            assert "4 min left" in (status.text_content() or "")
            idle = page.get_by_text("Nothing happens in this session").first
            idle.wait_for(timeout=LONG_MS)
            picture(page, "idle")
            page.get_by_role("button", name="Keep it running").first.click()
            idle.wait_for(state="hidden", timeout=LONG_MS)
            assert web.row().idle_stop_at is None
            status.click()
            page.get_by_text("It can be extended by 7 h").wait_for(timeout=LONG_MS)
            picture(page, "details")
            page.get_by_role("button", name="Extend by 7 h 5").last.click()
            page.get_by_text("The session goes on").first.wait_for(timeout=LONG_MS)
            picture(page, "extended")
            assert (web.row().expires_at - web.plan.expires_at) > timedelta(hours=7)
            assert problems == []
        finally:
            browser.close()
            stop_server(process)
