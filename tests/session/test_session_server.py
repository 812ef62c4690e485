"""The extension in a real Jupyter server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from session.conftest import Stage  # the tests' folder, not the room

pytestmark = pytest.mark.hub

TOKEN = "token-of-the-test"
NAME = "powder-diffraction-MA-5101-CeO2_0001.ipynb"
START_DEADLINE_S = 60.0


def start_server(
    stage: Stage, environment: dict[str, str], *, with_lab: bool = False
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server on a free port and return it with its address, once it answers."""
    runtime = stage.root.parent / "runtime"
    runtime.mkdir(exist_ok=True)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("BEAMHUB", "JUPYTER"))}
    log = (runtime / "server.log").open("wb")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyter_server",
            "--ServerApp.jpserver_extensions=beamhub_session=True",
            f"--ServerApp.jpserver_extensions=jupyterlab={with_lab}",
            "--ServerApp.jpserver_extensions=jupyter_lsp=False",
            "--ServerApp.jpserver_extensions=notebook_shim=False",
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port=0",
            "--ServerApp.base_url=/user/colin/",
            f"--ServerApp.root_dir={stage.root}",
            "--ServerApp.open_browser=False",
            "--allow-root",
            f"--IdentityProvider.token={TOKEN}",
        ],
        env={
            **plain,
            "HOME": str(stage.home),
            "JUPYTER_RUNTIME_DIR": str(runtime),
            "JUPYTER_PREFER_ENV_PATH": "1",
            **environment,
        },
        cwd=stage.root,
        stdout=subprocess.DEVNULL,
        stderr=log,
    )
    log.close()
    deadline = time.monotonic() + START_DEADLINE_S
    facts = runtime / f"jpserver-{process.pid}.json"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            url: str = json.loads(facts.read_text())["url"]
            httpx.get(url + "api", timeout=5, trust_env=False).raise_for_status()
        except (OSError, ValueError, httpx.HTTPError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        else:
            return process, url
    process.kill()
    process.wait()
    raise AssertionError((runtime / "server.log").read_text())


def stop_server(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def server(stage: Stage) -> Iterator[httpx.Client]:
    """A server of the stage, and a client that is logged in and follows no redirect."""
    process, url = start_server(
        stage,
        {"BEAMHUB_SESSION_FILE": str(stage.session_file), "BEAMHUB_TEMPLATES": str(stage.templates)},
    )
    with httpx.Client(
        base_url=url, headers={"Authorization": f"token {TOKEN}"}, timeout=20, trust_env=False
    ) as client:
        yield client
    stop_server(process)


def test_the_server_opens_the_template_and_tells_what_is_mounted(stage: Stage, server: httpx.Client) -> None:
    notebook = stage.home / "notebooks" / NAME
    assert notebook.is_file()  # written when the server started
    answer = server.get("beamhub/open")
    assert answer.status_code == 302
    assert answer.headers["location"] == f"/user/colin/lab/tree/notebooks/{NAME}"
    assert server.get(f"api/contents/notebooks/{NAME}").json()["type"] == "notebook"

    view = server.get("beamhub/session").json()
    assert [dataset["pid"] for dataset in view["datasets"]] == ["demo:MA-5101:CeO2_0001"]
    assert view["datasets"][0]["is_readable"]
    assert view["datasets"][0]["missing"] == ["a.h5"]
    assert view["processed"] == [
        {"proposal": "MA-5101", "path": stage.info.processed["MA-5101"], "is_writable": False}
    ]
    assert view["enforced"] == {"raw_read_only": True}
    assert 3000 < view["seconds_left"] <= 3600
    assert view["template"] == {
        "name": "powder-diffraction",
        "notebook": f"notebooks/{NAME}",
        "problem": None,
    }

    stage.changed(expires_at=stage.info.expires_at.replace(year=stage.info.expires_at.year + 1))
    assert server.get("beamhub/session").json()["seconds_left"] > 1e7  # an extension is seen at once


def test_strangers_see_nothing_and_a_copy_needs_the_form(stage: Stage, server: httpx.Client) -> None:
    for method, path in (("GET", "beamhub/open"), ("GET", "beamhub/session"), ("POST", "beamhub/open")):
        answer = httpx.request(method, f"{server.base_url}{path}", trust_env=False)
        assert answer.status_code in (302, 403)
        assert "MA-5101" not in answer.text + answer.headers.get("location", "")

    with httpx.Client(base_url=server.base_url, timeout=20, trust_env=False) as browser:
        browser.get("api/status", params={"token": TOKEN})  # sets the login cookie
        assert browser.post("beamhub/open").status_code == 403
        page = browser.get("beamhub/open", params={"copy": "ask"})
        assert page.status_code == 200
        assert NAME in page.text
        found = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        assert found is not None
        assert sorted(file.name for file in (stage.home / "notebooks").iterdir()) == [NAME]
        answer = browser.post("beamhub/open", data={"_xsrf": found[1]})
    assert answer.status_code == 303
    copy = NAME.replace(".ipynb", "-2.ipynb")
    assert answer.headers["location"] == f"/user/colin/lab/tree/notebooks/{copy}"
    assert (stage.home / "notebooks" / copy).is_file()


def test_a_template_that_changed_gives_a_page_and_the_server_still_runs(stage: Stage) -> None:
    file = stage.templates / "powder" / "powder.ipynb"
    file.write_text(file.read_text() + "\n")
    name = '<script>alert("x")</script>.ipynb'
    process, url = start_server(
        stage,
        {"BEAMHUB_SESSION_FILE": str(stage.session_file), "BEAMHUB_TEMPLATES": str(stage.templates)},
        with_lab=True,
    )
    try:
        with httpx.Client(
            base_url=url, headers={"Authorization": f"token {TOKEN}"}, timeout=20, trust_env=False
        ) as client:
            page = client.get("beamhub/open")
            assert page.status_code == 409
            assert "changed it while your session started" in page.text
            assert 'href="/user/colin/lab"' in page.text
            assert client.get("lab").status_code == 200
            assert "not the one" in client.get("beamhub/session").json()["template"]["problem"]

            assert stage.info.template is not None
            stage.changed(template=stage.info.template.model_copy(update={"file": name}))
            page = client.get("beamhub/open")
            assert page.status_code == 404
            assert "<script>" not in page.text
            assert "&lt;script&gt;" in page.text

            stage.session_file.write_text('{"who": "Colin"}')
            assert client.get("beamhub/open").headers["location"] == "/user/colin/lab"
            answer = client.get("beamhub/session")
            assert answer.status_code == 404
            assert "another version" in answer.json()["message"]
    finally:
        stop_server(process)


def test_an_ordinary_server_goes_to_lab(stage: Stage) -> None:
    process, url = start_server(stage, {})
    try:
        answer = httpx.get(
            url + "beamhub/open", headers={"Authorization": f"token {TOKEN}"}, timeout=20, trust_env=False
        )
        assert answer.headers["location"] == "/user/colin/lab"
        assert list(stage.home.glob("notebooks")) == []
    finally:
        stop_server(process)


def test_the_extension_needs_nothing_of_the_hub(tmp_path: Path) -> None:
    code = (
        "import beamhub_session, sys; "
        "points = beamhub_session._jupyter_server_extension_points(); "
        "assert points == [{'module': 'beamhub_session.extension'}]; "
        "loaded = {name.split('.')[0] for name in sys.modules}; "
        "assert not loaded & {'beamhub_hub', 'beamhub_spawners', 'beamhub_reduction', 'sqlalchemy'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
