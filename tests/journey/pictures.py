"""Screenshots of what a person sees, where there is a Chromium."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from journey.person import Person
from journey.platform import Platform
from journey.stops import PORTAL, Session

SIZE = {"width": 1360, "height": 900}
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


def chromium() -> str | None:
    """The browser's program, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def take(platform: Platform, person: Person, session: Session, folder: Path | None) -> list[str]:
    """Portal, dataset page, sessions, and the finished notebook, as PNG files; their names."""
    program = chromium()
    if program is None or folder is None:
        return []
    from playwright.sync_api import sync_playwright  # optional: only where there is a browser

    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "portal": f"{platform.url}{PORTAL}",
        "dataset": f"{platform.url}{PORTAL}datasets/{session.pid}",
        "start": f"{platform.url}{PORTAL}open?pid={session.pid}",
        "sessions": f"{platform.url}{PORTAL}sessions",
        "notebook": person.notebook_url,  # type: ignore[attr-defined]
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
        context.add_cookies(
            [
                {"name": c.name, "value": c.value or "", "domain": c.domain, "path": c.path}
                for c in person.http.cookies.jar
            ]
        )
        for name, url in pages.items():
            page = context.new_page()
            page.goto(url, wait_until="domcontentloaded", timeout=45_000)
            if name == "notebook":
                _scroll_to_the_plot(page)
            else:
                page.evaluate("for (const image of document.images) image.loading = 'eager'")
                page.wait_for_load_state("networkidle", timeout=30_000)
            page.screenshot(path=str(folder / f"{name}.png"), full_page=name != "notebook")
            page.close()
        browser.close()
    return [f"{name}.png" for name in pages]


def _scroll_to_the_plot(page: Any) -> None:
    """Lab draws only the cells that are in view: turn the wheel until the pattern's figure is."""
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.mouse.move(700, 450)
    heading = page.locator(".jp-RenderedMarkdown h2", has_text=re.compile("^Reduce"))
    for _ in range(60):
        if heading.count() and heading.first.is_visible():
            box = heading.first.bounding_box()
            if box is not None and box["y"] < 220:
                break
        page.mouse.wheel(0, 160)
        page.wait_for_timeout(80)
    page.wait_for_timeout(1_500)
