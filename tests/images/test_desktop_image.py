"""The desktop image as a person meets it: in Chromium, with a real container behind it."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import h5py
import numpy as np
import pytest
from docker.errors import DockerException, ImageNotFound
from PIL import Image
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Page, sync_playwright

pytestmark = pytest.mark.docker
IMAGE = os.environ.get("BEAMHUB_DESKTOP_IMAGE", "beamhub-desktop:dev")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
UID = 31337
TOKEN = secrets.token_hex(16)
PANEL_Y, SILX_X, TERMINAL_X = 50, 125, 155
"""Where the panel's launchers are, in pixels of the page."""
SILX = "/opt/beamhub/bin/python -P - "
"""How its process is called; its script comes by standard input."""
PREPARE = (
    "cp /opt/beamhub/etc/passwd /run/beamhub/passwd && "
    f"echo scientist:x:{UID}:{UID}::/home/s:/bin/bash >> /run/beamhub/passwd && cd /home/s && "
    f"exec jupyter lab --ip 0.0.0.0 --port 8888 --no-browser --ServerApp.token={TOKEN}"
)


@dataclass
class Desktop:
    """A running container and the page that shows its desktop."""

    engine: Any
    container: str
    home: Path
    page: Page

    def run(self, *command: str) -> str:
        """What a command inside prints, as the session's user on its display."""
        environment = {"DISPLAY": ":1", "XAUTHORITY": "/home/s/.Xauthority", "QT_QPA_PLATFORM": "xcb"}
        made = self.engine.exec_create(self.container, list(command), environment=environment)
        return str(self.engine.exec_start(made["Id"]).decode())

    def size(self) -> tuple[int, int]:
        """Width and height of the remote screen, as the viewer has it."""
        width, height = self.page.evaluate(
            "(() => { const c = document.querySelector('canvas'); return [c.width, c.height]; })()"
        )
        return int(width), int(height)


def eventually(holds: Callable[[], bool], what: str, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


def write_scan(folder: Path) -> None:
    with h5py.File(folder / "scan.h5", "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "data"})
        data = entry.create_group("data")
        data.attrs.update({"NX_class": "NXdata", "signal": "counts"})
        data["counts"] = np.random.default_rng(1).poisson(5, (64, 96)).astype("u4")
    (folder / "session.json").write_text(json.dumps({"datasets": [{"file": "/home/s/scan.h5"}]}))
    for path in (folder, *folder.iterdir()):
        os.chown(path, UID, UID)


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    try:
        engine = docker.APIClient(base_url="unix:///var/run/docker.sock", version="auto", timeout=60)
        engine.inspect_image(IMAGE)
    except ImageNotFound:
        pytest.skip(f"no image {IMAGE}; build it from images/desktop/Dockerfile")
    except DockerException as error:
        pytest.skip(f"no Docker engine answers ({type(error).__name__})")
    home = tmp_path_factory.mktemp("home")
    write_scan(home)
    host = engine.create_host_config(
        binds=[f"{home}:/home/s"],
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "exec,mode=1777", "/run/beamhub": f"uid={UID},gid={UID},mode=0700"},  # noqa: S108
        mem_limit=2 * 2**30,
    )
    made = engine.create_container(
        IMAGE,
        command=["sh", "-c", PREPARE],
        user=f"{UID}:{UID}",
        environment={"HOME": "/home/s", "BEAMHUB_SESSION_FILE": "/home/s/session.json"},
        host_config=host,
        labels={"org.beamhub.test": "desktop"},
    )
    engine.start(made)
    try:
        address = engine.inspect_container(made)["NetworkSettings"]["IPAddress"]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1200, "height": 750})
            open_desktop(page, f"http://{address}:8888/desktop/?token={TOKEN}")
            yield Desktop(engine, made["Id"], home, page)
            browser.close()
    finally:
        engine.remove_container(made, force=True, v=True)
        engine.close()


def open_desktop(page: Page, url: str) -> None:
    def is_up() -> bool:
        try:
            page.goto(url, timeout=2000)
        except BrowserError:  # a server that is not there yet
            return False
        return True

    eventually(is_up, "the server does not answer")
    page.get_by_text("Connected").wait_for(timeout=60_000)


def n_processes(desktop: Desktop, name: str) -> int:
    return desktop.run("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").count(name)


def changed_share(before: bytes, after: bytes) -> float:
    """The share of pixels that differ between two PNG pictures of one size."""
    first, second = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in (before, after))
    return float((first != second).any(axis=2).mean())


def test_the_remote_screen_follows_the_size_of_the_window(desktop: Desktop) -> None:
    for width, height in ((1200, 750), (900, 600)):
        desktop.page.set_viewport_size({"width": width, "height": height})
        eventually(
            lambda width=width: desktop.size()[0] == width,  # type: ignore[misc]  # bound now
            f"{desktop.size()} in a window of {width} x {height}",
        )
        assert height - 80 <= desktop.size()[1] <= height  # less the bar at the top


def test_silx_view_opens_the_sessions_dataset(desktop: Desktop) -> None:
    eventually(lambda: n_processes(desktop, "xfce4-panel") > 0, "the panel is not there")
    time.sleep(2)  # the panel draws its launchers
    empty = desktop.page.screenshot()
    desktop.page.mouse.click(SILX_X, PANEL_Y)
    eventually(lambda: n_processes(desktop, SILX) == 1, "silx view is not running")
    eventually(lambda: changed_share(empty, desktop.page.screenshot()) > 0.1, "no window was drawn")
    assert n_processes(desktop, SILX) == 1
    desktop.page.keyboard.press("Control+q")  # so that no window of it comes before another test's
    eventually(lambda: n_processes(desktop, SILX) == 0, "silx view does not leave")


def test_text_goes_both_ways_between_browser_and_desktop(desktop: Desktop) -> None:
    page = desktop.page
    page.get_by_text("Remote Clipboard").click()
    page.locator("textarea").first.fill("echo from-the-browser > ~/clip.txt")
    page.get_by_text("Remote Clipboard").click()
    page.mouse.click(TERMINAL_X, PANEL_Y)
    eventually(lambda: n_processes(desktop, "bash") > 0, "no terminal")

    def arrives() -> bool:
        page.keyboard.press("Control+Shift+V")  # again, until the terminal has its prompt and the focus
        page.keyboard.press("Enter")
        time.sleep(1)
        return (desktop.home / "clip.txt").exists()

    eventually(arrives, "the text did not arrive in the terminal")
    assert (desktop.home / "clip.txt").read_text().startswith("from-the-browser")  # pasted once or more
    copy = (
        "from PySide6.QtWidgets import QApplication; from PySide6.QtCore import QTimer; "
        "a = QApplication([]); a.clipboard().setText('from-the-desktop'); "
        "QTimer.singleShot(8000, a.quit); a.exec()"
    )
    made = desktop.engine.exec_create(
        desktop.container,
        ["/opt/beamhub/bin/python", "-P", "-c", copy],
        environment={"DISPLAY": ":1", "XAUTHORITY": "/home/s/.Xauthority"},
    )
    desktop.engine.exec_start(made["Id"], detach=True)
    eventually(
        lambda: page.locator("textarea").first.input_value() == "from-the-desktop",
        "the text did not arrive in the browser",
    )
